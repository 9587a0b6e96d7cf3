//! What the agent writes down: one value for each change that must survive it.
//!
//! The write-ahead log stores these values in order; the [`Ledger`](super::ledger::Ledger) is what they add up to. A
//! value is plain, so that the simulator can keep it, hand it back, and lose the end of the row that was never flushed.
//! Invariant: a record says what has become true, never what somebody wishes; applying the same row twice from the
//! beginning gives the same ledger.

use std::sync::Arc;

use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::{Epoch, TaskState, Wall};
use mezzo_wire::v1;

/// A task among those of all frameworks: its framework and its own id.
pub type TaskKey = (FrameworkId, TaskId);

/// The 16 bytes that name one status update.
pub type UpdateId = [u8; 16];

/// One change that survives the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The agent started on this boot of the kernel. Another boot than the last one means that no container of before
    /// is alive.
    Boot {
        /// The kernel's boot id.
        boot_id: Arc<str>,
    },
    /// The master gave the agent its id, or (`None`) took it away for good: then everything below it is forgotten.
    Agent {
        /// The id.
        id: Option<AgentId>,
    },
    /// A leader of this epoch was accepted.
    Epoch(Epoch),
    /// A framework as last heard of; `id` is set.
    Framework(Arc<v1::FrameworkInfo>),
    /// The framework is gone: its tasks end without a word and are forgotten.
    FrameworkRemoved {
        /// Which.
        id: FrameworkId,
    },
    /// A container is about to be launched.
    Container(Arc<ContainerRecord>),
    /// Its executor process is there.
    Started {
        /// Which container.
        container: ContainerId,
        /// The process.
        process: Process,
    },
    /// Nothing of the container is left but its sandbox.
    Ended {
        /// Which container.
        container: ContainerId,
        /// When.
        at: Wall,
    },
    /// Its sandbox is gone too.
    SandboxRemoved {
        /// Which container.
        container: ContainerId,
    },
    /// A task was taken.
    Task(Arc<TaskRecord>),
    /// A task is about to be handed to an executor that is a framework's own.
    Delivered {
        /// Which.
        task: TaskKey,
    },
    /// A task is to end; it is never started any more, and its executor is told until it obeys.
    Kill {
        /// Which.
        task: TaskKey,
        /// How, if the framework said so.
        policy: Option<v1::KillPolicy>,
    },
    /// A status update joined the task's stream. `uuid` is set and has 16 bytes.
    Update {
        /// Which task.
        task: TaskKey,
        /// The update.
        status: Arc<v1::TaskStatus>,
    },
    /// The scheduler has acknowledged the head of the stream.
    Acknowledged {
        /// Which task.
        task: TaskKey,
        /// Which update.
        uuid: UpdateId,
    },
    /// Only in a snapshot: updates of the task that were acknowledged before.
    Seen {
        /// Which task.
        task: TaskKey,
        /// Their ids, oldest first.
        uuids: Vec<UpdateId>,
    },
    /// Only in a snapshot: a task that ended, acknowledged.
    Completed(Completed),
    /// Only in a snapshot: tasks of a living container that have ended.
    Served {
        /// Which container.
        container: ContainerId,
        /// Its ended tasks, newest last.
        tasks: Vec<TaskId>,
    },
    /// Only in a snapshot: the sandbox of a container that ended.
    Sandbox(Sandbox),
}

/// What is known of a container before it exists.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRecord {
    /// Its id, unique for each run.
    pub id: ContainerId,
    /// Whose it is.
    pub framework: FrameworkId,
    /// The executor in it; for a command task the task's id.
    pub executor: ExecutorId,
    /// The agent's id when it was launched: part of the sandbox' path.
    pub agent: AgentId,
    /// The user that the payload runs as.
    pub user: Arc<str>,
    /// Whose code the executor is.
    pub kind: ExecutorKind,
}

/// Whose code the executor of a container is.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutorKind {
    /// Our own, for one command task.
    Command,
    /// The framework's, as it describes it.
    Custom(Box<v1::ExecutorInfo>),
}

/// A process, told from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
    pub start: u64,
}

/// A task as it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// Whose it is.
    pub framework: FrameworkId,
    /// Its id (the same as in `info`).
    pub id: TaskId,
    /// Where it runs; `None` if it never will (refused, or unknown to us and asked for).
    pub container: Option<ContainerId>,
    /// The tasks of one group share this name: they start together or not at all.
    pub group: Option<Arc<str>>,
    /// What the framework said.
    pub info: v1::TaskInfo,
}

impl TaskRecord {
    /// The task's key.
    pub fn key(&self) -> TaskKey {
        (self.framework.clone(), self.id.clone())
    }
}

/// A task that ended and whose end was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Which.
    pub task: TaskKey,
    /// How it ended.
    pub state: TaskState,
}

/// What is left of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The container that it was.
    pub container: ContainerId,
    /// Whose.
    pub framework: FrameworkId,
    /// Of which executor.
    pub executor: ExecutorId,
    /// The agent's id at the time.
    pub agent: AgentId,
    /// When the container ended.
    pub ended: Wall,
    /// The tasks that ran in it, newest last, at most [`SANDBOX_TASKS_MAX`].
    pub tasks: Vec<TaskId>,
}

/// How many tasks of one executor a sandbox remembers.
pub const SANDBOX_TASKS_MAX: usize = 1_000;

/// Where a sandbox lies: `agents/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>` under the work
/// directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The agent's id when the container was launched.
    pub agent: AgentId,
    /// Whose.
    pub framework: FrameworkId,
    /// Of which executor.
    pub executor: ExecutorId,
    /// Of which run.
    pub container: ContainerId,
}

impl ContainerRecord {
    /// Where its sandbox lies.
    pub fn place(&self) -> Place {
        Place {
            agent: self.agent.clone(),
            framework: self.framework.clone(),
            executor: self.executor.clone(),
            container: self.id.clone(),
        }
    }

    /// Whether the framework may name the executor (it is not our own).
    pub fn is_custom(&self) -> bool {
        matches!(self.kind, ExecutorKind::Custom(_))
    }
}

impl Sandbox {
    /// Where it lies.
    pub fn place(&self) -> Place {
        Place {
            agent: self.agent.clone(),
            framework: self.framework.clone(),
            executor: self.executor.clone(),
            container: self.container.clone(),
        }
    }
}

/// The id of an update, if it has one of the right length.
pub fn update_id(status: &v1::TaskStatus) -> Option<UpdateId> {
    status.uuid.as_ref()?.as_ref().try_into().ok()
}

/// The state of an update; what the wire's numbers do not hold counts as lost.
pub fn state_of(status: &v1::TaskStatus) -> TaskState {
    TaskState::from_number(status.state).unwrap_or(TaskState::Lost)
}
