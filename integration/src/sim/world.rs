//! The world of a simulation: time, the network, every process, and who is woken when.
//!
//! A process of the simulation is a core of the product and the least shell around it. The world hands it what arrives,
//! one thing at a time, and carries out what it sends; it looks into no message. Whatever is random comes from the
//! seed.

use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now, Wall};

use super::bugs::Bugs;
use super::net::{Arrival, Conn, Host, Life, Net, Side};
use super::oracle::Oracle;
use super::payload::{Local, Payload};
use super::queue::Queue;
use super::trace::Trace;

/// Virtual time begins here on the wall clock (an arbitrary day).
const EPOCH_MS: u64 = 1_790_000_000_000;

/// The longest step that a process may plan at one instant before the world calls it a livelock.
const SAME_INSTANT_MAX: u32 = 20_000;

/// What is planned.
#[derive(Debug)]
pub enum Event {
    /// Something arrives over the network.
    Arrive(Arrival<Payload>),
    /// A process asked to be woken.
    Wake {
        /// Which process.
        host: Host,
        /// In which life it asked.
        life: Life,
        /// The deadline that it gave, to drop the ones it no longer cares for.
        at: Millis,
    },
    /// Something on a machine itself: a disk, a container, a store.
    Local {
        /// Which process is told.
        host: Host,
        /// In which life; containers speak to whichever life there is.
        life: Option<Life>,
        /// What.
        what: Local,
    },
    /// The next fault of the plan.
    Fault(usize),
    /// The next step of the workload.
    Work(usize),
    /// Whether a step of the workload was answered; if not, it is asked again.
    Again(usize, u64),
    /// A leader that was told to stop has had its time: the process ends.
    Resigned(Host),
    /// A process that crashed comes back.
    Revive(Host),
}

/// What every process is handed besides its own state.
pub struct Ctx<'a> {
    /// The time, by the process's own wall clock.
    pub now: Now,
    /// Who this is.
    pub host: Host,
    /// In which life.
    pub life: Life,
    queue: &'a mut Queue<Event>,
    net: &'a mut Net<Payload>,
    lives: &'a [Life],
    up: &'a [bool],
    /// Random numbers of the environment (disks, payloads), not of any core.
    pub rng: &'a mut Rng,
    /// What is checked.
    pub oracle: &'a mut Oracle,
    /// Which planted bugs are on.
    pub bugs: &'a Bugs,
    /// What is written down.
    pub trace: &'a mut Trace,
}

impl Ctx<'_> {
    /// Opens a connection; `None` if nobody listens there or a cut lies between.
    pub fn connect(&mut self, to: Host) -> Option<Conn> {
        if !self.up.get(to as usize).copied().unwrap_or(false) {
            return None;
        }
        let life = self.lives[to as usize];
        self.net.connect((self.host, self.life), (to, life))
    }

    /// Sends over a connection.
    pub fn send(&mut self, conn: Conn, from: Side, payload: Payload) {
        if let Some((at, arrival)) = self.net.send(self.now.mono, conn, from, payload) {
            self.queue.at(at, Event::Arrive(arrival));
        }
    }

    /// Closes this end of a connection.
    pub fn close(&mut self, conn: Conn, side: Side) {
        if let Some((at, arrival)) = self.net.close(self.now.mono, conn, side) {
            self.queue.at(at, Event::Arrive(arrival));
        }
    }

    /// Plans something local to this life of the process.
    pub fn later(&mut self, delay_ms: u64, what: Local) {
        let event = Event::Local {
            host: self.host,
            life: Some(self.life),
            what,
        };
        self.queue.after(delay_ms, event);
    }

    /// Plans something that happens on the machine whatever becomes of the process.
    pub fn on_machine(&mut self, delay_ms: u64, what: Local) {
        self.queue.after(
            delay_ms,
            Event::Local {
                host: self.host,
                life: None,
                what,
            },
        );
    }

    /// Writes a step down.
    pub fn note(&mut self, who: &str, what: std::fmt::Arguments<'_>) {
        self.trace.step(self.now.mono.0, who, what);
    }
}

