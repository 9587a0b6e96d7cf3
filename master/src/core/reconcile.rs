//! Reconciliation: what the master believes of tasks, on request. It has no uuid and is not acknowledged.

use mezzo_model::ids::{AgentId, TaskId};
use mezzo_model::{TaskState, Wall};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::call::{Reconcile, ReconcileOperations};
use mezzo_wire::v1::scheduler::{Event, event};
use mezzo_wire::v1::task_status::Reason;

use super::agent::Task;
use super::framework::Framework;
use super::status::{self, made_here};
use super::{Core, Cx};
use crate::keys::FrameworkKey;

/// What is known of the agent that a request names.
enum Known {
    /// It may come back with anything: no answer is better than a wrong one.
    Awaited,
    Registered,
    Unreachable(Wall),
    Gone,
    Unknown,
}

impl Core {
    pub(super) fn on_reconcile(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        reconcile: &Reconcile,
    ) {
        self.counters.reconciliations += 1;
        if reconcile.tasks.is_empty() {
            self.reconcile_all(cx, key);
        }
        for task in &reconcile.tasks {
            self.reconcile_one(cx, key, &task.task_id, task.agent_id.as_ref());
        }
    }

    /// Implicit: every live task, those that ended and are not acknowledged included.
    fn reconcile_all(&self, cx: &mut Cx<'_>, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        for (id, agent_key) in &framework.tasks {
            let Some(agent) = self.agents.get(agent_key) else {
                continue;
            };
            if let Some(task) = agent.tasks.get(&(key, id.clone())) {
                cx.tell(
                    framework,
                    status::update(latest(framework, id, &agent.id, task, cx.now.wall)),
                );
            }
        }
    }

    /// Explicit: one task, whether known or not.
    pub(super) fn reconcile_one(
        &self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        task: &v1::TaskId,
        agent: Option<&v1::AgentId>,
    ) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let now = cx.now.wall;
        if let Some((id, agent_key)) = framework.tasks.get_key_value(task.value.as_str()) {
            if let Some(agent) = self.agents.get(agent_key)
                && let Some(task) = agent.tasks.get(&(key, id.clone()))
            {
                cx.tell(
                    framework,
                    status::update(latest(framework, id, &agent.id, task, now)),
                );
            }
            return;
        }
        let named = Self::named_agent(agent);
        let lost = framework.unreachable.get(task.value.as_str());
        let agent = lost.map(|lost| lost.agent.clone()).or(named);
        let known = match (lost, &agent) {
            (Some(lost), _) => Known::Unreachable(lost.since),
            (None, Some(agent)) => self.known_agent(agent),
            (None, None) if self.any_awaited() => Known::Awaited,
            (None, None) => Known::Unknown,
        };
        let (state, words, since) = match known {
            Known::Awaited => return,
            Known::Registered => (
                TaskState::Gone,
                "Reconciliation: Task is unknown to the agent",
                None,
            ),
            Known::Unreachable(since) => (
                TaskState::Unreachable,
                "Reconciliation: Task is unreachable",
                Some(since),
            ),
            Known::Gone => (
                TaskState::GoneByOperator,
                "Reconciliation: Task is gone",
                None,
            ),
            Known::Unknown => (TaskState::Unknown, "Reconciliation: Task is unknown", None),
        };
        let state = status::as_known(framework, state);
        let agent = agent.as_ref().map(AgentId::to_wire);
        let mut status = made_here(
            task,
            agent.as_ref(),
            state,
            Reason::Reconciliation,
            words,
            now,
        );
        status.unreachable_time = since.map(|since| v1::TimeInfo {
            nanoseconds: since.as_nanos(),
        });
        cx.tell(framework, status::update(status));
    }

    fn any_awaited(&self) -> bool {
        !self.awaited.is_empty() || !self.admissions.is_empty()
    }

    fn known_agent(&self, id: &AgentId) -> Known {
        if self.awaited.contains_key(id) || self.admissions.contains_key(id) {
            return Known::Awaited;
        }
        if self.agent_ids.contains_key(id) {
            return Known::Registered;
        }
        if let Some(since) = self.unreachable.get(id) {
            return Known::Unreachable(*since);
        }
        if self.gone.contains_key(id) {
            return Known::Gone;
        }
        Known::Unknown
    }

    /// There are no operations with feedback yet, so none is known.
    pub(super) fn on_reconcile_operations(
        &self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        reconcile: &ReconcileOperations,
    ) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        for operation in &reconcile.operations {
            let known =
                Self::named_agent(operation.agent_id.as_ref()).map(|id| self.known_agent(&id));
            let (state, words) = match known {
                Some(Known::Awaited) => (
                    v1::OperationState::OperationRecovering,
                    "Reconciliation: Agent is recovering",
                ),
                Some(Known::Registered) => (
                    v1::OperationState::OperationUnknown,
                    "Reconciliation: Operation is unknown",
                ),
                Some(Known::Unreachable(_)) => (
                    v1::OperationState::OperationUnreachable,
                    "Reconciliation: Agent is unreachable",
                ),
                Some(Known::Gone) => (
                    v1::OperationState::OperationGoneByOperator,
                    "Reconciliation: Agent marked gone by operator",
                ),
                Some(Known::Unknown) => (
                    v1::OperationState::OperationUnknown,
                    "Reconciliation: Both operation and agent are unknown",
                ),
                None => (
                    v1::OperationState::OperationUnknown,
                    "Reconciliation: Operation is unknown and no 'agent_id' was provided",
                ),
            };
            let status = v1::OperationStatus {
                operation_id: Some(operation.operation_id.clone()),
                state: state as i32,
                message: Some(words.to_owned()),
                agent_id: operation.agent_id.clone(),
                resource_provider_id: operation.resource_provider_id.clone(),
                ..Default::default()
            };
            let event = Event {
                update_operation_status: Some(event::UpdateOperationStatus { status }),
                ..status::event(event::Type::UpdateOperationStatus)
            };
            cx.tell(framework, event);
        }
    }
}

/// The state that the framework was last told, or the newest one if it was told none.
fn latest(
    framework: &Framework,
    id: &TaskId,
    agent: &AgentId,
    task: &Task,
    now: Wall,
) -> v1::TaskStatus {
    let state = status::as_known(framework, task.told.unwrap_or(task.state));
    let mut made = made_here(
        &id.to_wire(),
        Some(&agent.to_wire()),
        state,
        Reason::Reconciliation,
        "Reconciliation: Latest task state",
        now,
    );
    if let Some(last) = &task.status {
        made.healthy = last.healthy;
        made.check_status.clone_from(&last.check_status);
        made.container_status.clone_from(&last.container_status);
    }
    made
}
