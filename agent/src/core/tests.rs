//! Stories of the core, by room.

mod executors;
mod random;
mod recovery;
mod registration;
mod sandboxes;
mod streams;
mod tasks;