/// A process of the simulation.
pub trait Process {
    /// Its name in traces.
    fn name(&self) -> &str;
    /// A life begins.
    fn start(&mut self, ctx: &mut Ctx<'_>);
    /// A message arrived at this process's end of a connection. A connection that is not known yet was just accepted.
    fn message(&mut self, ctx: &mut Ctx<'_>, conn: Conn, side: Side, payload: Payload);
    /// A connection is gone.
    fn broken(&mut self, ctx: &mut Ctx<'_>, conn: Conn, side: Side);
    /// A deadline has come.
    fn wake(&mut self, ctx: &mut Ctx<'_>);
    /// Something on its own machine happened.
    fn local(&mut self, ctx: &mut Ctx<'_>, what: Local);
    /// The life ends without a word; only what is on disk stays.
    fn crash(&mut self, ctx: &mut Ctx<'_>);
    /// When it wants to be woken.
    fn next_deadline(&self) -> Option<Millis>;
    /// What must hold inside it at any time.
    ///
    /// # Errors
    /// What does not.
    fn check(&self) -> Result<(), String>;
    /// The process as what it is, for the workload and for checks across processes.
    fn as_any(&mut self) -> &mut dyn std::any::Any;
    /// The same for looking.
    fn as_any_ref(&self) -> &dyn std::any::Any;
}

struct Slot {
    process: Box<dyn Process>,
    armed: Option<Millis>,
    /// The wall clock of its machine, ahead of the world's by so much.
    skew_ms: i64,
}

/// All of it.
pub struct World {
    /// What is planned.
    pub queue: Queue<Event>,
    /// The network.
    pub net: Net<Payload>,
    /// What is checked.
    pub oracle: Oracle,
    /// What was done.
    pub trace: Trace,
    /// Planted bugs.
    pub bugs: Bugs,
    slots: Vec<Slot>,
    lives: Vec<Life>,
    up: Vec<bool>,
    rng: Rng,
    same_instant: (Millis, u32),
}

impl World {
    /// An empty world.
    pub fn new(rng: &Rng, bugs: Bugs) -> Self {
        Self {
            queue: Queue::default(),
            net: Net::new(rng.split("network")),
            oracle: Oracle::default(),
            trace: Trace::default(),
            bugs,
            slots: Vec::new(),
            lives: Vec::new(),
            up: Vec::new(),
            rng: rng.split("environment"),
            same_instant: (Millis(0), 0),
        }
    }

    /// Adds a process, not yet started.
    pub fn add(&mut self, process: Box<dyn Process>) -> Host {
        self.slots.push(Slot {
            process,
            armed: None,
            skew_ms: 0,
        });
        self.lives.push(0);
        self.up.push(false);
        Host::try_from(self.slots.len() - 1).unwrap_or(Host::MAX)
    }

    /// Whether a process lives.
    pub fn is_up(&self, host: Host) -> bool {
        self.up[host as usize]
    }

    /// How many processes there are.
    pub fn hosts(&self) -> Host {
        Host::try_from(self.slots.len()).unwrap_or(Host::MAX)
    }

    /// Starts a process that is down.
    pub fn start(&mut self, host: Host) {
        if !self.up[host as usize] {
            self.up[host as usize] = true;
            self.with(host, |process, ctx| process.start(ctx));
        }
    }

    /// Ends a process without a word, if it is up.
    pub fn crash(&mut self, host: Host) {
        let at = host as usize;
        if !std::mem::replace(&mut self.up[at], false) {
            return;
        }
        self.lives[at] += 1;
        self.slots[at].armed = None;
        let name = self.slots[at].process.name().to_owned();
        self.trace
            .step(self.queue.now().0, &name, format_args!("crashes"));
        self.with(host, |process, ctx| process.crash(ctx));
        for (when, arrival) in self.net.crash(self.queue.now(), host) {
            self.queue.at(when, Event::Arrive(arrival));
        }
    }

    /// Moves the wall clock of a machine; its monotonic clock goes on.
    pub fn step_clock(&mut self, host: Host, by_ms: i64) {
        self.slots[host as usize].skew_ms += by_ms;
    }

    /// Lets a process do something and carries out what follows.
    pub fn with<R>(
        &mut self,
        host: Host,
        act: impl FnOnce(&mut dyn Process, &mut Ctx<'_>) -> R,
    ) -> R {
        let at = host as usize;
        let mono = self.queue.now();
        let slot = &mut self.slots[at];
        let wall = Wall((EPOCH_MS + mono.0).saturating_add_signed(slot.skew_ms));
        let mut ctx = Ctx {
            now: Now { mono, wall },
            host,
            life: self.lives[at],
            queue: &mut self.queue,
            net: &mut self.net,
            lives: &self.lives,
            up: &self.up,
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            bugs: &self.bugs,
            trace: &mut self.trace,
        };
        let result = act(&mut *slot.process, &mut ctx);
        self.arm(host);
        result
    }

    /// A process as what it is.
    pub fn see<P: 'static>(&self, host: Host) -> Option<&P> {
        self.slots
            .get(host as usize)?
            .process
            .as_any_ref()
            .downcast_ref()
    }

    fn arm(&mut self, host: Host) {
        let at = host as usize;
        let now = self.queue.now();
        let deadline = self.slots[at]
            .process
            .next_deadline()
            .map(|due| due.max(now));
        let slot = &mut self.slots[at];
        match (deadline, slot.armed) {
            (None, _) => {}
            // An earlier wake is planned already; it will look again.
            (Some(due), Some(armed)) if armed <= due && armed >= now => {}
            (Some(due), _) => {
                // A process that is woken and still wants to be woken now gets the next millisecond: time must move.
                let due = if due <= now { Millis(now.0 + 1) } else { due };
                slot.armed = Some(due);
                self.queue.at(
                    due,
                    Event::Wake {
                        host,
                        life: self.lives[at],
                        at: due,
                    },
                );
            }
        }
    }

    /// Carries out one event that concerns a process.
    ///
    /// # Errors
    /// If nothing but this instant seems to exist any more, or a check inside the process failed.
    pub fn step(&mut self, event: Event) -> Result<(), String> {
        let now = self.queue.now();
        if self.same_instant.0 == now {
            self.same_instant.1 += 1;
            if self.same_instant.1 > SAME_INSTANT_MAX {
                return Err(format!(
                    "{SAME_INSTANT_MAX} events at {} ms: a livelock",
                    now.0
                ));
            }
        } else {
            self.same_instant = (now, 0);
        }
        match event {
            Event::Arrive(arrival) => self.arrive(arrival),
            Event::Wake { host, life, at } => self.woken(host, life, at),
            Event::Local { host, life, what } => {
                let alive = self.up[host as usize]
                    && life.is_none_or(|life| life == self.lives[host as usize]);
                if alive || life.is_none() {
                    return self.with_check(host, |process, ctx| process.local(ctx, what));
                }
                Ok(())
            }
            Event::Revive(host) => {
                self.start(host);
                Ok(())
            }
            Event::Fault(_) | Event::Work(_) | Event::Again(..) | Event::Resigned(_) => Ok(()),
        }
    }

    fn arrive(&mut self, arrival: Arrival<Payload>) -> Result<(), String> {
        match arrival {
            Arrival::Message {
                conn,
                side,
                payload,
            } => match self.net.end(conn, side) {
                Some((host, life))
                    if self.up[host as usize] && self.lives[host as usize] == life =>
                {
                    self.with_check(host, |process, ctx| {
                        process.message(ctx, conn, side, payload)
                    })
                }
                _ => Ok(()),
            },
            Arrival::Broken { conn, side } => {
                let end = self.net.end(conn, side);
                let believed = self.net.learn_broken(conn, side);
                match end {
                    Some((host, life))
                        if believed
                            && self.up[host as usize]
                            && self.lives[host as usize] == life =>
                    {
                        self.with_check(host, |process, ctx| process.broken(ctx, conn, side))
                    }
                    _ => Ok(()),
                }
            }
            Arrival::KeepAlive { conn, since } => {
                for (at, arrival) in self.net.keep_alive(self.queue.now(), conn, since) {
                    self.queue.at(at, Event::Arrive(arrival));
                }
                Ok(())
            }
        }
    }

    fn woken(&mut self, host: Host, life: Life, at: Millis) -> Result<(), String> {
        let slot = &mut self.slots[host as usize];
        if !self.up[host as usize] || self.lives[host as usize] != life || slot.armed != Some(at) {
            return Ok(());
        }
        slot.armed = None;
        let due = slot
            .process
            .next_deadline()
            .is_some_and(|due| due <= self.queue.now());
        if due {
            return self.with_check(host, |process, ctx| process.wake(ctx));
        }
        self.arm(host);
        Ok(())
    }

    fn with_check(
        &mut self,
        host: Host,
        act: impl FnOnce(&mut dyn Process, &mut Ctx<'_>),
    ) -> Result<(), String> {
        self.with(host, act);
        let process = &self.slots[host as usize].process;
        process
            .check()
            .map_err(|words| format!("{}: {words}", process.name()))?;
        self.oracle.verdict()
    }

    /// Heals the network, and what waited arrives.
    pub fn heal(&mut self) {
        for (at, arrival) in self.net.heal(self.queue.now()) {
            self.queue.at(at, Event::Arrive(arrival));
        }
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: Host, to: Host) {
        for (at, arrival) in self.net.cut(self.queue.now(), from, to) {
            self.queue.at(at, Event::Arrive(arrival));
        }
    }
}
