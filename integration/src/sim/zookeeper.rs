//! A model of ZooKeeper: sessions, a tree of nodes, zxids, one-shot watches, `multi`, expiry in virtual time.
//!
//! It answers the requests of `mezzo_coordination::zk` as a healthy ensemble does; what makes an ensemble
//! unhealthy from a
//! client's side (messages lost or late, connections broken, nobody answering) is the simulated network's work. A test
//! gives the same random requests to this model and to a real server and compares every answer.
//!
//! Invariant: pure. The same inputs give the same outputs, and no request panics.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mezzo_coordination::zk::{
    Answer, CreateMode, Failure, Request, Stat, WriteOp, Written, ZkError,
};
use mezzo_model::Millis;

/// What a client says on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// Opens a session, or comes back to one.
    Hello {
        /// The session to come back to.
        session: Option<i64>,
        /// The timeout that is asked for.
        timeout: Millis,
    },
    /// Nothing but that it lives.
    Ping,
    /// A request.
    Request {
        /// Its number on this session.
        xid: u64,
        /// What is asked.
        call: Request,
    },
    /// Ends the session.
    Close,
}

/// What the server says on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToClient {
    /// The session stands on this connection.
    Welcome {
        /// Its number.
        session: i64,
        /// The timeout that was granted.
        timeout: Millis,
    },
    /// There is no such session, or no longer; the server hangs up.
    Expired,
    /// The server lives.
    Pong,
    /// The answer to a request.
    Reply {
        /// Which.
        xid: u64,
        /// The answer.
        result: Result<Answer, Failure>,
    },
    /// A watch fired.
    Fired {
        /// The request that set it.
        xid: u64,
    },
}

#[derive(Clone, Debug, Default)]
struct Node {
    data: Bytes,
    stat: Stat,
    /// How many children were ever created: the next sequential one gets this number.
    creates: i32,
    children: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Session {
    timeout: Millis,
    expires: Millis,
    conn: Option<u64>,
    ephemerals: BTreeSet<String>,
    /// Watches that fired, the newest last. On each new connection they are told again: a real client asks then about
    /// every watch that it still waits for, as what was told on a connection that broke may not have arrived.
    fired: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WatchKind {
    Children,
    Node,
}

/// One ensemble. `conn` numbers are the caller's.
#[derive(Clone, Debug)]
pub struct ZkModel {
    tick: Millis,
    zxid: i64,
    next_session: i64,
    nodes: BTreeMap<String, Node>,
    sessions: BTreeMap<i64, Session>,
    conns: BTreeMap<u64, i64>,
    watches: BTreeMap<(String, WatchKind), BTreeSet<(i64, u64)>>,
}

/// At most this many of a session's watches are told again. A client here waits for two at most.
const FIRED_MAX: usize = 64;

type Out = Vec<(u64, ToClient)>;

/// A change that was made and is undone if a later one of its `multi` fails.
#[derive(Debug)]
enum Undo {
    Created {
        path: String,
        parent: Node,
        owner: Option<i64>,
    },
    Set {
        path: String,
        before: Node,
    },
    Deleted {
        path: String,
        before: Node,
        parent: Node,
    },
}

/// A watch that a change sets off.
type Event = (String, WatchKind);

impl ZkModel {
    /// An empty ensemble that grants sessions from 2 to 20 ticks.
    pub fn new(tick: Millis) -> Self {
        let nodes = BTreeMap::from([("/".to_owned(), Node::default())]);
        Self {
            tick: Millis(tick.0.max(1)),
            zxid: 0,
            next_session: 1,
            nodes,
            sessions: BTreeMap::new(),
            conns: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }

    /// The number of the last change.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    /// A node's data, for checks from outside.
    pub fn peek(&self, path: &str) -> Option<&Bytes> {
        self.nodes.get(path).map(|node| &node.data)
    }

    /// The paths of all nodes at and under one, in order.
    pub fn paths<'a>(&'a self, under: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.nodes
            .keys()
            .map(String::as_str)
            .filter(move |path| path.starts_with(under))
    }

    /// How many sessions live.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// When [`ZkModel::tick`] is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.sessions.values().map(|session| session.expires).min()
    }

    /// Expires what is due.
    pub fn tick(&mut self, now: Millis, out: &mut Out) {
        let due: Vec<i64> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(conn) = self.end_session(id, out) {
                self.conns.remove(&conn);
                out.push((conn, ToClient::Expired));
            }
        }
    }

