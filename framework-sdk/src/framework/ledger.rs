//! The tasks of a framework, as far as it knows.

use std::collections::BTreeMap;

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, TaskId};

/// What is known of one task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTask {
    /// Where it is.
    pub agent: Option<AgentId>,
    /// The last state told; staging before the first.
    pub state: TaskState,
    /// Its end was asked for.
    pub killed: bool,
    /// A record of it lies in the store.
    pub(crate) stored: bool,
}

impl LedgerTask {
    /// Whether the task counts as there: not out of reach, and not asked to end.
    pub fn is_alive(&self) -> bool {
        !self.killed && self.state != TaskState::Unreachable
    }
}

/// Every task that was launched and is not known to have ended, in the order of ids. Tasks of earlier processes are in
/// it, and tasks that nobody remembered but an agent reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    tasks: BTreeMap<TaskId, LedgerTask>,
}

impl Ledger {
    /// All tasks.
    pub fn iter(&self) -> impl Iterator<Item = (&TaskId, &LedgerTask)> {
        self.tasks.iter()
    }

    /// The tasks that count as there: launched or running, not out of reach, not asked to end.
    pub fn alive(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks
            .iter()
            .filter(|(_, task)| task.is_alive())
            .map(|(id, _)| id)
    }

    /// All tasks as reconciliation names them: each with its agent.
    pub fn named(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.iter()
            .map(|(id, task)| (id.clone(), task.agent.clone()))
            .collect()
    }

    /// How many tasks count as there.
    pub fn alive_count(&self) -> usize {
        self.alive().count()
    }

    /// One task.
    pub fn get(&self, id: &TaskId) -> Option<&LedgerTask> {
        self.tasks.get(id)
    }

    /// How many tasks are known.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task is known.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn insert(&mut self, id: TaskId, task: LedgerTask) {
        self.tasks.insert(id, task);
    }

    pub(crate) fn get_mut(&mut self, id: &TaskId) -> Option<&mut LedgerTask> {
        self.tasks.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &TaskId) -> Option<LedgerTask> {
        self.tasks.remove(id)
    }
}
