//! How transactions become ZooKeeper operations: pure, and the same for a real ensemble and a simulated one.
//!
//! Under the election's path lies `mezzo/`: `format`, `cluster` (its id), `epoch` (the counter) and
//! `store/<dir>/<name>`,
//! one node a record ([`super::path`] names them). A commit is one `multi`: it checks the leader's contender
//! node, sets the
//! epoch node (its counter unchanged) at the version that the commit before left, and then does its work. So a commit
//! of an earlier term fails, commits happen in their order or not at all, and the epoch node's version tells
//! afterwards how many did.
//!
//! A value that is too large for one request lies in chunk nodes beside its record; the record's node names them,
//! and is changed last.
//!
//! Invariant: a term is the only writer, so what its index knows is true. Where somebody wrote by hand, ZooKeeper's own
//! versions refuse, and the index is read anew.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Expect, Op, Txn, path};
use crate::zk::{Access, CreateMode, WriteOp};

/// The format of everything under `mezzo/`.
pub const FORMAT: u32 = 1;
/// A request of ZooKeeper has at most 1 MiB (`jute.maxbuffer`); this leaves room for its header.
pub const REQUEST_MAX_BYTES: usize = 960 * 1024;
/// The largest part of a value that one chunk node holds.
pub const CHUNK_BYTES: usize = 512 * 1024;
/// A value up to this size stands in its record's node, if the transaction has room.
pub const INLINE_MAX_BYTES: usize = 256 * 1024;

const TAG_INLINE: u8 = 1;
const TAG_CHUNKS: u8 = 2;

/// Where things lie under an election's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ours alone.
    pub root: String,
    /// The records' directories.
    pub records: String,
    /// [`FORMAT`] as text.
    pub format: String,
    /// The cluster's id.
    pub cluster: String,
    /// The epoch's counter as text; its version counts the commits.
    pub epoch: String,
}

impl Layout {
    /// The layout under a path without trailing slash.
    pub fn new(path: &str) -> Self {
        let root = format!("{path}/mezzo");
        Self {
            records: format!("{root}/store"),
            format: format!("{root}/format"),
            cluster: format!("{root}/cluster"),
            epoch: format!("{root}/epoch"),
            root,
        }
    }

    /// The node of a directory, by its name there.
    pub fn dir(&self, dir: &str) -> String {
        format!("{}/{dir}", self.records)
    }

    /// The node of a key's record.
    pub fn record(&self, key: &str) -> String {
        let (dir, name) = path::encode(key);
        format!("{}/{dir}/{name}", self.records)
    }
}

/// What proves to ZooKeeper that a term lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The leader's own contender node.
    pub contender: String,
    /// The epoch node.
    pub epoch: String,
    /// The term's counter, which is the epoch node's data.
    pub counter: u64,
    /// The epoch node's version when the term began.
    pub version: i32,
}

/// Chunk nodes that hold a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// The counter of the term that wrote them.
    pub term: u64,
    /// Which of that term's large values.
    pub serial: u64,
    /// How many.
    pub count: u32,
    /// The bytes of all together.
    pub bytes: u64,
    /// A checksum over all together (FNV-1a).
    pub sum: u64,
}

/// What a record's node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The value.
    Inline(Bytes),
    /// Where the value lies.
    Chunks(Chunks),
}

impl Body {
    /// As it is written.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Inline(value) => {
                let mut data = BytesMut::with_capacity(value.len() + 1);
                data.put_u8(TAG_INLINE);
                data.put_slice(value);
                data.freeze()
            }
            Self::Chunks(chunks) => {
                let mut data = BytesMut::with_capacity(37);
                data.put_u8(TAG_CHUNKS);
                data.put_u64(chunks.term);
                data.put_u64(chunks.serial);
                data.put_u32(chunks.count);
                data.put_u64(chunks.bytes);
                data.put_u64(chunks.sum);
                data.freeze()
            }
        }
    }

    /// Reads what [`Body::encode`] wrote; `None` for anything else.
    pub fn decode(data: &Bytes) -> Option<Self> {
        let mut rest = data.get(1..)?;
        match *data.first()? {
            TAG_INLINE => Some(Self::Inline(data.slice(1..))),
            TAG_CHUNKS if rest.len() == 36 => {
                use bytes::Buf as _;
                let chunks = Chunks {
                    term: rest.get_u64(),
                    serial: rest.get_u64(),
                    count: rest.get_u32(),
                    bytes: rest.get_u64(),
                    sum: rest.get_u64(),
                };
                let most = super::VALUE_MAX_BYTES as u64;
                let count = chunks.bytes.div_ceil(CHUNK_BYTES as u64);
                let good = chunks.bytes <= most && u64::from(chunks.count) == count;
                good.then_some(Self::Chunks(chunks))
            }
            _ => None,
        }
    }
}

