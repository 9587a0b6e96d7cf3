//! The copy itself: what the records add up to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mezzo_model::ids::{AgentId, ExecutorId, OfferId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::{Role, TaskState, Wall};
use mezzo_wire::v1;

use super::change::{AgentView, Change, Fate, FrameworkView};
use crate::keys::{AgentKey, FrameworkKey, OfferKey};

/// Statuses that are kept of one task.
const MAX_STATUSES: usize = 32;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frameworks that are gone.
    pub completed_frameworks: usize,
    /// Tasks that ended, of each framework.
    pub completed_tasks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            completed_frameworks: 50,
            completed_tasks: 1000,
        }
    }
}

/// A task and what was told of it.
#[derive(Clone, Debug)]
pub(super) struct TaskView {
    pub agent: AgentKey,
    pub info: Arc<v1::Task>,
    pub state: TaskState,
    pub statuses: Vec<Arc<v1::TaskStatus>>,
}

/// An outstanding offer.
#[derive(Clone, Debug)]
pub(super) struct OfferView {
    pub id: OfferId,
    pub framework: FrameworkKey,
    pub agent: AgentKey,
    pub role: Role,
    pub resources: Resources,
}

/// An executor.
#[derive(Clone, Debug)]
pub(super) struct ExecutorView {
    pub role: Role,
    pub resources: Resources,
    pub info: Arc<v1::ExecutorInfo>,
}

/// A framework with its tasks.
#[derive(Clone, Debug)]
pub(super) struct FrameworkEntry {
    pub view: FrameworkView,
    pub tasks: BTreeMap<TaskId, TaskView>,
    pub completed: VecDeque<TaskView>,
    pub unreachable: BTreeMap<TaskId, TaskView>,
}

/// Everything that readers can see.
#[derive(Clone, Debug, Default)]
pub struct Model {
    limits: Limits,
    pub(super) frameworks: BTreeMap<FrameworkKey, FrameworkEntry>,
    pub(super) completed: VecDeque<FrameworkEntry>,
    pub(super) agents: BTreeMap<AgentKey, AgentView>,
    pub(super) awaited: BTreeMap<AgentId, Arc<v1::AgentInfo>>,
    pub(super) offers: BTreeMap<OfferKey, OfferView>,
    pub(super) executors: BTreeMap<(FrameworkKey, AgentKey, ExecutorId), ExecutorView>,
}

impl Model {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Applies one record. Records that speak of what is not there are passed over.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Framework(view) => self.put_framework(*view),
            Change::FrameworkCompleted { key, at } => self.complete_framework(key, at),
            Change::Agent(view) => drop(self.agents.insert(view.key, *view)),
            Change::AgentRemoved(key) => drop(self.agents.remove(&key)),
            Change::AgentAwaited(id, info) => drop(self.awaited.insert(id, info)),
            Change::AgentNotAwaited(id) => drop(self.awaited.remove(&id)),
            Change::Offer {
                key,
                id,
                framework,
                agent,
                role,
                resources,
            } => {
                let offer = OfferView {
                    id,
                    framework,
                    agent,
                    role,
                    resources,
                };
                self.offers.insert(key, offer);
            }
            Change::OfferGone(key) => drop(self.offers.remove(&key)),
            Change::Task {
                framework,
                agent,
                id,
                info,
                state,
            } => {
                self.put_task(framework, agent, id, info, state);
            }
            Change::TaskUpdate {
                framework,
                id,
                state,
                status,
            } => {
                self.update_task(framework, &id, state, status);
            }
            Change::TaskGone {
                framework,
                id,
                fate,
                state,
            } => {
                self.end_task(framework, &id, fate, state);
            }
            Change::TaskForgotten { framework, id } => {
                if let Some(entry) = self.frameworks.get_mut(&framework) {
                    entry.unreachable.remove(&id);
                }
            }
            Change::Executor {
                framework,
                agent,
                id,
                resources,
                role,
                info,
            } => {
                let view = ExecutorView {
                    role,
                    resources,
                    info,
                };
                self.executors.insert((framework, agent, id), view);
            }
            Change::ExecutorGone {
                framework,
                agent,
                id,
            } => {
                self.executors.remove(&(framework, agent, id));
            }
        }
    }

    fn put_task(
        &mut self,
        framework: FrameworkKey,
        agent: AgentKey,
        id: TaskId,
        info: Arc<v1::Task>,
        state: TaskState,
    ) {
        let Some(entry) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let statuses = info.statuses.iter().cloned().map(Arc::new).collect();
        entry.unreachable.remove(&id);
        entry.tasks.insert(
            id,
            TaskView {
                agent,
                info,
                state,
                statuses,
            },
        );
    }

    fn update_task(
        &mut self,
        framework: FrameworkKey,
        id: &TaskId,
        state: TaskState,
        status: Arc<v1::TaskStatus>,
    ) {
        let entry = self.frameworks.get_mut(&framework);
        if let Some(task) = entry.and_then(|entry| entry.tasks.get_mut(id)) {
            task.state = state;
            task.remember(status);
        }
    }

    fn put_framework(&mut self, view: FrameworkView) {
        match self.frameworks.get_mut(&view.key) {
            Some(entry) => entry.view = view,
            None => {
                let entry = FrameworkEntry {
                    view,
                    tasks: BTreeMap::new(),
                    completed: VecDeque::new(),
                    unreachable: BTreeMap::new(),
                };
                self.frameworks.insert(entry.view.key, entry);
            }
        }
    }

    fn complete_framework(&mut self, key: FrameworkKey, at: Wall) {
        let Some(mut entry) = self.frameworks.remove(&key) else {
            return;
        };
        let ids: Vec<TaskId> = entry.tasks.keys().cloned().collect();
        for id in ids {
            if let Some(mut task) = entry.tasks.remove(&id) {
                task.state = TaskState::Killed;
                entry.complete(task, self.limits);
            }
        }
        let view = &mut entry.view;
        (view.active, view.connected, view.recovered) = (false, false, false);
        view.unregistered = Some(at);
        if self.limits.completed_frameworks > 0 {
            if self.completed.len() >= self.limits.completed_frameworks {
                self.completed.pop_front();
            }
            self.completed.push_back(entry);
        }
    }

    fn end_task(&mut self, framework: FrameworkKey, id: &TaskId, fate: Fate, state: TaskState) {
        let limits = self.limits;
        let Some(entry) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(mut task) = entry.tasks.remove(id) else {
            return;
        };
        task.state = state;
        match fate {
            Fate::Completed => entry.complete(task, limits),
            Fate::Unreachable => {
                entry.unreachable.insert(id.clone(), task);
            }
        }
    }
}

impl FrameworkEntry {
    fn complete(&mut self, task: TaskView, limits: Limits) {
        if limits.completed_tasks == 0 {
            return;
        }
        if self.completed.len() >= limits.completed_tasks {
            self.completed.pop_front();
        }
        self.completed.push_back(task);
    }
}

impl TaskView {
    /// A status of the same state as the last one takes its place.
    fn remember(&mut self, status: Arc<v1::TaskStatus>) {
        if let Some(last) = self.statuses.last_mut()
            && last.state == status.state
        {
            *last = status;
            return;
        }
        if self.statuses.len() >= MAX_STATUSES {
            self.statuses.remove(0);
        }
        self.statuses.push(status);
    }
}
