//! The master's decisions: one synchronous, deterministic state machine for one term of leadership.
//!
//! A shell hands in what happened with the time ([`Core::handle`]) and carries out what comes back, in order. It wakes
//! the core at [`Core::next_deadline`]. A term that ends is the end of its core: the next one starts from the registry
//! and from what agents and schedulers say.
//!
//! Files: `subscribe` frameworks come and go; `calls` the ladder of a call; `accept` launches; `offers`
//! offers and answers; `updates` statuses and acknowledgements; `reconcile`; `registration` agents come,
//! `absorb` with what they hold; `liveness` agents go; `registrar` writes the registry; `sandbox` relays
//! reads; `explain` says why there is no offer; `invariants` walks the books.
//!
//! Invariant: no clock, socket, disk, thread or random source of its own; what is iterated is ordered.

mod absorb;
mod accept;
mod agent;
mod calls;
mod config;
mod dump;
mod explain;
mod framework;
mod invariants;
mod io;
mod liveness;
mod offers;
mod operator;
mod reconcile;
mod registrar;
mod registration;
mod sandbox;
mod status;
mod subscribe;
mod timers;
mod updates;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mezzo_model::ids::{AgentId, FrameworkId, OfferId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Now, Role, Wall};
use mezzo_wire::{link, v1};

use crate::allocator::Allocator;
use crate::keys::{AgentKey, ConnId, FrameworkKey, OfferKey, ReadId};
use crate::read_model::Change;

use agent::Agent;
use framework::Framework;
use registrar::Registrar;
use registration::Admission;
use timers::{Timer, Timers};

pub use config::{Config, HEARTBEAT_INTERVAL, MAX_BATCH, OFFER_MAX_AGE, RateLimit};
pub use explain::{AgentAnswer, Answer, Holder, Question};
pub use io::{Input, Note, NoteLevel, Output, Refusal};

/// An outstanding offer.
#[derive(Debug)]
struct Offer {
    id: OfferId,
    framework: FrameworkKey,
    agent: AgentKey,
    role: Role,
    /// Without allocation.
    resources: Resources,
    since: Millis,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Peer {
    /// A subscribed framework.
    Scheduler(FrameworkKey),
    /// A registered agent.
    Agent(AgentKey),
    /// An agent whose admission is being written.
    Admission(AgentId),
    /// A registered agent whose `Hello` waits for the registry.
    Waiting(AgentKey),
}

/// Numbers for metrics; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Counters {
    pub inputs: u64,
    pub offers_made: u64,
    pub offers_accepted: u64,
    pub offers_declined: u64,
    pub offers_rescinded: u64,
    pub offers_timed_out: u64,
    pub tasks_launched: u64,
    pub tasks_refused: u64,
    pub tasks_ended: u64,
    pub updates_received: u64,
    pub updates_forwarded: u64,
    pub acknowledgements: u64,
    pub reconciliations: u64,
    pub calls_refused: u64,
    pub subscriptions: u64,
    pub failovers: u64,
    pub frameworks_removed: u64,
    pub agents_registered: u64,
    pub agents_reregistered: u64,
    pub agents_unreachable: u64,
    pub agents_removed: u64,
    pub agents_refused: u64,
    pub commits: u64,
    pub commit_failures: u64,
}

/// Numbers for metrics; they go up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Gauges {
    pub frameworks_connected: usize,
    pub frameworks_disconnected: usize,
    pub agents_connected: usize,
    pub agents_disconnected: usize,
    pub agents_awaited: usize,
    pub agents_unreachable: usize,
    pub offers: usize,
    pub tasks: usize,
    pub filters: usize,
}

/// The time of an input, and where what it causes goes.
struct Cx<'a> {
    now: Now,
    out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    fn push(&mut self, output: Output) {
        self.out.push(output);
    }

    fn change(&mut self, change: Change) {
        self.out.push(Output::Change(change));
    }

    fn note(&mut self, level: NoteLevel, text: impl Into<String>) {
        self.out.push(Output::Note(Note {
            level,
            text: text.into(),
        }));
    }

    fn info(&mut self, text: impl Into<String>) {
        self.note(NoteLevel::Info, text);
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.note(NoteLevel::Warn, text);
    }
}

