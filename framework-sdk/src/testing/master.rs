//! A master, as far as a scheduler can notice it: offers with filters, launches, kills, acknowledgements,
//! reconciliation by the table that frameworks rely on, agents that come and go.
//!
//! It keeps nothing over its death but the registry of agents; what tasks there are it learns from agents.

use std::collections::BTreeMap;

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, OfferId, TaskId};
use mezzo_model::resources::{Milli, Resources};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Call, Event, call, event};
use mezzo_wire::v1::task_status::{Reason, Source};

use super::agent::{Known, Order};

/// An agent that is away for so long is unreachable, in ms.
pub(super) const UNREACHABLE_AFTER: u64 = 30_000;
/// After a change of masters agents have so long to come back, in ms.
const REREGISTER_WITHIN: u64 = 60_000;
const HEARTBEAT: u64 = 15_000;
const DEFAULT_REFUSE: f64 = 5.0;

/// What outlives a master: which agents there are, and the framework's id.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) agents: BTreeMap<AgentId, Admission>,
    pub(super) frameworks: u64,
    pub(super) issued: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Registered,
    Unreachable { since: u64 },
}

/// One subscription, named as the world names connections.
#[derive(Debug)]
struct Subscription {
    channel: u64,
    connected: bool,
    suppressed: bool,
    partition_aware: bool,
    heartbeat_at: u64,
}

#[derive(Debug)]
struct AgentView {
    machine: u32,
    hostname: String,
    connected: bool,
    lost_at: u64,
    total: Resources,
    filter: Option<(Resources, u64)>,
}

#[derive(Debug)]
struct TaskView {
    agent: AgentId,
    resources: Resources,
    state: TaskState,
    killed: bool,
}

/// What a master does, for the world to carry out.
#[derive(Debug)]
pub(super) enum Effect {
    Tell {
        channel: u64,
        event: Box<Event>,
    },
    /// The stream ends from the master's side.
    Hang {
        channel: u64,
    },
    Order {
        machine: u32,
        order: Order,
    },
}

/// The leading master.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) reign: u64,
    born: u64,
    framework: Option<Subscription>,
    framework_id: String,
    agents: BTreeMap<AgentId, AgentView>,
    offers: BTreeMap<OfferId, (AgentId, Resources)>,
    tasks: BTreeMap<TaskId, TaskView>,
    next_offer: u64,
    pub(super) effects: Vec<Effect>,
}

fn event(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind as i32),
        ..Default::default()
    }
}

impl Master {
    pub(super) fn new(reign: u64, now: u64) -> Self {
        Self {
            reign,
            born: now,
            framework: None,
            framework_id: String::new(),
            agents: BTreeMap::new(),
            offers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_offer: 0,
            effects: Vec::new(),
        }
    }

    fn tell(&mut self, event: Event) {
        if let Some(framework) = self.framework.as_ref().filter(|one| one.connected) {
            let channel = framework.channel;
            self.effects.push(Effect::Tell {
                channel,
                event: Box::new(event),
            });
        }
    }

    fn order(&mut self, agent: &AgentId, order: Order) {
        if let Some(view) = self.agents.get(agent).filter(|view| view.connected) {
            self.effects.push(Effect::Order {
                machine: view.machine,
                order,
            });
        }
    }

