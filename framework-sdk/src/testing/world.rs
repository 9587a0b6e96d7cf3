//! The simulated cluster: one queue of happenings in virtual time, and what each of them does.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::ids::{AgentId, StreamId, TaskId};
use mezzo_model::resources::Resources;
use mezzo_model::rng::Rng;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Call, Event, call};

use super::agent::{Known, Machine, Order};
use super::faults::{Fault, Profile};
use super::master::{Effect, Master, Registry};
use super::process::{Act, Process, Queue, SimStore, StoreAnswer, StoreWork};
use super::trace::Trace;
use crate::framework::Scheduler;
use crate::framework::core::FrameworkInput;
use crate::scheduler::core::{
    CallError, CallId, CloseReason, ConnectionId, DriverInput, DriverOutput, Leader,
};
use crate::scheduler::{DriverConfig, SchedulerEvent};

/// From master to driver.
#[derive(Debug)]
pub(super) enum Down {
    Accepted,
    Event(Box<Event>),
    CallDone {
        call: CallId,
        result: Result<(), CallError>,
    },
    Closed,
}

/// From driver to master.
#[derive(Debug)]
pub(super) enum Up {
    Subscribe(Box<Call>),
    Call { id: CallId, call: Box<Call> },
    Hangup,
}

/// From agent to master.
#[derive(Debug)]
pub(super) enum Report {
    Hello(Vec<Known>),
    Update(Box<v1::TaskStatus>),
    Forgotten(TaskId),
}

/// Who asked to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sleeper {
    Process(u64),
    Master(u64),
    Machine(u32),
}

#[derive(Debug)]
pub(super) enum Happening {
    Start,
    Wake {
        sleeper: Sleeper,
    },
    Deliver {
        process: u64,
        event: SchedulerEvent,
    },
    News {
        process: u64,
    },
    Down {
        channel: u64,
        message: Down,
    },
    Up {
        channel: u64,
        message: Up,
    },
    Store {
        process: u64,
        work: StoreWork,
    },
    Stored {
        process: u64,
        answer: StoreAnswer,
    },
    Elect,
    Dial {
        machine: u32,
    },
    MachineUp {
        machine: u32,
    },
    Report {
        link: u64,
        report: Report,
    },
    Order {
        link: u64,
        order: Order,
    },
    /// Both ends learn that a link is no more.
    LinkGone {
        link: u64,
        machine: u32,
        reign: u64,
    },
    Reachable {
        machine: u32,
    },
    Fault(Fault),
    Heal,
}

/// A connection between a driver and a master.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) process: u64,
    pub(super) connection: ConnectionId,
    pub(super) reign: u64,
    /// The driver's end is open.
    pub(super) below: bool,
    /// The master's end is open.
    pub(super) above: bool,
    pub(super) silent: bool,
    last_up: u64,
    last_down: u64,
}

/// A link between an agent and a master.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) machine: u32,
    pub(super) reign: u64,
    pub(super) alive: bool,
    last_up: u64,
    last_down: u64,
}

pub(super) struct World<'a, S> {
    pub(super) now: u64,
    pub(super) queue: Queue<Happening>,
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) config: DriverConfig,
    pub(super) make: &'a dyn Fn() -> S,
    pub(super) process: Option<Process<S>>,
    pub(super) incarnations: u64,
    pub(super) store: SimStore,
    pub(super) registry: Registry,
    pub(super) master: Option<Master>,
    pub(super) reigns: u64,
    pub(super) machines: BTreeMap<u32, Machine>,
    pub(super) channels: BTreeMap<u64, Channel>,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) connections: u64,
    /// Faults that wait for their moment.
    pub(super) ambushes: BTreeSet<Fault>,
    pub(super) healed_at: Option<u64>,
    pub(super) fired: BTreeMap<Fault, u64>,
    pub(super) starts: BTreeMap<TaskId, u32>,
    pub(super) wrong: Option<String>,
    pub(super) service: Service,
    wakes: BTreeSet<(u64, Sleeper)>,
}

/// How much of what was wanted ran, over time.
#[derive(Debug, Default)]
pub(super) struct Service {
    pub(super) begun: bool,
    pub(super) ran: u64,
    pub(super) wanted: u64,
    last_wanted: usize,
}

