//! What the records add up to: the durable half of the agent's state.
//!
//! Each change of it goes through [`Ledger::apply`], in the running agent as at recovery and at compaction of the log,
//! so that there is one place that knows what a record means. [`Ledger::to_records`] gives the shortest row of records
//! that leads to the same ledger.
//! Invariant: `apply` is total; a record that does not fit (its task is unknown) changes nothing.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use mezzo_model::{Epoch, TaskState, Wall};
use mezzo_wire::v1;

use super::record::{
    Completed, ContainerRecord, Process, Record, SANDBOX_TASKS_MAX, Sandbox, TaskKey, TaskRecord,
    UpdateId, state_of, update_id,
};

/// How many tasks that ended, acknowledged, are remembered, so that a late
/// wish to kill one is known to be late.
pub const COMPLETED_MAX: usize = 1_000;

/// How many acknowledged updates of one task are remembered to know a repeated one.
pub const SEEN_MAX: usize = 128;

/// How many updates of one task may wait for acknowledgements. Beyond it the newest that waits behind the head is
/// replaced by the next one.
pub const PENDING_MAX: usize = 256;

/// The durable half of the agent's state.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) boot_id: Option<Arc<str>>,
    pub(super) agent: Option<AgentId>,
    pub(super) epoch: Option<Epoch>,
    pub(super) frameworks: BTreeMap<FrameworkId, FrameworkEntry>,
    pub(super) containers: BTreeMap<ContainerId, ContainerEntry>,
    /// The newest container of each executor that frameworks may name, while it has not ended.
    pub(super) executors: BTreeMap<(FrameworkId, ExecutorId), ContainerId>,
    pub(super) tasks: BTreeMap<TaskKey, TaskEntry>,
    pub(super) sandboxes: BTreeMap<ContainerId, Sandbox>,
    /// The same by age.
    pub(super) sandboxes_by_age: BTreeSet<(Wall, ContainerId)>,
    completed: BTreeMap<TaskKey, (u64, TaskState)>,
    completed_order: VecDeque<(u64, TaskKey)>,
    completed_next: u64,
    /// How many tasks have not ended.
    live: usize,
}

/// A framework that has something here.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkEntry {
    /// As last heard of.
    pub info: Arc<v1::FrameworkInfo>,
    /// It was shut down: what is left of it ends without a word.
    pub removed: bool,
    /// How many tasks and containers refer to it.
    references: usize,
}

/// A container that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerEntry {
    /// As it was intended.
    pub record: Arc<ContainerRecord>,
    /// Its executor process, once there was one.
    pub process: Option<Process>,
    /// Its tasks that have not ended.
    pub tasks: BTreeSet<TaskId>,
    /// Its tasks that have, newest last.
    pub ended_tasks: VecDeque<TaskId>,
}

/// A task that is not forgotten: it lives, or its end is not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEntry {
    /// As it was taken.
    pub record: Arc<TaskRecord>,
    /// Updates that the scheduler has not acknowledged, oldest first.
    pub pending: VecDeque<Arc<v1::TaskStatus>>,
    /// The newest update; the last of `pending` unless all are acknowledged.
    pub latest: Option<Arc<v1::TaskStatus>>,
    /// Updates that were acknowledged, newest last.
    pub seen: VecDeque<UpdateId>,
    /// The wish that it ends.
    pub kill: Option<Kill>,
    /// It was about to be handed to a framework's own executor.
    pub delivered: bool,
}

/// The wish that a task ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kill {
    /// How, if the framework said so.
    pub policy: Option<v1::KillPolicy>,
}

impl TaskEntry {
    /// The newest state, `Staging` before the first update.
    pub fn state(&self) -> TaskState {
        self.latest.as_deref().map_or(TaskState::Staging, state_of)
    }

    /// Whether an update of this id was taken before.
    pub fn knows(&self, uuid: &UpdateId) -> bool {
        self.seen.contains(uuid)
            || self
                .pending
                .iter()
                .any(|status| update_id(status).as_ref() == Some(uuid))
    }
}

