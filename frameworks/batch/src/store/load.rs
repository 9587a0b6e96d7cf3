//! Reads everything back, when this process begins to lead.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mezzo_coordination::Record;
use mezzo_model::time::Wall;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PREFIX;
use super::records::{ActiveRecord, CountsRecord, JobRecord, RunRecord, RunState};
use crate::core::EndedRun;
use crate::core::job::parse::{self, Dialect};
use crate::core::job::{JobId, JobSpec};
use crate::core::run::{PastAttempt, RunId};

/// The version of what this program writes.
pub const FORMAT: u32 = 1;

/// Why what is stored cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A later version of this program wrote it.
    #[error(
        "the jobs are stored in format {found}, this program knows formats up to {FORMAT}: \
         start the newer mezzo, or give another --zk or --work_dir"
    )]
    Newer {
        /// The format.
        found: u32,
    },
    /// A record is not what this program writes.
    #[error("{key} cannot be read from the store: {words}")]
    Corrupt {
        /// Which.
        key: String,
        /// What is wrong with it.
        words: String,
    },
}

/// The record that says which format the others are in; to be written before any of them.
pub fn format_record() -> (String, Bytes) {
    (format!("{PREFIX}format"), Bytes::from(FORMAT.to_string()))
}

/// A run as it was stored.
#[derive(Clone, Debug)]
pub enum StoredRun {
    /// It has not ended.
    Active {
        /// When it was created.
        created: Wall,
        /// How many attempts there have been.
        attempts: u32,
        /// Those that ended.
        past: Vec<PastAttempt>,
        /// The rest.
        active: ActiveRecord,
    },
    /// It has ended.
    Ended(Arc<EndedRun>),
}

/// A job as it was stored.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// Its description.
    pub spec: Arc<JobSpec>,
    /// Its version.
    pub version: u64,
    /// When it was created.
    pub created: Wall,
    /// Its counts.
    pub counts: Option<CountsRecord>,
    /// Earlier descriptions.
    pub specs: BTreeMap<u64, Arc<JobSpec>>,
    /// Its runs.
    pub runs: BTreeMap<RunId, StoredRun>,
}

/// Everything that was stored.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The jobs.
    pub jobs: BTreeMap<JobId, StoredJob>,
    /// Keys that belong to no job: left by a deletion that did not come to its end.
    pub orphans: Vec<String>,
}

/// Reads the records. Those of others (the framework's id) are passed over.
///
/// # Errors
/// `Newer` or `Corrupt`.
pub fn read(records: &[Record]) -> Result<Stored, LoadError> {
    let mut stored = Stored::default();
    let ours = |record: &Record| record.key.strip_prefix(PREFIX).map(str::to_owned);
    for record in records {
        match ours(record)
            .as_deref()
            .map(|key| key.split_once('/').unwrap_or((key, "")))
        {
            Some(("format", _)) => check_format(record)?,
            Some(("jobs", id)) => {
                let (id, job) = read_job(record, id)?;
                stored.jobs.insert(id, job);
            }
            _ => {}
        }
    }
    for record in records {
        let Some(key) = ours(record) else { continue };
        let mut parts = key.splitn(3, '/');
        let (kind, job, rest) = (parts.next(), parts.next(), parts.next());
        if !matches!(kind, Some("counts" | "specs" | "runs")) {
            continue;
        }
        let job = job.and_then(|id| JobId::parse(id).ok());
        let Some(job) = job.and_then(|id| stored.jobs.get_mut(&id)) else {
            stored.orphans.push(record.key.clone());
            continue;
        };
        match (kind, rest) {
            (Some("counts"), _) => job.counts = Some(decode(record)?),
            (Some("specs"), Some(version)) => {
                let version = version.parse().map_err(|_| corrupt(record, "no version"))?;
                job.specs
                    .insert(version, Arc::new(read_spec(record, &decode(record)?)?));
            }
            (Some("runs"), Some(run)) => {
                let run = RunId::parse(run).ok_or_else(|| corrupt(record, "no run id"))?;
                let stored = read_run(record, &run)?;
                job.runs.insert(run, stored);
            }
            _ => return Err(corrupt(record, "a key without its last part")),
        }
    }
    Ok(stored)
}

fn check_format(record: &Record) -> Result<(), LoadError> {
    let found: u32 = decode(record)?;
    if found > FORMAT {
        Err(LoadError::Newer { found })
    } else {
        Ok(())
    }
}

fn read_job(record: &Record, id: &str) -> Result<(JobId, StoredJob), LoadError> {
    let id = JobId::parse(id).map_err(|error| corrupt(record, &format!("the id {error}")))?;
    let job: JobRecord = decode(record)?;
    let spec = Arc::new(read_spec(record, &job.spec)?);
    let job = StoredJob {
        spec,
        version: job.version,
        created: Wall(job.created),
        counts: None,
        specs: BTreeMap::new(),
        runs: BTreeMap::new(),
    };
    Ok((id, job))
}

fn read_spec(record: &Record, spec: &Value) -> Result<JobSpec, LoadError> {
    parse::job(spec, Dialect::Mezzo, None).map_err(|errors| {
        let words: Vec<String> = errors
            .into_iter()
            .map(|error| format!("{} {}", error.path, error.message))
            .collect();
        corrupt(record, &words.join("; "))
    })
}

fn read_run(record: &Record, id: &RunId) -> Result<StoredRun, LoadError> {
    let run: RunRecord = decode(record)?;
    let created = Wall(run.created);
    let past: Vec<PastAttempt> = run
        .past
        .into_iter()
        .map(super::records::PastRecord::into_past)
        .collect();
    Ok(match run.state {
        RunState::Active(active) => StoredRun::Active {
            created,
            attempts: run.attempts,
            past,
            active,
        },
        RunState::Ended {
            success,
            finished,
            number,
        } => StoredRun::Ended(Arc::new(EndedRun {
            id: id.clone(),
            created_at: created,
            finished_at: Wall(finished),
            number,
            success,
            attempts: run.attempts,
            tasks: past,
        })),
    })
}

fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, LoadError> {
    serde_json::from_slice(&record.value).map_err(|error| corrupt(record, &error.to_string()))
}

fn corrupt(record: &Record, words: &str) -> LoadError {
    LoadError::Corrupt {
        key: record.key.clone(),
        words: words.to_owned(),
    }
}