impl<'a, S: Scheduler> World<'a, S> {
    pub(super) fn new(
        seed: u64,
        profile: &Profile,
        config: DriverConfig,
        make: &'a dyn Fn() -> S,
    ) -> Self {
        let rng = Rng::new(seed).split("world");
        let mut world = Self {
            now: 1_000,
            queue: Queue::new(),
            trace: Trace::new(),
            config,
            make,
            process: None,
            incarnations: 0,
            store: SimStore::default(),
            registry: Registry::default(),
            master: None,
            reigns: 0,
            machines: BTreeMap::new(),
            channels: BTreeMap::new(),
            links: BTreeMap::new(),
            connections: 0,
            ambushes: BTreeSet::new(),
            healed_at: None,
            fired: BTreeMap::new(),
            starts: BTreeMap::new(),
            wrong: None,
            service: Service::default(),
            wakes: BTreeSet::new(),
            rng,
        };
        for _ in 0..profile.machines {
            world.add_machine();
        }
        world.queue.plan(1_000, Happening::Elect);
        world.queue.plan(1_000, Happening::Start);
        let mut faults = Rng::new(seed).split("faults");
        for _ in 0..profile.faults {
            if let Some(kind) = faults.pick(&profile.kinds) {
                let at = 3_000 + faults.below(profile.turbulence_ms);
                world.queue.plan(at, Happening::Fault(*kind));
            }
        }
        world
            .queue
            .plan(3_000 + profile.turbulence_ms, Happening::Heal);
        world
    }

    pub(super) fn add_machine(&mut self) {
        let number = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let total = Resources::parse("cpus:4;mem:4096;disk:10000;ports:[31000-31099]")
            .expect("the resources of a simulated machine");
        let machine = Machine::new(number, total, self.rng.split(&format!("machine {number}")));
        self.machines.insert(number, machine);
        let at = self.now + self.rng.below(200);
        self.queue.plan(at, Happening::Dial { machine: number });
    }

    /// Whether a fault waited for this moment; it comes now.
    fn springs(&mut self, kind: Fault) -> bool {
        let springs = self.ambushes.remove(&kind);
        if springs {
            *self.fired.entry(kind).or_insert(0) += 1;
            self.trace.line(self.now, format_args!("FAULT {kind}"));
        }
        springs
    }

    pub(super) fn violate(&mut self, what: String) {
        if self.wrong.is_none() {
            self.wrong = Some(what);
        }
    }

    fn latency(&mut self) -> u64 {
        if self.rng.chance(100) {
            self.rng.between(50, 400)
        } else {
            self.rng.between(1, 12)
        }
    }

    pub(super) fn send_down(&mut self, channel: u64, message: Down) {
        let at = self.now + self.latency();
        let Some(wire) = self.channels.get_mut(&channel) else {
            return;
        };
        wire.last_down = wire.last_down.max(at);
        self.queue
            .plan(wire.last_down, Happening::Down { channel, message });
    }

    pub(super) fn send_up(&mut self, channel: u64, message: Up) {
        let at = self.now + self.latency();
        let Some(wire) = self.channels.get_mut(&channel) else {
            return;
        };
        wire.last_up = wire.last_up.max(at);
        self.queue
            .plan(wire.last_up, Happening::Up { channel, message });
    }

    fn send_report(&mut self, machine: u32, report: Report) {
        let at = self.now + self.latency();
        let Some(link) = self.machines.get(&machine).and_then(|machine| machine.link) else {
            return;
        };
        if let Some(wire) = self.links.get_mut(&link).filter(|wire| wire.alive) {
            wire.last_up = wire.last_up.max(at);
            self.queue
                .plan(wire.last_up, Happening::Report { link, report });
        }
    }

    fn send_order(&mut self, machine: u32, order: Order) {
        let at = self.now + self.latency();
        let Some(link) = self.machines.get(&machine).and_then(|machine| machine.link) else {
            return;
        };
        let reign = self.reigns;
        let usable = |wire: &&mut Link| wire.alive && wire.reign == reign;
        let Some(wire) = self.links.get_mut(&link).filter(usable) else {
            return;
        };
        wire.last_down = wire.last_down.max(at);
        let at = wire.last_down;
        if matches!(order, Order::Run(_)) && self.springs(Fault::DropLaunch) {
            self.trace.line(
                self.now,
                format_args!("the launch is lost on its way to {machine}"),
            );
            self.break_link(link, 1, 50);
            return;
        }
        self.queue.plan(at, Happening::Order { link, order });
    }

