//! What a framework must not forget: its id, and every launch before it is asked for.
//!
//! [`FrameworkStore`] is a small view of a store of `mezzo-coordination`; the keys and values are made and read by pure
//! functions, so that a simulated store holds the same bytes. Each value carries the version of its form; a newer one
//! is refused in words.
//!
//! Invariant: the framework's id is never replaced once it is stored.

use std::collections::BTreeMap;

use mezzo_coordination::{CommitError, Expect, LoadError, Op, Record, Store, Txn};
use mezzo_model::ids::{AgentId, FrameworkId, TaskId};
use serde::{Deserialize, Serialize};

use crate::scheduler::core::SaveError;

/// The version of the forms that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// The key of the framework's id.
pub const FRAMEWORK_ID_KEY: &str = "sdk/framework-id";
/// The keys of launches begin so; the task's id follows.
pub const LAUNCHES_PREFIX: &str = "launches/";

/// Why what is stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was written by a newer program.
    #[error(
        "'{key}' was written in form {found}, and this program reads forms up to {VERSION}: \
         start a newer version of it"
    )]
    Newer {
        /// Where.
        key: String,
        /// Its version.
        found: u32,
    },
    /// It is not what this program writes.
    #[error("'{key}' is not readable: {words}")]
    Corrupt {
        /// Where.
        key: String,
        /// Why.
        words: String,
    },
    /// The store did not answer.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What an earlier process left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The framework's id.
    pub framework_id: Option<FrameworkId>,
    /// Launches asked for (or about to be), and not known to have ended: task and agent.
    pub launches: BTreeMap<TaskId, AgentId>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct IdForm {
    version: u32,
    framework_id: FrameworkId,
}

#[derive(Serialize, Deserialize)]
struct LaunchForm {
    version: u32,
    agent: AgentId,
}

fn write<T: Serialize>(form: &T) -> Vec<u8> {
    serde_json::to_vec(form).expect("a form has string keys and no failing part")
}

