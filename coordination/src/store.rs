//! The cluster's durable state: keys, values and versions, changed by transactions that one term fences.
//!
//! Three implementations stand behind one [`Store`]: ZooKeeper, a local file (redb) and memory; one conformance
//! suite holds for all. A key's version is 1 when it is created and grows by one with each put; deleted
//! and created again it starts at 1 again. A leader that knows a key's version therefore knows the next one.
//!
//! Invariant: whether a commit happened is only in doubt for [`CommitError::Unavailable`]. Invariant: commits are
//! applied in the order in which they were handed in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) mod embedded;
pub mod memory;
pub mod zk_core;
pub mod zk_ops;
pub(crate) mod zookeeper;

/// The longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 1024;
/// The largest value, in bytes. What ZooKeeper would not take in one piece is cut up by the store.
pub const VALUE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most operations in one transaction.
pub const TXN_MAX_OPS: usize = 2048;
/// The most that a transaction may weigh without its values, in bytes: [`Txn::weight_bytes`].
pub const TXN_MAX_WEIGHT_BYTES: usize = 900 * 1024;
/// The most that the values of one transaction may have together, in bytes.
pub const TXN_MAX_VALUES_BYTES: usize = 64 * 1024 * 1024;

/// One key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A path: parts separated by `/`, none empty.
    pub key: String,
    /// What was put.
    pub value: Bytes,
    /// How often it was put since it was created.
    pub version: u64,
}

/// What must hold for an operation to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That the key does not exist.
    Absent,
    /// That the key exists with this version.
    Version(u64),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates the key or replaces its value.
    Put {
        /// Which key.
        key: String,
        /// Its new value.
        value: Bytes,
        /// What must hold before.
        expect: Expect,
    },
    /// Removes the key. With [`Expect::Any`] it may be missing already.
    Delete {
        /// Which key.
        key: String,
        /// What must hold before.
        expect: Expect,
    },
    /// Changes nothing, but must hold.
    Check {
        /// Which key.
        key: String,
        /// What must hold.
        expect: Expect,
    },
}

/// Steps that happen together or not at all. A key stands in at most one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The steps.
    pub ops: Vec<Op>,
}

/// Why a commit did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The term is over; this commit did not happen, and none of this term ever will.
    #[error("the term is over: a later one has begun, or this contender has left the election")]
    Fenced,
    /// An expectation did not hold; nothing happened.
    #[error("operation {index} of the transaction expects a version that its key does not have")]
    Conflict {
        /// The first operation whose expectation did not hold.
        index: usize,
    },
    /// The store does not take so much at once; nothing happened.
    #[error("too large for the store: {words}")]
    TooLarge {
        /// What was too large, and what would be accepted.
        words: String,
    },
    /// A key that is no path, or that stands in two operations; nothing happened.
    #[error("operation {index} of the transaction: {words}")]
    BadKey {
        /// The operation.
        index: usize,
        /// What was wrong, and what would be accepted.
        words: String,
    },
    /// The store went away while it was asked: the commit happened, or it never will.
    #[error("the store became unavailable; whether the transaction happened is unknown")]
    Unavailable,
}

/// Why a load failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The term is over.
    #[error("the term is over: a later one has begun, or this contender has left the election")]
    Fenced,
    /// The store cannot be read.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Something lies in the store that this version did not write.
    #[error("`{key}` cannot be read from the store: {words}")]
    Corrupt {
        /// Where.
        key: String,
        /// What is wrong with it.
        words: String,
    },
}

impl Op {
    /// The key that the operation names.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What the operation expects.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Check { expect, .. } => {
                *expect
            }
        }
    }
}

