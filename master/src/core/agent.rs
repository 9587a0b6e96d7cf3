//! An agent as the core knows it, with the tasks and executors on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::ids::{AgentId, ExecutorId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState, Wall};
use mezzo_wire::v1;

use crate::allocator::AgentSpec;
use crate::keys::{ConnId, FrameworkKey, OfferKey};
use crate::read_model::AgentView;
use crate::validate::agent::Report;

/// The connection of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub conn: ConnId,
    /// Grows within one incarnation.
    pub connection: u64,
    /// One process of the agent.
    pub incarnation: String,
}

/// A task in the books.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub role: Role,
    /// Without allocation. Held for as long as `state` is not terminal.
    pub resources: Resources,
    /// The newest state known.
    pub state: TaskState,
    /// The state that was last told to the framework, or would have been.
    pub told: Option<TaskState>,
    /// The identity of that status; what is acknowledged must name it.
    pub uuid: Option<Bytes>,
    /// That status.
    pub status: Option<Arc<v1::TaskStatus>>,
    /// The framework wants it ended; said again when the agent comes back.
    pub kill: Option<Option<v1::KillPolicy>>,
    /// The framework has a task of this id elsewhere; this one is being ended and is not told about.
    pub is_duplicate: bool,
    /// What does not change about it.
    pub info: Arc<v1::Task>,
}

impl Task {
    /// Whether its resources are in use.
    pub fn holds(&self) -> bool {
        !self.state.is_terminal()
    }
}

/// An executor in the books.
#[derive(Clone, Debug)]
pub(super) struct Executor {
    pub role: Role,
    /// Without allocation.
    pub resources: Resources,
    pub info: Arc<v1::ExecutorInfo>,
}

/// What is being written about an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// It is about to be unreachable.
    Losing(Wall),
    /// It said goodbye.
    Leaving,
}

/// A registered agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub id: AgentId,
    pub info: Arc<v1::AgentInfo>,
    pub spec: AgentSpec,
    pub link: Option<Link>,
    /// Pings since it was last heard of.
    pub missed_pings: u32,
    pub ping: u64,
    pub tasks: BTreeMap<(FrameworkKey, TaskId), Task>,
    pub executors: BTreeMap<(FrameworkKey, ExecutorId), Executor>,
    pub offers: BTreeSet<OfferKey>,
    /// It came with more in use than it has.
    pub is_overcommitted: bool,
    /// It was marked unreachable before this registration.
    pub was_unreachable: bool,
    pub version: Arc<str>,
    pub registered: Wall,
    pub reregistered: Option<Wall>,
    pub transition: Option<Transition>,
    /// It said hello while something was being written about it.
    pub waiting: Option<(ConnId, Box<Report>)>,
}

impl Agent {
    pub fn conn(&self) -> Option<ConnId> {
        self.link.as_ref().map(|link| link.conn)
    }

    /// Whether its resources may be offered.
    pub fn is_active(&self) -> bool {
        self.link.is_some() && self.transition.is_none()
    }

    pub fn view(&self, key: crate::keys::AgentKey) -> AgentView {
        AgentView {
            key,
            id: self.id.clone(),
            info: self.info.clone(),
            total: self.spec.total.clone(),
            active: self.is_active(),
            version: self.version.clone(),
            registered: self.registered,
            reregistered: self.reregistered,
        }
    }

    /// Who holds what here, apart from offers.
    pub fn in_use(&self) -> impl Iterator<Item = (FrameworkKey, &Role, &Resources)> {
        let tasks = self
            .tasks
            .iter()
            .filter(|(_, task)| task.holds())
            .map(|((framework, _), task)| (*framework, &task.role, &task.resources));
        let executors = self
            .executors
            .iter()
            .map(|((framework, _), executor)| (*framework, &executor.role, &executor.resources));
        tasks.chain(executors)
    }

    /// Whether a framework has a task or an executor here.
    pub fn has_any_of(&self, framework: FrameworkKey) -> bool {
        self.tasks.keys().any(|(of, _)| *of == framework)
            || self.executors.keys().any(|(of, _)| *of == framework)
    }
}
