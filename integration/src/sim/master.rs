//! A master of the simulation: its election and registry, its core, and the least shell between them.

use std::collections::{BTreeMap, VecDeque};

use mezzo_coordination::Epoch;
use mezzo_coordination::election::core::{Change, Grant};
use mezzo_master::core::{Config, Core, Input, Output};
use mezzo_master::keys::{ConnId, FrameworkKey, RequestId};
use mezzo_master::read_model as change;
use mezzo_model::ids::TaskId;
use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;
use mezzo_sdk::scheduler::core::{CallError, CallId, CloseReason};
use mezzo_wire::{link, v1};

use super::agent::Agent;
use super::bugs::Bug;
use super::coord::{Coord, Told};
use super::framework::MakeContender;
use super::net::{Conn, Host, Side};
use super::payload::{Local, Payload};
use super::world::{Ctx, Process, World};

/// What a connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Scheduler,
    Agent,
}

struct Reign {
    core: Core,
    epoch: Epoch,
    peers: BTreeMap<Conn, Peer>,
    requests: BTreeMap<RequestId, (Conn, CallId)>,
    next_request: u64,
    /// Tasks that have not ended, as readers are told.
    tasks: BTreeMap<(FrameworkKey, TaskId), ()>,
    /// In doubt about its session: nothing goes in and nothing comes out.
    suspended: bool,
    held: VecDeque<Input>,
}

impl Reign {
    /// The least of a read model.
    fn read(&mut self, change: change::Change) {
        use change::Change;
        match change {
            Change::Task {
                framework,
                id,
                state,
                ..
            }
            | Change::TaskUpdate {
                framework,
                id,
                state,
                ..
            } => {
                if state.is_terminal() {
                    self.tasks.remove(&(framework, id));
                } else {
                    self.tasks.insert((framework, id), ());
                }
            }
            Change::TaskGone { framework, id, .. } => drop(self.tasks.remove(&(framework, id))),
            Change::FrameworkCompleted { key, .. } => {
                self.tasks.retain(|(framework, _), ()| *framework != key);
            }
            _ => {}
        }
    }
}

/// One master's process.
pub struct Master {
    name: String,
    make_contender: MakeContender,
    seeds: Rng,
    contender: Option<Coord>,
    leader: Option<String>,
    granted: Option<Grant>,
    reign: Option<Reign>,
}

impl Master {
    /// A master that has never run.
    pub fn new(name: &str, make_contender: MakeContender, seeds: Rng) -> Self {
        Self {
            name: name.to_owned(),
            make_contender,
            seeds,
            contender: None,
            leader: None,
            granted: None,
            reign: None,
        }
    }

    /// Whether it leads and has read its registry.
    pub fn leads(&self) -> bool {
        self.reign.as_ref().is_some_and(|reign| !reign.suspended)
    }

    /// How many agents are registered with it.
    pub fn registered_agents(&self) -> usize {
        self.reign
            .as_ref()
            .map_or(0, |reign| reign.core.gauges().agents_connected)
    }

    /// It is told to stop: it gives its leadership back.
    pub fn resign(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(contender) = &mut self.contender {
            let told = contender.resign(ctx);
            self.told(ctx, told);
        }
        self.end_reign(ctx);
    }

    /// Whether its books and what the agents say agree, task by task.
    ///
    /// # Errors
    /// Names the first difference.
    pub fn agrees_with(&self, world: &World, agents: &[Host]) -> Result<(), String> {
        let Some(reign) = &self.reign else {
            return Err("it does not lead".to_owned());
        };
        let mut known: Vec<String> = Vec::new();
        for host in agents {
            let Some(core) = world.see::<Agent>(*host).and_then(Agent::core) else {
                return Err(format!("the agent on host {host} does not run"));
            };
            let live = core
                .ledger()
                .tasks()
                .filter(|(_, entry)| !entry.state().is_terminal());
            known.extend(live.map(|((_, task), _)| task.as_str().to_owned()));
        }
        known.sort();
        let mut booked: Vec<String> = reign
            .tasks
            .keys()
            .map(|(_, task)| task.as_str().to_owned())
            .collect();
        booked.sort();
        if booked == known {
            Ok(())
        } else {
            Err(format!(
                "the master believes in {booked:?}, the agents in {known:?}"
            ))
        }
    }

    fn feed(&mut self, ctx: &mut Ctx<'_>, input: Input) {
        let Some(reign) = &mut self.reign else { return };
        if reign.suspended {
            if !matches!(input, Input::Tick) {
                reign.held.push_back(input);
            }
            return;
        }
        if !matches!(input, Input::Tick) {
            ctx.note(&self.name, format_args!("<- {input:?}"));
        }
        let offers = offers_of(&input);
        let mut out = Vec::new();
        reign.core.handle(ctx.now, input, &mut out);
        if out.iter().any(is_launch) {
            offers.iter().for_each(|offer| ctx.oracle.offer_used(offer));
        }
        for output in out {
            self.carry_out(ctx, output);
        }
    }

