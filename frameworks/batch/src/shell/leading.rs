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
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_sdk::scheduler::{DriverHandle, SchedulerCommand, SchedulerEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::metrics::Gauges;
use crate::api::desk::Question;
use crate::core::{Core, Input, NoteLevel, Output, Reply, RequestId};

/// Most inputs that go in before outputs are carried out: what came together is stored together.
const MAX_TOGETHER: usize = 256;

/// For how long the last transaction of a term is waited for.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Where commands to the cluster go.
pub trait Commands: Send {
    /// Gives a command, after all that were given before; `false` if nobody takes it any more.
    fn give(&self, command: SchedulerCommand) -> impl Future<Output = bool> + Send;
}

impl Commands for DriverHandle {
    async fn give(&self, command: SchedulerCommand) -> bool {
        self.send(command).await.is_ok()
    }
}

impl Commands for mpsc::Sender<SchedulerCommand> {
    async fn give(&self, command: SchedulerCommand) -> bool {
        self.send(command).await.is_ok()
    }
}

/// What a core is connected to.
#[derive(Debug)]
pub struct Wires<C> {
    /// What people ask.
    pub questions: mpsc::Receiver<Question>,
    /// What the cluster says.
    pub events: mpsc::Receiver<SchedulerEvent>,
    /// What is said to the cluster.
    pub commands: C,
    /// Where its state is kept.
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
    /// The core may not act any more.
    Abdicated {
        /// Why, in words.
        reason: String,
        /// The master has removed the framework: its id is of no use any more.
        removed: bool,
    },
    /// What is stored cannot be read, and waiting does not help.
    Unreadable(String),
}

/// Reads the clocks: monotonic since this process began to use them, and wall.
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

    /// What both clocks say.
    pub fn now(&self) -> Now {
        let since = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        Now::new(
            Millis::from(self.start.elapsed()),
            Wall(Millis::from(since).0),
        )
    }

    fn instant(&self, at: Millis) -> Instant {
        self.start + at.to_std()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

type Committing = Pin<Box<dyn Future<Output = (u64, Result<(), CommitError>)> + Send>>;

struct Life<C> {
    core: Core,
    clock: Clock,
    wires: Wires<C>,
    gauges: Gauges,
    waiting: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    committing: Option<Committing>,
    out: Vec<Output>,
}

/// Feeds a core until its term is over. Gives it the name of that.
pub async fn live<C: Commands>(
    core: Core,
    term: &Term,
    clock: Clock,
    wires: Wires<C>,
    gauges: Gauges,
) -> Over {
    let mut life = Life {
        core,
        clock,
        wires,
        gauges,
        waiting: BTreeMap::new(),
        next_request: 0,
        committing: None,
        out: Vec::new(),
    };
    // A core that was loaded may have something to say before anybody asks.
    life.feed(Input::Tick);
    let over = life.go_on(term).await;
    // Whoever reads the store next is to find either all of it or nothing.
    if let Some(committing) = life.committing.take() {
        let _ = tokio::time::timeout(LAST_COMMIT, committing).await;
    }
    over
}

impl<C: Commands> Life<C> {
    async fn go_on(&mut self, term: &Term) -> Over {
        loop {
            if let Some(over) = self.carry_out().await {
                return over;
            }
            self.gauges.show(&self.core.totals());
            match self.next(term).await {
                Ok(first) => {
                    self.feed(first);
                    self.feed_what_is_there();
                }
                Err(over) => return over,
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input, &mut self.out);
    }

    /// What came in meanwhile goes into the same transaction.
    fn feed_what_is_there(&mut self) {
        for _ in 0..MAX_TOGETHER {
            if let Ok(event) = self.wires.events.try_recv() {
                self.feed(Input::Scheduler(event));
            } else if let Ok(question) = self.wires.questions.try_recv() {
                let input = self.question(question);
                self.feed(input);
            } else {
                return;
            }
        }
    }

    fn question(&mut self, question: Question) -> Input {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.waiting.insert(request, question.answer);
        Input::Api {
            request,
            call: question.call,
        }
    }

    /// The next input, or the end.
    async fn next(&mut self, term: &Term) -> Result<Input, Over> {
        let deadline = self.core.next_deadline().map(|at| self.clock.instant(at));
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let committed = async {
            match &mut self.committing {
                Some(committing) => committing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.wires.stop.stopped() => Err(Over::Stopped),
            changed = self.wires.leadership.changed() => {
                if changed.is_err() {
                    return Err(Over::Overtaken);
                }
                self.still_leading(term).await.map(|()| Input::Tick)
            }
            (id, result) = committed => {
                self.committing = None;
                Ok(Input::Committed { id, result })
            }
            event = self.wires.events.recv() => match event {
                Some(event) => Ok(Input::Scheduler(event)),
                None => Err(driver_ended()),
            },
            Some(question) = self.wires.questions.recv() => Ok(self.question(question)),
            () = due => Ok(Input::Tick),
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
                    if !self.wires.commands.give(command).await {
                        return Some(driver_ended());
                    }
                }
                Output::Commit { id, txn } => {
                    let commit = self.wires.store.commit(txn);
                    self.committing = Some(Box::pin(async move { (id, commit.await) }));
                }
                Output::Reply { request, reply } => {
                    if let Some(answer) = self.waiting.remove(&request) {
                        // Whoever asked may have gone away.
                        let _ = answer.send(reply);
                    }
                }
                Output::Abdicate { reason, removed } => {
                    return Some(Over::Abdicated { reason, removed });
                }
                Output::Note { level, text } => match level {
                    NoteLevel::Debug => tracing::debug!("{text}"),
                    NoteLevel::Info => tracing::info!("{text}"),
                    NoteLevel::Warn => tracing::warn!("{text}"),
                },
            }
        }
        // Who does not wait any more needs no answer.
        if self.waiting.len() > crate::api::desk::MAX_WAITING {
            self.waiting.retain(|_, answer| !answer.is_closed());
        }
        None
    }
}

fn driver_ended() -> Over {
    Over::Abdicated {
        reason: "the driver has ended".to_owned(),
        removed: false,
    }
}
