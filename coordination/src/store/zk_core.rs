//! The store on ZooKeeper, without ZooKeeper: what to send for each transaction, and what the answers mean.
//!
//! Transactions are sent one after another without waiting for answers (a window of them is in flight); the epoch
//! node's version makes each depend on the one before, so that they happen in order or not at all. When the connection
//! breaks, that version tells which of those in flight happened; the others are sent again. So a commit's outcome
//! is open only if the session itself is lost.
//!
//! Invariant: pure, as the election's rules are. Invariant: a commit is answered once.

use std::collections::{BTreeMap, VecDeque};

use super::zk_ops::{self, Body, Fence, Index, Known, Layout, Origin, Plan, Ready};
use super::{CommitError, LoadError, Record, Txn};
use crate::zk::{Access, Answer, Failure, Request, WriteOp, ZkError};

mod landing;
mod load;

use load::Load;

/// What happened.
#[derive(Clone, Debug)]
pub enum StoreInput {
    /// Commit a transaction that has passed [`Txn::check_limits`].
    Commit {
        /// For the answer.
        id: u64,
        /// The transaction.
        txn: Txn,
    },
    /// Read the records whose key starts with a text, as all commits before left them.
    Load {
        /// For the answer.
        id: u64,
        /// The text.
        prefix: String,
    },
    /// A request was answered.
    Answered {
        /// Which [`StoreOutput::Send`].
        request: u64,
        /// The answer.
        result: Result<Answer, Failure>,
    },
    /// The term ends, but its session still answers: what is in flight lands, nothing else is sent.
    Ending,
    /// The term's session is gone: nothing will be answered any more.
    Over,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOutput {
    /// Send a request on the term's session.
    Send {
        /// Its number, for the answer.
        request: u64,
        /// The request.
        call: Request,
    },
    /// A commit ended.
    Committed {
        /// Which.
        id: u64,
        /// How.
        result: Result<(), CommitError>,
    },
    /// A load ended.
    Loaded {
        /// Which.
        id: u64,
        /// How.
        result: Result<Vec<Record>, LoadError>,
    },
    /// A line for the log.
    Note {
        /// The line.
        text: String,
    },
}

/// At most this many commits are in flight.
const FLIGHTS_MAX: usize = 128;
/// No further commit is sent while this much is in flight.
const FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// At most this many commits and loads wait; more are refused.
const JOBS_MAX: usize = 65_536;
/// How often a commit is tried again because a node was not as it was known to be.
const TRIES_MAX: u8 = 5;

/// The store of one term.
#[derive(Debug)]
pub struct StoreCore {
    layout: Layout,
    fence: Fence,
    index: Index,
    /// The epoch node's version after everything in flight.
    sequence: i32,
    serial: u64,
    jobs: VecDeque<Job>,
    flights: VecDeque<Flight>,
    flight_bytes: usize,
    busy: Busy,
    requests: u64,
    pending: BTreeMap<u64, Ask>,
    ending: bool,
    over: bool,
}

#[derive(Debug)]
enum Job {
    Commit { id: u64, txn: Txn, tries: u8 },
    Load { id: u64, prefix: String },
}

#[derive(Debug)]
enum Busy {
    Idle,
    /// The first job needs records that are being read.
    Reading {
        left: usize,
    },
    /// The first job's large values are being written.
    Chunking {
        ready: Ready,
        left: usize,
        failed: bool,
    },
    /// Something in flight failed; nothing is sent until it is known what happened.
    Resolving {
        asked: bool,
    },
    /// The first job is being read.
    Loading(Load),
}

#[derive(Debug)]
struct Flight {
    request: u64,
    id: u64,
    txn: Txn,
    tries: u8,
    /// The epoch node's version that it must find.
    sequence: i32,
    origins: Vec<Origin>,
    undo: Vec<(String, Option<Option<Known>>)>,
    garbage: Vec<String>,
    bytes: usize,
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Lost,
    Refused {
        origin: Option<Origin>,
        error: ZkError,
    },
}

#[derive(Debug)]
enum Ask {
    Flight,
    Read { key: String },
    Chunk,
    Garbage,
    Resolve,
    Load(load::Step),
}

type Out = Vec<StoreOutput>;

impl StoreCore {
    /// The store of a term that has just begun.
    pub fn new(layout: Layout, fence: Fence) -> Self {
        Self {
            sequence: fence.version,
            layout,
            fence,
            index: Index::default(),
            serial: 0,
            jobs: VecDeque::new(),
            flights: VecDeque::new(),
            flight_bytes: 0,
            busy: Busy::Idle,
            requests: 0,
            pending: BTreeMap::new(),
            ending: false,
            over: false,
        }
    }

