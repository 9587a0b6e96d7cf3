//! A client of the simulated ZooKeeper: what `zookeeper-client` and the election's shell do for a real process.
//!
//! Sessions outlive connections; a broken connection fails what was unanswered with `ConnectionLoss` and is dialled
//! again; a session is over when the server says so, or by the client's own clock when nobody answered for its timeout.

use std::collections::BTreeMap;

use mezzo_coordination::election::core::{Change, Config, Election, Input, Output};
use mezzo_coordination::store::zk_core::{StoreCore, StoreInput, StoreOutput};
use mezzo_coordination::store::zk_ops::Layout;
use mezzo_coordination::zk::{Answer, Failure, Request, WriteOp, ZkError};
use mezzo_coordination::{CommitError, Epoch, LoadError, Record, Txn};
use mezzo_model::time::Millis;

use super::bugs::Bug;
use super::net::{Conn, Host, Side};
use super::payload::Payload;
use super::world::Ctx;

/// How long a client waits before it dials again.
const REDIAL_MS: u64 = 200;

/// Requests of stores are numbered from here, those of the election from 0.
const STORE_REQUESTS: u64 = 1 << 40;

#[derive(Debug)]
struct Session {
    attempt: u64,
    id: Option<i64>,
    timeout: Millis,
    conn: Option<Conn>,
    /// When the server was last heard.
    heard: Millis,
    next_ping: Millis,
    redial_at: Option<Millis>,
    /// Asked and not answered, in order.
    waiting: BTreeMap<u64, Request>,
    /// Asked while there was no connection.
    unsent: Vec<(u64, Request)>,
}

/// What the owner is told.
#[derive(Debug)]
pub enum Told {
    /// The leadership changed.
    Change(Change),
    /// A commit ended.
    Committed {
        /// Which.
        id: u64,
        /// How.
        result: Result<(), CommitError>,
    },
    /// A load ended.
    Loaded {
        /// How.
        result: Result<Vec<Record>, LoadError>,
    },
    /// The resignation is through.
    Resigned,
}

/// One contender or detector, with its session.
#[derive(Debug)]
pub struct Coord {
    zk: Host,
    who: String,
    election: Election,
    session: Option<Session>,
    path: String,
    store: Option<Term>,
    /// Requests on the wire that belong to the store: by number here, the store's own number.
    store_requests: BTreeMap<u64, u64>,
    next_store_request: u64,
    /// How many loads were asked for.
    loads: u64,
    /// What a lost session left unanswered (a planted bug).
    carried: Vec<(u64, Request)>,
    told: Vec<Told>,
    now: Millis,
}

/// The store of the term that is held, or was held last.
#[derive(Debug)]
struct Term {
    epoch: Epoch,
    core: StoreCore,
}

impl Coord {
    /// A member of an election, not yet started. `zk` is ZooKeeper's host.
    pub fn new(zk: Host, who: &str, config: Config) -> Self {
        Self {
            zk,
            who: who.to_owned(),
            path: config.path.clone(),
            election: Election::new(config),
            session: None,
            store: None,
            store_requests: BTreeMap::new(),
            next_store_request: STORE_REQUESTS,
            loads: 0,
            carried: Vec::new(),
            told: Vec::new(),
            now: Millis(0),
        }
    }

    /// Begins.
    pub fn start(&mut self, ctx: &mut Ctx<'_>) -> Vec<Told> {
        self.feed(ctx, Input::Tick);
        std::mem::take(&mut self.told)
    }

    /// Leaves the election.
    pub fn resign(&mut self, ctx: &mut Ctx<'_>) -> Vec<Told> {
        self.store(ctx, StoreInput::Ending);
        self.feed(ctx, Input::Resign);
        std::mem::take(&mut self.told)
    }

