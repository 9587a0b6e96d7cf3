//! Agents come: each connection begins with the whole truth about what the agent holds, and the books are
//! made to match.
//!
//! The registry hears first of one that is new, or that comes back from being unreachable.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_model::ids::AgentId;
use mezzo_model::resources::Resources;
use mezzo_model::{Epoch, EpochRefusal};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body;
use mezzo_wire::v1;
use mezzo_wire::version::{LINK_VERSION, MEZZO_VERSION};

use super::agent::{Agent, Link};
use super::timers::Timer;
use super::{Core, Cx, Output, Peer};
use crate::keys::{AgentKey, ConnId};
use crate::read_model::Change;
use crate::registry::Act;
use crate::validate;
use crate::validate::agent::Report;

/// An agent whose admission is being written.
#[derive(Debug)]
pub(super) struct Admission {
    /// `None` if it went away meanwhile.
    conn: Option<ConnId>,
    report: Box<Report>,
}

impl Core {
    pub(super) fn on_agent_message(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        message: link::AgentMessage,
    ) {
        let Some(body) = message.body else {
            cx.warn("an agent said something that this version does not know; ignored");
            return;
        };
        let key = match (self.peers.get(&conn), &body) {
            (None, FromAgent::Hello(_)) => None,
            (Some(Peer::Agent(key)), _) => Some(*key),
            (Some(Peer::Admission(_) | Peer::Waiting(_)), FromAgent::Pong(_)) => return,
            _ => {
                cx.warn("an agent's link did not begin with a hello; closed");
                self.drop_link(cx, conn);
                return;
            }
        };
        if let Some(agent) = key.and_then(|key| self.agents.get_mut(&key)) {
            agent.missed_pings = 0;
        }
        match (key, body) {
            (None, FromAgent::Hello(hello)) => self.on_hello(cx, conn, hello),
            (Some(key), body) => self.on_report(cx, conn, key, body),
            (None, _) => {}
        }
    }

    fn on_report(&mut self, cx: &mut Cx<'_>, conn: ConnId, key: AgentKey, body: FromAgent) {
        match body {
            FromAgent::Hello(_) => {
                cx.warn("an agent said hello twice on one link; closed");
                self.drop_link(cx, conn);
            }
            FromAgent::Pong(_) => {}
            FromAgent::Update(update) => self.on_status_update(cx, key, update),
            FromAgent::ExecutorMessage(message) => self.on_executor_message(cx, key, message),
            FromAgent::ExecutorExited(exited) => self.on_executor_exited(cx, key, exited),
            FromAgent::Goodbye(goodbye) => self.on_goodbye(cx, key, goodbye.message.as_deref()),
            FromAgent::SandboxChunk(chunk) => self.on_chunk(cx, key, chunk),
            FromAgent::EpochRefused(refused) => self.on_epoch_refused(cx, conn, key, &refused),
            FromAgent::Report(report) => self.on_agent_report(cx, key, report),
        }
    }

    /// Closes a link as if the agent had.
    fn drop_link(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        self.on_agent_gone(cx, conn);
        cx.push(Output::Close { conn });
    }

    /// Refuses an agent in words.
    fn refuse_agent(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        reason: impl Into<String>,
        retry: bool,
    ) {
        let reason = reason.into();
        self.counters.agents_refused += 1;
        cx.warn(format!("refused an agent: {reason}"));
        self.send(
            cx,
            conn,
            Body::Refused(link::Refused {
                reason,
                retry: Some(retry),
            }),
        );
        cx.push(Output::Close { conn });
    }

    fn on_hello(&mut self, cx: &mut Cx<'_>, conn: ConnId, hello: link::Hello) {
        if !self.recovered {
            return self.refuse_agent(cx, conn, "the master has not finished recovery", true);
        }
        if hello.link_version > LINK_VERSION {
            let words = format!(
                "this agent (Mezzo {}) speaks version {} of the link, and this master (Mezzo {MEZZO_VERSION}) speaks up \
                 to {LINK_VERSION}; upgrade the masters first",
                hello.agent_version, hello.link_version
            );
            return self.refuse_agent(cx, conn, words, false);
        }
        if let Some(highest) = hello.highest_epoch.as_ref().map(Epoch::from_wire)
            && let Err(refusal) = highest.accepts(&self.config.epoch)
        {
            return self.refuse_epoch(cx, conn, &refusal);
        }
        match validate::agent::report(hello) {
            Ok(report) => self.take_hello(cx, conn, Box::new(report)),
            Err(invalid) => self.refuse_agent(cx, conn, invalid.words, false),
        }
    }