    fn carry_out(&mut self, ctx: &mut Ctx<'_>, output: Output) {
        if !matches!(output, Output::Change(_) | Output::Note(_)) {
            ctx.note(&self.name, format_args!("-> {output:?}"));
        }
        let Some(reign) = &mut self.reign else { return };
        match output {
            Output::Open { conn, stream_id } => {
                ctx.send(Conn(conn.0), Side::Server, Payload::Accepted(stream_id));
            }
            Output::Refuse { conn, refusal } => {
                let reason = match refusal.status {
                    503 => CloseReason::Refused(refusal.text),
                    _ => CloseReason::Unacceptable(refusal.text),
                };
                ctx.send(Conn(conn.0), Side::Server, Payload::Closed(reason));
                reign.peers.remove(&Conn(conn.0));
                ctx.close(Conn(conn.0), Side::Server);
            }
            Output::Event { conn, event } => {
                ctx.send(Conn(conn.0), Side::Server, Payload::Event(event));
            }
            Output::Close { conn } => {
                reign.peers.remove(&Conn(conn.0));
                ctx.close(Conn(conn.0), Side::Server);
            }
            Output::Reply { request, result } => {
                if let Some((conn, id)) = reign.requests.remove(&request) {
                    let result = result.map_err(|refusal| match refusal.status {
                        // What a driver makes of a refusal: it subscribes again if its stream is not known.
                        400 | 403
                            if refusal.text.contains("tream")
                                || refusal.text.contains("cannot be found")
                                || refusal.text.contains("not subscribed") =>
                        {
                            CallError::NotSubscribed(refusal.text)
                        }
                        503 => CallError::Unknown(refusal.text),
                        _ => CallError::Refused(refusal.text),
                    });
                    ctx.send(conn, Side::Server, Payload::Done { id, result });
                }
            }
            Output::ToAgent { conn, message } => {
                ctx.send(Conn(conn.0), Side::Server, Payload::Master(message));
            }
            Output::Commit { id, txn } => {
                if let Some(contender) = &mut self.contender {
                    let told = contender.commit(ctx, id, txn);
                    self.told(ctx, told);
                }
            }
            Output::StepDown { reason, .. } => {
                ctx.note(&self.name, format_args!("steps down: {reason}"));
                self.end_reign(ctx);
            }
            Output::Change(change) => reign.read(change),
            Output::Chunk { .. } => {}
            Output::Note(note) => ctx.note(&self.name, format_args!("{}", note.text)),
        }
    }

    fn told(&mut self, ctx: &mut Ctx<'_>, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Change(Change::Leading(grant)) => self.lead(ctx, grant),
                Told::Change(Change::Suspended) => {
                    if let Some(reign) = &mut self.reign
                        && !ctx.bugs.has(Bug::DeafToSuspension)
                    {
                        reign.suspended = true;
                    }
                }
                Told::Change(Change::Standby { leader }) => {
                    self.leader = leader.map(|leader| leader.address);
                    self.granted = None;
                    if !ctx.bugs.has(Bug::DeafToSuspension) {
                        self.end_reign(ctx);
                    }
                }
                Told::Change(Change::Refused { words }) => {
                    ctx.oracle.fail(format!("{}: {words}", self.name));
                }
                Told::Committed { id, result } => self.feed(ctx, Input::Committed { id, result }),
                Told::Loaded {
                    result: Ok(records),
                } => self.begin_reign(ctx, records),
                Told::Loaded { result: Err(error) } => {
                    ctx.note(
                        &self.name,
                        format_args!("cannot read the registry: {error}"),
                    );
                }
                Told::Resigned => self.end_reign(ctx),
            }
        }
    }

    fn lead(&mut self, ctx: &mut Ctx<'_>, grant: Grant) {
        if let Some(reign) = &mut self.reign {
            if reign.epoch == grant.epoch {
                reign.suspended = false;
                let held = std::mem::take(&mut reign.held);
                self.feed(ctx, Input::Resumed);
                for input in held {
                    self.feed(ctx, input);
                }
                return;
            }
            self.end_reign(ctx);
        }
        self.granted = Some(grant);
        if let Some(contender) = &mut self.contender {
            let told = contender.load(ctx);
            self.told(ctx, told);
        }
    }

    fn begin_reign(&mut self, ctx: &mut Ctx<'_>, records: Vec<mezzo_coordination::Record>) {
        let Some(grant) = self.granted.clone() else {
            return;
        };
        if self.reign.is_some() {
            return;
        }
        let mut config = Config::new(info(&self.name, self.seeds.uuid()), grant.epoch.clone());
        // A simulation is short: who is gone is missed sooner.
        config.agent_ping_timeout = Millis::from_secs(5);
        config.max_agent_ping_timeouts = 3;
        config.agent_reregister_timeout = Millis::from_secs(40);
        let core = Core::new(config, self.seeds.next_u64());
        self.reign = Some(Reign {
            core,
            epoch: grant.epoch,
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            tasks: BTreeMap::new(),
            suspended: false,
            held: VecDeque::new(),
        });
        self.feed(ctx, Input::Recovered(records));
    }

    fn end_reign(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(reign) = self.reign.take() {
            for conn in reign.peers.into_keys() {
                ctx.close(conn, Side::Server);
            }
        }
    }

    /// Somebody dialled a master that does not lead.
    fn send_away(&mut self, ctx: &mut Ctx<'_>, conn: Conn, payload: &Payload) {
        if let Payload::Submit { id, .. } = payload {
            let result = Err(CallError::NotLeader {
                leader: self.leader.clone(),
            });
            ctx.send(conn, Side::Server, Payload::Done { id: *id, result });
            return;
        }
        let reason = CloseReason::NotLeader {
            leader: self.leader.clone(),
        };
        ctx.send(conn, Side::Server, Payload::Closed(reason));
        ctx.close(conn, Side::Server);
    }
}