    /// Whether a connection is this client's.
    pub fn owns(&self, conn: Conn) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.conn == Some(conn))
    }

    /// Commits a transaction in the term that is held. What comes of it is told later, or at once.
    pub fn commit(&mut self, ctx: &mut Ctx<'_>, id: u64, txn: Txn) -> Vec<Told> {
        match txn.check_limits() {
            Ok(()) => self.store(ctx, StoreInput::Commit { id, txn }),
            Err(error) => self.told.push(Told::Committed {
                id,
                result: Err(error),
            }),
        }
        std::mem::take(&mut self.told)
    }

    /// Reads all records of the term that is held.
    pub fn load(&mut self, ctx: &mut Ctx<'_>) -> Vec<Told> {
        // Only the newest load counts: an earlier one may be older than a commit of the same term.
        self.loads += 1;
        self.store(
            ctx,
            StoreInput::Load {
                id: self.loads,
                prefix: String::new(),
            },
        );
        std::mem::take(&mut self.told)
    }

    fn store(&mut self, ctx: &mut Ctx<'_>, input: StoreInput) {
        let Some(term) = &mut self.store else {
            match input {
                StoreInput::Commit { id, .. } => {
                    self.told.push(Told::Committed {
                        id,
                        result: Err(CommitError::Fenced),
                    });
                }
                StoreInput::Load { .. } => {
                    self.told.push(Told::Loaded {
                        result: Err(LoadError::Fenced),
                    });
                }
                StoreInput::Answered { .. } | StoreInput::Ending | StoreInput::Over => {}
            }
            return;
        };
        let mut out = Vec::new();
        term.core.handle(input, &mut out);
        for output in out {
            match output {
                StoreOutput::Send { request, mut call } => {
                    self.next_store_request += 1;
                    let number = self.next_store_request;
                    self.store_requests.insert(number, request);
                    if ctx.bugs.has(Bug::UnfencedStore) {
                        unfence(&mut call);
                    }
                    self.ask(ctx, number, call);
                }
                StoreOutput::Committed { id, result } => {
                    self.told.push(Told::Committed { id, result });
                }
                StoreOutput::Loaded { id, result } => {
                    if id == self.loads {
                        self.told.push(Told::Loaded { result });
                    }
                }
                StoreOutput::Note { text } => ctx.note(&self.who, format_args!("store: {text}")),
            }
        }
    }

    /// A message from ZooKeeper.
    pub fn message(&mut self, ctx: &mut Ctx<'_>, payload: Payload) -> Vec<Told> {
        self.now = ctx.now.mono;
        match payload {
            Payload::ZkWelcome { session, timeout } => self.welcome(ctx, session, timeout),
            Payload::ZkExpired => self.gone(ctx, "the session is over"),
            Payload::ZkReply { xid, result } => {
                self.hear();
                self.answered(ctx, xid, result);
            }
            Payload::ZkFired { xid } => {
                self.hear();
                if let Some(attempt) = self.attempt() {
                    self.feed(
                        ctx,
                        Input::Fired {
                            attempt,
                            request: xid,
                        },
                    );
                }
            }
            _ => self.hear(),
        }
        std::mem::take(&mut self.told)
    }

    /// The connection broke.
    pub fn broken(&mut self, ctx: &mut Ctx<'_>) -> Vec<Told> {
        let now = ctx.now.mono;
        let mut lost = Vec::new();
        if let Some(session) = &mut self.session {
            session.conn = None;
            session.redial_at = Some(Millis(now.0 + REDIAL_MS));
            lost.extend(std::mem::take(&mut session.waiting).into_keys());
        }
        for request in lost {
            let failure = Failure::Request(ZkError::ConnectionLoss);
            self.answered(ctx, request, Err(failure));
        }
        std::mem::take(&mut self.told)
    }

    /// Time has passed.
    pub fn wake(&mut self, ctx: &mut Ctx<'_>) -> Vec<Told> {
        let now = ctx.now.mono;
        let expired = self
            .session
            .as_ref()
            .is_some_and(|session| now.since(session.heard) >= session.timeout);
        if expired {
            self.gone(ctx, "nobody answered for the session's timeout");
        }
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.redial_at.is_some_and(|at| at <= now))
        {
            self.dial(ctx);
        }
        if let Some(session) = &mut self.session
            && let (Some(conn), true) = (session.conn, session.next_ping <= now)
        {
            session.next_ping = Millis(now.0 + session.timeout.0 / 3);
            ctx.send(conn, Side::Client, Payload::ZkPing);
        }
        self.feed(ctx, Input::Tick);
        std::mem::take(&mut self.told)
    }

    /// When to wake it.
    pub fn next_deadline(&self) -> Option<Millis> {
        let session = self.session.as_ref().map(|session| {
            let ping = session.conn.map(|_| session.next_ping);
            let expiry = Some(session.heard + session.timeout);
            [ping, expiry, session.redial_at]
                .into_iter()
                .flatten()
                .min()
        });
        [session.flatten(), self.election.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn attempt(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.attempt)
    }

    fn hear(&mut self) {
        let now = self.now;
        if let Some(session) = &mut self.session {
            session.heard = now;
        }
    }

    fn feed(&mut self, ctx: &mut Ctx<'_>, input: Input) {
        let mut out = Vec::new();
        self.election.handle(ctx.now, input, &mut out);
        for output in out {
            match output {
                Output::OpenSession { attempt, timeout } => {
                    self.session = Some(Session {
                        attempt,
                        id: None,
                        timeout,
                        conn: None,
                        heard: ctx.now.mono,
                        next_ping: ctx.now.mono,
                        redial_at: None,
                        waiting: BTreeMap::new(),
                        unsent: Vec::new(),
                    });
                    self.dial(ctx);
                }
                Output::CloseSession { attempt } => self.close(ctx, attempt),
                Output::Send {
                    attempt,
                    request,
                    call,
                } => {
                    if self.attempt() == Some(attempt) {
                        self.ask(ctx, request, call);
                    }
                }
                Output::Tell(change) => {
                    ctx.note(&self.who, format_args!("election: {change:?}"));
                    self.take_term(&change);
                    self.told.push(Told::Change(change));
                }
                Output::Resigned => self.told.push(Told::Resigned),
                Output::Note { text, .. } => ctx.note(&self.who, format_args!("election: {text}")),
            }
        }
    }

    fn take_term(&mut self, change: &Change) {
        match change {
            Change::Leading(grant) => {
                if self
                    .store
                    .as_ref()
                    .is_none_or(|term| term.epoch != grant.epoch)
                {
                    let layout = Layout::new(&self.path);
                    let core = StoreCore::new(layout, grant.fence.clone());
                    self.store_requests.clear();
                    self.store = Some(Term {
                        epoch: grant.epoch.clone(),
                        core,
                    });
                }
            }
            Change::Standby { .. } | Change::Suspended | Change::Refused { .. } => {}
        }
    }

    fn dial(&mut self, ctx: &mut Ctx<'_>) {
        let Some(session) = &mut self.session else {
            return;
        };
        match ctx.connect(self.zk) {
            Some(conn) => {
                session.conn = Some(conn);
                session.redial_at = None;
                let hello = Payload::ZkHello {
                    session: session.id,
                    timeout: session.timeout,
                };
                ctx.send(conn, Side::Client, hello);
            }
            None => session.redial_at = Some(Millis(ctx.now.mono.0 + REDIAL_MS)),
        }
    }

    fn welcome(&mut self, ctx: &mut Ctx<'_>, id: i64, timeout: Millis) {
        let now = ctx.now.mono;
        let Some(session) = &mut self.session else {
            return;
        };
        let (first, attempt) = (session.id.is_none(), session.attempt);
        session.id = Some(id);
        session.timeout = timeout;
        session.heard = now;
        session.next_ping = Millis(now.0 + timeout.0 / 3);
        let mut unsent = std::mem::take(&mut session.unsent);
        if first {
            unsent.append(&mut self.carried);
        }
        for (request, call) in unsent {
            self.ask(ctx, request, call);
        }
        let input = if first {
            Input::SessionUp { attempt, timeout }
        } else {
            Input::Reconnected { attempt }
        };
        self.feed(ctx, input);
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, request: u64, call: Request) {
        let Some(session) = &mut self.session else {
            return;
        };
        match (session.conn, session.id) {
            (Some(conn), Some(_)) => {
                session.waiting.insert(request, call.clone());
                ctx.send(
                    conn,
                    Side::Client,
                    Payload::ZkRequest { xid: request, call },
                );
            }
            _ => session.unsent.push((request, call)),
        }
    }

    fn answered(&mut self, ctx: &mut Ctx<'_>, xid: u64, result: Result<Answer, Failure>) {
        let Some(session) = &mut self.session else {
            return;
        };
        session.waiting.remove(&xid);
        let attempt = session.attempt;
        if let Some(request) = self.store_requests.remove(&xid) {
            self.store(ctx, StoreInput::Answered { request, result });
        } else if xid <= STORE_REQUESTS {
            self.feed(
                ctx,
                Input::Answered {
                    attempt,
                    request: xid,
                    result,
                },
            );
        }
    }

    fn close(&mut self, ctx: &mut Ctx<'_>, attempt: u64) {
        if self.attempt() != Some(attempt) {
            return;
        }
        if let Some(Session {
            conn: Some(conn), ..
        }) = self.session.take()
        {
            ctx.send(conn, Side::Client, Payload::ZkClose);
            ctx.close(conn, Side::Client);
        }
        self.store(ctx, StoreInput::Over);
    }

    fn gone(&mut self, ctx: &mut Ctx<'_>, words: &str) {
        let Some(session) = self.session.take() else {
            return;
        };
        if let Some(conn) = session.conn {
            ctx.close(conn, Side::Client);
        }
        if ctx.bugs.has(Bug::UnfencedStore) {
            let unanswered = session.waiting.into_iter().chain(session.unsent);
            self.carried
                .extend(unanswered.filter(|(xid, _)| *xid > STORE_REQUESTS));
        } else {
            self.store(ctx, StoreInput::Over);
        }
        self.feed(
            ctx,
            Input::SessionGone {
                attempt: session.attempt,
                words: words.to_owned(),
            },
        );
    }
}

/// The planted bug of a store without a fence: neither the contender's node nor the epoch's version is checked.
fn unfence(call: &mut Request) {
    if let Request::Multi(ops) = call {
        ops.retain(|op| !matches!(op, WriteOp::Check { .. }));
        for op in ops {
            if let WriteOp::Set { version, .. } = op {
                *version = None;
            }
        }
    }
}
