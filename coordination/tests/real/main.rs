//! Election, detection and stores against the real things: a ZooKeeper server, a directory, processes that are killed.

#![allow(clippy::unwrap_used)]

mod child;
mod conformance;
mod detector;
mod embedded;
mod stores;
mod zookeeper;