/// The offers that an accept names.
fn offers_of(input: &Input) -> Vec<String> {
    match input {
        Input::Call { call, .. } => call
            .accept
            .iter()
            .flat_map(|accept| accept.offer_ids.iter().map(|offer| offer.value.clone()))
            .collect(),
        _ => Vec::new(),
    }
}

fn is_launch(output: &Output) -> bool {
    matches!(output, Output::ToAgent { message, .. }
        if matches!(message.body, Some(link::master_message::Body::RunTask(_))))
}

/// What a master says about itself.
fn info(name: &str, id: String) -> v1::MasterInfo {
    v1::MasterInfo {
        id,
        ip: 16_777_343,
        port: 5050,
        hostname: Some(name.to_owned()),
        address: Some(v1::Address {
            hostname: Some(name.to_owned()),
            ip: Some("127.0.0.1".to_owned()),
            port: 5050,
        }),
        ..v1::MasterInfo::default()
    }
}

impl Process for Master {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let mut contender = (self.make_contender)(self.seeds.next_u64());
        let told = contender.start(ctx);
        self.contender = Some(contender);
        self.told(ctx, told);
    }

    fn message(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side, payload: Payload) {
        if let Some(contender) = self.contender.as_mut().filter(|it| it.owns(conn)) {
            let told = contender.message(ctx, payload);
            return self.told(ctx, told);
        }
        let Some(reign) = self.reign.as_mut().filter(|reign| !reign.suspended) else {
            return self.send_away(ctx, conn, &payload);
        };
        let id = ConnId(conn.0);
        let input = match payload {
            Payload::Agent(message) => {
                reign.peers.insert(conn, Peer::Agent);
                Input::Agent { conn: id, message }
            }
            Payload::Subscribe(call) => {
                reign.peers.insert(conn, Peer::Scheduler);
                Input::Subscribe {
                    conn: id,
                    principal: None,
                    stream_id: None,
                    call,
                }
            }
            Payload::Submit { id, stream, call } => {
                reign.next_request += 1;
                let request = RequestId(reign.next_request);
                reign.requests.insert(request, (conn, id));
                let stream_id = Some(stream.as_str().to_owned());
                Input::Call {
                    request,
                    principal: None,
                    stream_id,
                    call,
                }
            }
            _ => return,
        };
        self.feed(ctx, input);
    }

    fn broken(&mut self, ctx: &mut Ctx<'_>, conn: Conn, _side: Side) {
        if let Some(contender) = self.contender.as_mut().filter(|it| it.owns(conn)) {
            let told = contender.broken(ctx);
            return self.told(ctx, told);
        }
        let peer = self
            .reign
            .as_mut()
            .and_then(|reign| reign.peers.remove(&conn));
        match peer {
            Some(Peer::Agent) => self.feed(
                ctx,
                Input::AgentGone {
                    conn: ConnId(conn.0),
                },
            ),
            Some(Peer::Scheduler) => self.feed(
                ctx,
                Input::SchedulerGone {
                    conn: ConnId(conn.0),
                },
            ),
            None => {}
        }
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(contender) = &mut self.contender {
            let told = contender.wake(ctx);
            self.told(ctx, told);
        }
        self.feed(ctx, Input::Tick);
    }

    fn local(&mut self, _ctx: &mut Ctx<'_>, _what: Local) {}

    fn crash(&mut self, _ctx: &mut Ctx<'_>) {
        self.contender = None;
        self.leader = None;
        self.granted = None;
        self.reign = None;
    }

    fn next_deadline(&self) -> Option<Millis> {
        let reign = self.reign.as_ref().filter(|reign| !reign.suspended);
        let core = reign.and_then(|reign| reign.core.next_deadline());
        let contender = self.contender.as_ref().and_then(Coord::next_deadline);
        [core, contender].into_iter().flatten().min()
    }

    fn check(&self) -> Result<(), String> {
        self.reign
            .as_ref()
            .map_or(Ok(()), |reign| reign.core.check_invariants())
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn as_any_ref(&self) -> &dyn std::any::Any {
        self
    }
}
