//! The agent: it offers a host's resources to the leading master and runs the tasks that come back.
//!
//! [`core`] decides, as a pure state machine over a ledger of records; [`log`] keeps the records; [`containerizer`]
//! makes containers and takes them away; [`sandbox`] reads what tasks leave; [`shell`] is the process around them, with
//! the executors' socket and the link to the master. Every container has an executor process of its own
//! (`mezzo-executor`), which outlives the agent.
//! Floor 3. Invariant: a task never dies because its agent did; nothing that a master, an executor or a payload says
//! can make the agent fall over.

#![cfg(target_os = "linux")]

pub mod containerizer;
pub mod core;
pub mod detect;
pub mod flags;
pub mod layout;
pub mod log;
pub mod sandbox;
pub mod shell;
mod sys;

pub use flags::Flags;
pub use shell::{Running, StartError, start};
