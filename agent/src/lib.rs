//! The agent: executors, tasks, containers, and the write-ahead log of updates.

#![cfg(target_os = "linux")]

pub mod containerizer;
pub mod core;
pub mod layout;
pub mod log;
