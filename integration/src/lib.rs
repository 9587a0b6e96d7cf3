//! Whole clusters, at the top of the house.
//!
//! Floor 6. `real` starts real processes (masters, agents, frameworks, ZooKeeper) on loopback and ends them by pid;
//! `sim` runs the same cores in one process from a seed; `bench` prints what the real ones cost. Nothing below this
//! floor uses it.

pub mod bench;
pub mod client;
pub mod real;
pub mod sim;