    /// SUBSCRIBE on a new channel: the newest wins.
    pub(super) fn subscribe(
        &mut self,
        now: u64,
        channel: u64,
        call: &Call,
        registry: &mut Registry,
    ) {
        let Some(subscribe) = &call.subscribe else {
            return;
        };
        if let Some(old) = self.framework.take().filter(|old| old.connected) {
            let mut error = event(event::Type::Error);
            error.error = Some(event::Error {
                message: "Framework failed over".to_owned(),
            });
            self.effects.push(Effect::Tell {
                channel: old.channel,
                event: Box::new(error),
            });
            self.effects.push(Effect::Hang {
                channel: old.channel,
            });
        }
        self.offers.clear();
        let info = &subscribe.framework_info;
        match &info.id {
            Some(id) => self.framework_id.clone_from(&id.value),
            None => {
                registry.frameworks += 1;
                self.framework_id = format!("sim-{:04}", registry.frameworks);
            }
        }
        let aware = v1::framework_info::capability::Type::PartitionAware;
        self.framework = Some(Subscription {
            channel,
            connected: true,
            suppressed: !subscribe.suppressed_roles.is_empty(),
            partition_aware: info.capabilities.iter().any(|one| one.r#type() == aware),
            heartbeat_at: now + HEARTBEAT,
        });
        for view in self.agents.values_mut() {
            view.filter = None;
        }
        let mut subscribed = event(event::Type::Subscribed);
        subscribed.subscribed = Some(event::Subscribed {
            framework_id: v1::FrameworkId {
                value: self.framework_id.clone(),
            },
            heartbeat_interval_seconds: Some(HEARTBEAT as f64 / 1000.0),
            master_info: None,
        });
        self.tell(subscribed);
        self.tell(event(event::Type::Heartbeat));
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for agent in agents {
            self.order(&agent, Order::Resend);
        }
    }

    /// The channel is gone.
    pub(super) fn hung_up(&mut self, channel: u64) {
        if let Some(framework) = self.framework.as_mut().filter(|one| one.channel == channel) {
            framework.connected = false;
            self.offers.clear();
            for view in self.agents.values_mut() {
                view.filter = None;
            }
        }
    }

    /// Whether calls on this channel are of the present subscription.
    pub(super) fn knows(&self, channel: u64) -> bool {
        self.framework
            .as_ref()
            .is_some_and(|one| one.connected && one.channel == channel)
    }

    /// Any call but SUBSCRIBE.
    pub(super) fn call(&mut self, now: u64, call: Call, registry: &Registry) {
        match call.r#type() {
            call::Type::Accept => {
                if let Some(accept) = call.accept {
                    self.accept(now, accept);
                }
            }
            call::Type::Decline => {
                let decline = call.decline.unwrap_or_default();
                for id in &decline.offer_ids {
                    self.give_back(now, id, None, decline.filters.as_ref());
                }
            }
            call::Type::Kill => {
                if let Some(kill) = call.kill {
                    self.kill(now, &kill, registry);
                }
            }
            call::Type::Acknowledge => {
                if let Some(ack) = call.acknowledge {
                    self.acknowledge(&ack);
                }
            }
            call::Type::Reconcile => {
                let asked = call.reconcile.unwrap_or_default().tasks;
                self.reconcile(now, &asked, registry);
            }
            call::Type::Revive => {
                for view in self.agents.values_mut() {
                    view.filter = None;
                }
                self.suppress(false);
            }
            call::Type::Suppress => self.suppress(true),
            _ => {}
        }
    }

    fn suppress(&mut self, suppressed: bool) {
        if let Some(framework) = &mut self.framework {
            framework.suppressed = suppressed;
        }
    }

