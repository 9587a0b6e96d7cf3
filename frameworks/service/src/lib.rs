//! The service framework: long-running apps behind Marathon's REST API.
//!
//! [`core::Core`] decides, as a pure machine; [`api`] turns HTTP into its calls and its answers into Marathon's JSON;
//! [`store`] writes its records; [`shell`] carries messages between them, the SDK's driver and the election.
//!
//! Invariant: the framework reaches the cluster through the SDK and keeps its state in the coordination store, as
//! any author outside this repository would.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod core;
pub mod flags;
pub mod shell;
pub mod store;

pub use flags::Flags;
pub use shell::{Running, StartError, start};