    /// Whether the term is known to be over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes one input and appends what is to be done.
    pub fn handle(&mut self, input: StoreInput, out: &mut Out) {
        match input {
            StoreInput::Commit { id, txn } => self.on_commit(id, txn, out),
            StoreInput::Load { id, prefix } => {
                if self.over || self.ending {
                    return out.push(StoreOutput::Loaded {
                        id,
                        result: Err(LoadError::Fenced),
                    });
                }
                if self.jobs.len() >= JOBS_MAX {
                    let words = format!("{JOBS_MAX} commits are waiting already");
                    let result = Err(LoadError::Unavailable(words));
                    return out.push(StoreOutput::Loaded { id, result });
                }
                self.jobs.push_back(Job::Load { id, prefix });
                self.pump(out);
            }
            StoreInput::Answered { request, result } => {
                if let Some(ask) = self.pending.remove(&request) {
                    self.on_answer(request, ask, result, out);
                    self.pump(out);
                }
            }
            StoreInput::Ending => self.begin_to_end(out),
            StoreInput::Over => self.finish(out),
        }
    }

    /// Refuses what waits; what is in flight ends as it ends.
    fn begin_to_end(&mut self, out: &mut Out) {
        self.ending = true;
        self.refuse_waiting(out);
        if !matches!(self.busy, Busy::Resolving { .. }) {
            self.busy = Busy::Idle;
        }
        self.pump(out);
    }

    fn on_commit(&mut self, id: u64, txn: Txn, out: &mut Out) {
        if self.over || self.ending {
            return out.push(StoreOutput::Committed {
                id,
                result: Err(CommitError::Fenced),
            });
        }
        if self.jobs.len() >= JOBS_MAX {
            let words = format!("{JOBS_MAX} commits are waiting already");
            let result = Err(CommitError::TooLarge { words });
            return out.push(StoreOutput::Committed { id, result });
        }
        self.jobs.push_back(Job::Commit { id, txn, tries: 0 });
        self.pump(out);
    }

    fn send(&mut self, ask: Ask, call: Request, out: &mut Out) -> u64 {
        self.requests += 1;
        self.pending.insert(self.requests, ask);
        out.push(StoreOutput::Send {
            request: self.requests,
            call,
        });
        self.requests
    }

    /// Sends what can be sent. The first job decides: nothing overtakes it.
    fn pump(&mut self, out: &mut Out) {
        if self.ending && self.flights.is_empty() {
            return self.finish(out);
        }
        while !self.over && matches!(self.busy, Busy::Idle) {
            let full = self.flights.len() >= FLIGHTS_MAX || self.flight_bytes > FLIGHT_BYTES_MAX;
            let Some(job) = self.jobs.front() else { return };
            let Job::Commit { txn, tries, .. } = job else {
                if !self.flights.is_empty() {
                    return;
                }
                if let Some(Job::Load { id, prefix }) = self.jobs.pop_front() {
                    self.start_load(id, prefix, out);
                }
                continue;
            };
            if full {
                return;
            }
            let (sequence, serial, careful) = (self.sequence, self.serial, *tries > 0);
            let plan = zk_ops::plan(
                txn,
                &self.layout,
                &self.fence,
                &self.index,
                sequence,
                serial,
                careful,
            );
            let alone = self.flights.is_empty();
            match plan {
                Plan::Ready(ready) if ready.chunks.is_empty() => self.launch(ready, out),
                // What is in flight may fail yet and change what is known: these wait for it.
                Plan::Ready(_) | Plan::Read(_) | Plan::Conflict(_) if !alone => return,
                Plan::Ready(ready) => self.write_chunks(ready, out),
                Plan::Read(keys) => self.read(keys, out),
                Plan::Conflict(index) => {
                    self.answer_first(Err(CommitError::Conflict { index }), out)
                }
                Plan::TooLarge(bytes) => {
                    let words =
                        format!("the transaction needs {bytes} bytes in one request; split it");
                    self.answer_first(Err(CommitError::TooLarge { words }), out);
                }
            }
        }
    }

