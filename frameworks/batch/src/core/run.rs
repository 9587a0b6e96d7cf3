//! One run of a job: an instance of it that ends exactly once, over one or more attempts.
//!
//! A run is queued until an offer fits, then an attempt is *intended* (its record is on the way to the store), then
//! *launched* (the offer was accepted, or may have been). An attempt that did not succeed is followed by another or
//! ends the run, which [`retry`](super::retry) decides.
//!
//! Invariant: a task id belongs to one attempt of one run and is never used again. Invariant: the record of an
//! attempt is in the store before its offer is accepted.

pub mod end;
pub mod start;
pub mod status;

use std::fmt;
use std::sync::Arc;

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::rng::Rng;
use mezzo_model::task_state::TaskState;
use mezzo_model::time::{Millis, Wall};

use super::job::{JobId, JobSpec};

/// How many ended attempts of a run are kept; of more, the newest.
pub const MAX_PAST_ATTEMPTS: usize = 10;

/// Longest message of an attempt that is kept, in characters.
pub const MAX_MESSAGE_CHARS: usize = 500;

/// A run's name within its job: `20260131235959` and five letters or digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Reads an id: 1 to 64 letters and digits. `None` for anything else, which then names no run.
    pub fn parse(text: &str) -> Option<Self> {
        let good =
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        good.then(|| Self(Arc::from(text)))
    }

    /// A name for a run that is created now: the second (UTC), and five characters by chance.
    pub fn generate(now: Wall, rng: &mut Rng) -> Self {
        const SIGNS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut name = second(now);
        for _ in 0..5 {
            name.push(char::from(rng.pick(SIGNS).copied().unwrap_or(b'0')));
        }
        Self(Arc::from(name))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `yyyyMMddHHmmss` in UTC. Instants beyond the calendar (year 9999) count as its end.
fn second(now: Wall) -> String {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let civil = time.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    )
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.0)
    }
}

/// A run's name in the whole framework.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: RunId,
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.run)
    }
}

/// A run that has not ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub key: RunKey,
    /// The job as it was when the run was created; a later change of the job does not touch the run.
    pub spec: Arc<JobSpec>,
    /// The version of that spec.
    pub spec_version: u64,
    /// When it was created.
    pub created_at: Wall,
    /// Its place in the queue: runs are served in this order where they fit.
    pub order: u64,
    /// Part of its task ids; random.
    pub instance: Arc<str>,
    /// How many attempts have been made, including intended ones that were given up.
    pub attempts: u32,
    /// How many of them count as failed.
    pub failures: u32,
    /// How many in a row ended young or never began: what the pause before the next one grows with.
    pub hasty: u32,
    /// Where it is.
    pub stage: Stage,
    /// Ended attempts that had a task, oldest first, at most [`MAX_PAST_ATTEMPTS`].
    pub past: Vec<PastAttempt>,
}

/// Where a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// In the queue: waits for an offer.
    Queued,
    /// Waits for its next attempt to be due.
    Paused {
        /// When it is.
        until: Millis,
    },
    /// An offer is set aside for the attempt; its record is on the way to the store.
    Intended {
        /// Which launch it is part of.
        launch: u64,
        /// The attempt.
        attempt: Attempt,
    },
    /// The offer was accepted, or may have been.
    Launched(Attempt),
}

/// One try to carry a run out: one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The task.
    pub task: TaskId,
    /// Where it was sent.
    pub agent: AgentId,
    /// The name of that machine.
    pub hostname: Arc<str>,
    /// When it was sent.
    pub launched_at: Wall,
    /// When it was first told to run.
    pub started_at: Option<Wall>,
    /// The last state that was told; `None` while nothing is known of it.
    pub state: Option<TaskState>,
    /// Whether it is known, and stored, that its task has begun.
    pub begun: Begun,
    /// It runs for longer than the job allows and is being killed.
    pub overdue: bool,
}

