//! A machine with an agent on it, as far as a scheduler can notice it: tasks that start, run, end, and updates that are
//! sent until they are acknowledged.

use std::collections::{BTreeMap, VecDeque};

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::rng::Rng;
use mezzo_wire::v1;

/// The first pause before an unacknowledged update is sent again, in ms; it doubles.
const RESEND: u64 = 10_000;
const RESEND_MAX: u64 = 600_000;

/// What a master asks of an agent.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Run(Box<v1::TaskInfo>),
    Kill(TaskId),
    Ack {
        task: TaskId,
        uuid: [u8; 16],
    },
    /// The framework subscribed anew: send what is unacknowledged.
    Resend,
}

/// A task as an agent tells a master of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) task: TaskId,
    pub(super) state: TaskState,
    pub(super) resources: Resources,
}

#[derive(Debug)]
struct AgentTask {
    resources: Resources,
    state: TaskState,
    /// When the next step of its life comes: running after starting, its end after a kill.
    due: Option<(u64, TaskState)>,
    /// Unacknowledged updates, the oldest first; only that one is under way.
    updates: VecDeque<v1::TaskStatus>,
    resend_at: u64,
    pause: u64,
}

/// One machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) number: u32,
    pub(super) agent: Option<AgentId>,
    /// Grows at each reboot.
    pub(super) boot: u64,
    /// The agent process is there and may dial.
    pub(super) up: bool,
    /// Nothing goes in or out.
    pub(super) partitioned: bool,
    pub(super) total: Resources,
    pub(super) link: Option<u64>,
    tasks: BTreeMap<TaskId, AgentTask>,
    rng: Rng,
}

impl Machine {
    pub(super) fn new(number: u32, total: Resources, rng: Rng) -> Self {
        Self {
            number,
            agent: None,
            boot: 0,
            up: true,
            partitioned: false,
            total,
            link: None,
            tasks: BTreeMap::new(),
            rng,
        }
    }

    /// Tasks whose payload is there at this moment.
    pub(super) fn running(&self) -> impl Iterator<Item = &TaskId> {
        let there = |task: &AgentTask| !task.state.is_terminal();
        self.tasks
            .iter()
            .filter(move |(_, task)| there(task))
            .map(|(id, _)| id)
    }

