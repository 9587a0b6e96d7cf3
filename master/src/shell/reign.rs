//! One term: a task that owns the core, hands it what happened, and carries out what it says. It never decides.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mezzo_coordination::{CommitError, Contender, Leadership, Store, Term};
use mezzo_door::Stop;
use mezzo_model::ids::StreamId;
use mezzo_model::{Millis, Now, Wall};
use mezzo_wire::link;
use mezzo_wire::v1::scheduler;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::metrics::Board;
use crate::core::{Answer, Core, Input, Note, NoteLevel, Output, Question, Refusal};
use crate::front::{Knock, Outbox};
use crate::keys::{ConnId, ReadId, RequestId};
use crate::read_model::Feed;

/// How often the numbers of `/metrics` are brought up to date.
const PUBLISH: Duration = Duration::from_secs(1);

/// Questions that may wait for a cycle of the allocator.
const MAX_QUESTIONS: usize = 64;

/// Why a term ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// This process is told to stop.
    Stopped,
    /// The election says so.
    Deposed,
    /// The core says so.
    SteppedDown {
        /// Trying again would end in the same way.
        fatal: bool,
        /// Why.
        reason: String,
    },
}

/// What happened, from the outside of the core.
pub(super) struct Ears {
    pub knocks: mpsc::Receiver<Knock>,
    pub gone: mpsc::UnboundedReceiver<ConnId>,
}

/// Who waits for a stream to be taken.
type Opened = oneshot::Sender<Result<StreamId, Refusal>>;

struct Link {
    orders: Outbox<link::MasterMessage>,
    closed: Stop,
}

/// Who reads from the agent stops with it.
impl Drop for Link {
    fn drop(&mut self) {
        self.closed.stop();
    }
}

/// A term under way.
pub(super) struct Reign {
    core: Core,
    store: Store,
    clock: Clock,
    feed: Feed,
    board: Board,
    opening: BTreeMap<ConnId, (Opened, Outbox<scheduler::Event>)>,
    streams: BTreeMap<ConnId, Outbox<scheduler::Event>>,
    links: BTreeMap<ConnId, Link>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<(), Refusal>>>,
    reads: BTreeMap<ReadId, mpsc::Sender<link::SandboxChunk>>,
    questions: Vec<(Question, oneshot::Sender<Result<Answer, Refusal>>)>,
    commits: JoinSet<(u64, Result<(), CommitError>)>,
    next_request: u64,
    end: Option<End>,
    cut: u64,
    published: Option<Instant>,
    changed: bool,
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub fn now(self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now::new(self.start.elapsed().into(), Wall(Millis::from(wall).0))
    }

    fn at(self, at: Millis) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + at.to_std())
    }
}

impl Reign {
    pub fn new(core: Core, term: &Term, clock: Clock, feed: Feed, board: Board) -> Self {
        Self {
            core,
            store: term.store(),
            clock,
            feed,
            board,
            opening: BTreeMap::new(),
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            reads: BTreeMap::new(),
            questions: Vec::new(),
            commits: JoinSet::new(),
            next_request: 0,
            end: None,
            cut: 0,
            published: None,
            changed: false,
        }
    }

