//! The messages that go over a wire, their JSON dialect and RecordIO framing.
//!
//! [`v1`] holds the Mesos v1 messages (`v1::scheduler`, `v1::executor`, `v1::master`, `v1::agent`, ...), [`link`] the
//! private link between a master and its agents.
//! Invariant: nothing here decides anything, opens anything or does arithmetic; numbers, names and defaults of the
//! Mesos messages are facts of that protocol and are never changed, fields of our own start at 1000.

mod generated {
    //! What `build.rs` makes of `defs/`.
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::nursery,
        clippy::unwrap_used
    )]
    tonic::include_proto!("mezzo_include");
    pub use mezzo::{link, v1};
}

pub use generated::{link, v1};
