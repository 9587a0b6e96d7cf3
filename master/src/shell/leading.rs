//! The life of a core: while this master leads, its inputs come together here and its outputs leave from here.
//!
//! Invariant: the core is touched by this task alone, and it never waits for a reader: who does not keep up is cut.
//! While it is in doubt whether this master leads, nothing goes in and nothing comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_coordination::{CommitError, Leadership, Record, Store, Term};
use mezzo_door::{Health, Stop};
use mezzo_model::time::{Millis, Now, Wall};
use mezzo_wire::link::{MasterMessage, SandboxChunk};
use mezzo_wire::v1::scheduler::Event;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::metrics::Meters;
use crate::api::desk::{Brought, Gone, QUEUE_MAX, Standing, Way};
use crate::core::{Config, Core, Input, NoteLevel, Output, Refusal};
use crate::keys::{ConnId, ReadId, RequestId};
use crate::read_model::{self, Feed};

/// Most inputs that go in before this task looks at anything else.
const MAX_TOGETHER: usize = 256;

/// For how long the last writes of a term are waited for when the master is told to stop.
const LAST_COMMIT: Duration = Duration::from_millis(200);

/// What a term is connected to.
pub struct Wires<'a> {
    /// Told where this master stands.
    pub standing: &'a watch::Sender<Standing>,
    /// Told that it can serve.
    pub health: &'a Health,
    /// Counted and measured.
    pub meters: &'a Meters,
    /// Whether this master still leads.
    pub leadership: watch::Receiver<Leadership>,
    /// When to end.
    pub stop: Stop,
    /// The clocks.
    pub clock: Clock,
}

/// Why a term is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// The master was told to stop.
    Stopped,
    /// Another master leads, or this one in a later term.
    Overtaken,
    /// The core, or the registry, cannot go on.
    SteppedDown {
        /// Why, in words.
        reason: String,
        /// Whether trying again would end in the same way.
        fatal: bool,
    },
}

/// Reads the clocks: monotonic since this process began to use them, and wall.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins at zero.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// What both clocks say.
    pub fn now(&self) -> Now {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now::new(Millis::from(self.start.elapsed()), Wall(Millis::from(since).0))
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

/// What waits for the core to open or refuse a stream.
struct Opening {
    opened: oneshot::Sender<Result<String, Refusal>>,
    events: mpsc::Sender<Event>,
}

struct Life<'a> {
    core: Core,
    wires: Wires<'a>,
    store: Store,
    feed: Feed,
    brought: mpsc::Receiver<Brought>,
    gone: mpsc::UnboundedReceiver<Gone>,
    committed: mpsc::UnboundedReceiver<(u64, Result<(), CommitError>)>,
    committing: mpsc::UnboundedSender<(u64, Result<(), CommitError>)>,
    opening: BTreeMap<ConnId, Opening>,
    streams: BTreeMap<ConnId, mpsc::Sender<Event>>,
    links: BTreeMap<ConnId, mpsc::Sender<MasterMessage>>,
    reads: BTreeMap<ReadId, mpsc::Sender<SandboxChunk>>,
    answers: BTreeMap<RequestId, oneshot::Sender<Result<(), Refusal>>>,
    next_request: u64,
    /// Streams, links and readers that were cut while outputs were carried out; the core is told next.
    cut: Vec<Input>,
    out: Vec<Output>,
}

/// Feeds a core until its term is over. Gives the name of that.
pub async fn live(config: Config, term: &Term, records: Vec<Record>, wires: Wires<'_>) -> Over {
    let (bring, brought) = mpsc::channel(QUEUE_MAX);
    let (tell, gone) = mpsc::unbounded_channel();
    let (committing, committed) = mpsc::unbounded_channel();
    let (feed, reader) = read_model::start(config.master.clone());
    let seed = u64::from_le_bytes(first_eight(uuid::Uuid::new_v4().as_bytes()));
    let mut life = Life {
        core: Core::new(config, seed),
        store: term.store(),
        wires,
        feed,
        brought,
        gone,
        committed,
        committing,
        opening: BTreeMap::new(),
        streams: BTreeMap::new(),
        links: BTreeMap::new(),
        reads: BTreeMap::new(),
        answers: BTreeMap::new(),
        next_request: 0,
        cut: Vec::new(),
        out: Vec::new(),
    };
    life.hand_in(Input::Recovered(records));
    if let Some(over) = life.carry_out() {
        return over;
    }
    let way = Way { brought: bring, gone: tell, reader };
    life.wires.standing.send_replace(Standing::Leading(way));
    life.wires.health.good();
    let over = life.go_on(term).await;
    if over == Over::Stopped {
        life.last_commits().await;
    }
    over
}

