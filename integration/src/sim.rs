//! A whole cluster in one process, from a seed.

pub mod net;
pub mod queue;
pub mod trace;
