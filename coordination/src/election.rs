//! Contending for leadership, and the right to act that comes with it.
//!
//! A [`Contender`] stays in the election until it resigns or is dropped. It never gives up: a lost session
//! leads to a new one and to a new place in the queue.
//!
//! Invariant: two may believe that they lead, only one can act: a [`Term`]'s store refuses what a later
//! term has overtaken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mezzo_model::Epoch;
use tokio::sync::{oneshot, watch};

use crate::detector::Leader;
use crate::store::Store;
use crate::target::Target;

pub mod core;
pub(crate) mod embedded;
pub(crate) mod zookeeper;

/// Contenders of the masters' election are named `json.info_NNNNNNNNNN`, which is what Mesos' tools look for.
pub const MASTER_PREFIX: &str = "json.info_";

/// Contenders of a framework's own election are named `leader_NNNNNNNNNN`.
pub const FRAMEWORK_PREFIX: &str = "leader_";

/// The most that a contender may say about itself, in bytes.
pub const INFO_MAX_BYTES: usize = 64 * 1024;

/// Who wants to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What others read: JSON that holds `address { hostname, ip, port }`. MasterInfo for a master.
    pub info: Bytes,
    /// The contender's name up to its sequence number; one election has one prefix.
    pub prefix: Arc<str>,
}

impl Candidate {
    /// A master, told by its MasterInfo as JSON.
    pub fn master(info: impl Into<Bytes>) -> Self {
        Self {
            info: info.into(),
            prefix: MASTER_PREFIX.into(),
        }
    }

    /// A framework's instance, told by JSON that holds `address { hostname, ip, port }`.
    pub fn framework(info: impl Into<Bytes>) -> Self {
        Self {
            info: info.into(),
            prefix: FRAMEWORK_PREFIX.into(),
        }
    }
}

/// The right to act as leader, until a later term begins.
#[derive(Clone, Debug)]
pub struct Term {
    /// Which cluster, and the how-manieth term of it. Every act carries it.
    pub epoch: Epoch,
    store: Store,
}

impl Term {
    /// Joins an epoch to the store that it fences. Tests and simulators build terms so.
    pub fn new(epoch: Epoch, store: Store) -> Self {
        Self { epoch, store }
    }

    /// The cluster's state, writable for as long as this term lasts.
    pub fn store(&self) -> Store {
        self.store.clone()
    }
}

/// Two terms are the same if their epochs are.
impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch
    }
}

impl Eq for Term {}

/// What a contender may believe about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Somebody else leads, or nobody that is known. A term that was held before is over.
    Standby {
        /// Who leads, if it is known and its address can be read.
        leader: Option<Leader>,
    },
    /// This contender leads. Told again with the same epoch after `Suspended`, nothing was lost between.
    Leading {
        /// The right to act.
        term: Term,
    },
    /// The session is in doubt: do not act, and do not forget. `Leading` with the same epoch or `Standby` follows.
    Suspended,
    /// This contender must not lead, and stays out of the election: the state was written by a newer version.
    /// Nothing follows.
    Refused {
        /// Why, and what to do.
        words: String,
    },
}

impl Leadership {
    /// The term, while this contender leads.
    pub fn term(&self) -> Option<&Term> {
        match self {
            Self::Leading { term } => Some(term),
            Self::Standby { .. } | Self::Suspended | Self::Refused { .. } => None,
        }
    }
}

/// Why an election could not be joined. That ZooKeeper cannot be reached is no reason.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// A fixed leader is not elected.
    #[error(
        "{0} names one fixed leader; to contend, give zk://host:port/path or file:///directory"
    )]
    NotAnElection(String),
    /// What the contender says about itself is too long.
    #[error("the contender's description has {bytes} bytes; at most {INFO_MAX_BYTES} are allowed")]
    InfoTooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// What the contender says about itself names no address.
    #[error("the contender's description names no address that others could dial: {0}")]
    InfoWithoutAddress(String),
    /// The prefix cannot be part of a ZooKeeper name.
    #[error("`{0}` cannot name a contender: use letters, digits, `.`, `_` and `-`")]
    Prefix(String),
    /// The directory of an embedded target cannot be used.
    #[error("cannot use {dir} for the election: {source}")]
    Directory {
        /// The directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
}

/// One place in an election, until resigned or dropped.
#[derive(Debug)]
pub struct Contender {
    leadership: watch::Receiver<Leadership>,
    resign: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

impl Contender {
    /// Joins the election at a target. Call it within a tokio runtime.
    ///
    /// `session_timeout` is what ZooKeeper is asked for; it bounds how long a dead leader is missed. The
    /// embedded election notices a death at once and ignores it.
    ///
    /// # Errors
    /// Only for what no waiting can cure; a server that cannot be reached is tried for ever.
    pub fn join(
        target: &Target,
        candidate: Candidate,
        session_timeout: Duration,
    ) -> Result<Self, JoinError> {
        check(&candidate)?;
        let (resign, resigned) = oneshot::channel();
        let leadership = match target {
            Target::Fixed(address) => return Err(JoinError::NotAnElection(address.clone())),
            Target::ZooKeeper(zk) => zookeeper::contend(zk, candidate, session_timeout, resigned),
            Target::Embedded(dir) => {
                embedded::contend(dir, candidate, resigned).map_err(|source| {
                    JoinError::Directory {
                        dir: dir.display().to_string(),
                        source,
                    }
                })?
            }
        };
        Ok(Self {
            leadership,
            resign: Some(resign),
        })
    }

    /// The leadership as known now.
    pub fn current(&self) -> Leadership {
        self.leadership.borrow().clone()
    }

    /// Waits for the next change and returns the leadership then. Changes between two calls are merged, so
    /// compare epochs: `Leading` after `Leading` can be another term.
    pub async fn changed(&mut self) -> Leadership {
        if self.leadership.changed().await.is_err() {
            // The task that sends has ended with its runtime; nothing will ever change again.
            std::future::pending::<()>().await;
        }
        self.leadership.borrow_and_update().clone()
    }

    /// Waits until this contender leads, and returns its term.
    pub async fn leading(&mut self) -> Term {
        loop {
            if let Leadership::Leading { term } = &*self.leadership.borrow_and_update() {
                return term.clone();
            }
            if self.leadership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A second handle on the same knowledge.
    pub fn subscribe(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Leaves the election and gives a held leadership back at once: the term's store refuses from here on, and
    /// the next contender is told without waiting for a session to time out. Returns when that is done, or after
    /// two seconds if ZooKeeper does not answer.
    pub async fn resign(mut self) {
        if let Some(resign) = self.resign.take() {
            let (done, wait) = oneshot::channel();
            if resign.send(done).is_ok() {
                // An error means that the task has ended, and with it the leadership.
                let _ = wait.await;
            }
        }
    }
}

fn check(candidate: &Candidate) -> Result<(), JoinError> {
    let name_is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if candidate.prefix.is_empty() || !candidate.prefix.chars().all(name_is_good) {
        return Err(JoinError::Prefix(candidate.prefix.to_string()));
    }
    if candidate.info.len() > INFO_MAX_BYTES {
        return Err(JoinError::InfoTooLarge {
            bytes: candidate.info.len(),
        });
    }
    if let Err(err) = crate::detector::info::address(&candidate.info) {
        return Err(JoinError::InfoWithoutAddress(err.to_string()));
    }
    Ok(())
}