/// FNV-1a, 64 bits.
pub fn checksum(value: &[u8]) -> u64 {
    value.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The chunk nodes of a record's node.
pub fn chunk_paths(record: &str, chunks: &Chunks) -> Vec<String> {
    let Chunks {
        term,
        serial,
        count,
        ..
    } = chunks;
    (0..*count)
        .map(|at| format!("{record}%-{term:016x}-{serial:08x}-{at:04x}"))
        .collect()
}

/// Which term wrote a chunk node, by its name; `None` for other nodes.
pub fn chunk_term(name: &str) -> Option<(u64, u64)> {
    let (_, rest) = name.split_once("%-")?;
    let mut parts = rest.split('-');
    let term = u64::from_str_radix(parts.next()?, 16).ok()?;
    let serial = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((term, serial))
}

/// What is known about an existing record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its node's version.
    pub version: i32,
    /// Where its value lies, if not in its node.
    pub chunks: Option<Chunks>,
}

impl Known {
    /// The record's version: 1 when it was created.
    pub fn record_version(&self) -> u64 {
        // ZooKeeper counts in 32 bits and wraps.
        u64::from(self.version.cast_unsigned()) + 1
    }
}

/// What the term knows about the records.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// By key. `None`: it was looked for and is not there.
    known: BTreeMap<String, Option<Known>>,
    /// The directories that exist, and whether every record in them is in `known`.
    dirs: BTreeMap<String, bool>,
    /// Whether every directory is in `dirs`.
    all_dirs: bool,
}

/// What the index says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    There(Known),
    Absent,
    Unknown,
}

impl Index {
    fn lookup(&self, key: &str, dir: &str) -> Lookup {
        match (self.known.get(key), self.dirs.get(dir)) {
            (Some(Some(known)), _) => Lookup::There(*known),
            (Some(None), _) | (None, Some(true)) => Lookup::Absent,
            (None, None) if self.all_dirs => Lookup::Absent,
            (None, _) => Lookup::Unknown,
        }
    }

    /// Takes in what is true about a key, and returns what was known before.
    pub fn set(&mut self, key: &str, now: Option<Known>) -> Option<Option<Known>> {
        self.known.insert(key.to_owned(), now)
    }

    /// Puts back what [`Index::set`] returned.
    pub fn restore(&mut self, key: &str, before: Option<Option<Known>>) {
        match before {
            Some(before) => drop(self.known.insert(key.to_owned(), before)),
            None => drop(self.known.remove(key)),
        }
    }

    /// Forgets a key: it is read before it is used again.
    pub fn forget(&mut self, key: &str) {
        self.known.remove(key);
        let (dir, _) = path::encode(key);
        if let Some(complete) = self.dirs.get_mut(&dir) {
            *complete = false;
        }
    }

    /// Drops a key that is known to be absent, so that the index does not grow with what was deleted.
    pub fn tidy(&mut self, key: &str) {
        if matches!(self.known.get(key), Some(None)) {
            self.known.remove(key);
        }
    }

    /// A directory exists; `complete` if every record in it is known.
    pub fn set_dir(&mut self, dir: &str, complete: bool) {
        self.dirs.insert(dir.to_owned(), complete);
    }

    /// A directory exists; what is in it stays as known as it was.
    pub fn touch_dir(&mut self, dir: &str) {
        self.dirs.entry(dir.to_owned()).or_insert(false);
    }

