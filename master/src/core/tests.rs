//! Stories of the core, by room.

mod agents;
mod explain;
mod frameworks;
mod hostile;
mod launches;
mod offers;
mod random;
mod refusals;
mod registry;
mod sandboxes;
mod strangers;
mod updates;
