//! What a framework author links: scheduler and executor drivers, offer matching, a test harness.
//!
//! Floor 2. Everything that decides is a pure core (no clock, no socket, no random source of its own): the
//! scheduler driver in [`scheduler::core`]. Shells around the cores carry messages and nothing else.
//!
//! Invariant: a framework that uses this crate needs no other way to the cluster.

pub mod executor;
pub mod offers;
pub mod scheduler;
