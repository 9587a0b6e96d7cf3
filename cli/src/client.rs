//! Clients of a running cluster: the master's gRPC door, the frameworks' REST.

pub mod master;
pub mod rest;
