//! Launches, kills, acknowledgements, and answers to reconciliation.

use super::*;

impl Master {
    pub(in crate::testing) fn give_back(
        &mut self,
        now: u64,
        id: &v1::OfferId,
        used: Option<&Resources>,
        filters: Option<&v1::Filters>,
    ) {
        let Some((agent, mut resources)) = self.offers.remove(id.value.as_str()) else {
            return;
        };
        if let Some(used) = used {
            resources.remove(used);
        }
        let seconds = filters
            .and_then(|filters| filters.refuse_seconds)
            .unwrap_or(DEFAULT_REFUSE);
        if seconds > 0.0
            && !resources.is_empty()
            && let Some(view) = self.agents.get_mut(&agent)
        {
            let until = now + ((seconds * 1000.0) as u64).max(1000);
            view.filter = Some((resources, until));
        }
    }

    pub(in crate::testing) fn accept(&mut self, now: u64, accept: call::Accept) {
        let launches: Vec<v1::TaskInfo> = accept
            .operations
            .into_iter()
            .filter_map(|operation| operation.launch)
            .flat_map(|launch| launch.task_infos)
            .collect();
        let found: Vec<_> = accept
            .offer_ids
            .iter()
            .map(|id| self.offers.get(id.value.as_str()).cloned())
            .collect();
        let agent = found.first().cloned().flatten().map(|(agent, _)| agent);
        let valid = agent.is_some()
            && found
                .iter()
                .all(|one| one.as_ref().map(|(agent, _)| agent) == agent.as_ref());
        let Some(agent) = agent.filter(|_| valid) else {
            for id in &accept.offer_ids {
                self.offers.remove(id.value.as_str());
            }
            for task in &launches {
                self.dropped(now, task, Reason::InvalidOffers);
            }
            return;
        };
        let mut left = Resources::new();
        for (_, resources) in found.into_iter().flatten() {
            left += resources;
        }
        let mut used = Resources::new();
        for task in launches {
            self.launch(now, &agent, task, &mut left, &mut used);
        }
        // What several offers had is one filter on the agent in the end.
        for id in &accept.offer_ids {
            self.give_back(now, id, Some(&used), accept.filters.as_ref());
        }
    }

    pub(in crate::testing) fn launch(
        &mut self,
        now: u64,
        agent: &AgentId,
        task: v1::TaskInfo,
        left: &mut Resources,
        used: &mut Resources,
    ) {
        let resources = Resources::try_from_wire(&task.resources).ok();
        let Ok(id) = TaskId::from_wire(&task.task_id) else {
            return;
        };
        let refusal = if self.tasks.contains_key(&id) {
            Some("Task has duplicate ID")
        } else if resources.as_ref().is_none_or(Resources::is_empty) {
            Some("Task uses no resources")
        } else if !resources
            .as_ref()
            .is_some_and(|resources| left.try_remove(resources))
        {
            Some("more than available")
        } else {
            None
        };
        if let Some(words) = refusal {
            let mut status = made(now, &id, Some(agent), TaskState::Error, Reason::TaskInvalid);
            status.message = Some(words.to_owned());
            self.update(status);
            return;
        }
        let resources = resources.unwrap_or_default();
        *used += &resources;
        if !self.agents.get(agent).is_some_and(|view| view.connected) {
            self.dropped(now, &task, Reason::AgentDisconnected);
            return;
        }
        let view = TaskView {
            agent: agent.clone(),
            resources,
            state: TaskState::Staging,
            killed: false,
        };
        self.tasks.insert(id, view);
        self.order(agent, Order::Run(Box::new(task)));
    }

    pub(in crate::testing) fn dropped(&mut self, now: u64, task: &v1::TaskInfo, reason: Reason) {
        let agent = AgentId::from_wire(&task.agent_id).ok();
        if let Ok(id) = TaskId::from_wire(&task.task_id) {
            let state = self.as_told(TaskState::Dropped);
            self.update(made(now, &id, agent.as_ref(), state, reason));
        }
    }

    /// A state as the framework understands it.
    pub(in crate::testing) fn as_told(&self, state: TaskState) -> TaskState {
        let aware = self
            .framework
            .as_ref()
            .is_some_and(|one| one.partition_aware);
        match state {
            TaskState::Unreachable
            | TaskState::Dropped
            | TaskState::Gone
            | TaskState::GoneByOperator
            | TaskState::Unknown
                if !aware =>
            {
                TaskState::Lost
            }
            other => other,
        }
    }

