//! Versions: of Mezzo, of the Mesos wire that it speaks, and of the formats between its own parts.
//!
//! Invariant: a format's number grows with each change that an older reader would misread; a reader
//! refuses a newer number in words.

/// Mezzo's own version.
pub const MEZZO_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of Mesos that is told to clients: what they may ask of it, they may ask of us.
pub const MESOS_VERSION: &str = "1.11.0";

/// The private link between master and agent (`Hello.link_version`).
pub const LINK_VERSION: u32 = 1;

/// The socket between an agent and its executors (the word after `mezzo-executor` in the hello).
pub const EXECUTOR_SOCKET_VERSION: u32 = 1;
