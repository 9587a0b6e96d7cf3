//! How a payload ended, as a file that outlives the executor: the agent reads it when the executor could not tell it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Plan;
use super::file::{self, PlanError};

/// The file's name in [`Plan::run_directory`].
pub const ENDED_FILE: &str = "ended.json";

/// The end of a payload. Written once, by rename, when no process of the payload is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// [`super::PLAN_VERSION`] of the writer.
    pub version: u32,
    /// Of which container.
    pub container_id: String,
    /// How.
    pub how: EndedHow,
    /// The same in words, as in the terminal status of the built-in executor.
    pub message: String,
    /// The kernel killed for want of memory.
    pub out_of_memory: bool,
    /// The executor was told to end it (kill, shutdown, failed health check, maximal run time).
    pub killed: bool,
}

/// How a payload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedHow {
    /// It never started.
    NotStarted,
    /// It left with this status.
    Exited(i32),
    /// It was ended by this signal.
    Signaled(i32),
}

impl Ended {
    /// Reads the file of a container; `None` when its payload has not ended or its executor could not write.
    pub fn load(run_directory: &Path) -> Result<Option<Self>, PlanError> {
        file::load_versioned(&run_directory.join(ENDED_FILE))
    }

    /// Where the file of a plan's container goes.
    pub fn path(plan: &Plan) -> PathBuf {
        plan.run_directory.join(ENDED_FILE)
    }

    /// Writes the file by rename.
    pub fn store(&self, path: &Path) -> Result<(), PlanError> {
        file::store(self, path)
    }
}
