//! What the core tells the read model: small records, in order.

use std::sync::Arc;

use mezzo_model::ids::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::OfferConstraints;

use crate::keys::{AgentKey, FrameworkKey, OfferKey};

/// A framework as readers see it.
#[derive(Clone, Debug)]
pub struct FrameworkView {
    /// Its key within the term.
    pub key: FrameworkKey,
    /// Its id.
    pub id: FrameworkId,
    /// As it described itself, with its id.
    pub info: Arc<v1::FrameworkInfo>,
    /// It may get offers.
    pub active: bool,
    /// Its stream is open.
    pub connected: bool,
    /// Agents spoke of it; it has not subscribed with this master.
    pub recovered: bool,
    /// First subscription with this master.
    pub registered: Wall,
    /// Last subscription with this master.
    pub reregistered: Option<Wall>,
    /// When its stream closed, or when it was removed.
    pub unregistered: Option<Wall>,
    /// As it gave them.
    pub offer_constraints: Option<Arc<OfferConstraints>>,
}

/// An agent as readers see it.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its key within the term.
    pub key: AgentKey,
    /// Its id.
    pub id: AgentId,
    /// As it described itself, with its id.
    pub info: Arc<v1::AgentInfo>,
    /// All that it has.
    pub total: Resources,
    /// Its link is up and it is offered.
    pub active: bool,
    /// Mezzo's version on it.
    pub version: Arc<str>,
    /// First registration with this master.
    pub registered: Wall,
    /// Last registration with this master.
    pub reregistered: Option<Wall>,
}

/// What became of a task that is no longer live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ended.
    Completed,
    /// Its agent cannot be reached.
    Unreachable,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A framework appeared or changed.
    Framework(Box<FrameworkView>),
    /// A framework is gone; its tasks count as killed.
    FrameworkCompleted {
        /// Which.
        key: FrameworkKey,
        /// When.
        at: Wall,
    },
    /// An agent registered or changed.
    Agent(Box<AgentView>),
    /// An agent is no longer registered.
    AgentRemoved(AgentKey),
    /// An agent of the registry is waited for.
    AgentAwaited(AgentId, Arc<v1::AgentInfo>),
    /// It is waited for no more.
    AgentNotAwaited(AgentId),
    /// An offer was made.
    Offer {
        /// Which.
        key: OfferKey,
        /// As schedulers know it.
        id: OfferId,
        /// To whom.
        framework: FrameworkKey,
        /// Of which agent.
        agent: AgentKey,
        /// In which role.
        role: Role,
        /// Of what.
        resources: Resources,
    },
    /// An offer was used, taken back or declined.
    OfferGone(OfferKey),
    /// A task was launched, or an agent brought it.
    Task {
        /// Whose.
        framework: FrameworkKey,
        /// Where.
        agent: AgentKey,
        /// Its id.
        id: TaskId,
        /// What does not change about it; statuses so far included.
        info: Arc<v1::Task>,
        /// The newest state.
        state: TaskState,
    },
    /// A task changed.
    TaskUpdate {
        /// Whose.
        framework: FrameworkKey,
        /// Which.
        id: TaskId,
        /// The newest state.
        state: TaskState,
        /// The status that was told to the framework, or would have been.
        status: Arc<v1::TaskStatus>,
    },
    /// A task is no longer live.
    TaskGone {
        /// Whose.
        framework: FrameworkKey,
        /// Which.
        id: TaskId,
        /// What became of it.
        fate: Fate,
        /// Its last state.
        state: TaskState,
    },
    /// A task is not remembered as unreachable any more: it is back, or too many were.
    TaskForgotten {
        /// Whose.
        framework: FrameworkKey,
        /// Which.
        id: TaskId,
    },
    /// An executor that frameworks may name.
    Executor {
        /// Whose.
        framework: FrameworkKey,
        /// Where.
        agent: AgentKey,
        /// Its id.
        id: ExecutorId,
        /// What it uses, without allocation.
        resources: Resources,
        /// In which role.
        role: Role,
        /// Its description.
        info: Arc<v1::ExecutorInfo>,
    },
    /// An executor is gone.
    ExecutorGone {
        /// Whose.
        framework: FrameworkKey,
        /// Where.
        agent: AgentKey,
        /// Its id.
        id: ExecutorId,
    },
}