    fn refuse_epoch(&mut self, cx: &mut Cx<'_>, conn: ConnId, refusal: &EpochRefusal) {
        match refusal {
            EpochRefusal::OtherCluster {
                ours: theirs,
                theirs: ours,
            } => {
                let words = format!(
                    "this agent belongs to cluster {theirs}, and this master leads cluster {ours}; to let it join {ours}, \
                     end its tasks, stop it, and start it with an empty --work_dir; or point its --master at \
                     cluster {theirs}"
                );
                self.refuse_agent(cx, conn, words, false);
            }
            EpochRefusal::Stale { .. } => {
                // Whether that is so, the registry knows.
                self.registrar.push(Act::Probe);
                self.refuse_agent(cx, conn, refusal.to_string(), true);
            }
        }
    }

    /// An agent has met a later leader. The registry says whether that is so; the agent's word alone deposes nobody.
    fn on_epoch_refused(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        key: AgentKey,
        refused: &link::EpochRefused,
    ) {
        if let Some(agent) = self.agents.get(&key) {
            cx.warn(format!(
                "agent {} has accepted epoch {}; asking the registry whether this term lasts",
                agent.id, refused.highest.counter
            ));
        }
        self.registrar.push(Act::Probe);
        self.drop_link(cx, conn);
    }

    pub(super) fn take_hello(&mut self, cx: &mut Cx<'_>, conn: ConnId, report: Box<Report>) {
        let id = match &report.id {
            Some(id) => id.clone(),
            None => match self.incarnation_known(&report.hello.incarnation) {
                Some(id) => id,
                None => self.new_agent_id(),
            },
        };
        if self.gone.contains_key(&id) {
            let message = format!("agent {id} was marked gone; it cannot come back under this id");
            cx.warn(message.clone());
            self.send(
                cx,
                conn,
                Body::Shutdown(link::Shutdown {
                    message: Some(message),
                }),
            );
            cx.push(Output::Close { conn });
        } else if let Some(key) = self.agent_by_id(id.as_str()) {
            self.reattach(cx, conn, key, report);
        } else if self.awaited.contains_key(&id) && !self.is_being_lost(&id) {
            self.register(cx, conn, id, report, false);
        } else {
            self.admit(cx, conn, id, report);
        }
    }

    /// Whether the registry is just being told that an awaited agent is unreachable; if that only waits its turn, it is
    /// taken back.
    fn is_being_lost(&mut self, id: &AgentId) -> bool {
        self.registrar
            .withdraw(|act| matches!(act, Act::MarkUnreachable(lost, _) if lost == id))
    }

    /// The id that was given to this process of an agent whose welcome got lost.
    fn incarnation_known(&self, incarnation: &str) -> Option<AgentId> {
        let admitted = self.admissions.iter().find_map(|(id, admission)| {
            (admission.report.hello.incarnation == incarnation).then(|| id.clone())
        });
        admitted.or_else(|| {
            self.agents.values().find_map(|agent| {
                let link = agent.link.as_ref()?;
                (link.incarnation == incarnation).then(|| agent.id.clone())
            })
        })
    }

    fn new_agent_id(&mut self) -> AgentId {
        let id = format!("{}-S{}", self.issuer, self.next_agent);
        self.next_agent += 1;
        AgentId::parse(&id).expect("a UUID and a number are an id")
    }

    /// The registry hears first of an agent that is new, or comes back from being unreachable.
    fn admit(&mut self, cx: &mut Cx<'_>, conn: ConnId, id: AgentId, report: Box<Report>) {
        let info = Box::new(described(&report, &id));
        match self.admissions.get_mut(&id) {
            Some(admission) => {
                if let Some(old) = admission.conn.replace(conn) {
                    self.peers.remove(&old);
                    cx.push(Output::Close { conn: old });
                }
                admission.report = report;
            }
            None => {
                self.registrar.push(Act::Admit(id.clone(), info));
                self.admissions.insert(
                    id.clone(),
                    Admission {
                        conn: Some(conn),
                        report,
                    },
                );
            }
        }
        self.peers.insert(conn, Peer::Admission(id));
    }

