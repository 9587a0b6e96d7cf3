//! The agent as a pure state machine: registration, tasks, executors, status updates, recovery, old sandboxes.
//!
//! It has no socket, clock, disk or process: it is handed an [`Input`] with the time, and answers with [`Output`]s. Its
//! durable half is the [`Ledger`](ledger::Ledger), of which each change is a [`Record`] that goes to the log; the
//! volatile half (connections, timers, what is in flight) may be lost at any moment.
//!
//! The order of promises: a launch intent and a non-terminal update are *written* before the act that follows from
//! them; a terminal update, the agent's id and an epoch are *flushed* before anybody outside this host hears of them.
//! Invariant: nothing in this folder names the shell, and bad input from a master or an executor is answered or noted,
//! never a panic.

mod collect;
mod deliver;
mod executors;
mod exits;
mod invariants;
mod io;
mod kill;
mod launch;
pub mod ledger;
mod limits;
mod link;
mod orders;
mod reads;
pub mod record;
mod recovery;
mod report;
mod state;
mod timers;
mod updates;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use invariants::Broken;
pub use io::{
    Config, ConnId, ContainerEnd, Input, Launch, Limits, LinkId, NoteLevel, Output, PayloadEnd,
    Read,
};
pub use ledger::Ledger;
pub use record::{Place, Process, Record, TaskKey};

use std::collections::BTreeMap;

use mezzo_model::ids::ContainerId;
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Now, TaskState};

use state::{After, Executor, Link, Stage, Stream};
use timers::{Timer, Timers};

/// The agent's state.
#[derive(Debug)]
pub struct Core {
    config: Config,
    /// For ids of containers, updates and this process.
    ids: Rng,
    /// For waits.
    jitter: Rng,
    /// Tells this process of the agent from another one.
    incarnation: String,
    stage: Stage,
    ledger: Ledger,
    link: Link,
    executors: BTreeMap<ContainerId, Executor>,
    connections: BTreeMap<ConnId, ContainerId>,
    streams: BTreeMap<TaskKey, Stream>,
    timers: Timers,
    writes: BTreeMap<u64, Vec<After>>,
    next_write: u64,
    /// Containers that nobody has looked at yet.
    probing: usize,
    /// What the log held at the start may not be on the disk yet.
    unflushed: bool,
    /// Sandboxes that are being removed.
    collecting: std::collections::BTreeSet<ContainerId>,
    counters: Counters,
}

/// What has happened since this process started; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tasks that were taken.
    pub tasks_taken: u64,
    /// Tasks that ended well.
    pub tasks_finished: u64,
    /// Tasks that ended badly or were lost.
    pub tasks_failed: u64,
    /// Tasks that were ended on request.
    pub tasks_killed: u64,
    /// Containers that were launched.
    pub containers_launched: u64,
    /// Containers that could not be.
    pub containers_failed: u64,
    /// Updates taken from executors.
    pub updates_taken: u64,
    /// Updates that were refused: repeated, late, or not understood.
    pub updates_refused: u64,
    /// Welcomes by a master.
    pub registrations: u64,
    /// Orders of a leader that leads no more.
    pub stale_orders: u64,
}

/// What is there now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Tasks that have not ended.
    pub tasks_live: usize,
    /// Tasks that are not forgotten.
    pub tasks_known: usize,
    /// Containers that have not ended.
    pub containers: usize,
    /// Sandboxes of containers that have.
    pub sandboxes: usize,
    /// Whether a master has welcomed the agent.
    pub registered: bool,
}

/// One call of [`Core::handle`]: the time, and where outputs go.
struct Cx<'a> {
    now: Now,
    out: &'a mut Vec<Output>,
}

impl Cx<'_> {
    fn push(&mut self, output: Output) {
        self.out.push(output);
    }

    fn note(&mut self, level: NoteLevel, text: impl Into<String>) {
        self.out.push(Output::Note {
            level,
            text: text.into(),
        });
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.note(NoteLevel::Warning, text);
    }

    fn info(&mut self, text: impl Into<String>) {
        self.note(NoteLevel::Info, text);
    }
}

impl Core {
    /// An agent that has never run. `seed` decides every id and every wait.
    pub fn new(config: Config, seed: u64) -> Self {
        Self::recover(config, seed, Ledger::default())
    }

