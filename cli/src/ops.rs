//! Commands that talk to a running cluster.

mod app;
mod job;
mod sandbox;
mod show;

pub use app::AppCommand;
pub use job::JobCommand;
pub use sandbox::LogsFlags;
pub use show::TasksFlags;

pub use app::run as app;
pub use job::run as job;
pub use sandbox::run as logs;
pub use show::{agents, frameworks, status, tasks};

use crate::failure::Failure;
use crate::output::say;

/// Writes an answer down.
fn answer(text: &str) -> Result<(), Failure> {
    say(text).map_err(|source| Failure::Machine {
        what: "writing the answer".to_owned(),
        source,
    })
}
