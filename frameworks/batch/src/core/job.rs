//! What a job is: an id, and how each of its runs is to be carried out.
//!
//! A [`JobSpec`] is checked when it is made ([`parse`]), so everything behind the door may rely on it: ids are well
//! formed, numbers are in range, nothing asks for what this framework does not serve. The JSON is Metronome's
//! (`/v1`), and the same with our own fields beside them (`/v2`, also the form in which specs are stored).
//!
//! Invariant: a value of these types never changes; a changed job is a new spec with a higher version.

pub mod parse;
pub mod reader;
pub mod render;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mezzo_model::resources::Milli;

/// Longest job id in bytes: the id is part of task ids, which may have 255.
pub const MAX_JOB_ID_BYTES: usize = 128;

/// A job's name: lower-case words joined by `-`, nested by dots (`reports.daily`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Arc<str>);

/// Why a text is no job id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobIdError {
    /// Longer than [`MAX_JOB_ID_BYTES`].
    #[error("is {0} bytes long, at most {MAX_JOB_ID_BYTES} are possible")]
    TooLong(usize),
    /// A character or an order of characters that ids do not have.
    #[error(
        "must be lower-case letters and digits, with single words joined by '-' and levels by '.', such as reports.daily-sum"
    )]
    Malformed,
}

impl JobId {
    /// Reads an id.
    ///
    /// # Errors
    /// In words that complete the sentence "the id ...".
    pub fn parse(text: &str) -> Result<Self, JobIdError> {
        if text.len() > MAX_JOB_ID_BYTES {
            return Err(JobIdError::TooLong(text.len()));
        }
        let level = |level: &str| {
            // Words joined by one or more dashes: neither end is a dash, nothing else is in between.
            !level.is_empty()
                && !level.starts_with('-')
                && !level.ends_with('-')
                && level
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        if text.split('.').all(level) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(JobIdError::Malformed)
        }
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as part of a task id: levels joined by `_`, which no level contains.
    pub fn safe_path(&self) -> String {
        self.0.replace('.', "_")
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({})", self.0)
    }
}

/// A job as a person described it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The name.
    pub id: JobId,
    /// For people.
    pub description: Option<String>,
    /// For people and tools; tasks carry them too.
    pub labels: BTreeMap<String, String>,
    /// How one run is carried out.
    pub run: RunSpec,
    /// What Metronome does not know.
    pub beyond: Beyond,
}

/// How one run is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// What the task is given.
    pub need: Need,
    /// What the task does.
    pub command: Command,
    /// The user that the task runs as; the framework's own user otherwise.
    pub user: Option<String>,
    /// The task's environment.
    pub env: BTreeMap<String, String>,
    /// Upper limit of the pause before a failed attempt is repeated, in seconds.
    pub max_launch_delay_s: u64,
    /// What follows a failed attempt.
    pub restart: Restart,
    /// Seconds between SIGTERM and SIGKILL when the run is stopped; the agent's default otherwise.
    pub kill_grace_s: Option<u64>,
}

/// The amounts that a task asks for, in thousandths (mem and disk: of a MiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// Share of processors.
    pub cpus: Milli,
    /// Memory.
    pub mem: Milli,
    /// Disk.
    pub disk: Milli,
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, without a shell; never empty.
    Exec(Vec<String>),
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Whether there is another attempt.
    pub policy: RestartPolicy,
    /// No attempt begins later than so many seconds after the run was created; absent: no limit.
    pub active_deadline_s: Option<u64>,
}

/// Metronome's two restart policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// A failed attempt fails the run.
    Never,
    /// A failed attempt is followed by another, until the deadline.
    OnFailure,
}

/// What Metronome does not know: the fields that `/v2` adds to `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// A limited number of further attempts, with a growing pause.
    pub retries: Option<Retries>,
    /// An attempt that runs longer is killed and counts as failed, in seconds.
    pub max_run_s: Option<u64>,
}

/// A limited number of further attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts may follow the first failed one.
    pub count: u32,
    /// The pause before the first of them, in seconds.
    pub backoff_s: u64,
    /// By how much each further pause grows, in thousandths (2000: it doubles).
    pub backoff_factor: Milli,
    /// The longest pause, in seconds.
    pub max_backoff_s: u64,
}

/// One thing wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer into the document, such as `/run/mem`; `/` for the whole.
    pub path: String,
    /// What is wrong, and what would be accepted.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_words_nested_by_dots() {
        for good in ["a", "0", "a.b-c", "reports.daily-sum.v2", "a--b", "x1.2y"] {
            assert!(JobId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "A", "a_b", "a/b", "ä", "a b", "a\n",
        ] {
            assert_eq!(JobId::parse(bad), Err(JobIdError::Malformed), "{bad:?}");
        }
        assert_eq!(
            JobId::parse(&"a".repeat(129)),
            Err(JobIdError::TooLong(129))
        );
        assert!(JobId::parse(&"a".repeat(128)).is_ok());
    }
}
