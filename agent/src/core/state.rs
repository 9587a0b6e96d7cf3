//! The volatile half of the agent's state: what a restart may lose.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use mezzo_model::ids::{ContainerId, TaskId};
use mezzo_model::{Millis, TaskState};
use mezzo_wire::link;
use mezzo_wire::v1::task_status::Reason;

use super::io::{ConnId, Limits, LinkId};
use super::record::{TaskKey, UpdateId};

/// How an update is sent again: first after this, then twice as late each time.
pub(super) const RESEND_FIRST: Millis = Millis::from_secs(10);

/// The longest wait before an update is sent again.
pub(super) const RESEND_MAX: Millis = Millis::from_secs(600);

/// When a task has ended while an older update of it still waits for its acknowledgement, that one is sent again after
/// this, because it carries the newest state, by which the master frees the resources.
pub(super) const NUDGE: Millis = Millis::from_secs(1);

/// How long our own executor may take to leave after its task's end was acknowledged to it.
pub(super) const LINGER: Millis = Millis::from_secs(30);

/// Messages of the master that may wait for an epoch to be flushed.
pub(super) const HELD_MAX: usize = 10_000;

/// How far the agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before `Start`.
    New,
    /// It looks what is alive.
    Probing,
    /// It works.
    Ready,
    /// It ends its tasks, and then itself.
    Leaving(Leaving),
    /// It has said so.
    Stopped,
}

/// Why the agent ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// The master removed it: its id is worth nothing any more.
    Removed {
        /// In the master's words.
        message: String,
    },
    /// Somebody wants the machine empty.
    Asked,
}

/// A container's executor while the agent runs.
#[derive(Debug)]
pub(super) struct Executor {
    pub phase: Phase,
    /// Its connection, once it said hello.
    pub conn: Option<ConnId>,
    /// It said SUBSCRIBE on that connection.
    pub subscribed: bool,
    /// It has subscribed at least once since the agent runs, or before.
    pub registered: bool,
    /// Tasks that it has not been given.
    pub queue: VecDeque<Queued>,
    /// Tasks that it is about to be given: their delivery is being written.
    pub limbo: BTreeSet<TaskId>,
    /// What becomes of the tasks that it leaves behind, if that is already clear.
    pub ending: Option<Ending>,
    /// The limits last told to the containerizer.
    pub limits: Limits,
}

/// How far an executor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The log says that it may live; nobody has looked yet.
    Probing,
    /// The intent is being written.
    Intended,
    /// It is being made.
    Starting,
    /// Its process is there.
    Alive,
    /// It was told to shut down.
    Stopping,
    /// It is being destroyed.
    Destroying,
}

/// Tasks that are given to an executor together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queued {
    pub tasks: Vec<TaskId>,
    pub group: bool,
    /// Their records are written.
    pub logged: bool,
}

/// What becomes of tasks whose executor ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub state: TaskState,
    pub reason: Reason,
    pub message: String,
}

/// A task's updates while the agent runs.
#[derive(Debug)]
pub(super) struct Stream {
    /// How many of the pending updates, from the head, are written (a terminal one: flushed).
    pub durable: usize,
    /// The newest durable state.
    pub state: TaskState,
    /// The head was sent on the connection that stands.
    pub in_flight: bool,
    /// The wait before it is sent again.
    pub interval: Millis,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            durable: 0,
            state: TaskState::Staging,
            in_flight: false,
            interval: RESEND_FIRST,
        }
    }
}

/// What is to be done when a write is through.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum After {
    /// Make the container.
    Launch(ContainerId),
    /// These tasks may be given to their executor.
    Queue(ContainerId, TaskId),
    /// Give these tasks to their executor, if it is still the same connection.
    Deliver(ContainerId, ConnId, Queued),
    /// Tell the executor to end the task.
    Kill(TaskKey),
    /// The update is safe: acknowledge it to the executor in this container, and send it.
    Updated(TaskKey, UpdateId, Option<ContainerId>),
    /// The epoch, and the id, are safe: go on with what the master said.
    Settled(LinkId),
    /// What the log held at the start is safe.
    Recovered,
    /// The agent's id is forgotten: stop.
    Forgotten,
}

/// The way to the master.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The leader as the detector knows it.
    pub leader: Option<Arc<str>>,
    /// The last connection that was dialled.
    pub last: LinkId,
    pub state: LinkState,
    /// Failures in a row.
    pub failures: u32,
    /// How often in a row another master's word about the leader was followed.
    pub hops: u32,
    /// Said by the master: after so long without a word it is gone.
    pub silence: Millis,
    /// Messages that wait for a write.
    pub held: VecDeque<link::MasterMessage>,
    /// Such a write is under way.
    pub settling: bool,
}

/// How far the agent is with the master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    /// No leader is known, or it wants no more tries.
    #[default]
    Idle,
    /// A failure; the next try has its time.
    Waiting,
    /// The connection is being made.
    Dialling,
    /// Hello is said.
    Greeting,
    /// Welcome.
    Up,
}