fn read_form<T: for<'de> Deserialize<'de>>(record: &Record) -> Result<T, ReadError> {
    let corrupt = |error: serde_json::Error| ReadError::Corrupt {
        key: record.key.clone(),
        words: error.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(&record.value).map_err(corrupt)?;
    if version > VERSION {
        return Err(ReadError::Newer {
            key: record.key.clone(),
            found: version,
        });
    }
    serde_json::from_slice(&record.value).map_err(corrupt)
}

/// The transaction that stores the framework's id, if none is there.
pub fn save_framework_id(id: &FrameworkId) -> Txn {
    let form = IdForm {
        version: VERSION,
        framework_id: id.clone(),
    };
    Txn::new().put(FRAMEWORK_ID_KEY, write(&form), Expect::Absent)
}

/// The step that remembers a launch.
pub fn remember_launch(task: &TaskId, agent: &AgentId) -> Op {
    let form = LaunchForm {
        version: VERSION,
        agent: agent.clone(),
    };
    Op::Put {
        key: launch_key(task),
        value: write(&form).into(),
        expect: Expect::Any,
    }
}

/// The step that forgets a launch.
pub fn forget_launch(task: &TaskId) -> Op {
    Op::Delete {
        key: launch_key(task),
        expect: Expect::Any,
    }
}

fn launch_key(task: &TaskId) -> String {
    format!("{LAUNCHES_PREFIX}{task}")
}

/// Reads what an earlier process left; records of other kinds are passed over.
///
/// # Errors
/// Names the record that is newer than this program, or that it did not write.
pub fn read(records: &[Record]) -> Result<Kept, ReadError> {
    let mut kept = Kept::default();
    for record in records {
        if record.key == FRAMEWORK_ID_KEY {
            let IdForm { framework_id, .. } = read_form(record)?;
            kept.framework_id = Some(framework_id);
        } else if let Some(task) = record.key.strip_prefix(LAUNCHES_PREFIX) {
            let task = TaskId::parse(task).map_err(|error| ReadError::Corrupt {
                key: record.key.clone(),
                words: error.to_string(),
            })?;
            let LaunchForm { agent, .. } = read_form(record)?;
            kept.launches.insert(task, agent);
        }
    }
    Ok(kept)
}

/// What became of storing an id, from the answer of the store and, after a conflict, from what lies there.
pub fn saved(
    id: &FrameworkId,
    answer: Result<(), CommitError>,
    existing: Option<FrameworkId>,
) -> Result<(), SaveError> {
    match answer {
        Ok(()) => Ok(()),
        Err(CommitError::Fenced) => Err(SaveError::Fenced),
        Err(CommitError::Conflict { .. }) => match existing {
            Some(existing) if existing == *id => Ok(()),
            Some(existing) => Err(SaveError::Conflict { existing }),
            None => Err(SaveError::Unavailable(
                "the id there was removed meanwhile".to_owned(),
            )),
        },
        Err(
            error @ (CommitError::Unavailable
            | CommitError::TooLarge { .. }
            | CommitError::BadKey { .. }),
        ) => Err(SaveError::Unavailable(error.to_string())),
    }
}

/// A framework's view of its store.
#[derive(Clone, Debug)]
pub struct FrameworkStore {
    store: Store,
}

impl FrameworkStore {
    /// A view of a store. The framework may keep records of its own under other keys.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Reads everything that the SDK keeps.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn load(&self) -> Result<Kept, ReadError> {
        let mut records = self.store.load(FRAMEWORK_ID_KEY).await?;
        records.extend(self.store.load(LAUNCHES_PREFIX).await?);
        read(&records)
    }

    /// Stores the framework's id, unless another one is there.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn save_framework_id(&self, id: &FrameworkId) -> Result<(), SaveError> {
        let answer = self.store.commit(save_framework_id(id)).await;
        let existing = match answer {
            Err(CommitError::Conflict { .. }) => match self.load().await {
                Ok(kept) => kept.framework_id,
                Err(ReadError::Load(LoadError::Fenced)) => return Err(SaveError::Fenced),
                Err(error) => return Err(SaveError::Unavailable(error.to_string())),
            },
            _ => None,
        };
        saved(id, answer, existing)
    }

    /// Commits steps of the framework's own.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn commit(&self, txn: Txn) -> Result<(), CommitError> {
        self.store.commit(txn).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Record {
        Record {
            key: key.to_owned(),
            value: value.to_owned().into(),
            version: 1,
        }
    }

    fn framework(id: &str) -> FrameworkId {
        FrameworkId::parse(id).expect("a good id")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let task = TaskId::parse("web.1 of söme").expect("a good id");
        let agent = AgentId::parse("a1").expect("a good id");
        let mut table = mezzo_coordination::store::memory::Table::default();
        table
            .apply(save_framework_id(&framework("f1")))
            .expect("empty");
        table
            .apply(Txn {
                ops: vec![remember_launch(&task, &agent)],
            })
            .expect("no expectation");
        table
            .apply(Txn::new().put("apps/web", "mine", Expect::Any))
            .expect("no expectation");
        let kept = read(&table.load("")).expect("readable");
        assert_eq!(kept.framework_id, Some(framework("f1")));
        assert_eq!(kept.launches, BTreeMap::from([(task.clone(), agent)]));
        table
            .apply(save_framework_id(&framework("f2")))
            .expect_err("the first id stays");
        table
            .apply(Txn {
                ops: vec![forget_launch(&task)],
            })
            .expect("no expectation");
        assert!(read(&table.load("")).expect("readable").launches.is_empty());
    }

    #[test]
    fn what_is_newer_or_not_ours_is_refused_in_words() {
        for (key, value, words) in [
            (
                FRAMEWORK_ID_KEY,
                r#"{"version":2,"new":true}"#,
                "start a newer version",
            ),
            (FRAMEWORK_ID_KEY, r#"{"version":1}"#, "is not readable"),
            (FRAMEWORK_ID_KEY, "{", "is not readable"),
            (
                "launches/a/b",
                r#"{"version":1,"agent":"a1"}"#,
                "invalid characters",
            ),
            (
                "launches/t1",
                r#"{"version":1,"agent":""}"#,
                "must not be empty",
            ),
        ] {
            let refused = read(&[record(key, value)]).expect_err(value).to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_second_process_finds_the_first_id() {
        let conflict = || Err(CommitError::Conflict { index: 0 });
        assert_eq!(
            saved(&framework("f1"), conflict(), Some(framework("f1"))),
            Ok(())
        );
        let existing = framework("f0");
        assert_eq!(
            saved(&framework("f1"), conflict(), Some(existing.clone())),
            Err(SaveError::Conflict { existing })
        );
        assert_eq!(
            saved(&framework("f1"), Err(CommitError::Fenced), None),
            Err(SaveError::Fenced)
        );
    }
}
