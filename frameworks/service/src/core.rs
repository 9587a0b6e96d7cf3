//! The service framework as a pure machine: inputs in, outputs out, time and randomness handed in.
//!
//! It holds what is wanted (apps), what is there (instances) and what is on its way (deployments), and moves the second
//! towards the first: after each input every app that the input touched is looked at afresh, and what is missing or too
//! much is computed from what is there ([`deployment`]). No progress is remembered that a new leader would not find.
//!
//! Source: Marathon's behaviour, where people and tools rely on it.
//!
//! Invariant: no task is launched whose record was not durable before; no change is answered before it is durable;
//! no task is killed but one that the records say must not run. Invariant: a core lives for one term; when the term
//! is over it is dropped, and whatever it had not made durable never happened.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_coordination::Record;
use mezzo_model::ids::FrameworkId;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Now, Role};
use mezzo_sdk::scheduler::SchedulerCommand;

pub mod app;
pub mod app_id;
mod check;
pub mod deployment;
pub mod health;
pub mod instance;
mod io;
pub mod journal;
mod kill;
mod launch_queue;
mod offers;
pub mod placement;
pub mod request;
mod requests;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod updates;
mod upkeep;
pub mod version;

pub use check::Violation;
pub use io::{Config, Input, NoteLevel, Output};
pub use state::Counters;

use crate::store::{LoadError, Snapshot};
use app_id::AppId;
use deployment::Deployment;
use health::HealthBook;
use instance::{Instance, InstanceId};
use journal::{Journal, Settled};
use launch_queue::Delays;
use request::Refusal;
use state::{App, Demand};
use version::Version;

/// What waits for a commit.
#[derive(Debug)]
enum Effect {
    /// An output.
    Out(Output),
    /// An accept: these tasks may exist from here on.
    Launch {
        tasks: Vec<(InstanceId, u32)>,
        accept: SchedulerCommand,
    },
}

/// The service framework of one term.
#[derive(Debug)]
pub struct Core {
    config: Config,
    role: Role,
    id_rng: Rng,
    port_rng: Rng,
    now: Now,
    /// The first input came.
    begun: bool,
    deposed: bool,
    framework_id: Option<FrameworkId>,
    connected: bool,
    apps: BTreeMap<AppId, App>,
    instances: BTreeMap<InstanceId, Instance>,
    deployments: BTreeMap<String, Deployment>,
    /// The deployment that holds an app.
    locks: BTreeMap<AppId, String>,
    /// Apps to be looked at before this input is done with.
    dirty: BTreeSet<AppId>,
    /// Large apps to be looked at a moment later.
    later: BTreeSet<(Millis, AppId)>,
    /// Apps with instances that wait for an offer.
    waiting: BTreeSet<AppId>,
    demand: Demand,
    delays: Delays,
    health: HealthBook,
    journal: Journal<Effect>,
    timers: BTreeSet<(Millis, InstanceId)>,
    next_reconcile: Option<Millis>,
    /// When ended delays were looked for last.
    last_look: Millis,
    /// Tasks of ours that no record knows, by id; left alone.
    quarantine: BTreeSet<String>,
    last_version: Version,
    counters: Counters,
}

impl Core {
    /// A core without apps. `seed` differs from term to term.
    pub fn new(config: Config, seed: u64) -> Self {
        let rng = Rng::new(seed);
        let role = Role::parse(&config.role).unwrap_or_default();
        Self {
            role,
            config,
            id_rng: rng.split("service ids"),
            port_rng: rng.split("service ports"),
            now: Now::default(),
            begun: false,
            deposed: false,
            framework_id: None,
            connected: false,
            apps: BTreeMap::new(),
            instances: BTreeMap::new(),
            deployments: BTreeMap::new(),
            locks: BTreeMap::new(),
            dirty: BTreeSet::new(),
            later: BTreeSet::new(),
            waiting: BTreeSet::new(),
            demand: Demand::default(),
            delays: Delays::default(),
            health: HealthBook::default(),
            journal: Journal::default(),
            timers: BTreeSet::new(),
            next_reconcile: None,
            last_look: Millis::ZERO,
            quarantine: BTreeSet::new(),
            last_version: Version(0),
            counters: Counters::default(),
        }
    }