    /// Takes what a client says on a connection, and appends what the server says on any.
    pub fn handle(&mut self, now: Millis, conn: u64, message: FromClient, out: &mut Out) {
        self.tick(now, out);
        match message {
            FromClient::Hello {
                session: None,
                timeout,
            } => {
                let id = self.next_session;
                self.next_session += 1;
                self.zxid += 1;
                let timeout = Millis(timeout.0.clamp(self.tick.0 * 2, self.tick.0 * 20));
                let session = Session {
                    timeout,
                    expires: Millis::ZERO,
                    conn: None,
                    ephemerals: BTreeSet::new(),
                    fired: VecDeque::new(),
                };
                self.sessions.insert(id, session);
                self.attach(now, conn, id, out);
            }
            FromClient::Hello {
                session: Some(id), ..
            } => self.attach(now, conn, id, out),
            FromClient::Ping => {
                if self.touch(now, conn, out).is_some() {
                    out.push((conn, ToClient::Pong));
                }
            }
            FromClient::Request { xid, call } => {
                if let Some(id) = self.touch(now, conn, out) {
                    let result = self.perform(id, xid, call, out);
                    out.push((conn, ToClient::Reply { xid, result }));
                }
            }
            FromClient::Close => {
                if let Some(id) = self.touch(now, conn, out) {
                    self.end_session(id, out);
                    self.conns.remove(&conn);
                }
            }
        }
    }

    /// A connection broke. Its session lives on until it expires.
    pub fn broken(&mut self, conn: u64) {
        if let Some(id) = self.conns.remove(&conn)
            && let Some(session) = self.sessions.get_mut(&id)
            && session.conn == Some(conn)
        {
            session.conn = None;
        }
    }

    /// Another server leads the ensemble, or the only one was started again: every connection is broken, and
    /// every session
    /// gets its whole timeout once more.
    pub fn elect(&mut self, now: Millis) {
        self.conns.clear();
        for session in self.sessions.values_mut() {
            session.conn = None;
            session.expires = expiry(now, session.timeout, self.tick);
        }
    }