    pub(super) fn on_admitted(&mut self, cx: &mut Cx<'_>, id: &AgentId) {
        let Some(admission) = self.admissions.remove(id) else {
            return;
        };
        let was_unreachable = self.unreachable.remove(id).is_some();
        let returns = was_unreachable || admission.report.id.is_some();
        match admission.conn {
            Some(conn) => self.register(cx, conn, id.clone(), admission.report, was_unreachable),
            None if returns => {
                // It went away again while its return was written: the registry holds it as admitted, so it is awaited.
                let info = Box::new(described(&admission.report, id));
                cx.change(Change::AgentAwaited(id.clone(), info.clone().into()));
                self.awaited.insert(id.clone(), info);
                self.await_agents(cx);
            }
            // A new one that never heard its id will never use it.
            None => self.registrar.push(Act::Remove(id.clone())),
        }
    }

    pub(super) fn on_admission_refused(&mut self, cx: &mut Cx<'_>, id: &AgentId, why: &str) {
        if let Some(conn) = self
            .admissions
            .remove(id)
            .and_then(|admission| admission.conn)
        {
            self.peers.remove(&conn);
            self.refuse_agent(
                cx,
                conn,
                format!("the registry cannot hold this agent: {why}"),
                false,
            );
        }
    }

    /// Its link is gone while its admission is being written.
    pub(super) fn admission_lost(&mut self, id: &AgentId, conn: ConnId) {
        if let Some(admission) = self.admissions.get_mut(id)
            && admission.conn == Some(conn)
        {
            admission.conn = None;
        }
    }

    /// An agent enters the books.
    ///
    /// `was_unreachable`: frameworks may have been told so of its tasks, also of those that this master never knew (it
    /// answered a reconciliation by the agent alone); they are told that the tasks are back.
    fn register(
        &mut self,
        cx: &mut Cx<'_>,
        conn: ConnId,
        id: AgentId,
        report: Box<Report>,
        was_unreachable: bool,
    ) {
        let key = AgentKey(self.next_key());
        let was_awaited = self.awaited.remove(&id);
        let info = described(&report, &id);
        if let Some(old) = &was_awaited {
            cx.change(Change::AgentNotAwaited(id.clone()));
            if differs(old, &info) {
                self.registrar
                    .push(Act::Admit(id.clone(), Box::new(info.clone())));
            }
        }
        let returns = report.id.is_some();
        let agent = Agent {
            id: id.clone(),
            info: Arc::new(info),
            spec: report.spec.clone(),
            link: None,
            missed_pings: 0,
            ping: 0,
            tasks: Default::default(),
            executors: Default::default(),
            offers: BTreeSet::new(),
            is_overcommitted: false,
            was_unreachable,
            version: Arc::from(report.hello.agent_version.as_str()),
            registered: cx.now.wall,
            reregistered: returns.then_some(cx.now.wall),
            transition: None,
            waiting: None,
        };
        if returns {
            self.counters.agents_reregistered += 1;
        } else {
            self.counters.agents_registered += 1;
        }
        cx.info(format!(
            "agent {id} at {} registered with {}",
            agent.info.hostname, agent.spec.total
        ));
        self.allocator.add_agent(key, agent.spec.clone(), []);
        self.agents.insert(key, agent);
        self.agent_ids.insert(id, key);
        self.attach(cx, conn, key, *report);
    }

    /// Keys of agents are never reused; 4 billion registrations end a term.
    fn next_key(&mut self) -> u32 {
        let next = self
            .agents
            .last_key_value()
            .map_or(0, |(key, _)| key.0.saturating_add(1));
        self.next_agent_key = self.next_agent_key.max(next);
        let key = self.next_agent_key;
        self.next_agent_key = self.next_agent_key.saturating_add(1);
        key
    }

