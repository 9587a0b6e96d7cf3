//! Pure values that every floor computes with: ids, resources, roles, attributes, time, randomness.
//!
//! Floor 0. Wire messages ([`mezzo_wire::v1`]) are turned into these lean types at the doors and back into
//! messages when they leave; what is computed with in between is integers, ordered collections and types that
//! cannot be mixed up.
//!
//! Invariant: nothing here reads a clock, a file, a socket or the kernel's random source, and nothing here can panic on
//! a value that came from outside.

pub mod attributes;
pub mod constraint;
pub mod credentials;
pub mod epoch;
pub mod ids;
pub mod resources;
pub mod rng;
pub mod role;
pub mod task_state;
pub mod time;

pub use epoch::{Epoch, EpochRefusal};
pub use role::Role;
pub use task_state::TaskState;
pub use time::{Millis, Now, Wall};