    fn attach(&mut self, now: Millis, conn: u64, id: i64, out: &mut Out) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return out.push((conn, ToClient::Expired));
        };
        // A session that moves is heard on its new connection only.
        if let Some(before) = session.conn.replace(conn) {
            self.conns.remove(&before);
        }
        session.expires = expiry(now, session.timeout, self.tick);
        self.conns.insert(conn, id);
        out.push((
            conn,
            ToClient::Welcome {
                session: id,
                timeout: session.timeout,
            },
        ));
        for xid in session.fired.iter().copied() {
            out.push((conn, ToClient::Fired { xid }));
        }
    }

    /// The session of a connection, which lives for another timeout.
    fn touch(&mut self, now: Millis, conn: u64, out: &mut Out) -> Option<i64> {
        let id = self.conns.get(&conn).copied();
        let Some((id, session)) = id.and_then(|id| Some((id, self.sessions.get_mut(&id)?))) else {
            out.push((conn, ToClient::Expired));
            return None;
        };
        session.expires = expiry(now, session.timeout, self.tick);
        Some(id)
    }

    fn end_session(&mut self, id: i64, out: &mut Out) -> Option<u64> {
        let session = self.sessions.remove(&id)?;
        self.zxid += 1;
        for waiting in self.watches.values_mut() {
            waiting.retain(|(owner, _)| *owner != id);
        }
        self.watches.retain(|_, waiting| !waiting.is_empty());
        let mut events = Vec::new();
        for path in session.ephemerals {
            self.remove(&path, &mut events);
        }
        self.fire(events, out);
        session.conn
    }

    fn perform(
        &mut self,
        id: i64,
        xid: u64,
        call: Request,
        out: &mut Out,
    ) -> Result<Answer, Failure> {
        match call {
            Request::Get { path, .. } => {
                let node = self.nodes.get(&path).ok_or(ZkError::NoNode)?;
                Ok(Answer::Data {
                    data: node.data.clone(),
                    stat: node.stat(),
                })
            }
            Request::Exists { path, watch } => {
                let stat = self.nodes.get(&path).map(Node::stat);
                if watch {
                    self.watch(id, xid, path, WatchKind::Node);
                }
                Ok(Answer::Exists(stat))
            }
            Request::Children { path, watch, .. } => {
                let node = self.nodes.get(&path).ok_or(ZkError::NoNode)?;
                let answer = Answer::Children {
                    names: node.children.iter().cloned().collect(),
                    stat: node.stat(),
                };
                if watch {
                    self.watch(id, xid, path, WatchKind::Children);
                }
                Ok(answer)
            }
            Request::Write(op) => {
                let ops = vec![op];
                match self.change(id, ops, out) {
                    Ok(mut written) => Ok(Answer::Written(written.remove(0))),
                    Err((_, error)) => Err(error.into()),
                }
            }
            Request::Multi(ops) => match self.change(id, ops, out) {
                Ok(written) => Ok(Answer::Multi(written)),
                Err((index, error)) => Err(Failure::Op { index, error }),
            },
        }
    }

    /// Makes changes, all or none, under one zxid; one that fails has its number too.
    fn change(
        &mut self,
        id: i64,
        ops: Vec<WriteOp>,
        out: &mut Out,
    ) -> Result<Vec<Written>, (usize, ZkError)> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        self.zxid += 1;
        let (mut undo, mut written, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for (index, op) in ops.into_iter().enumerate() {
            match self.apply(id, op, &mut undo, &mut events) {
                Ok(done) => written.push(done),
                Err(error) => {
                    while let Some(step) = undo.pop() {
                        self.take_back(step);
                    }
                    return Err((index, error));
                }
            }
        }
        self.fire(events, out);
        Ok(written)
    }

    fn apply(
        &mut self,
        id: i64,
        op: WriteOp,
        undo: &mut Vec<Undo>,
        events: &mut Vec<Event>,
    ) -> Result<Written, ZkError> {
        match op {
            WriteOp::Create {
                path, data, mode, ..
            } => {
                let path = self.create(id, path, data, mode, undo)?;
                events.push((path.clone(), WatchKind::Node));
                events.push((parent_of(&path).to_owned(), WatchKind::Children));
                Ok(Written::Created { path })
            }
            WriteOp::Set {
                path,
                data,
                version,
            } => {
                let zxid = self.zxid;
                let node = self.nodes.get_mut(&path).ok_or(ZkError::NoNode)?;
                check_version(node, version)?;
                undo.push(Undo::Set {
                    path: path.clone(),
                    before: node.clone(),
                });
                node.data = data;
                node.stat.mzxid = zxid;
                node.stat.version = node.stat.version.wrapping_add(1);
                let version = node.stat.version;
                events.push((path, WatchKind::Node));
                Ok(Written::Set { version })
            }
            WriteOp::Delete { path, version } => {
                let parent = self
                    .nodes
                    .get(parent_of(&path))
                    .ok_or(ZkError::NoNode)?
                    .clone();
                let node = self.nodes.get(&path).ok_or(ZkError::NoNode)?;
                check_version(node, version)?;
                if !node.children.is_empty() {
                    return Err(ZkError::NotEmpty);
                }
                undo.push(Undo::Deleted {
                    path: path.clone(),
                    before: node.clone(),
                    parent,
                });
                self.remove(&path, events);
                Ok(Written::Deleted)
            }
            WriteOp::Check { path, version } => {
                let node = self.nodes.get(&path).ok_or(ZkError::NoNode)?;
                check_version(node, version)?;
                Ok(Written::Checked)
            }
        }
    }

    fn create(
        &mut self,
        id: i64,
        path: String,
        data: Bytes,
        mode: CreateMode,
        undo: &mut Vec<Undo>,
    ) -> Result<String, ZkError> {
        let zxid = self.zxid;
        let parent_path = parent_of(&path).to_owned();
        let parent = self.nodes.get(&parent_path).ok_or(ZkError::NoNode)?;
        let before = parent.clone();
        let path = match mode {
            CreateMode::EphemeralSequential => format!("{path}{:010}", parent.creates),
            CreateMode::Persistent | CreateMode::Ephemeral => path,
        };
        if self.nodes.contains_key(&path) {
            return Err(ZkError::NodeExists);
        }
        if before.stat.ephemeral_owner != 0 {
            return Err(ZkError::NoChildrenForEphemerals);
        }
        let owner = (mode != CreateMode::Persistent).then_some(id);
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ephemeral_owner: owner.unwrap_or(0),
            ..Stat::default()
        };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(parent) = self.nodes.get_mut(&parent_path) {
            parent.creates = parent.creates.wrapping_add(1);
            parent.children.insert(name);
            parent.stat.pzxid = zxid;
        }
        if let Some(session) = owner.and_then(|id| self.sessions.get_mut(&id)) {
            session.ephemerals.insert(path.clone());
        }
        let node = Node {
            data,
            stat,
            creates: 0,
            children: BTreeSet::new(),
        };
        self.nodes.insert(path.clone(), node);
        undo.push(Undo::Created {
            path: path.clone(),
            parent: before,
            owner,
        });
        Ok(path)
    }

    fn remove(&mut self, path: &str, events: &mut Vec<Event>) {
        let Some(node) = self.nodes.remove(path) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&node.stat.ephemeral_owner) {
            session.ephemerals.remove(path);
        }
        let parent_path = parent_of(path);
        if let Some(parent) = self.nodes.get_mut(parent_path) {
            parent
                .children
                .remove(path.rsplit('/').next().unwrap_or_default());
            parent.stat.pzxid = self.zxid;
        }
        events.push((path.to_owned(), WatchKind::Node));
        events.push((path.to_owned(), WatchKind::Children));
        events.push((parent_path.to_owned(), WatchKind::Children));
    }

    fn take_back(&mut self, step: Undo) {
        match step {
            Undo::Created {
                path,
                parent,
                owner,
            } => {
                self.nodes.remove(&path);
                self.nodes.insert(parent_of(&path).to_owned(), parent);
                if let Some(session) = owner.and_then(|id| self.sessions.get_mut(&id)) {
                    session.ephemerals.remove(&path);
                }
            }
            Undo::Set { path, before } => drop(self.nodes.insert(path, before)),
            Undo::Deleted {
                path,
                before,
                parent,
            } => {
                if let Some(session) = self.sessions.get_mut(&before.stat.ephemeral_owner) {
                    session.ephemerals.insert(path.clone());
                }
                self.nodes.insert(parent_of(&path).to_owned(), parent);
                self.nodes.insert(path, before);
            }
        }
    }

    fn watch(&mut self, id: i64, xid: u64, path: String, kind: WatchKind) {
        self.watches
            .entry((path, kind))
            .or_default()
            .insert((id, xid));
    }

    /// Says what was watched for, once. It is said before anything that is answered later.
    fn fire(&mut self, events: Vec<Event>, out: &mut Out) {
        for event in events {
            for (id, xid) in self.watches.remove(&event).unwrap_or_default() {
                let Some(session) = self.sessions.get_mut(&id) else {
                    continue;
                };
                if session.fired.len() >= FIRED_MAX {
                    session.fired.pop_front();
                }
                session.fired.push_back(xid);
                if let Some(conn) = session.conn {
                    out.push((conn, ToClient::Fired { xid }));
                }
            }
        }
    }
}

impl Node {
    fn stat(&self) -> Stat {
        let num_children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        // Every child that came counts once, and once more when it went.
        let cversion = self.creates.wrapping_mul(2).wrapping_sub(num_children);
        Stat {
            num_children,
            cversion,
            ..self.stat
        }
    }
}

/// ZooKeeper expires sessions in groups, at whole ticks.
fn expiry(now: Millis, timeout: Millis, tick: Millis) -> Millis {
    Millis(((now + timeout).0 / tick.0 + 1) * tick.0)
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

fn check_version(node: &Node, version: Option<i32>) -> Result<(), ZkError> {
    match version {
        // ZooKeeper itself writes "any version" as -1.
        None | Some(-1) => Ok(()),
        Some(version) if version == node.stat.version => Ok(()),
        Some(_) => Err(ZkError::BadVersion),
    }
}
