//! What a framework author links: scheduler and executor drivers, offer matching, a test harness.
//!
//! Floor 2. Everything that decides is a pure core (no clock, no socket, no random source of its own): the scheduler
//! driver in [`scheduler::core`], the machinery around a [`Scheduler`] in [`framework::core`]. Shells around the cores
//! carry messages and nothing else.
//!
//! Invariant: a framework that uses this crate needs no other way to the cluster.

pub mod executor;
pub mod framework;
pub mod offers;
pub mod scheduler;
pub mod store;
pub mod testing;

pub use framework::{Context, Decline, RunConfig, RunError, Scheduler, run};
