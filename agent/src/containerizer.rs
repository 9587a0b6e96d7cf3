//! Containers: what is made for an executor before it starts, and taken away after it ended.
//!
//! A containerizer says what stands between an executor and its payload (as part of the launch plan), changes limits,
//! and removes all that is left when the executor is gone: processes, cgroups, mounts, files of a runtime. Whatever it
//! does is blocking and runs on threads for that; it never waits for a container.
//! Invariant: cleaning is idempotent and needs nothing but what lies in the container's directory, so that it works for
//! what a crash left behind, and for a container of an agent that had other flags.

pub(crate) mod cgroup;
pub(crate) mod launch;
pub mod oci;
pub mod process;
pub(crate) mod procs;
pub(crate) mod refuse;
pub(crate) mod spawn;
pub(crate) mod users;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mezzo_executor::plan;
use mezzo_model::ids::ContainerId;

use crate::core::{Launch, Limits};

/// One container's places, and what names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The container.
    pub container: ContainerId,
    /// Its private directory.
    pub directory: PathBuf,
    /// Its sandbox.
    pub sandbox: PathBuf,
}

/// Why a container cannot be made, in words for the framework.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// What was asked for is not offered here.
    #[error("{0}")]
    Refused(String),
    /// The system said no.
    #[error("cannot {act} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The launch plan could not be written.
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    /// The bundle could not be written.
    #[error("cannot write the container's configuration: {0}")]
    Bundle(String),
}

impl LaunchError {
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }
}

/// What a containerizer knew of a container's memory when it took it away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// The kernel killed for want of memory; the words for people.
    pub out_of_memory: Option<String>,
    /// Processes that could not be ended.
    pub left: usize,
}

/// What stands between executors and their payloads.
pub trait Containerizer: fmt::Debug + Send + Sync {
    /// As the flag `--containerizers` names it.
    fn name(&self) -> &'static str;

    /// What a person should know of it beyond the name: a version, or empty.
    fn details(&self) -> String;

    /// Makes what the container needs and completes its plan. `plan` holds everything but what is this containerizer's.
    ///
    /// # Errors
    /// In words for the framework. What was made so far is left to [`Containerizer::clean`].
    fn prepare(
        &self,
        launch: &Launch,
        site: &Site,
        plan: &mut plan::Plan,
    ) -> Result<(), LaunchError>;

    /// The executor process is there and has started nothing yet.
    ///
    /// # Errors
    /// The process cannot be held as it must be; it is to be ended.
    fn hold(&self, site: &Site, pid: u32) -> Result<(), LaunchError>;

    /// Changes the limits of a container that runs.
    ///
    /// # Errors
    /// The kernel refuses, mostly because more is in use than the new limit.
    fn resize(&self, site: &Site, limits: &Limits) -> io::Result<()>;

    /// Ends every process that is left of the container and removes all that was made for it but its sandbox and its
    /// directory. `sure` if its executor left in good order, after the last of its processes.
    fn clean(&self, site: &Site, plan: Option<&plan::Plan>, sure: bool) -> Remains;
}