    fn answer_first(&mut self, result: Result<(), CommitError>, out: &mut Out) {
        if let Some(Job::Commit { id, txn, .. }) = self.jobs.pop_front() {
            for op in &txn.ops {
                self.index.tidy(op.key());
            }
            out.push(StoreOutput::Committed { id, result });
        }
    }

    fn read(&mut self, keys: Vec<String>, out: &mut Out) {
        self.busy = Busy::Reading { left: keys.len() };
        for key in keys {
            let call = Request::get(self.layout.record(&key));
            self.send(Ask::Read { key }, call, out);
        }
    }

    /// Writes the chunks of the first job's large values. They lie beside what is referred to, so any number of
    /// tries leaves the record whole.
    fn write_chunks(&mut self, ready: Ready, out: &mut Out) {
        self.serial = ready.next_serial;
        let contender = WriteOp::Check {
            path: self.fence.contender.clone(),
            version: None,
        };
        let calls: Vec<Request> = ready
            .chunks
            .iter()
            .map(|op| Request::Multi(vec![contender.clone(), op.clone()]))
            .collect();
        self.busy = Busy::Chunking {
            left: calls.len(),
            ready,
            failed: false,
        };
        for call in calls {
            self.send(Ask::Chunk, call, out);
        }
    }

    /// Sends the first job's transaction, and goes on as if it had happened.
    fn launch(&mut self, ready: Ready, out: &mut Out) {
        let Some(Job::Commit { id, txn, tries }) = self.jobs.pop_front() else {
            return;
        };
        self.serial = ready.next_serial;
        let bytes = ready.ops.iter().map(|(op, _)| op.request_bytes()).sum();
        let (ops, origins): (Vec<WriteOp>, Vec<Origin>) = ready.ops.into_iter().unzip();
        let undo = ready
            .after
            .into_iter()
            .map(|(key, known)| {
                let before = self.index.set(&key, known);
                (key, before)
            })
            .collect();
        for origin in &origins {
            if let Origin::Dir(dir) = origin {
                // It did not exist, so everything in it will be known.
                self.index.set_dir(dir, true);
            }
        }
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.flight_bytes += bytes;
        let request = self.send(Ask::Flight, Request::Multi(ops), out);
        let garbage = ready.garbage;
        let flight = Flight {
            request,
            id,
            txn,
            tries,
            sequence,
            origins,
            undo,
            garbage,
            bytes,
            outcome: None,
        };
        self.flights.push_back(flight);
    }

    fn on_answer(
        &mut self,
        request: u64,
        ask: Ask,
        result: Result<Answer, Failure>,
        out: &mut Out,
    ) {
        match ask {
            Ask::Flight => self.on_landed(request, result, out),
            Ask::Read { key } => self.on_read(key, result, out),
            Ask::Chunk => self.on_chunk(result, out),
            // What is left lying is swept by a later term's load.
            Ask::Garbage => {}
            Ask::Resolve => self.on_resolved(result, out),
            Ask::Load(step) => self.on_loaded(step, result, out),
        }
    }