    /// Breaks a link; both ends learn of it after a while.
    pub(super) fn break_link(&mut self, link: u64, soonest: u64, latest: u64) {
        let Some(wire) = self.links.get_mut(&link).filter(|wire| wire.alive) else {
            return;
        };
        wire.alive = false;
        let (machine, reign) = (wire.machine, wire.reign);
        let at = self.now + self.rng.between(soonest, latest);
        self.queue.plan(
            at,
            Happening::LinkGone {
                link,
                machine,
                reign,
            },
        );
    }

    /// One happening; false when nothing is planned any more.
    pub(super) fn step(&mut self) -> bool {
        let Some((at, happening)) = self.queue.next() else {
            return false;
        };
        self.account(at);
        self.now = at;
        self.dispatch(happening);
        self.after();
        true
    }

    fn dispatch(&mut self, happening: Happening) {
        match happening {
            Happening::Start => self.start_framework(),
            Happening::Wake { sleeper } => self.wake(sleeper),
            Happening::Deliver { process, event } => self.on_deliver(process, event),
            Happening::News { process } => {
                if self.is_current(process) {
                    let leader = self.leader();
                    self.driver_takes(DriverInput::Leader(leader));
                }
            }
            Happening::Down { channel, message } => self.on_down(channel, message),
            Happening::Up { channel, message } => self.on_up(channel, message),
            Happening::Store { process, work } => self.on_store(process, work),
            Happening::Stored { process, answer } => self.on_stored(process, answer),
            Happening::Elect => self.elect(),
            Happening::Dial { machine } => self.dial(machine),
            Happening::MachineUp { machine } => {
                if let Some(found) = self.machines.get_mut(&machine) {
                    found.up = true;
                    self.queue.plan(self.now, Happening::Dial { machine });
                }
            }
            Happening::Report { link, report } => self.on_report(link, report),
            Happening::Order { link, order } => self.on_order(link, order),
            Happening::LinkGone {
                link,
                machine,
                reign,
            } => self.on_link_gone(link, machine, reign),
            Happening::Reachable { machine } => {
                if let Some(found) = self.machines.get_mut(&machine) {
                    found.partitioned = false;
                }
            }
            Happening::Fault(kind) => self.fault(kind),
            Happening::Heal => self.heal(),
        }
    }

    /// What every happening may have caused: effects of the master, timers, a broken rule.
    fn after(&mut self) {
        if let Some(master) = &mut self.master {
            // Offers follow whatever changed, as in an event-driven allocator.
            master.tick(self.now, &mut self.registry);
            if let Some(agent) = master.overcommitted() {
                let words = format!("{agent} was given twice");
                self.violate(words);
            }
        }
        let effects = self
            .master
            .as_mut()
            .map(|master| std::mem::take(&mut master.effects));
        for effect in effects.unwrap_or_default() {
            match effect {
                Effect::Tell { channel, event } => {
                    self.trace
                        .line(self.now, format_args!("master tells {}", told(&event)));
                    self.send_down(channel, Down::Event(event));
                }
                Effect::Hang { channel } => self.send_down(channel, Down::Closed),
                Effect::Order { machine, order } => self.send_order(machine, order),
            }
        }
        if let Some(master) = &self.master
            && let Some(at) = master.next_deadline(&self.registry)
        {
            let sleeper = Sleeper::Master(master.reign);
            self.plan_wake(at, sleeper);
        }
        if let Some(process) = &self.process
            && let Some(at) = process.next_deadline()
        {
            let sleeper = Sleeper::Process(process.incarnation);
            self.plan_wake(at, sleeper);
        }
    }

    /// Plans to wake somebody, once for one instant.
    fn plan_wake(&mut self, at: u64, sleeper: Sleeper) {
        let at = at.max(self.now + 1);
        if self.wakes.insert((at, sleeper)) {
            self.queue.plan(at, Happening::Wake { sleeper });
        }
    }

