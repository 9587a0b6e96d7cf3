//! The life of a core: while this process leads, its inputs come together here and its outputs leave from here.
//!
//! Invariant: the core is touched by this task alone. While it is in doubt whether this process leads, nothing goes
//! in and nothing comes out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mezzo_coordination::{CommitError, Leadership, Store, Term};
use mezzo_door::Stop;
use mezzo_model::{Millis, Now, Wall};
use mezzo_sdk::scheduler::{DriverHandle, SchedulerEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::desk::{MAX_WAITING, Question};
use super::metrics::Gauges;
use super::probes::Probes;
use crate::core::health::ProbeResult;
use crate::core::request::{Answer, Refusal};
use crate::core::{Core, Input, NoteLevel, Output};

/// For how long the last transaction of a term is waited for.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Numbers for metrics are taken this often at most: with many instances that is some work.
const NUMBERS_EVERY: Millis = Millis(500);

/// What a core is connected to.
#[derive(Debug)]
pub struct Wires {
    /// What people ask.
    pub questions: mpsc::Receiver<Question>,
    /// What the cluster says.
    pub events: mpsc::Receiver<SchedulerEvent>,
    /// What is said to the cluster.
    pub commands: DriverHandle,
    /// What came of probes.
    pub probed: mpsc::Receiver<(u64, ProbeResult)>,
    /// Where probes are ordered.
    pub prober: Probes,
    /// Where the state is kept.
    pub store: Store,
    /// Whether this process still leads.
    pub leadership: watch::Receiver<Leadership>,
    /// When to end.
    pub stop: Stop,
}

/// Why a core's life is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// The process was told to stop.
    Stopped,
    /// Another process leads, or this one in a later term.
    Overtaken,
    /// The core may not act any more, in words.
    Deposed(String),
    /// The driver has ended: the framework was removed, or is not acceptable; in words.
    DriverEnded(String),
    /// What is stored cannot be read, and waiting does not help.
    Unreadable(String),
}

/// Reads the clocks: monotonic since it was made, and wall.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins at zero.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn now(&self) -> Now {
        let since = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        Now::new(
            Millis::from(self.start.elapsed()),
            Wall(Millis::from(since).0),
        )
    }

    /// Waits until an instant of this clock, for ever if there is none.
    async fn until(&self, deadline: Option<Millis>) {
        match deadline {
            // The clock counts whole milliseconds; without one more an early tick would come again at once.
            Some(at) => tokio::time::sleep_until(self.start + (at + Millis(1)).to_std()).await,
            None => std::future::pending().await,
        }
    }
}

type Committing = Pin<Box<dyn Future<Output = (u64, Result<(), CommitError>)> + Send>>;

struct Life {
    core: Core,
    clock: Clock,
    wires: Wires,
    gauges: Gauges,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    next_request: u64,
    committing: Option<Committing>,
    out: Vec<Output>,
    /// Not before this.
    numbers_at: Millis,
    /// Numbers changed and were not shown.
    numbers_due: Option<Millis>,
}

/// Feeds a core until its term is over.
pub async fn live(core: Core, term: &Term, clock: Clock, wires: Wires, gauges: Gauges) -> Over {
    let mut life = Life {
        core,
        clock,
        wires,
        gauges,
        waiting: BTreeMap::new(),
        next_request: 0,
        committing: None,
        out: Vec::new(),
        numbers_at: Millis::ZERO,
        numbers_due: None,
    };
    // A core that was loaded has something to say before anybody asks.
    life.feed(Input::Tick);
    let over = life.go_on(term).await;
    // Whoever reads the store next is to find either all of it or nothing.
    if let Some(committing) = life.committing.take() {
        let _ = tokio::time::timeout(LAST_COMMIT, committing).await;
    }
    over
}

