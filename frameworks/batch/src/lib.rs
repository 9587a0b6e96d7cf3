//! The batch framework: jobs and their runs, with Metronome's REST API.
//!
//! Floor 4 of the house: it reaches the cluster through the SDK alone and keeps its state in coordination's store.
//! [`core`] decides; [`api`] is the door for people; [`store`] says how jobs and runs are kept; [`shell`] carries
//! messages between them, the cluster and the clock.
//!
//! Invariant: each run ends with exactly one recorded result, whatever is lost, repeated or late.

pub mod api;
pub mod core;
pub mod flags;
pub mod shell;
pub mod store;

pub use flags::Flags;
pub use shell::{Running, StartError, start};