    fn wake(&mut self, sleeper: Sleeper) {
        self.wakes.remove(&(self.now, sleeper));
        match sleeper {
            Sleeper::Process(process) => {
                if self.is_current(process) {
                    self.with_process(|process, now, acts| process.wake(now, acts));
                }
            }
            // Its time is looked at after every happening.
            Sleeper::Master(_) => {}
            Sleeper::Machine(machine) => {
                self.with_machine(machine, |machine, now, out| machine.tick(now, out));
            }
        }
    }

    pub(super) fn is_current(&self, process: u64) -> bool {
        self.process
            .as_ref()
            .is_some_and(|one| one.incarnation == process)
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.master.as_ref().map(|master| Leader {
            address: format!("m{}:5050", master.reign % 3),
            id: format!("reign-{}", master.reign),
        })
    }

    fn start_framework(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.incarnations += 1;
        let kept = match self.store.kept() {
            Ok(kept) => kept,
            Err(words) => return self.violate(words),
        };
        self.trace.line(
            self.now,
            format_args!(
                "framework starts (process {}, {} launches kept)",
                self.incarnations,
                kept.launches.len()
            ),
        );
        let scheduler = (self.make)();
        let seed = self.rng.next_u64();
        let process = Process::new(
            self.incarnations,
            self.config.clone(),
            kept,
            scheduler,
            seed,
        );
        self.process = Some(process);
        let leader = self.leader();
        self.driver_takes(DriverInput::Leader(leader));
    }

    pub(super) fn driver_takes(&mut self, input: DriverInput) {
        self.with_process(|process, now, acts| process.driver_takes(now, input, acts));
    }

    fn with_process(&mut self, f: impl FnOnce(&mut Process<S>, u64, &mut Vec<Act>)) {
        let Some(process) = &mut self.process else {
            return;
        };
        let incarnation = process.incarnation;
        let mut acts = Vec::new();
        f(process, self.now, &mut acts);
        for act in acts {
            // It may have been killed by an ambush on the way.
            if self.is_current(incarnation) {
                self.carry_out(incarnation, act);
            }
        }
    }

    fn carry_out(&mut self, process: u64, act: Act) {
        match act {
            Act::Driver(DriverOutput::Subscribe {
                connection,
                address,
                call,
            }) => {
                self.open_channel(process, connection, &address, call);
            }
            Act::Driver(DriverOutput::Submit {
                connection,
                id,
                call,
                ..
            }) => {
                self.submit(process, connection, id, call);
            }
            Act::Driver(DriverOutput::Close { connection }) => {
                self.close_channels(|one| one.process == process && one.connection == connection);
            }
            Act::Driver(DriverOutput::SaveFrameworkId(id)) => {
                let at = self.now + self.rng.between(1, 5);
                let work = StoreWork::SaveId(id);
                self.queue.plan(at, Happening::Store { process, work });
            }
            Act::Driver(DriverOutput::Deliver(event)) => {
                let delay = self.rng.below(3);
                let Some(own) = &mut self.process else { return };
                own.last_delivery = own.last_delivery.max(self.now + delay);
                let at = own.last_delivery;
                self.queue.plan(at, Happening::Deliver { process, event });
            }
            Act::Driver(DriverOutput::Note { text, .. }) => {
                self.trace.line(self.now, format_args!("driver: {text}"));
            }
            Act::Driver(DriverOutput::Ended) => self.violate("the driver ended".to_owned()),
            Act::Commit { id, txn } => {
                let at = self.now + self.rng.between(1, 5);
                let work = StoreWork::Commit { id, txn };
                self.queue.plan(at, Happening::Store { process, work });
            }
            Act::Stop(why) => self.violate(format!("the framework stopped: {why}")),
        }
    }

