//! How a daemon opens its port, written once for all four daemons.
//!
//! Floor 0. A daemon gives an [`axum::Router`] (REST routes, gRPC services, pages) and gets: a listener that is closed
//! by default ([`Bind`]), HTTP/1.1 and HTTP/2 without TLS side by side on it ([`serve`]), Basic authentication in front
//! of all but the few open paths ([`Guard`]), `/health` and `/metrics` ([`Vitals`]), and an end that lets answers under
//! way finish ([`Stop`]).
//!
//! Invariant: this crate knows no message and no daemon. What a path means is decided by whoever gives the router.

mod bind;
mod guard;
mod serve;
mod stop;
mod vitals;

pub use bind::{Bind, Door, OpenError, reachable};
pub use guard::{Guard, Principal};
pub use serve::{GRACE, MAX_CONNECTIONS, serve};
pub use stop::Stop;
pub use vitals::{Health, Metrics, Vitals};

/// The body limit for a request that is not a stream, in bytes. Routes may set a lower one.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
