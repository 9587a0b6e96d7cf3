//! Keys and values.

use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::task_state::TaskState;
use mezzo_model::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::EndedRun;
use crate::core::job::parse::Dialect;
use crate::core::job::{JobId, JobSpec, render};
use crate::core::run::{Attempt, Begun, PastAttempt, Run, RunId};

/// A key and its new value; `None` removes it.
pub type Entry = (String, Option<Bytes>);

/// What is stored of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// Grows by one at each change.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// The description, in our own dialect.
    pub spec: Value,
}

/// What is stored of how a job's runs ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountsRecord {
    /// Runs that ended well.
    pub success: u64,
    /// Runs that ended badly.
    pub failure: u64,
    /// When one last ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<u64>,
    /// When one last ended badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<u64>,
}

/// What is stored of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// When it was created.
    pub created: u64,
    /// How many attempts there have been.
    pub attempts: u32,
    /// The newest of those that ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<PastRecord>,
    /// What is known of it beyond that.
    #[serde(flatten)]
    pub state: RunState,
}

/// Whether a run has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It has not.
    Active(ActiveRecord),
    /// It has.
    Ended {
        /// Whether it ended well.
        success: bool,
        /// When.
        finished: u64,
        /// The how-manieth of its job's runs to end.
        number: u64,
    },
}

/// What is stored of a run that has not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActiveRecord {
    /// The version of the job's description that it follows.
    pub spec: u64,
    /// Its place in the queue.
    pub order: u64,
    /// Part of its task ids.
    pub instance: Arc<str>,
    /// How many attempts have failed.
    #[serde(default)]
    pub failures: u32,
    /// How many in a row ended young.
    #[serde(default)]
    pub hasty: u32,
    /// The attempt that may be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskRecord>,
}

/// What is stored of an attempt that may be under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task.
    pub id: TaskId,
    /// Where it was sent.
    pub agent: AgentId,
    /// The name of that machine.
    pub host: Arc<str>,
    /// When it was sent.
    pub launched: u64,
    /// When it was first told to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Whether it is known to have begun.
    #[serde(default)]
    pub begun: bool,
}

/// What is stored of an attempt that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PastRecord {
    /// The task.
    pub id: TaskId,
    /// Where it was sent.
    pub agent: AgentId,
    /// The name of that machine.
    pub host: Arc<str>,
    /// When it began.
    pub started: u64,
    /// When it ended.
    pub completed: u64,
    /// The number of its last state.
    pub state: i32,
    /// Why it ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
}

/// The key of a job.
pub fn job_key(job: &JobId) -> String {
    format!("{}jobs/{job}", super::PREFIX)
}

/// The key of a job's counts.
pub fn counts_key(job: &JobId) -> String {
    format!("{}counts/{job}", super::PREFIX)
}

/// The key of an earlier description of a job.
pub fn spec_key(job: &JobId, version: u64) -> String {
    format!("{}specs/{job}/{version}", super::PREFIX)
}

/// The key of a run.
pub fn run_key(job: &JobId, run: &RunId) -> String {
    format!("{}runs/{job}/{run}", super::PREFIX)
}

/// A job, to be stored.
pub fn job_record(spec: &JobSpec, version: u64, created: Wall) -> Entry {
    let record = JobRecord {
        version,
        created: created.0,
        spec: render::job(spec, Dialect::Mezzo),
    };
    (job_key(&spec.id), Some(encode(&record)))
}

/// An earlier description of a job, to be stored.
pub fn spec_record(spec: &JobSpec, version: u64) -> Entry {
    (
        spec_key(&spec.id, version),
        Some(encode(&render::job(spec, Dialect::Mezzo))),
    )
}

/// A job's counts, to be stored.
pub fn counts_record(job: &JobId, counts: (u64, u64, Option<Wall>, Option<Wall>)) -> Entry {
    let (success, failure, last_success, last_failure) = counts;
    let record = CountsRecord {
        success,
        failure,
        last_success: last_success.map(|at| at.0),
        last_failure: last_failure.map(|at| at.0),
    };
    (counts_key(job), Some(encode(&record)))
}

/// A run that has not ended, to be stored.
pub fn run_record(run: &Run) -> Entry {
    let active = ActiveRecord {
        spec: run.spec_version,
        order: run.order,
        instance: run.instance.clone(),
        failures: run.failures,
        hasty: run.hasty,
        task: run.attempt().map(task_record),
    };
    let record = RunRecord {
        created: run.created_at.0,
        attempts: run.attempts,
        past: run.past.iter().map(past_record).collect(),
        state: RunState::Active(active),
    };
    (run_key(&run.key.job, &run.key.run), Some(encode(&record)))
}

/// A run that has ended, to be stored.
pub fn ended_record(job: &JobId, run: &EndedRun) -> Entry {
    let record = RunRecord {
        created: run.created_at.0,
        attempts: run.attempts,
        past: run.tasks.iter().map(past_record).collect(),
        state: RunState::Ended {
            success: run.success,
            finished: run.finished_at.0,
            number: run.number,
        },
    };
    (run_key(job, &run.id), Some(encode(&record)))
}

fn task_record(attempt: &Attempt) -> TaskRecord {
    TaskRecord {
        id: attempt.task.clone(),
        agent: attempt.agent.clone(),
        host: attempt.hostname.clone(),
        launched: attempt.launched_at.0,
        started: attempt.started_at.map(|at| at.0),
        begun: attempt.begun != Begun::No,
    }
}

fn past_record(past: &PastAttempt) -> PastRecord {
    PastRecord {
        id: past.task.clone(),
        agent: past.agent.clone(),
        host: past.hostname.clone(),
        started: past.started_at.0,
        completed: past.completed_at.0,
        state: past.state.number(),
        message: past.message.clone(),
    }
}

impl TaskRecord {
    /// The attempt, of which no state is known in this process.
    pub fn into_attempt(self) -> Attempt {
        Attempt {
            task: self.id,
            agent: self.agent,
            hostname: self.host,
            launched_at: Wall(self.launched),
            started_at: self.started.map(Wall),
            state: self.begun.then_some(TaskState::Starting),
            begun: if self.begun { Begun::Stored } else { Begun::No },
            overdue: false,
        }
    }
}

impl PastRecord {
    /// The attempt.
    pub fn into_past(self) -> PastAttempt {
        PastAttempt {
            task: self.id,
            agent: self.agent,
            hostname: self.host,
            started_at: Wall(self.started),
            completed_at: Wall(self.completed),
            state: TaskState::from_number(self.state).unwrap_or(TaskState::Unknown),
            message: self.message,
        }
    }
}

fn encode(record: &impl Serialize) -> Bytes {
    // These types have text keys and no number that JSON lacks, so this cannot fail.
    Bytes::from(serde_json::to_vec(record).unwrap_or_else(|_| json!(null).to_string().into_bytes()))
}