    fn on_read(&mut self, key: String, result: Result<Answer, Failure>, out: &mut Out) {
        let known = match result {
            Ok(Answer::Data { data, stat }) => {
                let chunks = match Body::decode(&data) {
                    Some(Body::Chunks(chunks)) => Some(chunks),
                    Some(Body::Inline(_)) | None => None,
                };
                Some(Known {
                    version: stat.version,
                    chunks,
                })
            }
            Err(Failure::Request(ZkError::NoNode)) => None,
            Err(Failure::Request(ZkError::SessionExpired)) => return self.finish(out),
            Ok(_) | Err(_) => {
                let call = Request::get(self.layout.record(&key));
                self.send(Ask::Read { key }, call, out);
                return;
            }
        };
        self.index.set(&key, known);
        if let Busy::Reading { left } = &mut self.busy {
            *left -= 1;
            if *left == 0 {
                self.busy = Busy::Idle;
            }
        }
    }

    fn on_chunk(&mut self, result: Result<Answer, Failure>, out: &mut Out) {
        if let Err(Failure::Op {
            index: 0,
            error: ZkError::NoNode,
        }) = result
        {
            return self.fenced(out);
        }
        let Busy::Chunking { left, failed, .. } = &mut self.busy else {
            return;
        };
        let missing_dir = matches!(
            result,
            Err(Failure::Op {
                index: 1,
                error: ZkError::NoNode
            })
        );
        *left -= 1;
        *failed |= result.is_err();
        let done = *left == 0;
        if missing_dir && let Some(Job::Commit { txn, .. }) = self.jobs.front() {
            // The commit itself would make the directory, but comes later: make it now.
            let dirs = txn.ops.iter().map(|op| super::path::encode(op.key()).0);
            for dir in dirs.collect::<std::collections::BTreeSet<_>>() {
                let call = Request::create(self.layout.dir(&dir), "", Access::Private);
                self.send(Ask::Garbage, call, out);
                self.index.touch_dir(&dir);
            }
        }
        if !done {
            return;
        }
        let Busy::Chunking { ready, failed, .. } = std::mem::replace(&mut self.busy, Busy::Idle)
        else {
            return;
        };
        if !failed {
            return self.launch(ready, out);
        }
        // Some may be there: away with them, and once more under other names.
        for op in ready.chunks {
            self.send(Ask::Garbage, Request::delete(op.path()), out);
        }
        if let Some(Job::Commit { tries, .. }) = self.jobs.front_mut() {
            *tries += 1;
            if *tries > TRIES_MAX {
                self.answer_first(Err(CommitError::Unavailable), out);
            }
        }
    }

    /// The term is over because somebody else's has begun, or our place in the queue is gone.
    fn fenced(&mut self, out: &mut Out) {
        out.push(StoreOutput::Note {
            text: format!(
                "term {} is over: its commits are refused",
                self.fence.counter
            ),
        });
        self.finish(out);
    }

    /// Answers everything that is open.
    fn finish(&mut self, out: &mut Out) {
        if self.over {
            return;
        }
        self.over = true;
        self.pending.clear();
        for flight in std::mem::take(&mut self.flights) {
            let result = match flight.outcome {
                Some(Outcome::Done) => Ok(()),
                Some(Outcome::Refused { .. }) => Err(CommitError::Fenced),
                Some(Outcome::Lost) | None => Err(CommitError::Unavailable),
            };
            out.push(StoreOutput::Committed {
                id: flight.id,
                result,
            });
        }
        self.refuse_waiting(out);
    }

    fn refuse_waiting(&mut self, out: &mut Out) {
        if let Busy::Loading(load) = &self.busy {
            let (id, result) = (load.id, Err(LoadError::Fenced));
            out.push(StoreOutput::Loaded { id, result });
            self.busy = Busy::Idle;
        }
        for job in std::mem::take(&mut self.jobs) {
            out.push(match job {
                Job::Commit { id, .. } => StoreOutput::Committed {
                    id,
                    result: Err(CommitError::Fenced),
                },
                Job::Load { id, .. } => StoreOutput::Loaded {
                    id,
                    result: Err(LoadError::Fenced),
                },
            });
        }
    }
}