impl Life {
    async fn go_on(&mut self, term: &Term) -> Over {
        loop {
            if let Some(over) = self.carry_out().await {
                return over;
            }
            self.show_numbers();
            match self.next(term).await {
                Ok(input) => self.feed(input),
                Err(over) => return over,
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input, &mut self.out);
    }

    fn show_numbers(&mut self) {
        let now = self.clock.now().mono;
        if now < self.numbers_at {
            self.numbers_due = Some(self.numbers_at);
            return;
        }
        self.numbers_at = now + NUMBERS_EVERY;
        self.numbers_due = None;
        self.gauges.show(&self.core.counters());
    }

    /// The next input, or the end.
    async fn next(&mut self, term: &Term) -> Result<Input, Over> {
        let deadline = self.core.next_deadline();
        tokio::select! {
            biased;
            () = self.wires.stop.stopped() => Err(Over::Stopped),
            changed = self.wires.leadership.changed() => {
                if changed.is_err() {
                    return Err(Over::Overtaken);
                }
                self.still_leading(term).await.map(|()| Input::Tick)
            }
            (id, result) = committed(&mut self.committing) => {
                self.committing = None;
                Ok(Input::Committed { id, result })
            }
            event = self.wires.events.recv() => match event {
                Some(event) => Ok(Input::Scheduler(event)),
                None => Err(Over::DriverEnded("the driver has ended".to_owned())),
            },
            Some((probe, result)) = self.wires.probed.recv() => Ok(Input::Probed { probe, result }),
            Some(question) = self.wires.questions.recv() => Ok(self.question(question)),
            () = self.clock.until(deadline) => Ok(Input::Tick),
            // Nothing happens: the numbers of the last inputs are still to be shown.
            () = self.clock.until(self.numbers_due) => Ok(Input::Tick),
        }
    }

    fn question(&mut self, question: Question) -> Input {
        self.next_request += 1;
        let request = self.next_request;
        self.waiting.insert(request, question.answer);
        Input::Api {
            request,
            call: question.call,
        }
    }

    /// Waits while it is in doubt whether the term lasts.
    async fn still_leading(&mut self, term: &Term) -> Result<(), Over> {
        loop {
            let now = self.wires.leadership.borrow_and_update().clone();
            match now {
                Leadership::Leading { term: now } if now == *term => return Ok(()),
                Leadership::Suspended => {}
                Leadership::Leading { .. }
                | Leadership::Standby { .. }
                | Leadership::Refused { .. } => return Err(Over::Overtaken),
            }
            tokio::select! {
                () = self.wires.stop.stopped() => return Err(Over::Stopped),
                changed = self.wires.leadership.changed() => {
                    if changed.is_err() {
                        return Err(Over::Overtaken);
                    }
                }
            }
        }
    }

    async fn carry_out(&mut self) -> Option<Over> {
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Scheduler(command) => {
                    if self.wires.commands.send(command).await.is_err() {
                        return Some(Over::DriverEnded("the driver has ended".to_owned()));
                    }
                }
                Output::Commit { id, txn } => {
                    let commit = self.wires.store.commit(txn);
                    self.committing = Some(Box::pin(async move { (id, commit.await) }));
                }
                Output::Reply { request, answer } => {
                    if let Some(waiting) = self.waiting.remove(&request) {
                        // Whoever asked may have gone away.
                        let _ = waiting.send(*answer);
                    }
                }
                Output::Probe { probe, order } => self.wires.prober.order(probe, order),
                Output::Note { level, text } => match level {
                    NoteLevel::Info => tracing::info!("{text}"),
                    NoteLevel::Warn => tracing::warn!("{text}"),
                    NoteLevel::Error => tracing::error!("{text}"),
                },
                Output::Deposed { words } => return Some(Over::Deposed(words)),
                Output::DriverEnded { words } => return Some(Over::DriverEnded(words)),
            }
        }
        // Who does not wait any more needs no answer.
        if self.waiting.len() > MAX_WAITING {
            self.waiting.retain(|_, waiting| !waiting.is_closed());
        }
        None
    }
}

async fn committed(committing: &mut Option<Committing>) -> (u64, Result<(), CommitError>) {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}
