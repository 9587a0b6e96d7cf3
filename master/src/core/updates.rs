//! Statuses: from agents to schedulers, and acknowledgements back.
//!
//! An agent keeps a status until it is acknowledged and sends it again; the master forwards what it gets if the
//! scheduler is there, and keeps only the newest. Resources are freed by the newest state, before the scheduler has
//! acknowledged anything; the task stays in the books until its end is acknowledged.

use std::sync::Arc;

use mezzo_model::TaskState;
use mezzo_model::ids::{ExecutorId, FrameworkId, TaskId};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::call::Acknowledge;
use mezzo_wire::v1::scheduler::{Event, event};

use super::status;
use super::{Core, Cx};
use crate::keys::{AgentKey, FrameworkKey};
use crate::read_model::{Change, Fate};

impl Core {
    pub(super) fn on_status_update(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentKey,
        update: link::StatusUpdate,
    ) {
        self.counters.updates_received += 1;
        let (Ok(framework), Ok(task)) = (
            FrameworkId::from_wire(&update.framework_id),
            TaskId::from_wire(&update.status.task_id),
        ) else {
            cx.warn("an agent sent a status with ids that break the rule; dropped");
            return;
        };
        let (Some(state), Some(latest)) = (
            TaskState::from_number(update.status.state),
            TaskState::from_number(update.latest_state),
        ) else {
            cx.warn(format!(
                "an agent sent a status of task {task} in an unknown state; dropped"
            ));
            return;
        };
        let Some(key) = self.framework_by_id(framework.as_str()) else {
            self.answer_for_the_gone(cx, agent, &framework, &update.status);
            return;
        };
        // The newest state frees resources even if this status is not the last one.
        let latest = if state.is_terminal() { state } else { latest };
        self.take_status(cx, agent, key, &task, (state, latest), update.status);
    }

    /// A framework that is gone acknowledges nothing: the master does, so that the agent can forget.
    fn answer_for_the_gone(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentKey,
        framework: &FrameworkId,
        status: &v1::TaskStatus,
    ) {
        if self.past_frameworks.contains(framework) {
            self.acknowledge_on(cx, agent, framework, &status.task_id, status.uuid.clone());
        } else {
            cx.warn(format!(
                "a status of framework {framework} came, which nobody spoke of; dropped"
            ));
        }
    }

    fn acknowledge_on(
        &self,
        cx: &mut Cx<'_>,
        agent: AgentKey,
        framework: &FrameworkId,
        task: &v1::TaskId,
        uuid: Option<bytes::Bytes>,
    ) {
        if let Some(uuid) = uuid {
            let order = link::AcknowledgeUpdate {
                framework_id: framework.to_wire(),
                task_id: task.clone(),
                uuid,
            };
            self.order(cx, agent, Body::Acknowledge(order));
        }
    }

