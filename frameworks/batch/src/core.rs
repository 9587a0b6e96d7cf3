//! The batch framework's core: one synchronous state machine.
//!
//! The cluster's events, people's calls, the store's answers and the passing of time go in through [`Core::handle`];
//! commands to the driver, transactions, answers and log lines come out. It keeps every job and every active run in
//! memory, as they are (or will be, once what is pending is stored) in the store.
//!
//! Invariant: no clock, socket, disk, thread or random source; the same inputs give the same outputs. Invariant:
//! whatever leaves (an accepted offer, an acknowledged end, an answer to a change) left after its record was
//! stored.

mod calls;
mod commits;
mod history;
mod invariants;
pub mod io;
pub mod job;
mod offers;
mod pending;
mod queue;
mod recover;
mod retry;
pub mod run;
mod session;
mod task;
mod timers;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_model::ids::TaskId;
use mezzo_model::rng::Rng;
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_sdk::scheduler::AckToken;

pub use invariants::Broken;
pub use io::{
    Call, Effect, Embed, EndedRun, HistoryView, Input, JobView, NoteLevel, Output, Refusal, Reply,
    RequestId, RunView, TaskView,
};
pub use run::{RunId, RunKey, RunStatus};

use history::{History, Kept};
use job::{JobId, JobSpec};
use offers::Launch;
use pending::{Pending, Unit};
use queue::Queue;
use run::{Run, Stage};
use session::Session;
use timers::{Timer, Timers};

/// How the core behaves. [`Config::default`] gives the usual values.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many ended runs of each outcome are kept for each job.
    pub history_per_job: usize,
    /// How many ended runs are kept in all.
    pub history_in_all: usize,
    /// How many jobs there may be.
    pub max_jobs: usize,
    /// How many runs may be active at once.
    pub max_active_runs: usize,
    /// An attempt whose agent is out of reach for so long is given up.
    pub unreachable_timeout: Millis,
    /// Most tasks in one accept.
    pub max_tasks_per_offer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            history_per_job: 1000,
            history_in_all: 20_000,
            max_jobs: 10_000,
            max_active_runs: 50_000,
            unreachable_timeout: Millis::from_secs(600),
            max_tasks_per_offer: 1000,
        }
    }
}

/// One job with all that belongs to it.
#[derive(Clone, Debug)]
struct Job {
    spec: Arc<JobSpec>,
    /// Grows by one at each change.
    version: u64,
    created_at: Wall,
    /// Earlier specs that active runs still follow, and how many of them.
    older: BTreeMap<u64, (Arc<JobSpec>, usize)>,
    runs: BTreeMap<RunId, Run>,
    history: History,
}

/// The state machine.
#[derive(Debug)]
pub struct Core {
    config: Config,
    ids: Rng,
    /// What offer matching draws from.
    ports: Rng,
    jobs: BTreeMap<JobId, Job>,
    /// Tasks of intended and launched attempts.
    tasks: BTreeMap<TaskId, RunKey>,
    queue: Queue,
    /// Offers that are set aside while the attempts in them are being recorded.
    launches: BTreeMap<u64, Launch>,
    next_launch: u64,
    next_order: u64,
    /// Tasks whose end is being recorded, with what to acknowledge afterwards.
    ending: BTreeMap<TaskId, AckToken>,
    /// Tasks that were told to end and belong to no run.
    doomed: BTreeSet<TaskId>,
    pending: Pending,
    session: Session,
    timers: Timers,
    kept: Kept,
    active_runs: usize,
    totals: Totals,
    retired: bool,
}

/// Counts since this core was made, and sizes now: for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs now.
    pub jobs: usize,
    /// Active runs now.
    pub active_runs: usize,
    /// Runs in the queue now.
    pub queued_runs: usize,
    /// Attempts whose offer was accepted.
    pub launched: u64,
    /// Runs that ended well.
    pub succeeded: u64,
    /// Runs that ended badly.
    pub failed: u64,
    /// Transactions handed to the store.
    pub commits: u64,
    /// Offers that came in.
    pub offers: u64,
}

impl Core {
    /// A core without jobs. Ids are drawn from the seed; no two cores of one store may have the same one.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            ids: Rng::new(seed).split("ids"),
            ports: Rng::new(seed).split("ports"),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            queue: Queue::default(),
            launches: BTreeMap::new(),
            next_launch: 0,
            next_order: 0,
            ending: BTreeMap::new(),
            doomed: BTreeSet::new(),
            pending: Pending::default(),
            session: Session::default(),
            timers: Timers::default(),
            kept: Kept::default(),
            active_runs: 0,
            totals: Totals::default(),
            retired: false,
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.retired {
            return;
        }
        match input {
            Input::Tick => {}
            Input::Scheduler(event) => session::on_event(self, now, event, out),
            Input::Api { request, call } => calls::on_call(self, now, request, call, out),
            Input::Committed { id, result } => commits::on_committed(self, now, id, result, out),
        }
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.on_timer(now, timer, out);
        }
        session::settle_demand(self, now, out);
        commits::hand_over(self, out);
    }

    /// When the core wants to be called again, with [`Input::Tick`], on the monotonic clock.
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.retired {
            None
        } else {
            self.timers.next()
        }
    }

    /// Counts and sizes.
    pub fn totals(&self) -> Totals {
        Totals {
            jobs: self.jobs.len(),
            active_runs: self.active_runs,
            queued_runs: self.queue.len(),
            ..self.totals
        }
    }

    /// Whether everything that was changed is in the store.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    fn on_timer(&mut self, now: Now, timer: Timer, out: &mut Vec<Output>) {
        match timer {
            Timer::Commit => commits::try_again(self, out),
            // Looked at by `settle_demand`, right after this.
            Timer::Revive => {}
            Timer::Reconcile => session::on_reconcile_due(self, now, out),
            Timer::Retry(key) => run::start::on_retry_due(self, now, &key),
            Timer::Overdue(task) => run::end::on_overdue(self, &task, out),
            Timer::Unreachable(task) => run::end::on_given_up(self, now, &task),
        }
    }

    fn run(&self, key: &RunKey) -> Option<&Run> {
        self.jobs.get(&key.job)?.runs.get(&key.run)
    }

    fn run_mut(&mut self, key: &RunKey) -> Option<&mut Run> {
        self.jobs.get_mut(&key.job)?.runs.get_mut(&key.run)
    }

    /// Writes a run's record, as it is now.
    fn record(&self, key: &RunKey) -> Unit {
        let ops = self
            .run(key)
            .map(crate::store::run_record)
            .into_iter()
            .collect();
        Unit {
            ops,
            effects: Vec::new(),
        }
    }

    /// Puts a run into the queue, and asks for offers again if those that were declined might do for it.
    fn enqueue(&mut self, now: Now, key: &RunKey) {
        let Some(run) = self.run_mut(key) else { return };
        run.stage = Stage::Queued;
        let (need, order) = (run.spec.run.need, run.order);
        self.queue.insert(need, order, key.clone());
        if now.mono < self.session.filters_until && !self.queue.smaller_waits(&need) {
            self.session.revive_asked = true;
        }
    }
}

/// A line for the log.
fn note(out: &mut Vec<Output>, level: NoteLevel, text: impl Into<String>) {
    out.push(Output::Note {
        level,
        text: text.into(),
    });
}
