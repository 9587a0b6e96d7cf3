//! Frameworks come, come back, are superseded, leave, and are removed.

use mezzo_model::ids::{FrameworkId, StreamId};
use mezzo_model::{Millis, Wall};
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1::scheduler::{Call, Event, event};
use mezzo_wire::{link, v1};

use super::framework::{Framework, Presence};
use super::status::{self, error};
use super::timers::Timer;
use super::{Core, Cx, HEARTBEAT_INTERVAL, Output, Peer, Refusal};
use crate::keys::{AgentKey, ConnId, FrameworkKey};
use crate::read_model::{Change, Fate};
use crate::validate::call;
use crate::validate::framework::{Profile, profile};
use mezzo_model::TaskState;

impl Core {
    pub(super) fn on_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        principal: Option<&str>,
        has_stream_id: bool,
        call: Call,
    ) {
        if let Err(refusal) = self.check_subscribe(principal, has_stream_id, &call) {
            self.counters.calls_refused += 1;
            cx.push(Output::Refuse { conn, refusal });
            return;
        }
        let Some(subscribe) = call.subscribe else {
            return;
        };
        let mut info = subscribe.framework_info;
        if info.principal.is_none() {
            info.principal = principal.map(str::to_owned);
        }
        let stream = self.new_stream_id();
        cx.push(Output::Open {
            conn,
            stream_id: stream.clone(),
        });
        let checked = profile(
            &info,
            &subscribe.suppressed_roles,
            subscribe.offer_constraints.as_ref(),
            &self.config.policy,
        );
        let result = checked
            .map_err(|invalid| invalid.words)
            .and_then(|profile| self.take_subscription(cx, conn, stream, profile));
        if let Err(words) = result {
            cx.info(format!(
                "refused the subscription of framework '{}': {words}",
                info.name
            ));
            self.counters.calls_refused += 1;
            cx.event(conn, error(words));
            cx.push(Output::Close { conn });
        }
    }

    fn check_subscribe(
        &self,
        principal: Option<&str>,
        has_stream_id: bool,
        call: &Call,
    ) -> Result<(), Refusal> {
        if !self.recovered {
            return Err(Refusal::new(503, "Master has not finished recovery"));
        }
        let kind = call::check(call, principal).map_err(|invalid| Refusal::bad(invalid.words))?;
        if kind != v1::scheduler::call::Type::Subscribe {
            return Err(Refusal::bad(
                "Only a call of type SUBSCRIBE opens a stream of events",
            ));
        }
        if has_stream_id {
            return Err(Refusal::bad(
                "Subscribe calls should not include the 'Mesos-Stream-Id' header",
            ));
        }
        Ok(())
    }

    fn new_stream_id(&mut self) -> StreamId {
        // A UUID keeps the rule for ids.
        StreamId::parse(&self.ids.uuid()).expect("a UUID is an id")
    }

    fn new_framework_id(&mut self) -> FrameworkId {
        let id = format!("{}-{:04}", self.issuer, self.next_framework);
        FrameworkId::parse(&id).expect("a UUID and a number are an id")
    }

    fn take_subscription(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        stream: StreamId,
        profile: Profile,
    ) -> Result<(), String> {
        let named = profile.info.id.as_ref().filter(|id| !id.value.is_empty());
        let id = match named {
            Some(id) => FrameworkId::from_wire(id).map_err(|why| why.to_string())?,
            None => self.new_framework_id(),
        };
        if self.past_frameworks.contains(&id) {
            return Err(String::from("Framework has been removed"));
        }
        self.counters.subscriptions += 1;
        let presence = Presence::Connected { conn, stream };
        let key = match self.framework_by_id(id.as_str()) {
            Some(key) => self.take_back(cx, key, presence, profile)?,
            None => self.add_framework(cx, id, presence, profile),
        };
        self.peers.insert(conn, Peer::Scheduler(key));
        self.greet(cx, conn, key);
        Ok(())
    }

    /// Takes in a framework that this master does not know.
    pub(super) fn add_framework(
        &mut self,
        cx: &mut Cx<'_>,
        id: FrameworkId,
        presence: Presence,
        profile: Profile,
    ) -> FrameworkKey {
        let key = FrameworkKey(self.next_framework);
        self.next_framework += 1;
        let connected = matches!(presence, Presence::Connected { .. });
        let name = profile.info.name.clone();
        let framework = Framework::new(key, id.clone(), profile, presence, cx.now.wall);
        self.allocator
            .set_framework(key, framework.profile.spec(&id));
        self.framework_ids.insert(id.clone(), key);
        if connected {
            cx.info(format!("framework {id} ('{name}') subscribed"));
        } else {
            // Without its scheduler it keeps its tasks for as long as it said, and at least for as long as
            // agents have to come back: its scheduler needs to find the new leader too.
            let wait = framework
                .profile
                .failover_timeout
                .max(self.config.agent_reregister_timeout);
            self.timers.set(Timer::Failover(key), cx.now.mono + wait);
            cx.info(format!("framework {id} ('{name}') is known from an agent"));
        }
        cx.change(Change::Framework(Box::new(framework.view())));
        self.frameworks.insert(key, framework);
        key
    }

    /// A framework that is known subscribes: the newest stream wins.
    fn take_back(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        presence: Presence,
        mut profile: Profile,
    ) -> Result<FrameworkKey, String> {
        let Some(framework) = self.frameworks.get(&key) else {
            return Ok(key);
        };
        let old = &framework.profile.info;
        if framework.presence != Presence::Recovered {
            if profile.info.principal != old.principal {
                return Err(format!(
                    "Updating 'FrameworkInfo.principal' is unsupported; attempted to update from '{}' to \
                     '{}'",
                    old.principal.as_deref().unwrap_or_default(),
                    profile.info.principal.as_deref().unwrap_or_default()
                ));
            }
            // These two cannot change while tasks run under them.
            profile.info.user.clone_from(&old.user);
            profile.info.checkpoint = old.checkpoint;
        }
        let id = framework.id.clone();
        self.timers.clear(Timer::Failover(key));
        if let Some(conn) = framework.conn() {
            self.counters.failovers += 1;
            cx.info(format!("framework {id} failed over to a newer stream"));
            self.peers.remove(&conn);
            cx.event(conn, error("Framework failed over"));
            cx.push(Output::Close { conn });
            self.drop_offers_of(cx, key, false);
            // Filters belong to the old instance.
            self.allocator.set_framework_active(key, false);
        } else {
            cx.info(format!("framework {id} subscribed again"));
        }
        self.allocator.set_framework(key, profile.spec(&id));
        if let Some(framework) = self.frameworks.get_mut(&key) {
            framework.set_profile(profile);
            framework.presence = presence;
            framework.reregistered = Some(cx.now.wall);
            framework.unregistered = None;
            cx.change(Change::Framework(Box::new(framework.view())));
        }
        Ok(key)
    }

    /// SUBSCRIBED, HEARTBEAT, and agents are asked to send what is not acknowledged.
    fn greet(&mut self, cx: &mut Cx<'_>, conn: ConnId, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let subscribed = event::Subscribed {
            framework_id: framework.id.to_wire(),
            heartbeat_interval_seconds: Some(HEARTBEAT_INTERVAL.as_secs_f64()),
            master_info: Some(self.config.master.clone()),
        };
        cx.event(
            conn,
            Event {
                subscribed: Some(subscribed),
                ..status::event(event::Type::Subscribed)
            },
        );
        cx.event(conn, status::event(event::Type::Heartbeat));
        self.timers
            .set(Timer::Heartbeat(key), cx.now.mono + HEARTBEAT_INTERVAL);
        self.tell_unsent(cx, key);
        self.spread_framework(cx, key);
        self.allocator.set_framework_active(key, true);
    }

    /// Statuses that nobody sends again, because no agent holds them: told once the framework is there.
    fn tell_unsent(&mut self, cx: &mut Cx<'_>, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let mut ended = Vec::new();
        for (task, agent) in &framework.tasks {
            let found = self
                .agents
                .get(agent)
                .and_then(|agent| agent.tasks.get(&(key, task.clone())))
                .filter(|task| task.state.is_terminal() && task.uuid.is_none());
            if let Some(status) = found.and_then(|task| task.status.clone()) {
                cx.tell(framework, status::update((*status).clone()));
                ended.push((*agent, task.clone()));
            }
        }
        for (agent, task) in ended {
            self.end_task(cx, agent, key, &task);
        }
    }

    /// Tells the agents that hold something of a framework how it is described now; they send the heads of its
    /// unacknowledged streams at once.
    fn spread_framework(&mut self, cx: &mut Cx<'_>, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let info = framework.info.clone();
        for agent in self.agents_of(key) {
            let update = link::UpdateFramework {
                framework: (*info).clone(),
            };
            self.order(cx, agent, Body::UpdateFramework(update));
        }
    }

    /// The agents that hold tasks or executors of a framework.
    pub(super) fn agents_of(&self, key: FrameworkKey) -> Vec<AgentKey> {
        let by_agent = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.has_any_of(key));
        by_agent.map(|(key, _)| *key).collect()
    }

    pub(super) fn on_heartbeat(&mut self, cx: &mut Cx<'_>, key: FrameworkKey) {
        if let Some(conn) = self.frameworks.get(&key).and_then(Framework::conn) {
            cx.event(conn, status::event(event::Type::Heartbeat));
            self.timers
                .set(Timer::Heartbeat(key), cx.now.mono + HEARTBEAT_INTERVAL);
        }
    }

    pub(super) fn on_scheduler_gone(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let Some(Peer::Scheduler(key)) = self.peers.get(&conn) else {
            return;
        };
        let key = *key;
        self.peers.remove(&conn);
        self.allocator.set_framework_active(key, false);
        self.drop_offers_of(cx, key, false);
        self.timers.clear(Timer::Heartbeat(key));
        let Some(framework) = self.frameworks.get_mut(&key) else {
            return;
        };
        framework.presence = Presence::Disconnected;
        framework.unregistered = Some(cx.now.wall);
        let timeout = framework.profile.failover_timeout;
        cx.info(format!(
            "framework {} is disconnected; it may come back within {timeout}",
            framework.id
        ));
        cx.change(Change::Framework(Box::new(framework.view())));
        if timeout == Millis::ZERO {
            self.remove_framework(cx, key);
        } else {
            self.timers.set(Timer::Failover(key), cx.now.mono + timeout);
        }
    }

    pub(super) fn on_failover_timeout(&mut self, cx: &mut Cx<'_>, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        if framework.conn().is_none() {
            cx.warn(format!(
                "framework {} did not come back in time",
                framework.id
            ));
            self.remove_framework(cx, key);
        }
    }

    /// Ends a framework for good: its tasks are shut down wherever they run.
    pub(super) fn remove_framework(&mut self, cx: &mut Cx<'_>, key: FrameworkKey) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        let id = framework.id.clone();
        let conn = framework.conn();
        self.counters.frameworks_removed += 1;
        cx.info(format!("framework {id} is removed"));
        self.drop_offers_of(cx, key, false);
        for agent in self.agents_of(key) {
            let shutdown = link::ShutdownFramework {
                framework_id: id.to_wire(),
            };
            self.order(cx, agent, Body::ShutdownFramework(shutdown));
            self.forget_framework_on(cx, agent, key);
        }
        for timer in [Timer::Heartbeat(key), Timer::Failover(key)] {
            self.timers.clear(timer);
        }
        self.allocator.remove_framework(key);
        self.frameworks.remove(&key);
        self.framework_ids.remove(&id);
        if let Some(conn) = conn {
            self.peers.remove(&conn);
            cx.push(Output::Close { conn });
        }
        self.remember_framework(id);
        cx.change(Change::FrameworkCompleted {
            key,
            at: cx.now.wall,
        });
    }

    fn remember_framework(&mut self, id: FrameworkId) {
        if self.past_frameworks.insert(id.clone()) {
            self.past_frameworks_by_age.push_back(id);
            if self.past_frameworks_by_age.len() > super::config::MAX_PAST_FRAMEWORKS
                && let Some(oldest) = self.past_frameworks_by_age.pop_front()
            {
                self.past_frameworks.remove(&oldest);
            }
        }
    }

    /// Takes a framework's tasks and executors out of an agent's books: the agent was told to end them without a word.
    fn forget_framework_on(&mut self, cx: &mut Cx<'_>, agent_key: AgentKey, key: FrameworkKey) {
        let Some(id) = self
            .frameworks
            .get(&key)
            .map(|framework| framework.id.clone())
        else {
            return;
        };
        let Some(agent) = self.agents.get_mut(&agent_key) else {
            return;
        };
        let agent_id = agent.id.clone();
        let mut ended = Vec::new();
        agent.tasks.retain(|(of, task), entry| {
            if *of == key && !entry.is_duplicate {
                let state = if entry.holds() {
                    TaskState::Killed
                } else {
                    entry.state
                };
                ended.push((task.clone(), state));
            }
            *of != key
        });
        let mut executors = Vec::new();
        agent.executors.retain(|(of, executor), _| {
            if *of == key {
                executors.push(executor.clone());
            }
            *of != key
        });
        for (task, state) in ended {
            let gone = Change::TaskGone {
                framework: key,
                id: task.clone(),
                fate: Fate::Completed,
                state,
            };
            cx.change(gone);
            self.remember_task(id.clone(), task, agent_id.clone());
        }
        for executor in executors {
            cx.change(Change::ExecutorGone {
                framework: key,
                agent: agent_key,
                id: executor,
            });
        }
    }

    /// UPDATE_FRAMEWORK: all or nothing.
    pub(super) fn on_update_framework(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        update: v1::scheduler::call::UpdateFramework,
    ) -> Result<(), Refusal> {
        let Some(framework) = self.frameworks.get(&key) else {
            return Err(Refusal::new(409, "Framework cannot be found"));
        };
        let invalid =
            |words: String| Refusal::bad(format!("FrameworkInfo update is not valid: {words}"));
        let profile = profile(
            &update.framework_info,
            &update.suppressed_roles,
            update.offer_constraints.as_ref(),
            &self.config.policy,
        )
        .map_err(|why| invalid(why.words))?;
        let (old, new) = (&framework.profile.info, &profile.info);
        let unsupported = |field: &str, from: &str, to: &str| {
            invalid(format!(
                "Updating 'FrameworkInfo.{field}' is unsupported; attempted to update from '{from}' to '{to}'"
            ))
        };
        if new.principal != old.principal {
            return Err(unsupported(
                "principal",
                old.principal.as_deref().unwrap_or_default(),
                new.principal.as_deref().unwrap_or_default(),
            ));
        }
        if new.user != old.user {
            return Err(unsupported("user", &old.user, &new.user));
        }
        if new.checkpoint.unwrap_or(false) != old.checkpoint.unwrap_or(false) {
            let (from, to) = (
                old.checkpoint.unwrap_or(false),
                new.checkpoint.unwrap_or(false),
            );
            return Err(unsupported(
                "checkpoint",
                &from.to_string(),
                &to.to_string(),
            ));
        }
        let id = framework.id.clone();
        let left: Vec<_> = framework
            .offers
            .iter()
            .filter(|offer| {
                self.offers
                    .get(offer)
                    .is_some_and(|offer| !profile.roles.contains(&offer.role))
            })
            .copied()
            .collect();
        for offer in left {
            self.rescind(cx, offer, None);
        }
        self.allocator.set_framework(key, profile.spec(&id));
        if let Some(framework) = self.frameworks.get_mut(&key) {
            framework.set_profile(profile);
            cx.change(Change::Framework(Box::new(framework.view())));
        }
        self.spread_framework(cx, key);
        Ok(())
    }

    /// A framework that an agent speaks of.
    pub(super) fn framework_of_agent(
        &mut self,
        cx: &mut Cx<'_>,
        id: &FrameworkId,
        infos: &[v1::FrameworkInfo],
    ) -> FrameworkKey {
        if let Some(key) = self.framework_by_id(id.as_str()) {
            return key;
        }
        let info = infos
            .iter()
            .find(|info| {
                info.id
                    .as_ref()
                    .is_some_and(|other| other.value == id.as_str())
            })
            .cloned()
            .unwrap_or_else(|| v1::FrameworkInfo {
                id: Some(id.to_wire()),
                ..Default::default()
            });
        self.add_framework(
            cx,
            id.clone(),
            Presence::Recovered,
            Profile::recovered(info),
        )
    }

    /// When the term began to act.
    pub fn recovered_at(&self) -> Wall {
        self.recovered_at
    }
}