/// The master of one term.
#[derive(Debug)]
pub struct Core {
    config: Config,
    epoch: link::Epoch,
    /// First part of the ids that this term issues.
    issuer: String,
    ids: Rng,
    recovered: bool,
    deposed: bool,
    /// When the term began to act.
    recovered_at: Wall,

    frameworks: BTreeMap<FrameworkKey, Framework>,
    framework_ids: BTreeMap<FrameworkId, FrameworkKey>,
    next_framework: u32,
    past_frameworks: BTreeSet<FrameworkId>,
    past_frameworks_by_age: VecDeque<FrameworkId>,

    agents: BTreeMap<AgentKey, Agent>,
    agent_ids: BTreeMap<AgentId, AgentKey>,
    next_agent: u32,
    next_agent_key: u32,
    admissions: BTreeMap<AgentId, Admission>,
    /// Admitted according to the registry, and not yet back since this term began.
    awaited: BTreeMap<AgentId, Box<v1::AgentInfo>>,
    unreachable: BTreeMap<AgentId, Wall>,
    gone: BTreeMap<AgentId, Wall>,
    removals: liveness::Removals,

    offers: BTreeMap<OfferKey, Offer>,
    next_offer: u64,
    /// Offers past their timeout that nobody else could use so far.
    ripe: BTreeSet<OfferKey>,

    past_tasks: BTreeMap<(FrameworkId, TaskId), AgentId>,
    past_tasks_by_age: VecDeque<(FrameworkId, TaskId)>,

    peers: BTreeMap<ConnId, Peer>,
    reads: BTreeMap<ReadId, sandbox::Read>,
    next_read: u64,

    allocator: Allocator,
    weights: BTreeMap<Role, u64>,
    timers: Timers,
    registrar: Registrar,
    counters: Counters,
}

impl Core {
    /// The core of a term that begins. It acts after [`Input::Recovered`]. Seed and epoch together make the ids that it
    /// issues unique; one seed gives one history.
    pub fn new(config: Config, seed: u64) -> Self {
        let rng = Rng::new(seed).split(&config.epoch.to_string());
        let mut ids = rng.split("ids");
        // A master has a new id in each term, and the ids that it issues begin with it.
        let issuer = ids.uuid();
        let config = Config {
            master: v1::MasterInfo {
                id: issuer.clone(),
                ..config.master
            },
            ..config
        };
        let allocator = Allocator::new(config.allocator.clone(), rng.split("allocator"));
        Self {
            epoch: config.epoch.to_wire(),
            issuer,
            ids,
            recovered: false,
            deposed: false,
            recovered_at: Wall::default(),
            frameworks: BTreeMap::new(),
            framework_ids: BTreeMap::new(),
            next_framework: 0,
            past_frameworks: BTreeSet::new(),
            past_frameworks_by_age: VecDeque::new(),
            agents: BTreeMap::new(),
            agent_ids: BTreeMap::new(),
            next_agent: 0,
            next_agent_key: 0,
            admissions: BTreeMap::new(),
            awaited: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            gone: BTreeMap::new(),
            removals: liveness::Removals::default(),
            offers: BTreeMap::new(),
            next_offer: 0,
            ripe: BTreeSet::new(),
            past_tasks: BTreeMap::new(),
            past_tasks_by_age: VecDeque::new(),
            peers: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            allocator,
            weights: config.allocator.weights.clone(),
            timers: Timers::default(),
            registrar: Registrar::default(),
            counters: Counters::default(),
            config,
        }
    }

