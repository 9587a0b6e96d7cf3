//! Agents that come and go, what they report, and what they have to offer.

use super::*;

impl Master {
    /// An agent says who it is and what it has.
    pub(in crate::testing) fn register(
        &mut self,
        now: u64,
        machine: u32,
        agent: &AgentId,
        total: &Resources,
        known: Vec<Known>,
        registry: &mut Registry,
    ) {
        let before = registry.agents.insert(agent.clone(), Admission::Registered);
        let was_unreachable = matches!(before, Some(Admission::Unreachable { .. }));
        let view = AgentView {
            machine,
            hostname: format!("host{machine}"),
            connected: true,
            lost_at: 0,
            total: total.clone(),
            filter: None,
        };
        self.agents.insert(agent.clone(), view);
        self.settle_lost(now, agent, &known);
        for Known {
            task,
            state,
            resources,
        } in known
        {
            let killed = self.tasks.get(&task).is_some_and(|task| task.killed);
            let resources = if state.is_terminal() {
                Resources::new()
            } else {
                resources
            };
            let view = TaskView {
                agent: agent.clone(),
                resources,
                state,
                killed,
            };
            self.tasks.insert(task.clone(), view);
            if killed && !state.is_terminal() {
                self.order(agent, Order::Kill(task.clone()));
            }
            if was_unreachable {
                self.update(made(
                    now,
                    &task,
                    Some(agent),
                    state,
                    Reason::AgentReregistered,
                ));
            }
        }
        self.order(agent, Order::Resend);
    }

    /// Tasks that the agent does not have were on their way when the link broke.
    fn settle_lost(&mut self, now: u64, agent: &AgentId, known: &[Known]) {
        let here: Vec<TaskId> = known.iter().map(|known| known.task.clone()).collect();
        let lost: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, task)| task.agent == *agent && !here.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            let ended = self
                .tasks
                .remove(&id)
                .is_some_and(|task| task.state.is_terminal());
            if !ended {
                let state = self.as_told(TaskState::Dropped);
                self.update(made(
                    now,
                    &id,
                    Some(agent),
                    state,
                    Reason::AgentReregistered,
                ));
            }
        }
    }

    /// The link to an agent broke.
    pub(in crate::testing) fn agent_away(&mut self, now: u64, machine: u32) {
        let found = self
            .agents
            .iter_mut()
            .find(|(_, view)| view.machine == machine);
        if let Some((agent, view)) = found.filter(|(_, view)| view.connected) {
            view.connected = false;
            view.lost_at = now;
            let agent = agent.clone();
            self.rescind(|(of, _)| *of == agent);
        }
    }

    pub(in crate::testing) fn rescind(&mut self, which: impl Fn(&(AgentId, Resources)) -> bool) {
        let ids: Vec<OfferId> = self
            .offers
            .iter()
            .filter(|(_, offer)| which(offer))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.offers.remove(&id);
            let mut rescind = event(event::Type::Rescind);
            rescind.rescind = Some(event::Rescind {
                offer_id: id.to_wire(),
            });
            self.tell(rescind);
        }
    }

    /// An operator takes every offer back.
    pub(in crate::testing) fn rescind_all(&mut self) {
        self.rescind(|_| true);
    }

    /// An update from an agent.
    pub(in crate::testing) fn agent_update(&mut self, status: v1::TaskStatus) {
        if let (Some(task), Some(state)) = (
            self.tasks.get_mut(status.task_id.value.as_str()),
            TaskState::from_number(status.state),
        ) {
            task.state = state;
            // Its resources are free from here on; the agent keeps it until the acknowledgement.
            if state.is_terminal() {
                task.resources = Resources::new();
            }
        }
        self.update(status);
    }

    /// The agent has let go of a task after its last acknowledgement.
    pub(in crate::testing) fn forget(&mut self, task: &TaskId) {
        self.tasks.remove(task);
    }

    fn available(&self, agent: &AgentId, view: &AgentView) -> Resources {
        let mut left = view.total.clone();
        for (_, offered) in self.offers.values().filter(|(of, _)| of == agent) {
            left.remove(offered);
        }
        for task in self.tasks.values().filter(|task| task.agent == *agent) {
            left.remove(&task.resources);
        }
        left
    }

    pub(in crate::testing) fn allocate(&mut self, now: u64) {
        for view in self.agents.values_mut() {
            view.filter.take_if(|(_, until)| *until <= now);
        }
        let wanted = self
            .framework
            .as_ref()
            .is_some_and(|one| one.connected && !one.suppressed);
        if !wanted {
            return;
        }
        let mut offers = Vec::new();
        let mut held = Vec::new();
        for (agent, view) in self.agents.iter().filter(|(_, view)| view.connected) {
            let available = self.available(agent, view);
            let enough =
                available.scalar("cpus") >= Milli(10) || available.scalar("mem") >= Milli(32_000);
            let refused = view
                .filter
                .as_ref()
                .is_some_and(|(refused, _)| refused.contains(&available));
            if enough && !refused {
                self.next_offer += 1;
                let id = format!("r{}-O{}", self.reign, self.next_offer);
                offers.push(v1::Offer {
                    id: v1::OfferId { value: id.clone() },
                    framework_id: v1::FrameworkId {
                        value: self.framework_id.clone(),
                    },
                    agent_id: agent.to_wire(),
                    hostname: view.hostname.clone(),
                    resources: available.to_wire(),
                    ..Default::default()
                });
                if let Ok(id) = OfferId::parse(&id) {
                    held.push((id, (agent.clone(), available)));
                }
            }
        }
        if !offers.is_empty() {
            self.offers.extend(held);
            let mut told = event(event::Type::Offers);
            told.offers = Some(event::Offers { offers });
            self.tell(told);
        }
    }
}