    fn take_status(
        &mut self,
        cx: &mut Cx<'_>,
        agent_key: AgentKey,
        key: FrameworkKey,
        id: &TaskId,
        (state, latest): (TaskState, TaskState),
        status: v1::TaskStatus,
    ) {
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return;
        };
        let Some(task) = agent.tasks.get_mut(&(key, id.clone())) else {
            // Its end was acknowledged a moment ago and the agent has not heard of it, or it is none of ours.
            if let Some(framework) = self.frameworks.get(&key) {
                self.counters.updates_forwarded += 1;
                cx.tell(framework, status::update(status));
            }
            return;
        };
        if task.is_duplicate {
            let uuid = status.uuid.clone();
            let ended = state.is_terminal();
            self.set_state(cx, agent_key, key, id, latest);
            if let Some(framework) = self
                .frameworks
                .get(&key)
                .map(|framework| framework.id.clone())
            {
                self.acknowledge_on(cx, agent_key, &framework, &status.task_id, uuid);
            }
            if ended && let Some(agent) = self.agents.get_mut(&agent_key) {
                agent.tasks.remove(&(key, id.clone()));
            }
            return;
        }
        task.told = Some(state);
        task.uuid.clone_from(&status.uuid);
        let status = Arc::new(status);
        task.status = Some(status.clone());
        let newest = if task.state.is_terminal() && !latest.is_terminal() {
            task.state
        } else {
            latest
        };
        self.set_state(cx, agent_key, key, id, newest);
        cx.change(Change::TaskUpdate {
            framework: key,
            id: id.clone(),
            state: newest,
            status: status.clone(),
        });
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let mut copy = (*status).clone();
        copy.state = status::as_known(framework, state).number();
        let was_told = cx.tell(framework, status::update(copy));
        self.counters.updates_forwarded += u64::from(was_told);
        // What has no uuid is not acknowledged; once told it is over.
        if was_told && state.is_terminal() && status.uuid.is_none() {
            self.end_task(cx, agent_key, key, id);
        }
    }

    /// Books a task's newest state: what ends frees its resources.
    pub(super) fn set_state(
        &mut self,
        cx: &mut Cx<'_>,
        agent_key: AgentKey,
        key: FrameworkKey,
        id: &TaskId,
        state: TaskState,
    ) {
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return;
        };
        let Some(task) = agent.tasks.get_mut(&(key, id.clone())) else {
            return;
        };
        let held = task.holds();
        task.state = state;
        match (held, task.holds()) {
            (true, false) => {
                self.counters.tasks_ended += 1;
                let (role, resources) = (&task.role, &task.resources);
                self.allocator
                    .release(cx.now.mono, agent_key, key, role, resources, None);
            }
            (false, true) => {
                self.allocator
                    .hold(agent_key, key, &task.role, &task.resources);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Takes a task out of the books: its end is known to who must know.
    pub(super) fn end_task(
        &mut self,
        cx: &mut Cx<'_>,
        agent_key: AgentKey,
        key: FrameworkKey,
        id: &TaskId,
    ) {
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return;
        };
        let Some(task) = agent.tasks.remove(&(key, id.clone())) else {
            return;
        };
        let agent_id = agent.id.clone();
        if task.holds() {
            let (role, resources) = (&task.role, &task.resources);
            self.allocator
                .release(cx.now.mono, agent_key, key, role, resources, None);
        }
        if task.is_duplicate {
            return;
        }
        if let Some(framework) = self.frameworks.get_mut(&key) {
            framework.tasks.remove(id);
            let framework = framework.id.clone();
            self.remember_task(framework, id.clone(), agent_id);
        }
        let (fate, state) = (Fate::Completed, task.state);
        cx.change(Change::TaskGone {
            framework: key,
            id: id.clone(),
            fate,
            state,
        });
    }

    pub(super) fn on_acknowledge(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, ack: Acknowledge) {
        let Some(agent_key) = self.agent_by_id(&ack.agent_id.value) else {
            return;
        };
        let Some(framework) = self
            .frameworks
            .get(&key)
            .map(|framework| framework.id.clone())
        else {
            return;
        };
        let Ok(id) = TaskId::from_wire(&ack.task_id) else {
            return;
        };
        let Some(agent) = self.agents.get(&agent_key) else {
            return;
        };
        let mut is_over = false;
        if let Some(task) = agent.tasks.get(&(key, id.clone())) {
            if task.is_duplicate || task.uuid.as_ref() != Some(&ack.uuid) {
                // An older status, acknowledged once more.
                return;
            }
            is_over = task.told.is_some_and(TaskState::is_terminal);
        }
        self.counters.acknowledgements += 1;
        let order = link::AcknowledgeUpdate {
            framework_id: framework.to_wire(),
            task_id: ack.task_id,
            uuid: ack.uuid,
        };
        // An agent that is away sends the status again when it is back.
        if self.order(cx, agent_key, Body::Acknowledge(order)) && is_over {
            self.end_task(cx, agent_key, key, &id);
        }
    }

    pub(super) fn on_executor_message(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentKey,
        message: link::ExecutorMessage,
    ) {
        let framework = self.framework_by_id(&message.framework_id.value);
        let framework = framework.and_then(|key| self.frameworks.get(&key));
        let (Some(framework), Some(agent)) = (framework, self.agents.get(&agent)) else {
            return;
        };
        let event = Event {
            message: Some(event::Message {
                agent_id: agent.id.to_wire(),
                executor_id: message.executor_id,
                data: message.data,
            }),
            ..status::event(event::Type::Message)
        };
        cx.tell(framework, event);
    }

    pub(super) fn on_executor_exited(
        &mut self,
        cx: &mut Cx<'_>,
        agent_key: AgentKey,
        exited: link::ExecutorExited,
    ) {
        let Some(key) = self.framework_by_id(&exited.framework_id.value) else {
            return;
        };
        let Ok(id) = ExecutorId::from_wire(&exited.executor_id) else {
            return;
        };
        if !self.remove_executor(cx, agent_key, key, &id) {
            // One that an agent made for a task; the task's own status tells of it.
            return;
        }
        if let (Some(framework), Some(agent)) =
            (self.frameworks.get(&key), self.agents.get(&agent_key))
        {
            let failure = status::failure(&agent.id, Some((exited.executor_id, exited.status)));
            cx.tell(framework, failure);
        }
    }

    /// Takes an executor out of the books; whether it was there.
    pub(super) fn remove_executor(
        &mut self,
        cx: &mut Cx<'_>,
        agent_key: AgentKey,
        key: FrameworkKey,
        id: &ExecutorId,
    ) -> bool {
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return false;
        };
        let Some(executor) = agent.executors.remove(&(key, id.clone())) else {
            return false;
        };
        let (role, resources) = (&executor.role, &executor.resources);
        self.allocator
            .release(cx.now.mono, agent_key, key, role, resources, None);
        cx.change(Change::ExecutorGone {
            framework: key,
            agent: agent_key,
            id: id.clone(),
        });
        true
    }
}