    fn give_back(
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

    fn accept(&mut self, now: u64, accept: call::Accept) {
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

    fn launch(
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

    fn dropped(&mut self, now: u64, task: &v1::TaskInfo, reason: Reason) {
        let agent = AgentId::from_wire(&task.agent_id).ok();
        if let Ok(id) = TaskId::from_wire(&task.task_id) {
            let state = self.as_told(TaskState::Dropped);
            self.update(made(now, &id, agent.as_ref(), state, reason));
        }
    }

    /// A state as the framework understands it.
    fn as_told(&self, state: TaskState) -> TaskState {
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

    fn update(&mut self, status: v1::TaskStatus) {
        let mut update = event(event::Type::Update);
        update.update = Some(event::Update { status });
        self.tell(update);
    }

    fn kill(&mut self, now: u64, kill: &call::Kill, registry: &Registry) {
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

    fn acknowledge(&mut self, ack: &call::Acknowledge) {
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
    fn reconcile(&mut self, now: u64, asked: &[call::reconcile::Task], registry: &Registry) {
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
    fn judge_unknown(&self, agent: Option<&AgentId>, registry: &Registry) -> Option<TaskState> {
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

    fn tell_state(&mut self, now: u64, id: &TaskId) {
        let Some(task) = self.tasks.get(id) else {
            return;
        };
        let (state, agent) = (self.as_told(task.state), task.agent.clone());
        self.update(made(now, id, Some(&agent), state, Reason::Reconciliation));
    }

    /// An agent says who it is and what it has.
    pub(super) fn register(
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
        let here: Vec<TaskId> = known.iter().map(|known| known.task.clone()).collect();
        let lost: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, task)| task.agent == *agent && !here.contains(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in lost {
            // It was on its way when the link broke.
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

    /// The link to an agent broke.
    pub(super) fn agent_away(&mut self, now: u64, machine: u32) {
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

    fn rescind(&mut self, which: impl Fn(&(AgentId, Resources)) -> bool) {
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
    pub(super) fn rescind_all(&mut self) {
        self.rescind(|_| true);
    }

    /// An update from an agent.
    pub(super) fn agent_update(&mut self, status: v1::TaskStatus) {
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
    pub(super) fn forget(&mut self, task: &TaskId) {
        self.tasks.remove(task);
    }

    /// What time asks: heartbeats, agents away for too long, offers.
    pub(super) fn tick(&mut self, now: u64, registry: &mut Registry) {
        if let Some(framework) = self.framework.as_mut().filter(|one| one.connected)
            && framework.heartbeat_at <= now
        {
            framework.heartbeat_at = now + HEARTBEAT;
            self.tell(event(event::Type::Heartbeat));
        }
        let gone: Vec<AgentId> = registry
            .agents
            .iter()
            .filter(|(id, admission)| {
                **admission == Admission::Registered
                    && match self.agents.get(*id) {
                        Some(view) => !view.connected && view.lost_at + UNREACHABLE_AFTER <= now,
                        None => self.born + REREGISTER_WITHIN <= now,
                    }
            })
            .map(|(id, _)| id.clone())
            .collect();
        for agent in gone {
            registry
                .agents
                .insert(agent.clone(), Admission::Unreachable { since: now });
            self.agents.remove(&agent);
            let theirs: Vec<TaskId> = self
                .tasks
                .iter()
                .filter(|(_, task)| task.agent == agent)
                .map(|(id, _)| id.clone())
                .collect();
            for id in theirs {
                self.tasks.remove(&id);
                let state = self.as_told(TaskState::Unreachable);
                self.update(made(now, &id, Some(&agent), state, Reason::AgentRemoved));
            }
        }
        self.allocate(now);
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

    fn allocate(&mut self, now: u64) {
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

    pub(super) fn next_deadline(&self, registry: &Registry) -> Option<u64> {
        let heartbeat = self
            .framework
            .as_ref()
            .filter(|one| one.connected)
            .map(|one| one.heartbeat_at);
        let filters = self
            .agents
            .values()
            .filter_map(|view| view.filter.as_ref().map(|(_, at)| *at));
        let away = self
            .agents
            .values()
            .filter(|view| !view.connected)
            .map(|view| view.lost_at + UNREACHABLE_AFTER);
        let waited_for = registry.agents.iter().any(|(id, admission)| {
            *admission == Admission::Registered && !self.agents.contains_key(id)
        });
        let recovered = waited_for.then_some(self.born + REREGISTER_WITHIN);
        heartbeat
            .into_iter()
            .chain(filters)
            .chain(away)
            .chain(recovered)
            .min()
    }

    /// The model's own books: nothing on an agent is given twice.
    pub(super) fn overcommitted(&self) -> Option<&AgentId> {
        let over = |(agent, view): &(&AgentId, &AgentView)| {
            let mut given = Resources::new();
            for (_, offered) in self.offers.values().filter(|(of, _)| of == *agent) {
                given += offered;
            }
            for task in self.tasks.values().filter(|task| task.agent == **agent) {
                given += &task.resources;
            }
            !view.total.contains(&given)
        };
        self.agents.iter().find(over).map(|(agent, _)| agent)
    }
}

/// A status of the master's own making: no UUID, so nothing to acknowledge, and nobody repeats it.
fn made(
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
