//! The master: offers resources of agents to frameworks, and keeps every promise made about them.
//!
//! Floor 3 of the house. [`core`] decides (pure), with [`allocator`] as its own inner core and [`validate`]
//! for what is refused; [`registry`] says what lasts; [`read_model`] answers readers; `shell` and `api`
//! connect all of it to sockets, clocks and the election. [`start`] runs one in this process.
//!
//! Invariant: it knows no framework by name, and no agent but through messages; every act carries the term's epoch.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod allocator;
mod api;
pub mod core;
mod flags;
mod front;
pub mod keys;
pub mod read_model;
pub mod registry;
mod shell;
#[cfg(test)]
mod testing;
pub mod validate;

pub use flags::Flags;
pub use shell::{Running, StartError, start};
