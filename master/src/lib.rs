//! The master.
pub mod allocator;
pub mod keys;
pub mod validate;
