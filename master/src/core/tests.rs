//! Stories of the core, by room.

mod agents;
mod frameworks;
mod hostile;
mod launches;
mod offers;
mod random;
mod registry;
mod updates;
