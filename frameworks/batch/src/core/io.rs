//! What goes into the batch framework's core and what comes out of it.

use std::collections::VecDeque;
use std::sync::Arc;

use mezzo_coordination::{CommitError, Txn};
use mezzo_model::ids::TaskId;
use mezzo_model::time::Wall;
use mezzo_sdk::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};

use super::job::parse::Dialect;
use super::job::{JobId, JobSpec};
use super::run::{PastAttempt, RunId, RunKey, RunStatus};

/// The name of a question that came through the door; the shell chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What the core is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed; see [`Core::next_deadline`](super::Core::next_deadline).
    Tick,
    /// The cluster said something.
    Scheduler(SchedulerEvent),
    /// Somebody asks.
    Api {
        /// To be named in the answer.
        request: RequestId,
        /// What is asked.
        call: Call,
    },
    /// The answer to [`Output::Commit`].
    Committed {
        /// Which.
        id: u64,
        /// How it ended.
        result: Result<(), CommitError>,
    },
}

/// What the core asks of its shell; carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell the driver.
    Scheduler(SchedulerCommand),
    /// Hand a transaction to the store; answered by [`Input::Committed`]. One at a time.
    Commit {
        /// The name of the transaction.
        id: u64,
        /// What it changes.
        txn: Txn,
    },
    /// Answer a question.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// This core may not act any more: drop it, resign, and load a new one when this process leads again.
    Abdicate {
        /// Why, in words.
        reason: String,
        /// The master has removed the framework: its id is of no use any more.
        removed: bool,
    },
    /// A line for the log.
    Note {
        /// How much it matters.
        level: NoteLevel,
        /// The line.
        text: String,
    },
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteLevel {
    /// For somebody who looks closely.
    Debug,
    /// A normal change.
    Info,
    /// Something is wrong, and is being handled.
    Warn,
}

/// What of a job is asked for besides its description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embed {
    /// Runs that have not ended.
    pub active_runs: bool,
    /// Counts, last times and ended runs.
    pub history: bool,
    /// Counts and last times.
    pub history_summary: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Every job.
    ListJobs {
        /// With what besides.
        embed: Embed,
    },
    /// One job.
    GetJob {
        /// Which.
        job: JobId,
        /// With what besides.
        embed: Embed,
    },
    /// A new job.
    CreateJob {
        /// Its description.
        spec: JobSpec,
    },
    /// Another description for a job. What the dialect cannot say stays as it was.
    UpdateJob {
        /// The new description.
        spec: JobSpec,
        /// The fields that it could have.
        dialect: Dialect,
    },
    /// Remove a job and its history.
    DeleteJob {
        /// Which.
        job: JobId,
        /// Also if runs are active: they are stopped.
        stop_runs: bool,
    },
    /// The active runs of a job.
    ListRuns {
        /// Which.
        job: JobId,
    },
    /// A new run.
    StartRun {
        /// Of which job.
        job: JobId,
    },
    /// One run.
    GetRun {
        /// Of which job.
        job: JobId,
        /// Which.
        run: RunId,
        /// Also if it has ended.
        ended: bool,
    },
    /// End a run: its task is killed and the run has failed.
    StopRun {
        /// Of which job.
        job: JobId,
        /// Which.
        run: RunId,
    },
    /// The runs that wait for an offer.
    Queue,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Jobs, by id.
    Jobs(Vec<JobView>),
    /// A job.
    Job(Box<JobView>),
    /// A job's description, as it was stored or removed.
    Spec(Arc<JobSpec>),
    /// Runs, oldest first.
    Runs(Vec<RunView>),
    /// A run.
    Run(Box<RunView>),
    /// Waiting runs by job.
    Queue(Vec<(JobId, Vec<RunId>)>),
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("Job not found")]
    NoJob {
        /// What was asked for.
        job: JobId,
    },
    /// The job has no such run.
    #[error("Job Run not found")]
    NoRun {
        /// The job.
        job: JobId,
        /// What was asked for.
        run: String,
    },
    /// A new job has the id of another.
    #[error("Job with this id already exists")]
    JobExists,
    /// A job is in use.
    #[error("There are active job runs. Override with stopCurrentJobRuns=true")]
    ActiveRuns,
    /// There are as many jobs as there may be.
    #[error("there are {limit} jobs, and more are not possible; delete some, or raise --max_jobs")]
    TooManyJobs {
        /// How many there may be.
        limit: usize,
    },
    /// There are as many active runs as there may be.
    #[error("{limit} runs are active, and more are not possible; wait, or raise --max_active_runs")]
    TooManyRuns {
        /// How many there may be.
        limit: usize,
    },
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Its description.
    pub spec: Arc<JobSpec>,
    /// Its active runs, if asked for, oldest first.
    pub active_runs: Option<Vec<RunView>>,
    /// What became of earlier runs, if asked for.
    pub history: Option<HistoryView>,
    /// Whether `history` is to be shown with the ended runs.
    pub with_runs: bool,
    /// Whether `history` is to be shown as a summary.
    pub with_summary: bool,
}

/// A run as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// Its name.
    pub key: RunKey,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Wall,
    /// When it ended.
    pub completed_at: Option<Wall>,
    /// How many attempts there have been.
    pub attempts: u32,
    /// Its tasks, oldest first.
    pub tasks: Vec<TaskView>,
}

/// A task as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// The attempt. `completed_at` and `message` mean something only if `ended`.
    pub attempt: PastAttempt,
    /// Whether it has ended.
    pub ended: bool,
}

/// What became of a job's runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryView {
    /// How many ended well, ever.
    pub success_count: u64,
    /// How many ended badly, ever.
    pub failure_count: u64,
    /// When one last ended well.
    pub last_success_at: Option<Wall>,
    /// When one last ended badly.
    pub last_failure_at: Option<Wall>,
    /// Runs that ended well, newest first, as many as are kept.
    pub successful: VecDeque<Arc<EndedRun>>,
    /// Runs that ended badly, newest first, as many as are kept.
    pub failed: VecDeque<Arc<EndedRun>>,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedRun {
    /// Its name within the job.
    pub id: RunId,
    /// When it was created.
    pub created_at: Wall,
    /// When it ended.
    pub finished_at: Wall,
    /// The how-manieth of its job's runs to end: tells apart those that ended in the same millisecond.
    pub number: u64,
    /// Whether it ended well.
    pub success: bool,
    /// How many attempts there were.
    pub attempts: u32,
    /// The newest of them, oldest first.
    pub tasks: Vec<PastAttempt>,
}

/// What waits for a change to be in the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a question.
    Reply {
        /// Which.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// A status of a task that belongs to no run: why it belongs to none is stored.
    Acknowledge(AckToken),
    /// The end of a task is recorded: it may be acknowledged.
    Ended(TaskId),
    /// That a task has begun is recorded: the status that said so may be acknowledged.
    Begun {
        /// The run.
        key: RunKey,
        /// The task.
        task: TaskId,
        /// The status.
        ack: AckToken,
    },
    /// An attempt is recorded: if it was the last one missing, its launch may leave.
    Intended {
        /// The launch.
        launch: u64,
    },
    /// End a task that is not wanted any more.
    Kill(TaskId),
}
