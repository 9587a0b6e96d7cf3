//! Leader election, leader detection and a transactional store, on ZooKeeper or embedded.
//!
//! Floor 1 of the house. A daemon joins an election as a [`Contender`]; while it leads it holds a
//! [`Term`], the right to act, and the term's [`Store`] refuses every write of a term that is over.
//! Everybody else finds the leader with a [`Detector`].
//!
//! Invariant: no timer, socket or disk decides who leads. The rules are in [`election::core`], which is
//! pure; the shells carry its requests out. Invariant: a lost session is a state to recover from, never a
//! reason to give up.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod detector;
pub mod election;
mod readiness;
pub mod store;
pub mod target;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod zk;

pub use detector::{Detector, Leader, WatchError};
pub use election::{Candidate, Contender, JoinError, Leadership, Term};
pub use mezzo_model::Epoch;
pub use store::{CommitError, Expect, LoadError, Op, Record, Store, Txn};
pub use target::{Target, TargetError, ZkTarget};
