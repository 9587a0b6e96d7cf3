//! A master, as far as a scheduler can notice it: offers with filters, launches, kills, acknowledgements,
//! reconciliation by the table that frameworks rely on, agents that come and go.
//!
//! It keeps nothing over its death but the registry of agents; what tasks there are it learns from agents.

mod agents;
mod tasks;

use std::collections::BTreeMap;

use mezzo_model::TaskState;
use mezzo_model::ids::{AgentId, OfferId, TaskId};
use mezzo_model::resources::{Milli, Resources};
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Call, Event, call, event};
use mezzo_wire::v1::task_status::{Reason, Source};

use super::agent::{Known, Order};
use tasks::made;

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