    /// An agent that goes on from what its log says. A row of records becomes a ledger by [`Ledger::replay`].
    pub fn recover(config: Config, seed: u64, ledger: Ledger) -> Self {
        let rng = Rng::new(seed);
        let mut ids = rng.split("ids");
        let incarnation = ids.uuid();
        Self {
            config,
            ids,
            jitter: rng.split("jitter"),
            incarnation,
            stage: Stage::New,
            ledger,
            link: Link::default(),
            executors: BTreeMap::new(),
            connections: BTreeMap::new(),
            streams: BTreeMap::new(),
            timers: Timers::default(),
            writes: BTreeMap::new(),
            next_write: 0,
            probing: 0,
            unflushed: false,
            collecting: std::collections::BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input; what is to be done is pushed to `out` in its order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.stage == Stage::Stopped {
            return;
        }
        let cx = &mut Cx { now, out };
        match input {
            Input::Start => self.on_start(cx),
            Input::Tick => {}
            Input::Leader(leader) => self.on_leader(cx, leader),
            Input::LinkUp { link } => self.on_link_up(cx, link),
            Input::LinkDown {
                link,
                reason,
                leader,
            } => self.on_link_down(cx, link, &reason, leader),
            Input::FromMaster { link, message } => self.on_master(cx, link, *message),
            Input::ExecutorHello {
                conn,
                framework,
                executor,
                container,
            } => self.on_hello(cx, conn, &framework, &executor, &container),
            Input::ExecutorCall { conn, call } => self.on_call(cx, conn, *call),
            Input::ExecutorGone { conn } => self.on_executor_gone(cx, conn),
            Input::Launched { container, process } => self.on_launched(cx, &container, process),
            Input::LaunchFailed { container, message } => {
                self.on_launch_failed(cx, &container, &message);
            }
            Input::ContainerEnded { container, end } => {
                self.on_container_ended(cx, &container, &end);
            }
            Input::Probed { container, alive } => self.on_probed(cx, &container, alive),
            Input::Logged { id } => self.on_logged(cx, id),
            Input::SandboxRemoved { container } => self.on_sandbox_removed(cx, container),
            Input::EndAll => self.on_end_all(cx),
        }
        while let Some(timer) = self.timers.pop(cx.now.mono) {
            self.on_timer(cx, timer);
        }
        self.leave_when_empty(cx);
    }

    /// When the core wants a [`Input::Tick`] at the latest (monotonic).
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.stage == Stage::Stopped {
            return None;
        }
        self.timers.next()
    }

    /// Whether it is known which executors live, so that they may be let in.
    pub fn is_ready(&self) -> bool {
        !matches!(self.stage, Stage::New | Stage::Probing)
    }

    /// The durable half of the state.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What is there now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            tasks_live: self.ledger.live(),
            tasks_known: self.ledger.tasks.len(),
            containers: self.ledger.containers.len(),
            sandboxes: self.ledger.sandboxes.len(),
            registered: self.is_up(),
        }
    }

    /// The newest state of a task that others may rely on (it is written, and flushed if terminal); `None` if the task
    /// is not known.
    pub fn task_state(&self, task: &TaskKey) -> Option<TaskState> {
        self.ledger.tasks.get(task)?;
        Some(
            self.streams
                .get(task)
                .map_or(TaskState::Staging, |stream| stream.state),
        )
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Dial => self.dial(cx),
            Timer::Greet => self.on_greet_timeout(cx),
            Timer::Silence => self.on_silence(cx),
            Timer::Subscribe(container) => self.on_subscribe_timeout(cx, &container),
            Timer::End(container) => self.on_end_timeout(cx, &container),
            Timer::Resend(task) => self.on_resend(cx, &task),
            Timer::Collect => self.collect(cx),
        }
    }

    /// Applies records to the ledger and gives them to the log; `after` follows when they are written, or flushed.
    fn log(&mut self, cx: &mut Cx<'_>, records: Vec<Record>, flush: bool, after: Vec<After>) {
        for record in &records {
            self.ledger.apply(record);
        }
        let id = self.next_write;
        self.next_write += 1;
        if !after.is_empty() {
            self.writes.insert(id, after);
        }
        cx.push(Output::Log { id, records, flush });
    }

    fn on_logged(&mut self, cx: &mut Cx<'_>, id: u64) {
        for after in self.writes.remove(&id).unwrap_or_default() {
            match after {
                After::Launch(container) => self.start_container(cx, &container),
                After::Queue(container, task) => self.on_queued(cx, &container, &task),
                After::Deliver(container, conn, queued) => {
                    self.on_delivery_logged(cx, &container, conn, queued);
                }
                After::Kill(task) => self.tell_kill(cx, &task),
                After::Updated(task, uuid, from) => self.on_update_safe(cx, &task, uuid, from),
                After::Settled(link) => self.on_settled(cx, link),
                After::Recovered => self.on_recovered(cx),
                After::Forgotten => self.on_forgotten(cx),
            }
        }
    }
}