    fn open_channel(
        &mut self,
        process: u64,
        connection: ConnectionId,
        address: &str,
        call: Box<Call>,
    ) {
        self.connections += 1;
        let channel = self.connections;
        let there = self
            .leader()
            .is_some_and(|leader| leader.address == address);
        let reign = self.reigns;
        self.channels.insert(
            channel,
            Channel {
                process,
                connection,
                reign,
                below: true,
                above: there,
                silent: false,
                last_up: 0,
                last_down: 0,
            },
        );
        self.trace.line(
            self.now,
            format_args!("driver subscribes at {address} (channel {channel})"),
        );
        if there {
            self.send_up(channel, Up::Subscribe(call));
        } else {
            self.send_down(channel, Down::Closed);
        }
    }

    fn submit(&mut self, process: u64, connection: ConnectionId, id: CallId, call: Box<Call>) {
        let found = self
            .channels
            .iter()
            .find(|(_, one)| one.below && one.process == process && one.connection == connection);
        let Some(channel) = found.map(|(channel, _)| *channel) else {
            return;
        };
        self.trace
            .line(self.now, format_args!("framework calls {}", asked(&call)));
        let is_accept = call.r#type() == call::Type::Accept;
        self.send_up(channel, Up::Call { id, call });
        if is_accept && self.springs(Fault::KillFrameworkAfterAccept) {
            self.kill_framework();
        }
    }

    /// The driver's ends of channels close.
    pub(super) fn close_channels(&mut self, which: impl Fn(&Channel) -> bool) {
        let open: Vec<u64> = self
            .channels
            .iter()
            .filter(|(_, one)| one.below && which(one))
            .map(|(channel, _)| *channel)
            .collect();
        for channel in open {
            if let Some(wire) = self.channels.get_mut(&channel) {
                wire.below = false;
            }
            self.send_up(channel, Up::Hangup);
        }
        self.channels.retain(|_, one| one.below || one.above);
    }

    fn on_deliver(&mut self, process: u64, event: SchedulerEvent) {
        if !self.is_current(process) {
            return;
        }
        if matches!(event, SchedulerEvent::Update { .. })
            && self.springs(Fault::KillFrameworkBeforeUpdate)
        {
            self.kill_framework();
            return;
        }
        if let SchedulerEvent::Update { status, .. } = &event {
            self.trace.line(
                self.now,
                format_args!(
                    "framework hears {} {}",
                    status.task_id.value,
                    status.state().as_str_name()
                ),
            );
        }
        self.with_process(|process, now, acts| process.framework_hears(now, event, acts));
    }

    fn on_down(&mut self, channel: u64, message: Down) {
        let Some(wire) = self.channels.get_mut(&channel).filter(|wire| wire.below) else {
            return;
        };
        if wire.silent && !matches!(message, Down::Closed) {
            return;
        }
        let (process, connection) = (wire.process, wire.connection);
        if matches!(message, Down::Closed) {
            wire.below = false;
            wire.above = false;
        }
        if !self.is_current(process) {
            return;
        }
        let input = match message {
            Down::Accepted => {
                let stream = StreamId::parse(&format!("stream-{channel}"));
                DriverInput::Accepted {
                    connection,
                    stream: stream.expect("a good id"),
                }
            }
            Down::Event(event) => DriverInput::Event { connection, event },
            Down::CallDone { call, result } => DriverInput::CallDone {
                connection,
                call,
                result,
            },
            Down::Closed => {
                let reason = CloseReason::Lost("closed".to_owned());
                DriverInput::Closed { connection, reason }
            }
        };
        self.driver_takes(input);
    }

    fn on_up(&mut self, channel: u64, message: Up) {
        let Some(wire) = self.channels.get_mut(&channel).filter(|wire| wire.above) else {
            return;
        };
        let Some(master) = self
            .master
            .as_mut()
            .filter(|master| master.reign == wire.reign)
        else {
            return;
        };
        if wire.silent {
            return;
        }
        match message {
            Up::Subscribe(call) => {
                self.send_down(channel, Down::Accepted);
                if let Some(master) = &mut self.master {
                    master.subscribe(self.now, channel, &call, &mut self.registry);
                }
            }
            Up::Call { id, call } if master.knows(channel) => {
                let is_accept = call.r#type() == call::Type::Accept;
                master.call(self.now, *call, &self.registry);
                if is_accept && self.springs(Fault::KillMasterAfterAccept) {
                    // Half of the time its orders were out already.
                    if self.rng.chance(2) {
                        self.after();
                    }
                    self.kill_master();
                    return;
                }
                self.send_down(
                    channel,
                    Down::CallDone {
                        call: id,
                        result: Ok(()),
                    },
                );
            }
            Up::Call { id, .. } => {
                let error = CallError::NotSubscribed("Framework is not subscribed".to_owned());
                self.send_down(
                    channel,
                    Down::CallDone {
                        call: id,
                        result: Err(error),
                    },
                );
            }
            Up::Hangup => {
                master.hung_up(channel);
                wire.above = false;
            }
        }
    }