fn first_eight(bytes: &[u8; 16]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    first
}

impl Life<'_> {
    async fn go_on(&mut self, term: &Term) -> Over {
        loop {
            match self.next(term).await {
                Ok(first) => {
                    self.hand_in(first);
                    self.hand_in_what_is_there();
                }
                Err(over) => return over,
            }
            if let Some(over) = self.carry_out() {
                return over;
            }
            self.wires.meters.show(&self.core);
        }
    }

    fn hand_in(&mut self, input: Input) {
        self.core.handle(self.wires.clock.now(), input, &mut self.out);
    }

    /// What came in meanwhile shares one look at clocks and timers, and one commit.
    fn hand_in_what_is_there(&mut self) {
        for _ in 0..MAX_TOGETHER {
            let input = if let Ok((id, result)) = self.committed.try_recv() {
                Some(Input::Committed { id, result })
            } else if let Ok(brought) = self.brought.try_recv() {
                self.take(brought)
            } else if let Ok(gone) = self.gone.try_recv() {
                self.forget(gone)
            } else {
                return;
            };
            if let Some(input) = input {
                self.hand_in(input);
            }
        }
    }

    /// The next input, or the end.
    async fn next(&mut self, term: &Term) -> Result<Input, Over> {
        loop {
            let deadline = self.core.next_deadline().map(|at| self.wires.clock.instant(at));
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                biased;
                () = self.wires.stop.stopped() => return Err(Over::Stopped),
                changed = self.wires.leadership.changed() => {
                    if changed.is_err() {
                        return Err(Over::Overtaken);
                    }
                    self.still_leading(term).await?;
                    Some(Input::Resumed)
                }
                Some((id, result)) = self.committed.recv() => {
                    Some(Input::Committed { id, result })
                }
                Some(gone) = self.gone.recv() => self.forget(gone),
                Some(brought) = self.brought.recv() => self.take(brought),
                () = due => Some(Input::Tick),
            };
            if let Some(input) = input {
                return Ok(input);
            }
        }
    }

    /// Waits while it is in doubt whether the term lasts.
    async fn still_leading(&mut self, term: &Term) -> Result<(), Over> {
        loop {
            let now = self.wires.leadership.borrow_and_update().clone();
            match now {
                Leadership::Leading { term: now } if now == *term => return Ok(()),
                Leadership::Suspended => {
                    self.wires.health.bad("it is in doubt who leads");
                }
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
            if self.wires.leadership.borrow().term() == Some(term) {
                self.wires.health.good();
            }
        }
    }

    /// Remembers where answers go, and makes an input of what a door brought.
    fn take(&mut self, brought: Brought) -> Option<Input> {
        Some(match brought {
            Brought::Subscribe { conn, principal, stream_id, call, opened, events } => {
                self.opening.insert(conn, Opening { opened, events });
                Input::Subscribe { conn, principal, stream_id, call }
            }
            Brought::Call { principal, stream_id, call, answer } => {
                let request = self.request(answer);
                Input::Call { request, principal, stream_id, call }
            }
            Brought::Link { conn, orders } => {
                self.links.insert(conn, orders);
                return None;
            }
            Brought::Agent { conn, message } => {
                // What a link said before it was cut is not its agent's word any more.
                self.links.contains_key(&conn).then_some(Input::Agent { conn, message })?
            }
            Brought::Operator { call, answer } => {
                let request = self.request(answer);
                Input::Operator { request, call }
            }
            Brought::Read { read, request, chunks } => {
                self.reads.insert(read, chunks);
                Input::ReadSandbox { read, request }
            }
        })
    }

    fn request(&mut self, answer: oneshot::Sender<Result<(), Refusal>>) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.answers.insert(request, answer);
        request
    }

    fn forget(&mut self, gone: Gone) -> Option<Input> {
        match gone {
            Gone::Scheduler(conn) => {
                self.opening.remove(&conn);
                self.streams.remove(&conn).map(|_| Input::SchedulerGone { conn })
            }
            Gone::Agent(conn) => self.links.remove(&conn).map(|_| Input::AgentGone { conn }),
            Gone::Reader(read) => self.reads.remove(&read).map(|_| Input::CancelRead { read }),
        }
    }

    /// Carries outputs out in their order; who cannot be reached is cut, and the core told.
    fn carry_out(&mut self) -> Option<Over> {
        loop {
            for output in std::mem::take(&mut self.out) {
                if let Some(over) = self.do_one(output) {
                    return Some(over);
                }
            }
            if self.cut.is_empty() {
                return None;
            }
            for input in std::mem::take(&mut self.cut) {
                self.hand_in(input);
            }
        }
    }

    fn do_one(&mut self, output: Output) -> Option<Over> {
        match output {
            Output::Open { conn, stream_id } => {
                if let Some(Opening { opened, events }) = self.opening.remove(&conn) {
                    self.streams.insert(conn, events);
                    // A caller that went away meanwhile says so by its stream's end.
                    let _ = opened.send(Ok(stream_id.as_str().to_owned()));
                }
            }
            Output::Refuse { conn, refusal } => {
                if let Some(opening) = self.opening.remove(&conn) {
                    let _ = opening.opened.send(Err(refusal));
                }
            }
            Output::Event { conn, event } => self.tell_scheduler(conn, *event),
            Output::ToAgent { conn, message } => self.tell_agent(conn, *message),
            Output::Chunk { read, chunk } => self.tell_reader(read, *chunk),
            Output::Close { conn } => {
                self.streams.remove(&conn);
                self.links.remove(&conn);
            }
            Output::Reply { request, result } => {
                if let Some(answer) = self.answers.remove(&request) {
                    // Whoever asked may have gone away.
                    let _ = answer.send(result);
                }
            }
            Output::Commit { id, txn } => {
                let commit = self.store.commit(txn);
                let done = self.committing.clone();
                tokio::spawn(async move {
                    // A term that is over wants no answer.
                    let _ = done.send((id, commit.await));
                });
            }
            Output::Change(change) => self.feed.send(change),
            Output::StepDown { reason, fatal } => return Some(Over::SteppedDown { reason, fatal }),
            Output::Note(note) => match note.level {
                NoteLevel::Info => tracing::info!("{}", note.text),
                NoteLevel::Warn => tracing::warn!("{}", note.text),
                NoteLevel::Error => tracing::error!("{}", note.text),
            },
        }
        None
    }

    fn tell_scheduler(&mut self, conn: ConnId, event: Event) {
        if let Some(events) = self.streams.get(&conn)
            && let Err(error) = events.try_send(event)
        {
            self.wires.meters.cut(&error);
            self.streams.remove(&conn);
            self.cut.push(Input::SchedulerGone { conn });
        }
    }

    fn tell_agent(&mut self, conn: ConnId, message: MasterMessage) {
        if let Some(orders) = self.links.get(&conn)
            && let Err(error) = orders.try_send(message)
        {
            self.wires.meters.cut(&error);
            self.links.remove(&conn);
            self.cut.push(Input::AgentGone { conn });
        }
    }

    fn tell_reader(&mut self, read: ReadId, chunk: SandboxChunk) {
        let last = chunk.end() || chunk.error.is_some();
        let Some(chunks) = self.reads.get(&read) else { return };
        let failed = chunks.try_send(chunk).is_err();
        if failed || last {
            self.reads.remove(&read);
        }
        if failed && !last {
            self.cut.push(Input::CancelRead { read });
        }
    }

    /// Whoever reads the registry next is to find what was promised.
    async fn last_commits(&mut self) {
        let all = async {
            // Every commit under way holds a sender.
            let (unused, _) = mpsc::unbounded_channel();
            drop(std::mem::replace(&mut self.committing, unused));
            while self.committed.recv().await.is_some() {}
        };
        let _ = tokio::time::timeout(LAST_COMMIT, all).await;
    }
}
