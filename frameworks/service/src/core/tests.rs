//! Stories, told through the world of `testing`.

mod deployments;
mod failover;
mod launches;
mod trouble;
