//! The simulated cluster: one queue of happenings in virtual time, and what each of them does.

mod cluster;
mod framework;
mod wires;

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

#[allow(clippy::large_enum_variant)] // few are planned at a time
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

    /// Whether a fault waited for this moment; it comes now.
    pub(in crate::testing) fn springs(&mut self, kind: Fault) -> bool {
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
