//! The agent: executors, tasks, containers, and the write-ahead log of updates.

pub mod core;
pub mod log;