    /// Updates that nobody acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.tasks.values().map(|task| task.updates.len()).sum()
    }

    /// Whether the agent still has a task.
    pub(super) fn knows(&self, task: &TaskId) -> bool {
        self.tasks.contains_key(task)
    }

    pub(super) fn known(&self) -> Vec<Known> {
        let known = |(id, task): (&TaskId, &AgentTask)| Known {
            task: id.clone(),
            state: task.state,
            resources: task.resources.clone(),
        };
        self.tasks.iter().map(known).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let of = |task: &AgentTask| {
            let resend = (!task.updates.is_empty()).then_some(task.resend_at);
            task.due.map(|(at, _)| at).into_iter().chain(resend).min()
        };
        self.tasks.values().filter_map(of).min()
    }

    /// Carries an order out; true if it started a payload.
    pub(super) fn take(&mut self, now: u64, order: Order, out: &mut Vec<v1::TaskStatus>) -> bool {
        match order {
            Order::Run(info) => {
                let Ok(id) = TaskId::from_wire(&info.task_id) else {
                    return false;
                };
                if self.tasks.contains_key(&id) {
                    return false;
                }
                let resources = Resources::try_from_wire(&info.resources).unwrap_or_default();
                let task = AgentTask {
                    resources,
                    state: TaskState::Starting,
                    due: Some((now + self.rng.between(2, 60), TaskState::Running)),
                    updates: VecDeque::new(),
                    resend_at: 0,
                    pause: RESEND,
                };
                self.tasks.insert(id.clone(), task);
                self.enter(now, &id, TaskState::Starting, out);
                return true;
            }
            Order::Kill(id) => match self.tasks.get_mut(&id) {
                Some(task) if !task.state.is_terminal() => {
                    let at = now + self.rng.between(1, 400);
                    let sooner = task
                        .due
                        .is_none_or(|(due, state)| state != TaskState::Killed || at < due);
                    if sooner {
                        task.due = Some((at, TaskState::Killed));
                    }
                }
                Some(_) => {}
                None => {
                    let status = self.status(now, &id, TaskState::Dropped);
                    out.push(v1::TaskStatus {
                        uuid: None,
                        ..status
                    });
                }
            },
            Order::Ack { task: id, uuid } => {
                let Some(task) = self.tasks.get_mut(&id) else {
                    return false;
                };
                let matches = task
                    .updates
                    .front()
                    .is_some_and(|head| head.uuid.as_deref() == Some(uuid.as_slice()));
                if matches {
                    task.updates.pop_front();
                    task.pause = RESEND;
                    if task.updates.is_empty() && task.state.is_terminal() {
                        self.tasks.remove(&id);
                    } else {
                        self.send_head(now, &id, out);
                    }
                }
            }
            Order::Resend => self.send_heads(now, out),
        }
        false
    }

    /// Sends every unacknowledged head again, at once.
    pub(super) fn send_heads(&mut self, now: u64, out: &mut Vec<v1::TaskStatus>) {
        let ids: Vec<TaskId> = self.tasks.keys().cloned().collect();
        for id in ids {
            self.send_head(now, &id, out);
        }
    }

    fn send_head(&mut self, now: u64, id: &TaskId, out: &mut Vec<v1::TaskStatus>) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if let Some(head) = task.updates.front() {
            out.push(head.clone());
            task.resend_at = now + task.pause;
            task.pause = (task.pause * 2).min(RESEND_MAX);
        }
    }

    pub(super) fn tick(&mut self, now: u64, out: &mut Vec<v1::TaskStatus>) {
        let due: Vec<(TaskId, TaskState)> = self
            .tasks
            .iter()
            .filter_map(|(id, task)| {
                task.due
                    .filter(|(at, _)| *at <= now)
                    .map(|(_, state)| (id.clone(), state))
            })
            .collect();
        for (id, state) in due {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.due = None;
            }
            self.enter(now, &id, state, out);
        }
        let again: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.updates.is_empty() && task.resend_at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in again {
            self.send_head(now, &id, out);
        }
    }

    /// Ends running payloads, each with the given chance (one in so many).
    pub(super) fn fail_tasks(
        &mut self,
        now: u64,
        one_in: u64,
        out: &mut Vec<v1::TaskStatus>,
    ) -> usize {
        let there: Vec<TaskId> = self.running().cloned().collect();
        let mut failed = 0;
        for id in there {
            if self.rng.chance(one_in) {
                self.end(now, &id, TaskState::Failed, out);
                failed += 1;
            }
        }
        failed
    }

    /// The machine is lost for good.
    pub(super) fn lose(&mut self) {
        self.up = false;
        self.tasks.clear();
    }

    /// The machine goes down and comes up again: no payload survives, the agent's log does.
    pub(super) fn reboot(&mut self, now: u64) {
        self.boot += 1;
        let mut unsent = Vec::new();
        let there: Vec<TaskId> = self.running().cloned().collect();
        for id in there {
            self.end(now, &id, TaskState::Gone, &mut unsent);
        }
    }

    fn end(&mut self, now: u64, id: &TaskId, state: TaskState, out: &mut Vec<v1::TaskStatus>) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.due = None;
        }
        self.enter(now, id, state, out);
    }

    /// A task comes into a state; its update goes out if none is under way.
    fn enter(&mut self, now: u64, id: &TaskId, state: TaskState, out: &mut Vec<v1::TaskStatus>) {
        let status = self.status(now, id, state);
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if task.state.is_terminal() {
            return;
        }
        task.state = state;
        task.updates.push_back(status);
        if task.updates.len() == 1 {
            task.pause = RESEND;
            self.send_head(now, id, out);
        }
    }

    fn status(&mut self, now: u64, id: &TaskId, state: TaskState) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: id.to_wire(),
            state: state.number(),
            agent_id: self.agent.as_ref().map(AgentId::to_wire),
            source: Some(v1::task_status::Source::Executor as i32),
            uuid: Some(self.rng.uuid_bytes().to_vec().into()),
            timestamp: Some(now as f64 / 1000.0),
            ..Default::default()
        }
    }
}