    /// Takes over what earlier terms left: all records of the term's store. Before the first input.
    ///
    /// # Errors
    /// If a record cannot be read: nothing may be decided on the rest alone, and this process must not lead.
    pub fn load(&mut self, records: &[Record]) -> Result<(), LoadError> {
        let snapshot = Snapshot::read(records)?;
        self.take_over(snapshot);
        Ok(())
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        // A shell's monotonic clock does not go back; a test's may.
        self.now = Now::new(now.mono.max(self.now.mono), now.wall);
        if self.deposed {
            if let Input::Api { request, .. } = input {
                out.push(Output::Reply {
                    request,
                    answer: Box::new(Err(Refusal::NotLeading)),
                });
            }
            return;
        }
        if !self.begun {
            self.begin(out);
        }
        match input {
            Input::Tick => {}
            Input::Scheduler(event) => self.on_scheduler(event, out),
            Input::Api { request, call } => self.on_api(request, call, out),
            Input::Committed { id, result } => match self.journal.committed(id, result, now.mono) {
                Settled::Durable(effects) => {
                    for effect in effects {
                        self.perform(effect, out);
                    }
                }
                Settled::InDoubt => self.note(
                    NoteLevel::Warn,
                    "the store is unavailable; changes wait until it is back",
                    out,
                ),
                Settled::Unknown => {}
                Settled::Over(error) => return self.depose(&error.to_string(), out),
            },
            Input::Probed { probe, result } => self.on_probed(probe, result, out),
        }
        self.settle(out);
    }

    /// The instant at which [`Input::Tick`] is due, if no other input comes before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let mut deadlines = vec![
            self.timers.first().map(|(at, _)| *at),
            self.later.first().map(|(at, _)| *at),
            self.delays.next_deadline(self.now.mono),
            self.health.next_deadline(),
            self.journal.next_deadline(),
            self.demand.next_deadline(&self.config),
        ];
        if self.connected {
            deadlines.push(self.next_reconcile);
        }
        deadlines.into_iter().flatten().min()
    }

    /// Numbers for metrics.
    pub fn counters(&self) -> Counters {
        self.counted()
    }

    /// The framework's id, once a master gave one.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    /// Everything that follows from an input, until nothing more does.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.fire_timers(out);
        self.keep_up(out);
        self.ask_for_offers(out);
        if let Some((id, txn)) = self.journal.next_commit(self.now.mono) {
            out.push(Output::Commit { id, txn });
        }
    }

    /// Lets an output happen once everything noted so far is durable.
    fn after(&mut self, output: Output, out: &mut Vec<Output>) {
        if let Some(effect) = self.journal.after(Effect::Out(output)) {
            self.perform(effect, out);
        }
    }

    fn perform(&mut self, effect: Effect, out: &mut Vec<Output>) {
        match effect {
            Effect::Out(output) => out.push(output),
            Effect::Launch { tasks, accept } => {
                for (id, incarnation) in tasks {
                    if let Some(instance) = self.instances.get_mut(&id)
                        && instance.incarnation == incarnation
                    {
                        instance.launched = true;
                    }
                }
                out.push(Output::Scheduler(accept));
            }
        }
    }

    fn depose(&mut self, words: &str, out: &mut Vec<Output>) {
        self.deposed = true;
        out.push(Output::Deposed {
            words: words.to_owned(),
        });
    }

    fn note(&self, level: NoteLevel, text: impl Into<String>, out: &mut Vec<Output>) {
        out.push(Output::Note {
            level,
            text: text.into(),
        });
    }
}
