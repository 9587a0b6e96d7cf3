//! A whole cluster in one process, from a seed: the product's own cores, and the least shell around each.

pub mod agent;
pub mod bugs;
pub mod cluster;
pub mod container;
pub mod coord;
pub mod disk;
pub mod faults;
pub mod framework;
pub mod kinds;
pub mod master;
pub mod net;
pub mod oracle;
pub mod payload;
pub mod queue;
pub mod trace;
pub mod workload;
pub mod world;
pub mod zk_host;
pub mod zookeeper;
