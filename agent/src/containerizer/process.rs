//! The containerizer `process`: a payload is a process of the host in a session of its own.
//!
//! It needs no privilege. Where the agent is root anyway, each container's executor is put into a cgroup without
//! limits, which holds its descendants whatever they do to their environment and their session.

use std::io;

use mezzo_executor::plan;

use super::cgroup::{Cgroups, Tracker};
use super::refuse::{self, Abilities};
use super::{Containerizer, LaunchError, Remains, Site, procs};
use crate::core::{Launch, Limits};

/// The containerizer.
#[derive(Debug)]
pub struct Process {
    tracker: Option<Tracker>,
}

impl Process {
    /// A containerizer that tracks in cgroups below `root` (such as `mezzo/<tag>`) if this process may make some.
    pub(crate) fn new(cgroups: Option<&Cgroups>, root: &str) -> Self {
        let tracker = cgroups.and_then(|cgroups| cgroups.tracker(root));
        Self { tracker }
    }
}

impl Containerizer for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn details(&self) -> String {
        match &self.tracker {
            Some(_) => "tracked by cgroup".to_owned(),
            None => String::new(),
        }
    }

    fn prepare(
        &self,
        launch: &Launch,
        site: &Site,
        plan: &mut plan::Plan,
    ) -> Result<(), LaunchError> {
        refuse::check(
            launch,
            Abilities {
                images: false,
                mounts: false,
            },
        )?;
        plan.containerizer = plan::Containerizer::Process;
        if let Some(tracker) = &self.tracker {
            let name = site.container.as_str();
            tracker
                .make(name)
                .map_err(LaunchError::io("create", &tracker.path(name)))?;
        }
        Ok(())
    }

    fn hold(&self, site: &Site, pid: u32) -> Result<(), LaunchError> {
        let Some(tracker) = &self.tracker else {
            return Ok(());
        };
        let name = site.container.as_str();
        // One that another run of the agent made without a group stays without.
        if !tracker.exists(name) {
            return Ok(());
        }
        tracker.enter(name, pid).map_err(LaunchError::io(
            "put the executor into",
            &tracker.path(name),
        ))
    }

    fn resize(&self, _site: &Site, _limits: &Limits) -> io::Result<()> {
        // There is nothing that limits.
        Ok(())
    }

    fn clean(&self, site: &Site, _plan: Option<&plan::Plan>, sure: bool) -> Remains {
        let name = site.container.as_str();
        let mut left = 0;
        let held = match &self.tracker {
            Some(tracker) => tracker.exists(name).then(|| tracker.end(name)),
            None => None,
        };
        left += held.unwrap_or(0);
        // It may have ended before it was held, so whoever bears its mark is looked for too.
        if !sure {
            left += procs::kill_marked(name);
        }
        Remains {
            out_of_memory: None,
            left,
        }
    }
}