    pub(in crate::testing) fn update(&mut self, status: v1::TaskStatus) {
        let mut update = event(event::Type::Update);
        update.update = Some(event::Update { status });
        self.tell(update);
    }

    pub(in crate::testing) fn kill(&mut self, now: u64, kill: &call::Kill, registry: &Registry) {
        let known = self.tasks.get_mut(kill.task_id.value.as_str());
        let agent = known.map(|task| {
            task.killed = true;
            task.agent.clone()
        });
        match (agent, TaskId::from_wire(&kill.task_id)) {
            (Some(agent), Ok(id)) => self.order(&agent, Order::Kill(id)),
            _ => {
                let asked = call::reconcile::Task {
                    task_id: kill.task_id.clone(),
                    agent_id: kill.agent_id.clone(),
                };
                self.reconcile(now, &[asked], registry);
            }
        }
    }

    pub(in crate::testing) fn acknowledge(&mut self, ack: &call::Acknowledge) {
        let (Ok(task), Ok(agent)) = (
            TaskId::from_wire(&ack.task_id),
            AgentId::from_wire(&ack.agent_id),
        ) else {
            return;
        };
        let Ok(uuid) = <[u8; 16]>::try_from(ack.uuid.as_ref()) else {
            return;
        };
        self.order(&agent, Order::Ack { task, uuid });
    }

    /// Explicit reconciliation by the table; implicit for an empty list.
    pub(in crate::testing) fn reconcile(
        &mut self,
        now: u64,
        asked: &[call::reconcile::Task],
        registry: &Registry,
    ) {
        if asked.is_empty() {
            let all: Vec<TaskId> = self.tasks.keys().cloned().collect();
            for id in all {
                self.tell_state(now, &id);
            }
            return;
        }
        for task in asked {
            let Ok(id) = TaskId::from_wire(&task.task_id) else {
                continue;
            };
            if self.tasks.contains_key(&id) {
                self.tell_state(now, &id);
                continue;
            }
            let agent = task
                .agent_id
                .as_ref()
                .and_then(|agent| AgentId::from_wire(agent).ok());
            if let Some(state) = self.judge_unknown(agent.as_ref(), registry) {
                let state = self.as_told(state);
                self.update(made(
                    now,
                    &id,
                    agent.as_ref(),
                    state,
                    Reason::Reconciliation,
                ));
            }
        }
    }

    /// The answer about a task that nobody knows; none while an agent may still come back with it.
    pub(in crate::testing) fn judge_unknown(
        &self,
        agent: Option<&AgentId>,
        registry: &Registry,
    ) -> Option<TaskState> {
        let recovered = |agent: &AgentId| !self.agents.contains_key(agent);
        let Some(agent) = agent else {
            let waited_for = registry
                .agents
                .iter()
                .any(|(id, admission)| *admission == Admission::Registered && recovered(id));
            return (!waited_for).then_some(TaskState::Unknown);
        };
        match registry.agents.get(agent) {
            Some(Admission::Registered) if recovered(agent) => None,
            Some(Admission::Registered) => Some(TaskState::Gone),
            Some(Admission::Unreachable { .. }) => Some(TaskState::Unreachable),
            None => Some(TaskState::Unknown),
        }
    }

    pub(in crate::testing) fn tell_state(&mut self, now: u64, id: &TaskId) {
        let Some(task) = self.tasks.get(id) else {
            return;
        };
        let (state, agent) = (self.as_told(task.state), task.agent.clone());
        self.update(made(now, id, Some(&agent), state, Reason::Reconciliation));
    }
}

/// A status of the master's own making: no UUID, so nothing to acknowledge, and nobody repeats it.
pub(super) fn made(
    now: u64,
    task: &TaskId,
    agent: Option<&AgentId>,
    state: TaskState,
    reason: Reason,
) -> v1::TaskStatus {
    v1::TaskStatus {
        task_id: task.to_wire(),
        state: state.number(),
        source: Some(Source::Master as i32),
        reason: Some(reason as i32),
        agent_id: agent.map(AgentId::to_wire),
        timestamp: Some(now as f64 / 1000.0),
        ..Default::default()
    }
}