    fn on_store(&mut self, process: u64, work: StoreWork) {
        let doubtful = self.rng.chance(2);
        // Of a process that died meanwhile the work may have arrived or not; of one that has a successor it is fenced.
        let alive = self.is_current(process);
        if !alive && (!doubtful || self.process.is_some()) {
            return;
        }
        let answer = self.store.work(self.now, work, doubtful);
        if !alive {
            return;
        }
        if matches!(answer, StoreAnswer::Committed { .. })
            && self.springs(Fault::KillFrameworkAfterCommit)
        {
            self.kill_framework();
            return;
        }
        let at = self.now + self.rng.between(1, 5);
        self.queue.plan(at, Happening::Stored { process, answer });
    }

    fn on_stored(&mut self, process: u64, answer: StoreAnswer) {
        if !self.is_current(process) {
            return;
        }
        match answer {
            StoreAnswer::IdSaved { id, result } => {
                self.driver_takes(DriverInput::FrameworkIdSaved { id, result });
            }
            StoreAnswer::Committed { id, result } => {
                let input = FrameworkInput::Committed { id, result };
                self.with_process(|process, now, acts| process.framework_takes(now, input, acts));
            }
        }
    }

    fn elect(&mut self) {
        if self.master.is_some() {
            return;
        }
        self.reigns += 1;
        self.trace.line(
            self.now,
            format_args!("master of reign {} is elected", self.reigns),
        );
        self.master = Some(Master::new(self.reigns, self.now));
        self.spread_news();
    }

    pub(super) fn spread_news(&mut self) {
        if let Some(process) = self.process.as_ref().map(|process| process.incarnation) {
            let at = self.now + self.rng.between(1, 500);
            self.queue.plan(at, Happening::News { process });
        }
    }

    fn dial(&mut self, number: u32) {
        let reign = self.reigns;
        let there = self.master.is_some();
        let later = self.now + self.rng.between(200, 1_500);
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        if machine.link.is_some() || !machine.up {
            return;
        }
        if machine.partitioned || !there {
            self.queue.plan(later, Happening::Dial { machine: number });
            return;
        }
        self.connections += 1;
        let link = self.connections;
        machine.link = Some(link);
        let known = machine.known();
        let wire = Link {
            machine: number,
            reign,
            alive: true,
            last_up: 0,
            last_down: 0,
        };
        self.links.insert(link, wire);
        self.send_report(number, Report::Hello(known));
    }

    fn on_report(&mut self, link: u64, report: Report) {
        let Some(wire) = self.links.get(&link).filter(|wire| wire.alive) else {
            return;
        };
        let number = wire.machine;
        let Some(master) = self
            .master
            .as_mut()
            .filter(|master| master.reign == wire.reign)
        else {
            return;
        };
        match report {
            Report::Hello(known) => {
                let Some(machine) = self.machines.get_mut(&number) else {
                    return;
                };
                let agent = machine.agent.get_or_insert_with(|| {
                    self.registry.issued += 1;
                    AgentId::parse(&format!("sim-S{}", self.registry.issued)).expect("a good id")
                });
                let line = format_args!("agent {agent} registers with {} tasks", known.len());
                self.trace.line(self.now, line);
                master.register(
                    self.now,
                    number,
                    agent,
                    &machine.total,
                    known,
                    &mut self.registry,
                );
            }
            Report::Update(status) => master.agent_update(*status),
            Report::Forgotten(task) => master.forget(&task),
        }
    }

