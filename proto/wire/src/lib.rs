//! The messages that go over a wire, their JSON dialect and RecordIO framing (floor 0).
//!
//! [`v1`] holds the Mesos v1 messages (`v1::scheduler`, `v1::executor`, `v1::master`, `v1::agent`
//! and so on), [`link`] the private link between a master and its agents. [`check`] and [`json`]
//! read what comes from outside, [`recordio`] cuts a stream into records, [`grpc`] says what the
//! gRPC door has in place of HTTP's statuses.
//! Invariant: nothing here decides anything, opens anything or does arithmetic. Numbers, names,
//! labels and defaults of the Mesos messages are facts of that protocol and never change; fields of
//! our own start at 1000.

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

pub mod check;
pub mod descriptor;
mod encode;
pub mod grpc;
pub mod json;
pub mod names;
mod raw;
pub mod recordio;
pub mod version;

pub use check::{DecodeCause, DecodeError, Limits, decode_checked, decode_within};
pub use descriptor::Described;
pub use encode::encode;
pub use generated::{link, v1};