impl Expect {
    /// Whether a key with this version (`None`: it does not exist) is what is expected.
    pub fn holds(self, version: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

impl Txn {
    /// A transaction without steps; committing it only asks whether the term still lasts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>, expect: Expect) -> Self {
        self.ops.push(Op::Put {
            key: key.into(),
            value: value.into(),
            expect,
        });
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.ops.push(Op::Delete {
            key: key.into(),
            expect,
        });
        self
    }

    /// Adds a check.
    #[must_use]
    pub fn check(mut self, key: impl Into<String>, expect: Expect) -> Self {
        self.ops.push(Op::Check {
            key: key.into(),
            expect,
        });
        self
    }

    /// What the transaction weighs without its values: its keys as a store may have to write them, and a
    /// little for each step.
    pub fn weight_bytes(&self) -> usize {
        self.ops
            .iter()
            .map(|op| path::encoded_len(op.key()) + 256)
            .sum()
    }

    /// Checks what every store refuses: keys that are no paths or stand twice, and what is too large.
    ///
    /// # Errors
    /// `BadKey` or `TooLarge`.
    pub fn check_limits(&self) -> Result<(), CommitError> {
        let too_large = |words: String| Err(CommitError::TooLarge { words });
        if self.ops.len() > TXN_MAX_OPS {
            return too_large(format!(
                "a transaction of {} operations; at most {TXN_MAX_OPS} are allowed",
                self.ops.len()
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut values_bytes = 0;
        for (index, op) in self.ops.iter().enumerate() {
            path::check(op.key()).map_err(|words| CommitError::BadKey { index, words })?;
            if !seen.insert(op.key()) {
                let words = format!("`{}` stands in two operations of one transaction", op.key());
                return Err(CommitError::BadKey { index, words });
            }
            if let Op::Put { key, value, .. } = op {
                values_bytes += value.len();
                if value.len() > VALUE_MAX_BYTES {
                    return too_large(format!(
                        "the value of `{key}` has {} bytes; at most {VALUE_MAX_BYTES} are allowed",
                        value.len()
                    ));
                }
            }
        }
        if values_bytes > TXN_MAX_VALUES_BYTES {
            return too_large(format!(
                "a transaction with {values_bytes} bytes of values; at most {TXN_MAX_VALUES_BYTES} are allowed"
            ));
        }
        let weight = self.weight_bytes();
        if weight > TXN_MAX_WEIGHT_BYTES {
            return too_large(format!(
                "a transaction whose keys weigh {weight} bytes; at most {TXN_MAX_WEIGHT_BYTES} are allowed, split it"
            ));
        }
        Ok(())
    }
}

/// A future that a backend returns.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What stands behind a [`Store`]. The conformance suite of this crate says what it must do.
pub trait Backend: Send + Sync + fmt::Debug {
    /// All records whose key starts with a text, in the order of their keys.
    fn load(&self, prefix: String) -> StoreFuture<Result<Vec<Record>, LoadError>>;

    /// Takes a transaction, which has passed [`Txn::check_limits`], into the queue during this call; the future
    /// tells how it ended.
    fn commit(&self, txn: Txn) -> StoreFuture<Result<(), CommitError>>;
}

/// The cluster's state, as one term may read and write it. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

impl Store {
    /// A store on a backend.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// All records whose key starts with a text (`""`: all), in the order of their keys.
    ///
    /// # Errors
    /// `Unavailable` while nothing can be read, `Corrupt` if a record was not written by this program.
    pub fn load(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<Record>, LoadError>> + Send + 'static + use<> {
        self.backend.load(prefix.to_owned())
    }

    /// Commits a transaction: all of it, durably, or nothing. It takes its place in the queue by this call, not
    /// when the future is first polled, so commits made one after another happen in that order.
    ///
    /// # Errors
    /// Only after `Unavailable` is it open whether the transaction happened.
    pub fn commit(
        &self,
        txn: Txn,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + 'static + use<> {
        match txn.check_limits() {
            Ok(()) => self.backend.commit(txn),
            Err(refused) => Box::pin(std::future::ready(Err(refused))),
        }
    }
}

pub mod path;
