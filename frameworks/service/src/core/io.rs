//! What goes into the core and what comes out of it.

use mezzo_coordination::{CommitError, Txn};
use mezzo_model::Millis;
use mezzo_sdk::scheduler::{SchedulerCommand, SchedulerEvent};

use super::health::{ProbeOrder, ProbeResult};
use super::request::{Answer, ApiCall, Refusal};

/// How the framework behaves; part of what a core is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The role whose offers are used.
    pub role: String,
    /// For how long offers that suit nothing are not wanted again.
    pub decline: Millis,
    /// The shortest span between two revivals.
    pub min_revive_interval: Millis,
    /// The most instances launched with one offer.
    pub max_instances_per_offer: usize,
    /// A launch that nobody confirmed in this span is killed and tried again.
    pub launch_confirm_timeout: Millis,
    /// A task that does not run in this span after its launch is killed and tried again.
    pub launch_timeout: Millis,
    /// How often every known task is asked about.
    pub reconcile_interval: Millis,
    /// The most deployments at once.
    pub max_running_deployments: usize,
    /// The most apps.
    pub max_apps: usize,
    /// The most old definitions that are kept of one app, beyond those in use.
    pub max_versions: usize,
    /// Service ports for definitions that leave the number open: first and last.
    pub service_ports: (u16, u16),
    /// Put before the names of port variables and HOST.
    pub env_vars_prefix: String,
    /// Seconds between the polite and the hard end where the app does not say; the executor's default if absent.
    pub default_kill_grace_secs: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: "*".to_owned(),
            decline: Millis::from_secs(120),
            min_revive_interval: Millis(100),
            max_instances_per_offer: 100,
            launch_confirm_timeout: Millis::from_secs(300),
            launch_timeout: Millis::from_secs(300),
            reconcile_interval: Millis::from_secs(600),
            max_running_deployments: 100,
            max_apps: 20_000,
            max_versions: 50,
            service_ports: (10_000, 20_000),
            env_vars_prefix: String::new(),
            default_kill_grace_secs: None,
        }
    }
}

/// What the core is told. An input lives for one call, so its size does not matter.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Input {
    /// Time has passed; see [`Core::next_deadline`](super::Core::next_deadline). Also the first input of a term.
    Tick,
    /// The driver says something.
    Scheduler(SchedulerEvent),
    /// Somebody asks for something; answered by one [`Output::Reply`] with the same number.
    Api {
        /// Chosen by the shell.
        request: u64,
        /// What is asked.
        call: ApiCall,
    },
    /// A commit came back.
    Committed {
        /// The number of its [`Output::Commit`].
        id: u64,
        /// How it ended.
        result: Result<(), CommitError>,
    },
    /// A probe came back.
    Probed {
        /// The number of its [`Output::Probe`].
        probe: u64,
        /// What came of it.
        result: ProbeResult,
    },
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteLevel {
    /// A normal change.
    Info,
    /// Something is wrong, and is being handled.
    Warn,
    /// Something is wrong that a person must look at.
    Error,
}

/// What the core asks of its shell; carried out in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tell the driver.
    Scheduler(SchedulerCommand),
    /// Make a transaction durable; answered by [`Input::Committed`]. There is at most one unanswered at a time.
    Commit {
        /// To be given back.
        id: u64,
        /// What to write.
        txn: Txn,
    },
    /// Answer a call.
    Reply {
        /// The number of its [`Input::Api`].
        request: u64,
        /// The answer.
        answer: Box<Result<Answer, Refusal>>,
    },
    /// Ask whether an instance is well; answered by [`Input::Probed`].
    Probe {
        /// To be given back.
        probe: u64,
        /// What to ask.
        order: ProbeOrder,
    },
    /// A line for the log.
    Note {
        /// How much it matters.
        level: NoteLevel,
        /// The line.
        text: String,
    },
    /// The term is over, or this version cannot go on: drop this core. In words.
    Deposed {
        /// Why.
        words: String,
    },
    /// The driver has ended for good: the framework was removed or refused. In words.
    DriverEnded {
        /// Why.
        words: String,
    },
}