    /// A directory that was to be made was not.
    pub fn unset_dir(&mut self, dir: &str) {
        self.dirs.remove(dir);
    }

    /// A directory is gone, though it was known to be there.
    pub fn forget_dir(&mut self, dir: &str) {
        self.dirs.remove(dir);
        self.all_dirs = false;
    }

    /// Every directory is known now.
    pub fn set_all_dirs(&mut self) {
        self.all_dirs = true;
    }
}

/// Why an operation of a `multi` stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// To fence: the contender's node.
    Contender,
    /// To fence and to keep the order: the epoch node.
    Sequence,
    /// To make a directory.
    Dir(String),
    /// Operation of the transaction.
    Op(usize),
}

/// A transaction as operations.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Chunk nodes to create before, one request each.
    pub chunks: Vec<WriteOp>,
    /// The `multi`, and why each operation stands in it.
    pub ops: Vec<(WriteOp, Origin)>,
    /// What is true of its keys once it has happened.
    pub after: Vec<(String, Option<Known>)>,
    /// Chunk nodes that nobody needs once it has happened.
    pub garbage: Vec<String>,
    /// The number of the term's next large value.
    pub next_serial: u64,
}

/// What a transaction needs.
#[derive(Clone, Debug)]
pub enum Plan {
    /// These keys' records must be read first.
    Read(Vec<String>),
    /// An expectation does not hold.
    Conflict(usize),
    /// It does not fit into one request.
    TooLarge(usize),
    /// It can be sent.
    Ready(Ready),
}

/// Maps a transaction to operations.
///
/// `sequence` is the epoch node's version that it must find, `serial` numbers the term's large values. With `careful`,
/// nothing is assumed about a key that is not known; without, a key that must be absent is tried.
pub fn plan(
    txn: &Txn,
    layout: &Layout,
    fence: &Fence,
    index: &Index,
    sequence: i32,
    serial: u64,
    careful: bool,
) -> Plan {
    let (mut unknown, mut assumed) = (Vec::new(), Vec::new());
    let mut found = Vec::with_capacity(txn.ops.len());
    for (at, op) in txn.ops.iter().enumerate() {
        let key = op.key();
        let (dir, name) = path::encode(key);
        let known = match (index.lookup(key, &dir), op) {
            (Lookup::There(known), _) => Some(known),
            (Lookup::Absent, _)
            | (
                Lookup::Unknown,
                Op::Check {
                    expect: Expect::Any,
                    ..
                },
            ) => None,
            (
                Lookup::Unknown,
                Op::Put {
                    expect: Expect::Absent,
                    ..
                },
            ) if !careful => {
                assumed.push(key.to_owned());
                None
            }
            (Lookup::Unknown, _) => {
                unknown.push(key.to_owned());
                None
            }
        };
        if unknown.is_empty() && !op.expect().holds(known.as_ref().map(Known::record_version)) {
            // The first that does not hold is told, so one before it must not be guessed.
            return if assumed.is_empty() {
                Plan::Conflict(at)
            } else {
                Plan::Read(assumed)
            };
        }
        found.push((known, dir, name));
    }
    if !unknown.is_empty() {
        return Plan::Read(unknown);
    }
    let spilled = match choose_spilled(txn, layout, fence, &found) {
        Ok(spilled) => spilled,
        Err(bytes) => return Plan::TooLarge(bytes),
    };
    let mut ready = fenced(fence, sequence, serial);
    for (at, (op, (known, dir, name))) in txn.ops.iter().zip(&found).enumerate() {
        let node = format!("{}/{dir}/{name}", layout.records);
        let origin = Origin::Op(at);
        let before = known.map(|known| known.version);
        match op {
            Op::Put { key, value, .. } => {
                if known.is_none() {
                    make_dir(layout, index, dir, &mut ready);
                }
                let chunks = spilled[at].then(|| spill(&node, fence.counter, value, &mut ready));
                let body = chunks.map_or_else(|| Body::Inline(value.clone()), Body::Chunks);
                let data = body.encode();
                let (op, version) = match before {
                    Some(version) => (
                        WriteOp::Set {
                            path: node.clone(),
                            data,
                            version: Some(version),
                        },
                        version.wrapping_add(1),
                    ),
                    None => (create(node.clone(), data), 0),
                };
                ready.ops.push((op, origin));
                ready
                    .after
                    .push((key.clone(), Some(Known { version, chunks })));
            }
            Op::Delete { key, .. } => {
                if before.is_some() {
                    ready.ops.push((
                        WriteOp::Delete {
                            path: node.clone(),
                            version: before,
                        },
                        origin,
                    ));
                }
                ready.after.push((key.clone(), None));
            }
            Op::Check { .. } => {
                if before.is_some() {
                    ready.ops.push((
                        WriteOp::Check {
                            path: node.clone(),
                            version: before,
                        },
                        origin,
                    ));
                }
            }
        }
        let changes = !matches!(op, Op::Check { .. });
        if let (
            true,
            Some(Known {
                chunks: Some(chunks),
                ..
            }),
        ) = (changes, known)
        {
            ready.garbage.extend(chunk_paths(&node, chunks));
        }
    }
    Plan::Ready(ready)
}