    /// Leads until the term ends. `begin` is called once the registry was taken in and the doors may open.
    pub async fn run(
        mut self,
        records: Vec<mezzo_coordination::Record>,
        contender: &mut Contender,
        mut ears: Ears,
        stop: &Stop,
        begin: impl FnOnce(),
    ) -> End {
        let epoch = self.core.config().epoch.clone();
        self.handle(Input::Recovered(records));
        begin();
        let mut paused = false;
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            let deadline = self.core.next_deadline().map(|at| self.clock.at(at));
            let publish = self.publish_at();
            tokio::select! {
                biased;
                () = stop.stopped() => return End::Stopped,
                leadership = contender.changed() => match leadership {
                    Leadership::Leading { term } if term.epoch == epoch => {
                        if std::mem::take(&mut paused) {
                            tracing::info!("the leadership is certain again");
                            self.handle(Input::Resumed);
                        }
                    }
                    Leadership::Suspended => {
                        tracing::warn!("the leadership is in doubt: nothing is done until it is certain");
                        paused = true;
                    }
                    Leadership::Leading { .. } | Leadership::Standby { .. } => return End::Deposed,
                    Leadership::Refused { words } => {
                        return End::SteppedDown { fatal: true, reason: words };
                    }
                },
                Some(ended) = self.commits.join_next(), if !paused => {
                    if let Ok((id, result)) = ended {
                        self.handle(Input::Committed { id, result });
                    }
                }
                Some(conn) = ears.gone.recv(), if !paused => self.on_gone(conn),
                Some(knock) = ears.knocks.recv(), if !paused => self.on_knock(knock),
                () = sleep_until(deadline), if !paused && deadline.is_some() => {
                    self.handle(Input::Tick);
                }
                () = sleep_until(publish), if publish.is_some() => self.publish(),
            }
        }
    }

    fn publish_at(&self) -> Option<tokio::time::Instant> {
        let last = self.published?;
        self.changed
            .then(|| tokio::time::Instant::from_std(last + PUBLISH))
    }

    fn publish(&mut self) {
        self.changed = false;
        self.published = Some(Instant::now());
        let (counters, gauges) = (self.core.counters(), self.core.gauges());
        let (epoch, cut) = (self.core.config().epoch.counter, self.cut);
        self.board.change(|numbers| {
            numbers.is_leading = true;
            numbers.epoch = epoch;
            numbers.counters = counters;
            numbers.gauges = gauges;
            numbers.slow_readers_cut = cut;
        });
    }

    fn on_gone(&mut self, conn: ConnId) {
        if self.streams.remove(&conn).is_some() {
            self.handle(Input::SchedulerGone { conn });
        }
        if self.links.remove(&conn).is_some() {
            self.handle(Input::AgentGone { conn });
        }
    }

    fn on_knock(&mut self, knock: Knock) {
        match knock {
            Knock::Subscribe {
                conn,
                principal,
                stream_id,
                call,
                opened,
                events,
            } => {
                self.opening.insert(conn, (opened, events));
                self.handle(Input::Subscribe {
                    conn,
                    principal,
                    stream_id,
                    call,
                });
            }
            Knock::Call {
                principal,
                stream_id,
                call,
                answer,
            } => {
                let request = self.request(answer);
                self.handle(Input::Call {
                    request,
                    principal,
                    stream_id,
                    call,
                });
            }
            // It went away while it waited for its turn, and nothing will tell so any more.
            Knock::Link { orders, .. } if orders.is_deserted() => {}
            Knock::Link {
                conn,
                orders,
                closed,
            } => {
                self.links.insert(conn, Link { orders, closed });
            }
            // One that was closed may still have messages on the way.
            Knock::Agent { conn, .. } if !self.links.contains_key(&conn) => {}
            Knock::Agent { conn, message } => self.handle(Input::Agent { conn, message }),
            Knock::Operator { call, answer } => {
                let request = self.request(answer);
                self.handle(Input::Operator { request, call });
            }
            Knock::Read {
                read,
                request,
                chunks,
            } => {
                self.reads.insert(read, chunks);
                self.handle(Input::ReadSandbox { read, request });
            }
            Knock::CancelRead(read) => {
                if self.reads.remove(&read).is_some() {
                    self.handle(Input::CancelRead { read });
                }
            }
            Knock::Explain { question, answer } => {
                if self.questions.len() < MAX_QUESTIONS {
                    self.questions.push((question, answer));
                    self.answer_questions();
                } else {
                    let refusal = Refusal::new(503, "too many questions are asked at once");
                    // Who asked may be gone.
                    let _ = answer.send(Err(refusal));
                }
            }
        }
    }

    /// Questions wait for the cycle of the allocator that is due, if one is.
    fn answer_questions(&mut self) {
        let (core, now) = (&self.core, self.clock.now());
        self.questions = std::mem::take(&mut self.questions)
            .into_iter()
            .filter_map(|(question, answer)| match core.explain(now, &question) {
                Some(told) => {
                    // Who asked may be gone.
                    let _ = answer.send(told);
                    None
                }
                None => Some((question, answer)),
            })
            .collect();
    }

    fn request(&mut self, answer: oneshot::Sender<Result<(), Refusal>>) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.replies.insert(request, answer);
        request
    }

    /// Hands one input in, carries out what comes back, and hands in what that causes.
    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut out = Vec::new();
        let mut changes = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.core.handle(self.clock.now(), input, &mut out);
            for output in out.drain(..) {
                match output {
                    Output::Change(change) => changes.push(change),
                    other => inputs.extend(self.carry_out(other)),
                }
            }
        }
        if !self.questions.is_empty() {
            self.answer_questions();
        }
        let core = &self.core;
        self.feed.push(changes, || core.dump());
        self.changed = true;
        if self.published.is_none_or(|last| last.elapsed() >= PUBLISH) {
            self.publish();
        }
    }

    /// Carries one output out; what follows from it at once comes back as an input.
    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Open { conn, stream_id } => {
                let (opened, events) = self.opening.remove(&conn)?;
                self.streams.insert(conn, events);
                if opened.send(Ok(stream_id)).is_err() {
                    return self.cut_stream(conn);
                }
                None
            }
            Output::Refuse { conn, refusal } => {
                if let Some((opened, _)) = self.opening.remove(&conn) {
                    let _ = opened.send(Err(refusal));
                }
                None
            }
            Output::Event { conn, event } => {
                if self
                    .streams
                    .get(&conn)
                    .is_some_and(|events| !events.put(*event))
                {
                    return self.cut_stream(conn);
                }
                None
            }
            Output::ToAgent { conn, message } => {
                if self
                    .links
                    .get(&conn)
                    .is_some_and(|link| !link.orders.put(*message))
                {
                    self.cut += 1;
                    self.links.remove(&conn);
                    return Some(Input::AgentGone { conn });
                }
                None
            }
            Output::Close { conn } => {
                self.streams.remove(&conn);
                self.links.remove(&conn);
                None
            }
            Output::Reply { request, result } => {
                if let Some(answer) = self.replies.remove(&request) {
                    // Who does not wait any more is not told.
                    let _ = answer.send(result);
                }
                None
            }
            Output::Chunk { read, chunk } => self.pass_chunk(read, *chunk),
            Output::Commit { id, txn } => {
                // It takes its place in the queue now; the answer comes when it comes.
                let commit = self.store.commit(txn);
                self.commits.spawn(async move { (id, commit.await) });
                None
            }
            Output::StepDown { reason, fatal } => {
                self.end = Some(End::SteppedDown { fatal, reason });
                None
            }
            Output::Note(note) => {
                log(&note);
                None
            }
            // Gathered by the caller.
            Output::Change(_) => None,
        }
    }

    fn cut_stream(&mut self, conn: ConnId) -> Option<Input> {
        self.cut += 1;
        self.streams.remove(&conn)?;
        Some(Input::SchedulerGone { conn })
    }

    fn pass_chunk(&mut self, read: ReadId, chunk: link::SandboxChunk) -> Option<Input> {
        let is_last = chunk.end.unwrap_or(false);
        let passed = self.reads.get(&read)?.try_send(chunk).is_ok();
        if is_last || !passed {
            self.reads.remove(&read);
        }
        // The reader asks again from where it is.
        (!passed && !is_last).then_some(Input::CancelRead { read })
    }
}

fn log(note: &Note) {
    match note.level {
        NoteLevel::Info => tracing::info!("{}", note.text),
        NoteLevel::Warn => tracing::warn!("{}", note.text),
        NoteLevel::Error => tracing::error!("{}", note.text),
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