    /// Takes in what happened and says what is to be done, in order. Never panics and never blocks, whatever comes in.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.deposed {
            return;
        }
        self.counters.inputs += 1;
        let mut cx = Cx { now, out };
        let cx = &mut cx;
        match input {
            Input::Tick => {}
            Input::Recovered(records) => self.on_recovered(cx, &records),
            Input::Committed { id, result } => self.on_committed(cx, id, result),
            Input::Resumed => self.on_resumed(cx),
            Input::Subscribe {
                conn,
                principal,
                stream_id,
                call,
            } => {
                self.on_subscribe(cx, conn, principal.as_deref(), stream_id.is_some(), *call);
            }
            Input::SchedulerGone { conn } => self.on_scheduler_gone(cx, conn),
            Input::Call {
                request,
                principal,
                stream_id,
                call,
            } => {
                let result = self.on_call(cx, principal.as_deref(), stream_id.as_deref(), *call);
                self.counters.calls_refused += u64::from(result.is_err());
                cx.push(Output::Reply { request, result });
            }
            Input::Agent { conn, message } => self.on_agent_message(cx, conn, *message),
            Input::AgentGone { conn } => self.on_agent_gone(cx, conn),
            Input::Operator { request, call } => {
                let result = self.on_operator(cx, *call);
                cx.push(Output::Reply { request, result });
            }
            Input::ReadSandbox { read, request } => self.on_read_sandbox(cx, read, *request),
            Input::CancelRead { read } => self.on_cancel_read(cx, read),
        }
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.on_timer(cx, timer);
        }
        self.settle(cx);
    }

    /// When the core wants to be called even if nothing happens until then.
    pub fn next_deadline(&self) -> Option<Millis> {
        let allocator = if self.recovered {
            self.allocator.next_deadline()
        } else {
            None
        };
        [self.timers.next(), allocator].into_iter().flatten().min()
    }

    /// Whether the registry has been loaded, so that calls are taken.
    pub fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// What the core was told at its start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Numbers that only grow.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Numbers that go up and down. O(frameworks + agents).
    pub fn gauges(&self) -> Gauges {
        let connected = self
            .frameworks
            .values()
            .filter(|f| f.conn().is_some())
            .count();
        let linked = self
            .agents
            .values()
            .filter(|agent| agent.link.is_some())
            .count();
        Gauges {
            frameworks_connected: connected,
            frameworks_disconnected: self.frameworks.len() - connected,
            agents_connected: linked,
            agents_disconnected: self.agents.len() - linked,
            agents_awaited: self.awaited.len(),
            agents_unreachable: self.unreachable.len(),
            offers: self.offers.len(),
            tasks: self.agents.values().map(|agent| agent.tasks.len()).sum(),
            filters: self.allocator.filter_count(),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Heartbeat(framework) => self.on_heartbeat(cx, framework),
            Timer::Failover(framework) => self.on_failover_timeout(cx, framework),
            Timer::Offer(offer) => self.on_offer_timeout(cx, offer),
            Timer::Ping(agent) => self.on_ping_timer(cx, agent),
            Timer::Recovery => self.on_recovery_timeout(cx),
            Timer::Removal => self.on_removal_timer(cx),
            Timer::Retry => self.registrar.retry(),
        }
    }

    /// What one input caused is carried through: free resources go out, old offers come back if somebody else wants
    /// them, and the registry is written.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if !self.recovered || self.deposed {
            return;
        }
        self.make_offers(cx);
        if self.allocator.take_demand() && !self.ripe.is_empty() {
            self.rescind_wanted(cx);
            self.make_offers(cx);
        }
        self.flush_registrar(cx);
    }

    fn step_down(&mut self, cx: &mut Cx<'_>, reason: String, fatal: bool) {
        self.deposed = true;
        cx.push(Output::StepDown { reason, fatal });
    }

    fn framework_by_id(&self, id: &str) -> Option<FrameworkKey> {
        self.framework_ids.get(id).copied()
    }

    fn agent_by_id(&self, id: &str) -> Option<AgentKey> {
        self.agent_ids.get(id).copied()
    }

    /// Remembers where a task ran that is no longer in the books.
    fn remember_task(&mut self, framework: FrameworkId, task: TaskId, agent: AgentId) {
        let key = (framework, task);
        if self.past_tasks.insert(key.clone(), agent).is_none() {
            self.past_tasks_by_age.push_back(key);
            if self.past_tasks_by_age.len() > config::MAX_PAST_TASKS
                && let Some(oldest) = self.past_tasks_by_age.pop_front()
            {
                self.past_tasks.remove(&oldest);
            }
        }
    }
}