    fn on_order(&mut self, link: u64, order: Order) {
        let Some(wire) = self.links.get(&link).filter(|wire| wire.alive) else {
            return;
        };
        let number = wire.machine;
        let acked = match &order {
            Order::Ack { task, .. } => Some(task.clone()),
            _ => None,
        };
        let started = match &order {
            Order::Run(task) => TaskId::from_wire(&task.task_id).ok(),
            _ => None,
        };
        let mut ran = false;
        self.with_machine(number, |machine, now, out| {
            ran = machine.take(now, order, out)
        });
        if let Some(task) = started.filter(|_| ran) {
            self.trace
                .line(self.now, format_args!("machine {number} starts {task}"));
            let times = self.starts.entry(task.clone()).or_insert(0);
            *times += 1;
            if *times > 1 {
                self.violate(format!("{task} was started twice"));
            }
        }
        if let Some(task) = acked
            && self
                .machines
                .get(&number)
                .is_some_and(|machine| !machine.knows(&task))
        {
            self.send_report(number, Report::Forgotten(task));
        }
    }

    pub(super) fn with_machine<T>(
        &mut self,
        number: u32,
        f: impl FnOnce(&mut Machine, u64, &mut Vec<v1::TaskStatus>) -> T,
    ) -> Option<T> {
        let machine = self.machines.get_mut(&number)?;
        let mut out = Vec::new();
        let result = f(machine, self.now, &mut out);
        let next = machine.next_deadline();
        for status in out {
            self.send_report(number, Report::Update(Box::new(status)));
        }
        if let Some(at) = next {
            self.plan_wake(at, Sleeper::Machine(number));
        }
        Some(result)
    }

    fn on_link_gone(&mut self, link: u64, number: u32, reign: u64) {
        self.links.remove(&link);
        if let Some(machine) = self.machines.get_mut(&number)
            && machine.link == Some(link)
        {
            machine.link = None;
            let at = self.now + self.rng.between(20, 1_000);
            self.queue.plan(at, Happening::Dial { machine: number });
            if let Some(master) = self.master.as_mut().filter(|master| master.reign == reign) {
                master.agent_away(self.now, number);
            }
        }
    }

    pub(super) fn running(&self) -> Vec<TaskId> {
        self.machines
            .values()
            .flat_map(|machine| machine.running().cloned())
            .collect()
    }

    /// Counts the time up to `at` as served or not.
    fn account(&mut self, at: u64) {
        if self.healed_at.is_some() {
            return;
        }
        let wanted = match &self.process {
            Some(process) => process.framework.scheduler().wanted(),
            None => None,
        };
        let wanted = wanted.unwrap_or(self.service.last_wanted) as u64;
        self.service.last_wanted = wanted as usize;
        let running: u64 = self
            .machines
            .values()
            .map(|machine| machine.running().count() as u64)
            .sum();
        if self.service.begun {
            let span = at - self.now;
            self.service.ran += running.min(wanted) * span;
            self.service.wanted += wanted * span;
        } else if wanted > 0 && running >= wanted {
            self.service.begun = true;
        }
    }
}

fn told(event: &Event) -> String {
    let kind = event.r#type().as_str_name();
    match (&event.update, &event.offers) {
        (Some(update), _) => {
            let status = &update.status;
            format!(
                "{kind} {} {}",
                status.task_id.value,
                status.state().as_str_name()
            )
        }
        (_, Some(offers)) => format!("{kind} {}", offers.offers.len()),
        _ => kind.to_owned(),
    }
}

fn asked(call: &Call) -> String {
    let kind = call.r#type().as_str_name();
    let task = call.kill.as_ref().map(|kill| &kill.task_id);
    let task = task.or(call.acknowledge.as_ref().map(|ack| &ack.task_id));
    match (task, &call.accept, &call.reconcile) {
        (Some(task), ..) => format!("{kind} {}", task.value),
        (_, Some(accept), _) => {
            let launches = accept
                .operations
                .iter()
                .flat_map(|operation| &operation.launch);
            let tasks: Vec<&str> = launches
                .flat_map(|launch| &launch.task_infos)
                .map(|task| task.task_id.value.as_str())
                .collect();
            format!("{kind} {}", tasks.join(" "))
        }
        (_, _, Some(reconcile)) => format!("{kind} {}", reconcile.tasks.len()),
        _ => kind.to_owned(),
    }
}
