//! A simulated cluster for an author's own tests.
//!
//! [`check`] runs a [`Scheduler`] on the real driver and the real machinery against a small honest model of masters and
//! agents, in virtual time and from seeds: masters and the framework's process are killed (also at the worst moments),
//! connections break or fall silent, launches are lost, updates repeat, machines reboot or never come back, the store
//! stays away. Then everything heals, and the framework must come to what it wants.
//!
//! What must hold: no task is started twice; nothing on an agent is given twice; the framework does not stop. After
//! healing, within bounded virtual time: as many tasks run as [`Scheduler::wanted`] says, they are those the framework
//! believes in, and every update is acknowledged.
//!
//! ```no_run
//! # use mezzo_sdk::{Scheduler, testing};
//! # struct Mine;
//! # impl Scheduler for Mine {}
//! # fn mine() -> Mine { Mine }
//! #[test]
//! fn survives() {
//!     println!("{}", testing::check(0..1000, mine));
//! }
//! ```
//!
//! Invariant: same seed and same scheduler, same trace hash.

mod agent;
mod faults;
mod master;
mod process;
mod trace;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mezzo_model::ids::TaskId;

pub use faults::{Fault, Profile};

use crate::framework::Scheduler;
use crate::scheduler::DriverConfig;
use world::World;

/// How long a settled cluster must stay settled, in ms of virtual time.
const STAY_SETTLED: u64 = 5_000;
/// Happenings in one run; a run with more goes in circles.
const MAX_HAPPENINGS: u64 = 3_000_000;
/// Runs for each rate of kills.
const RUNS_PER_RATE: u64 = 8;
/// A framework survives a rate of kills if this part of what it wants runs, in percent.
const SERVED_PERCENT: u64 = 90;
/// The highest rate of kills that is tried, per minute.
const MAX_KILLS: u32 = 256;

/// One run that kept the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of everything that happened.
    pub trace_hash: u64,
    /// How many lines that was.
    pub happenings: u64,
    /// How long it lasted, in ms of virtual time.
    pub virtual_ms: u64,
    /// How long it took to settle after the last fault, in ms of virtual time.
    pub settled_ms: u64,
    /// How often each fault came.
    pub faults: BTreeMap<Fault, u64>,
    /// How much of what was wanted ran while things went wrong, in percent.
    pub served_percent: u64,
}

/// A run that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Run it again with this seed.
    pub seed: u64,
    /// Which rule.
    pub rule: String,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.rule)
    }
}

impl std::error::Error for Failure {}

/// What many seeds showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many runs.
    pub seeds: u64,
    /// How long they lasted in all, in ms of virtual time.
    pub virtual_ms: u64,
    /// How often each fault came.
    pub faults: BTreeMap<Fault, u64>,
    /// The longest time to settle, in ms of virtual time.
    pub slowest_to_settle_ms: u64,
    /// The highest rate of kills (of framework and master, per minute) at which nine tenths of what was wanted ran, and
    /// all rules held; `None` if not even one a minute is survived.
    pub kills_per_minute: Option<u32>,
    /// For each rate that was tried, how much of what was wanted ran, in percent; `None` if a rule was broken.
    pub rates: Vec<(u32, Option<u64>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} minutes of cluster time, settled within {} s each",
            self.seeds,
            self.virtual_ms / 60_000,
            self.slowest_to_settle_ms.div_ceil(1000)
        )?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>8} x {fault}")?;
        }
        for (rate, served) in &self.rates {
            match served {
                Some(served) => {
                    writeln!(f, "{rate:>8} kills a minute: {served} % of the tasks ran")?
                }
                None => writeln!(f, "{rate:>8} kills a minute: a rule was broken")?,
            }
        }
        match self.kills_per_minute {
            Some(rate) => write!(f, "survives {rate} kills a minute"),
            None => write!(f, "does not survive one kill a minute"),
        }
    }
}

/// The driver's configuration in a simulation.
pub fn config() -> DriverConfig {
    DriverConfig::named("simulated")
}