fn fenced(fence: &Fence, sequence: i32, next_serial: u64) -> Ready {
    let contender = WriteOp::Check {
        path: fence.contender.clone(),
        version: None,
    };
    let step = WriteOp::Set {
        path: fence.epoch.clone(),
        data: fence.counter.to_string().into(),
        version: Some(sequence),
    };
    let ops = vec![(contender, Origin::Contender), (step, Origin::Sequence)];
    Ready {
        chunks: Vec::new(),
        ops,
        after: Vec::new(),
        garbage: Vec::new(),
        next_serial,
    }
}

fn create(path: String, data: Bytes) -> WriteOp {
    WriteOp::Create {
        path,
        data,
        mode: CreateMode::Persistent,
        access: Access::Private,
    }
}

fn make_dir(layout: &Layout, index: &Index, dir: &str, ready: &mut Ready) {
    let origin = Origin::Dir(dir.to_owned());
    if !index.dirs.contains_key(dir) && !ready.ops.iter().any(|(_, o)| *o == origin) {
        ready
            .ops
            .push((create(layout.dir(dir), Bytes::new()), origin));
    }
}

/// Which values go into chunk nodes: those that are large, and then the largest until the rest fits.
fn choose_spilled(
    txn: &Txn,
    layout: &Layout,
    fence: &Fence,
    found: &[(Option<Known>, String, String)],
) -> Result<Vec<bool>, usize> {
    const POINTER_BYTES: usize = 37;
    // For each operation its node, and a directory that may have to be made.
    let fixed = |dir: &str, name: &str| {
        2 * (layout.records.len() + dir.len() + 90) + name.len() + POINTER_BYTES
    };
    let mut total = fence.contender.len() + fence.epoch.len() + 300;
    total += found
        .iter()
        .map(|(_, dir, name)| fixed(dir, name))
        .sum::<usize>();
    let mut spilled = vec![false; txn.ops.len()];
    let mut inline = Vec::new();
    for (at, op) in txn.ops.iter().enumerate() {
        let Op::Put { value, .. } = op else { continue };
        if value.len() > INLINE_MAX_BYTES {
            spilled[at] = true;
        } else {
            total += value.len();
            inline.push((value.len(), at));
        }
    }
    inline.sort_unstable();
    while total > REQUEST_MAX_BYTES {
        match inline.pop() {
            Some((bytes, at)) if bytes > 0 => {
                spilled[at] = true;
                total -= bytes;
            }
            _ => return Err(total),
        }
    }
    Ok(spilled)
}

fn spill(node: &str, term: u64, value: &Bytes, ready: &mut Ready) -> Chunks {
    let chunks = Chunks {
        term,
        serial: ready.next_serial,
        count: u32::try_from(value.len().div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX),
        bytes: value.len() as u64,
        sum: checksum(value),
    };
    ready.next_serial += 1;
    for (at, path) in chunk_paths(node, &chunks).into_iter().enumerate() {
        let from = at * CHUNK_BYTES;
        let data = value.slice(from..value.len().min(from + CHUNK_BYTES));
        ready.chunks.push(create(path, data));
    }
    chunks
}
