//! A cluster of real processes on loopback: ZooKeeper, masters, agents and both frameworks, each with a folder of its
//! own.
//!
//! Every process is a child in its own process group that dies with the test (`PR_SET_PDEATHSIG`), except executors,
//! which outlive their agent on purpose and are ended by [`Cluster`]'s drop, found by the marker in their environment.

mod cluster;
mod daemon;
mod ledger;
pub(crate) mod remains;
mod rest;
mod wait;

pub use cluster::{Cluster, Plan};
pub use daemon::{Daemon, DaemonError};
pub use ledger::{Entry, Ledger};
pub(crate) use remains::processes_of;
pub use rest::{Answer, Rest};
pub use wait::{eventually, eventually_async};
