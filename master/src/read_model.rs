//! The read model.
mod change;
pub use change::{AgentView, Change, Fate, FrameworkView};