/// Runs a scheduler through seeds and then through ever more kills a minute; prints and returns what that showed.
///
/// # Panics
/// With the seed and the tail of the trace if a rule is broken.
pub fn check<S: Scheduler>(seeds: impl IntoIterator<Item = u64>, make: impl Fn() -> S) -> Report {
    match try_check(seeds, make) {
        Ok(report) => {
            println!("{report}");
            report
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// [`check`] without panic and without printing.
///
/// # Errors
/// The first run that broke a rule.
pub fn try_check<S: Scheduler>(
    seeds: impl IntoIterator<Item = u64>,
    make: impl Fn() -> S,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    let profile = Profile::default();
    for seed in seeds {
        let outcome = run_seed(seed, &profile, config(), &make)?;
        report.seeds += 1;
        report.virtual_ms += outcome.virtual_ms;
        report.slowest_to_settle_ms = report.slowest_to_settle_ms.max(outcome.settled_ms);
        for (fault, count) in outcome.faults {
            *report.faults.entry(fault).or_insert(0) += count;
        }
    }
    let mut rate = 1;
    while rate <= MAX_KILLS {
        let served = served_at(rate, &make);
        report.rates.push((rate, served));
        if served.is_none_or(|served| served < SERVED_PERCENT) {
            break;
        }
        report.kills_per_minute = Some(rate);
        rate *= 2;
    }
    Ok(report)
}

/// How much runs at a rate of kills, in percent; `None` if a rule is broken.
fn served_at<S: Scheduler>(rate: u32, make: &impl Fn() -> S) -> Option<u64> {
    let profile = Profile::kills_per_minute(rate);
    let mut served = 0;
    for seed in 0..RUNS_PER_RATE {
        let outcome = run_seed(seed, &profile, config(), make).ok()?;
        served += outcome.served_percent;
    }
    Some(served / RUNS_PER_RATE)
}

/// Runs one seed.
///
/// # Errors
/// The rule that was broken, with the tail of the trace.
pub fn run_seed<S: Scheduler>(
    seed: u64,
    profile: &Profile,
    config: DriverConfig,
    make: &impl Fn() -> S,
) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, profile, config, make);
    let mut settled_since = None;
    let mut happenings = 0;
    let rule = loop {
        let going = world.step();
        happenings += 1;
        if let Some(rule) = world.wrong.take() {
            break rule;
        }
        let Some(healed_at) = world.healed_at else {
            if going && happenings < MAX_HAPPENINGS {
                continue;
            }
            break "the run goes in circles".to_owned();
        };
        match unsettled(&world) {
            None => {
                let since = *settled_since.get_or_insert(world.now);
                // With nothing planned any more, it stays as it is.
                if !going || world.now >= since + STAY_SETTLED {
                    return Ok(outcome(&world, since - healed_at));
                }
            }
            Some(what) => {
                settled_since = None;
                if !going || world.now > healed_at + profile.settle_within_ms {
                    break format!("after healing, {what}");
                }
                if happenings >= MAX_HAPPENINGS {
                    break format!("the run goes in circles; {what}");
                }
            }
        }
    };
    Err(Failure {
        seed,
        rule,
        tail: world.trace.tail(),
    })
}

fn outcome<S: Scheduler>(world: &World<'_, S>, settled_ms: u64) -> Outcome {
    let service = &world.service;
    Outcome {
        trace_hash: world.trace.hash(),
        happenings: world.trace.lines(),
        virtual_ms: world.now,
        settled_ms,
        faults: world.fired.clone(),
        served_percent: (service.ran * 100).checked_div(service.wanted).unwrap_or(0),
    }
}

/// What is not yet as it should be.
fn unsettled<S: Scheduler>(world: &World<'_, S>) -> Option<String> {
    let Some(process) = &world.process else {
        return Some("the framework is not there".to_owned());
    };
    if !process.driver.is_subscribed() {
        return Some("the framework is not subscribed".to_owned());
    }
    let running = world.running();
    if let Some(wanted) = process.framework.scheduler().wanted()
        && running.len() != wanted
    {
        let known = process.framework.ledger();
        let states: Vec<String> = known
            .iter()
            .map(|(id, task)| format!("{id} {}", task.state))
            .collect();
        return Some(format!(
            "{wanted} tasks are wanted and {} run; the framework knows of: {}",
            running.len(),
            states.join(", ")
        ));
    }
    let believed: BTreeSet<&TaskId> = process.framework.ledger().alive().collect();
    let running: BTreeSet<&TaskId> = running.iter().collect();
    if let Some(task) = running.symmetric_difference(&believed).next() {
        let words = if running.contains(task) {
            "runs unknown to"
        } else {
            "does not run, but is believed in by"
        };
        return Some(format!("{task} {words} the framework"));
    }
    let unacknowledged: usize = world
        .machines
        .values()
        .map(super::testing::agent::Machine::unacknowledged)
        .sum();
    if unacknowledged > 0 {
        return Some(format!("{unacknowledged} updates are not acknowledged"));
    }
    let open = process.driver.unanswered_tasks();
    (open > 0).then(|| format!("{open} tasks have no answer to reconciliation"))
}