impl Ledger {
    /// The ledger that a row of records leads to.
    pub fn replay(records: impl IntoIterator<Item = Record>) -> Self {
        let mut ledger = Self::default();
        for record in records {
            ledger.apply(&record);
        }
        ledger
    }

    /// The id that a master gave to this agent.
    pub fn agent(&self) -> Option<&AgentId> {
        self.agent.as_ref()
    }

    /// The highest epoch that was accepted.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }

    /// The tasks that are not forgotten.
    pub fn tasks(&self) -> impl Iterator<Item = (&TaskKey, &TaskEntry)> {
        self.tasks.iter()
    }

    /// How many tasks have not ended.
    pub fn live(&self) -> usize {
        self.live
    }

    /// The containers that have not ended.
    pub fn containers(&self) -> impl Iterator<Item = (&ContainerId, &ContainerEntry)> {
        self.containers.iter()
    }

    /// The sandboxes of containers that ended, in no particular order of age.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.sandboxes.values()
    }

    /// How a task ended that is forgotten otherwise.
    pub fn completed(&self, task: &TaskKey) -> Option<TaskState> {
        self.completed.get(task).map(|(_, state)| *state)
    }

    /// Takes one change in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Boot { boot_id } => self.apply_boot(boot_id),
            Record::Agent { id } => self.apply_agent(id.as_ref()),
            Record::Epoch(epoch) => self.epoch = Some(epoch.clone()),
            Record::Framework(info) => self.apply_framework(info),
            Record::FrameworkRemoved { id } => self.apply_framework_removed(id),
            Record::Container(container) => self.apply_container(container),
            Record::Started { container, process } => {
                if let Some(entry) = self.containers.get_mut(container) {
                    entry.process = Some(*process);
                }
            }
            Record::Ended { container, at } => self.apply_ended(container, *at),
            Record::SandboxRemoved { container } => {
                if let Some(sandbox) = self.sandboxes.remove(container) {
                    self.sandboxes_by_age
                        .remove(&(sandbox.ended, container.clone()));
                }
            }
            Record::Task(task) => self.apply_task(task),
            Record::Delivered { task } => {
                if let Some(entry) = self.tasks.get_mut(task) {
                    entry.delivered = true;
                }
            }
            Record::Kill { task, policy } => {
                if let Some(entry) = self.tasks.get_mut(task) {
                    entry.kill = Some(Kill { policy: *policy });
                }
            }
            Record::Update { task, status } => self.apply_update(task, status),
            Record::Acknowledged { task, uuid } => self.apply_acknowledged(task, *uuid),
            Record::Seen { task, uuids } => {
                if let Some(entry) = self.tasks.get_mut(task) {
                    entry.seen.extend(uuids);
                }
            }
            Record::Completed(completed) => {
                self.complete(completed.task.clone(), completed.state);
            }
            Record::Served { container, tasks } => {
                if let Some(entry) = self.containers.get_mut(container) {
                    entry.ended_tasks.extend(tasks.iter().cloned());
                }
            }
            Record::Sandbox(sandbox) => self.keep_sandbox(sandbox.clone()),
        }
    }

    /// After a reboot what a stream holds before its terminal update is old news; and because acknowledgements are not
    /// flushed, sending it could follow a terminal update that was acknowledged.
    fn apply_boot(&mut self, boot_id: &Arc<str>) {
        let rebooted = self.boot_id.as_ref().is_some_and(|last| last != boot_id);
        self.boot_id = Some(boot_id.clone());
        if !rebooted {
            return;
        }
        for entry in self.tasks.values_mut() {
            let ended = entry.state().is_terminal();
            while ended && entry.pending.len() > 1 {
                if let Some(uuid) = entry.pending.pop_front().as_deref().and_then(update_id) {
                    remember(&mut entry.seen, uuid);
                }
            }
        }
    }

    fn apply_agent(&mut self, id: Option<&AgentId>) {
        self.agent = id.cloned();
        if id.is_none() {
            self.tasks.clear();
            self.live = 0;
            self.completed.clear();
            self.completed_order.clear();
            self.frameworks.clear();
            for entry in self.containers.values_mut() {
                entry.tasks.clear();
            }
        }
    }

    fn apply_framework(&mut self, info: &Arc<v1::FrameworkInfo>) {
        let Some(id) = info
            .id
            .as_ref()
            .and_then(|id| FrameworkId::from_wire(id).ok())
        else {
            return;
        };
        match self.frameworks.get_mut(&id) {
            Some(entry) => entry.info = info.clone(),
            None => {
                let entry = FrameworkEntry {
                    info: info.clone(),
                    removed: false,
                    references: 0,
                };
                self.frameworks.insert(id, entry);
            }
        }
    }

    fn apply_framework_removed(&mut self, id: &FrameworkId) {
        let Some(entry) = self.frameworks.get_mut(id) else {
            return;
        };
        entry.removed = true;
        let idle = entry.references == 0;
        let over: Vec<TaskKey> = self
            .tasks_of(id)
            .filter(|(_, entry)| entry.state().is_terminal())
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.forget_task(&key);
        }
        if idle {
            self.frameworks.remove(id);
        }
    }

    fn apply_container(&mut self, record: &Arc<ContainerRecord>) {
        if self.containers.contains_key(&record.id) {
            return;
        }
        self.refer(&record.framework);
        if record.is_custom() {
            let name = (record.framework.clone(), record.executor.clone());
            self.executors.insert(name, record.id.clone());
        }
        let entry = ContainerEntry {
            record: record.clone(),
            process: None,
            tasks: BTreeSet::new(),
            ended_tasks: VecDeque::new(),
        };
        self.containers.insert(record.id.clone(), entry);
    }

    fn apply_ended(&mut self, container: &ContainerId, at: Wall) {
        let Some(entry) = self.containers.remove(container) else {
            return;
        };
        let record = &entry.record;
        let name = (record.framework.clone(), record.executor.clone());
        if self.executors.get(&name) == Some(container) {
            self.executors.remove(&name);
        }
        // Only tasks of a framework that is gone, or of an agent that is, are left without an end of their own.
        for task in &entry.tasks {
            self.forget_task(&(record.framework.clone(), task.clone()));
        }
        self.keep_sandbox(Sandbox {
            container: container.clone(),
            framework: record.framework.clone(),
            executor: record.executor.clone(),
            agent: record.agent.clone(),
            ended: at,
            tasks: entry.ended_tasks.iter().cloned().collect(),
        });
        self.unrefer(&record.framework);
    }

    fn keep_sandbox(&mut self, sandbox: Sandbox) {
        self.sandboxes_by_age
            .insert((sandbox.ended, sandbox.container.clone()));
        self.sandboxes.insert(sandbox.container.clone(), sandbox);
    }

    fn apply_task(&mut self, record: &Arc<TaskRecord>) {
        let key = record.key();
        if self.tasks.contains_key(&key) {
            return;
        }
        if let Some((order, _)) = self.completed.remove(&key) {
            self.completed_order.retain(|(known, _)| *known != order);
        }
        if let Some(container) = &record.container
            && let Some(entry) = self.containers.get_mut(container)
        {
            entry.tasks.insert(record.id.clone());
        }
        self.refer(&record.framework);
        self.live += 1;
        let entry = TaskEntry {
            record: record.clone(),
            pending: VecDeque::new(),
            latest: None,
            seen: VecDeque::new(),
            kill: None,
            delivered: false,
        };
        self.tasks.insert(key, entry);
    }

    fn apply_update(&mut self, task: &TaskKey, status: &Arc<v1::TaskStatus>) {
        let Some(entry) = self.tasks.get_mut(task) else {
            return;
        };
        if entry.state().is_terminal() {
            return;
        }
        if entry.pending.len() >= PENDING_MAX
            && let Some(dropped) = entry.pending.pop_back()
            && let Some(uuid) = update_id(&dropped)
        {
            remember(&mut entry.seen, uuid);
        }
        entry.pending.push_back(status.clone());
        entry.latest = Some(status.clone());
        if state_of(status).is_terminal() {
            let container = entry.record.container.clone();
            self.live = self.live.saturating_sub(1);
            self.end_task(task, container.as_ref());
        }
    }

    /// Takes a task that has ended out of its container.
    fn end_task(&mut self, task: &TaskKey, container: Option<&ContainerId>) {
        if let Some(entry) = container.and_then(|id| self.containers.get_mut(id))
            && entry.tasks.remove(&task.1)
            && !entry.ended_tasks.contains(&task.1)
        {
            entry.ended_tasks.push_back(task.1.clone());
            if entry.ended_tasks.len() > SANDBOX_TASKS_MAX {
                entry.ended_tasks.pop_front();
            }
        }
        if self
            .frameworks
            .get(&task.0)
            .is_some_and(|entry| entry.removed)
        {
            self.forget_task(task);
        }
    }

    fn apply_acknowledged(&mut self, task: &TaskKey, uuid: UpdateId) {
        let Some(entry) = self.tasks.get_mut(task) else {
            return;
        };
        if entry.pending.front().and_then(|head| update_id(head)) != Some(uuid) {
            return;
        }
        let head = entry.pending.pop_front();
        remember(&mut entry.seen, uuid);
        let state = head.as_deref().map_or(TaskState::Lost, state_of);
        if state.is_terminal() {
            self.forget_task(task);
            self.complete(task.clone(), state);
        }
    }

    fn complete(&mut self, task: TaskKey, state: TaskState) {
        let order = self.completed_next;
        self.completed_next += 1;
        self.completed_order.push_back((order, task.clone()));
        self.completed.insert(task, (order, state));
        while self.completed_order.len() > COMPLETED_MAX {
            if let Some((order, oldest)) = self.completed_order.pop_front()
                && self
                    .completed
                    .get(&oldest)
                    .is_some_and(|known| known.0 == order)
            {
                self.completed.remove(&oldest);
            }
        }
    }

    fn forget_task(&mut self, task: &TaskKey) {
        let Some(entry) = self.tasks.remove(task) else {
            return;
        };
        if !entry.state().is_terminal() {
            self.live = self.live.saturating_sub(1);
        }
        if let Some(container) = &entry.record.container
            && let Some(container) = self.containers.get_mut(container)
        {
            container.tasks.remove(&task.1);
        }
        self.unrefer(&task.0);
    }

    /// The tasks of one framework.
    pub(super) fn tasks_of<'a>(
        &'a self,
        framework: &'a FrameworkId,
    ) -> impl Iterator<Item = (&'a TaskKey, &'a TaskEntry)> {
        let first = least_task().map(|least| (framework.clone(), least));
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        self.tasks
            .range((from, Bound::Unbounded))
            .skip_while(move |((owner, _), _)| owner < framework)
            .take_while(move |((owner, _), _)| owner == framework)
    }

    fn refer(&mut self, framework: &FrameworkId) {
        if let Some(entry) = self.frameworks.get_mut(framework) {
            entry.references += 1;
        }
    }

    fn unrefer(&mut self, framework: &FrameworkId) {
        if let Some(entry) = self.frameworks.get_mut(framework) {
            entry.references = entry.references.saturating_sub(1);
            if entry.references == 0 {
                self.frameworks.remove(framework);
            }
        }
    }
}

/// The least id that the rule for ids allows: no control character is allowed, and the space follows them.
fn least_task() -> Option<TaskId> {
    TaskId::parse(" ").ok()
}

fn remember(seen: &mut VecDeque<UpdateId>, uuid: UpdateId) {
    if !seen.contains(&uuid) {
        seen.push_back(uuid);
        if seen.len() > SEEN_MAX {
            seen.pop_front();
        }
    }
}