/// Whether an attempt's task is known to have begun.
///
/// It decides what an attempt was that nobody knows any more: one that never began is repeated for free, one that
/// did has failed. So the first status that says so is acknowledged only when that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing says so.
    No,
    /// It has, and that is on the way to the store.
    Storing,
    /// It has, and that is stored.
    Stored,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAttempt {
    /// The task.
    pub task: TaskId,
    /// Where it was sent.
    pub agent: AgentId,
    /// The name of that machine.
    pub hostname: Arc<str>,
    /// When it ran first, or was launched if it never was told to run.
    pub started_at: Wall,
    /// When it ended.
    pub completed_at: Wall,
    /// Its last state.
    pub state: TaskState,
    /// Why it ended so, in words, if somebody said so; at most [`MAX_MESSAGE_CHARS`].
    pub message: Option<Arc<str>>,
}

/// Metronome's states of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// Waits for an offer, or for news of its task.
    Starting,
    /// Its task is known to the cluster.
    Active,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
}

impl RunStatus {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Active => "ACTIVE",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }
}

impl Run {
    /// The attempt that is intended or launched.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.stage {
            Stage::Queued | Stage::Paused { .. } => None,
            Stage::Intended { attempt, .. } | Stage::Launched(attempt) => Some(attempt),
        }
    }

    /// The attempt that is launched.
    pub fn launched(&self) -> Option<&Attempt> {
        match &self.stage {
            Stage::Launched(attempt) => Some(attempt),
            Stage::Queued | Stage::Paused { .. } | Stage::Intended { .. } => None,
        }
    }

    /// The attempt that is launched, to be changed.
    pub fn launched_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.stage {
            Stage::Launched(attempt) => Some(attempt),
            Stage::Queued | Stage::Paused { .. } | Stage::Intended { .. } => None,
        }
    }

    /// What Metronome would say: ACTIVE from the first news of a task on.
    pub fn status(&self) -> RunStatus {
        let active = self
            .launched()
            .is_some_and(|attempt| attempt.state.is_some());
        if active || !self.past.is_empty() {
            RunStatus::Active
        } else {
            RunStatus::Starting
        }
    }

    /// The id of the next attempt's task, in the form that Metronome's have.
    ///
    /// Job ids are at most 128 bytes, so with the run's 19 and 64 more the rule for ids always holds.
    pub fn next_task_id(&self) -> TaskId {
        let text = format!(
            "{}_{}.instance-{}._app.{}",
            self.key.job.safe_path(),
            self.key.run,
            self.instance,
            self.attempts.saturating_add(1)
        );
        TaskId::parse(&text).expect("a job id is short and without slashes, and so is all the rest")
    }

    /// Keeps an attempt that has ended.
    pub fn remember(&mut self, past: PastAttempt) {
        self.past.push(past);
        if self.past.len() > MAX_PAST_ATTEMPTS {
            self.past.remove(0);
        }
    }
}

impl Attempt {
    /// The attempt as it is remembered once it has ended.
    pub fn ended(self, state: TaskState, at: Wall, message: Option<&str>) -> PastAttempt {
        let message = message
            .filter(|message| !message.is_empty())
            .map(|message| {
                message
                    .chars()
                    .take(MAX_MESSAGE_CHARS)
                    .collect::<String>()
                    .into()
            });
        PastAttempt {
            task: self.task,
            agent: self.agent,
            hostname: self.hostname,
            started_at: self.started_at.unwrap_or(self.launched_at),
            completed_at: at,
            state,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_name_their_second() {
        let id = RunId::generate(Wall(1_468_587_779_735), &mut Rng::new(1));
        assert!(id.as_str().starts_with("20160715130259"), "{id}");
        assert_eq!(id.as_str().len(), 19);
        assert_eq!(RunId::parse(id.as_str()), Some(id));
        assert!(
            RunId::generate(Wall(u64::MAX), &mut Rng::new(1))
                .as_str()
                .starts_with("9999")
        );
        for bad in ["", "a/b", "a b", "..", &"1".repeat(65)] {
            assert_eq!(RunId::parse(bad), None, "{bad}");
        }
    }
}