    /// An agent that is in the books connects anew.
    fn reattach(&mut self, cx: &mut Cx<'_>, conn: ConnId, key: AgentKey, report: Box<Report>) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        if agent.transition.is_some() {
            // The registry is being written about it; the hello is taken after that.
            if let Some((old, _)) = agent.waiting.replace((conn, report)) {
                self.peers.remove(&old);
                cx.push(Output::Close { conn: old });
            }
            self.peers.insert(conn, Peer::Waiting(key));
            return;
        }
        if let Some(link) = &agent.link {
            let same = link.incarnation == report.hello.incarnation;
            if same && report.hello.connection <= link.connection {
                return self.refuse_agent(
                    cx,
                    conn,
                    "a later connection of this agent is open",
                    true,
                );
            }
            let old = link.conn;
            agent.link = None;
            self.peers.remove(&old);
            cx.push(Output::Close { conn: old });
            self.end_reads_of(cx, key, "the agent connected anew");
        }
        self.counters.agents_reregistered += 1;
        // What was offered was offered of another state of the agent.
        self.rescind_of_agent(cx, key);
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        let info = described(&report, &agent.id);
        cx.info(format!("agent {} at {} is back", agent.id, info.hostname));
        if differs(&agent.info, &info) {
            self.registrar
                .push(Act::Admit(agent.id.clone(), Box::new(info.clone())));
            agent.info = Arc::new(info);
            agent.spec = report.spec.clone();
            self.allocator.update_agent(key, report.spec.clone());
        }
        agent.version = Arc::from(report.hello.agent_version.as_str());
        agent.reregistered = Some(cx.now.wall);
        self.attach(cx, conn, key, *report);
    }

    /// The link is up: welcome first, then the books are made to match.
    fn attach(&mut self, cx: &mut Cx<'_>, conn: ConnId, key: AgentKey, report: Report) {
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        agent.missed_pings = 0;
        agent.link = Some(Link {
            conn,
            connection: report.hello.connection,
            incarnation: report.hello.incarnation.clone(),
        });
        let welcome = link::Welcome {
            agent_id: agent.id.to_wire(),
            ping_interval_ms: self.config.agent_ping_timeout.0,
            silence_ms: self.config.silence().0,
            master_version: MEZZO_VERSION.to_owned(),
        };
        self.peers.insert(conn, Peer::Agent(key));
        self.order(cx, key, Body::Welcome(welcome));
        self.show_agent(cx, key);
        self.absorb(cx, key, report);
        self.allocator.set_agent_active(key, true);
        self.timers.set(
            Timer::Ping(key),
            cx.now.mono + self.config.agent_ping_timeout,
        );
    }

    /// What an agent is or has changed while it is connected.
    fn on_agent_report(&mut self, cx: &mut Cx<'_>, key: AgentKey, report: link::AgentReport) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        let mut info = (*agent.info).clone();
        info.resources = report.total;
        info.attributes = report.attributes;
        let spec = match validate::agent::spec(&info) {
            Ok(spec) => spec,
            Err(invalid) => {
                cx.warn(format!(
                    "agent {} reported what is not valid: {invalid}",
                    agent.id
                ));
                return;
            }
        };
        let mut given = Resources::new();
        for (_, _, held) in self.allocator.held_on(key) {
            given += held;
        }
        if !spec.total.contains(&given) || spec.attributes != agent.spec.attributes {
            self.rescind_of_agent(cx, key);
        }
        let Some(agent) = self.agents.get_mut(&key) else {
            return;
        };
        self.registrar
            .push(Act::Admit(agent.id.clone(), Box::new(info.clone())));
        agent.info = Arc::new(info);
        agent.spec = spec.clone();
        let mut sum = Resources::new();
        for (_, _, resources) in agent.in_use() {
            sum += resources;
        }
        agent.is_overcommitted = !spec.total.contains(&sum);
        self.allocator.update_agent(key, spec);
        self.show_agent(cx, key);
    }
}

/// An agent's description with its id.
fn described(report: &Report, id: &AgentId) -> v1::AgentInfo {
    v1::AgentInfo {
        id: Some(id.to_wire()),
        ..report.hello.agent.clone()
    }
}

/// Whether two descriptions differ in more than that a default is written out (the registry writes it out).
fn differs(one: &v1::AgentInfo, other: &v1::AgentInfo) -> bool {
    one != other && mezzo_wire::json::to_vec(one) != mezzo_wire::json::to_vec(other)
}
