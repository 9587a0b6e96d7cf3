//! The containerizer `oci`: a payload is a container of an OCI runtime (runc, or the one that a flag names).
//!
//! The container has PID, mount, IPC and UTS namespaces of its own, the runtime's default capabilities and masked
//! paths, no new privileges, and limits by cgroup. Its root is an overlay whose lower side is an image's directory or
//! the host's own root, and whose upper side lies in the sandbox; the mounts are made by the executor in a namespace of
//! its own, so that they vanish with it. It needs root.
//! Invariant: which runtime, with which arguments, is written in the container's plan; cleaning uses that, not the
//! flags.

pub(crate) mod bundle;
pub mod probe;
pub(crate) mod root;
mod volumes;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mezzo_executor::plan;
use mezzo_executor::plan::OciContainer;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Spec;
use rustix::process::{PidfdFlags, pidfd_open};

use super::cgroup::Cgroups;
use super::refuse::{self, Abilities};
use super::{Containerizer, LaunchError, Remains, Site, procs};
use crate::core::{Launch, Limits};

/// Where a container sees its sandbox, as in Mesos.
pub const SANDBOX_INSIDE: &str = "/mnt/mesos/sandbox";

/// How long a runtime may take to say something simple.
pub(crate) const RUNTIME_PATIENCE: Duration = Duration::from_secs(15);

/// The containerizer with a runtime that works.
#[derive(Debug)]
pub struct Oci {
    pub(crate) runtime: Runtime,
    pub(crate) host: Host,
}

/// A runtime and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// Its program.
    pub program: PathBuf,
    /// As it calls itself: `runc-1.1.5`.
    pub version: String,
    /// Its own default configuration.
    pub spec: Spec,
    /// Mounts that it must not see.
    pub unmounts: Vec<PathBuf>,
}

/// What containers need to know of the host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub cgroups: Cgroups,
    /// The root of all groups of this agent: `mezzo/<tag>`.
    pub group_root: String,
    /// Directories that containers with the host's root do not see: the agent's work directory, and what a flag names.
    pub hidden: Vec<PathBuf>,
    /// The directory of the executors' socket, shown to a framework's own executor.
    pub socket_directory: PathBuf,
    pub hostname: String,
}

impl Oci {
    /// One that only cleans after containers of an earlier run, by what their plans say.
    pub(crate) fn cleaner(host: Host) -> Self {
        let runtime = Runtime {
            program: PathBuf::new(),
            version: String::new(),
            spec: Spec::default(),
            unmounts: Vec::new(),
        };
        Self { runtime, host }
    }
}

impl Host {
    fn group(&self, container: &str) -> String {
        format!("{}/{container}", self.group_root)
    }
}

/// The files of a container that are this containerizer's.
pub(crate) struct Files {
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub runtime_root: PathBuf,
    /// A way to the sandbox whose name holds no character that mount options give a meaning to.
    pub sandbox_link: PathBuf,
}

impl Files {
    pub fn of(directory: &Path) -> Self {
        let bundle = directory.join("bundle");
        Self {
            rootfs: bundle.join("rootfs"),
            bundle,
            runtime_root: directory.join("runtime"),
            sandbox_link: directory.join("sandbox"),
        }
    }
}

impl Containerizer for Oci {
    fn name(&self) -> &'static str {
        "oci"
    }

    fn details(&self) -> String {
        self.runtime.version.clone()
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
                images: true,
                mounts: true,
            },
        )?;
        let files = Files::of(&site.directory);
        let lower = root::lower(launch.container.as_ref())?;
        make_directory(&files.bundle, 0o700)?;
        make_directory(&files.rootfs, 0o755)?;
        std::os::unix::fs::symlink(&site.sandbox, &files.sandbox_link)
            .map_err(LaunchError::io("create", &files.sandbox_link))?;
        let mut mounts: Vec<plan::Mount> = self
            .runtime
            .unmounts
            .iter()
            .map(|target| plan::Mount::Unmount {
                target: target.clone(),
            })
            .collect();
        mounts.push(root::overlay(&lower, &files, site)?);
        let group = self.host.group(site.container.as_str());
        plan.sandbox_inside = Some(PathBuf::from(SANDBOX_INSIDE));
        plan.containerizer = plan::Containerizer::Oci(OciContainer {
            runtime: self.runtime.program.clone(),
            runtime_arguments: Vec::new(),
            root: files.runtime_root.clone(),
            bundle: files.bundle.clone(),
            id: site.container.to_string(),
            mounts,
            cgroups: self.host.cgroups.watches(&group),
            memory_limit_bytes: launch.limits.memory_bytes,
        });
        let spec = bundle::spec(&self.runtime.spec, &self.host, launch, site, plan, &lower)?;
        spec.save(files.bundle.join("config.json"))
            .map_err(|error| LaunchError::Bundle(error.to_string()))
    }

    fn hold(&self, _site: &Site, _pid: u32) -> Result<(), LaunchError> {
        // The runtime puts the container into its cgroup before its first instruction.
        Ok(())
    }

    fn resize(&self, site: &Site, limits: &Limits) -> io::Result<()> {
        let group = self.host.group(site.container.as_str());
        self.host.cgroups.set_limits(&group, limits)
    }

    fn clean(&self, site: &Site, plan: Option<&plan::Plan>, sure: bool) -> Remains {
        let name = site.container.as_str();
        let container = plan.and_then(|plan| match &plan.containerizer {
            plan::Containerizer::Oci(container) => Some(container),
            plan::Containerizer::Process => None,
        });
        let report = container.map(|container| mezzo_executor::memory::report(&container.cgroups));
        let out_of_memory = report.filter(|report| report.kills > 0).map(|report| {
            mezzo_executor::core::words::out_of_memory(report.limit_bytes, report.peak_bytes)
        });
        if let Some(container) = container
            && container.root.join(&container.id).exists()
        {
            delete(container);
        }
        let mut left = self.host.cgroups.end(&self.host.group(name));
        if !sure {
            left = left.max(procs::kill_marked(name));
        }
        remove_tree(&root::upper_directory(&site.sandbox));
        Remains {
            out_of_memory,
            left,
        }
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), LaunchError> {
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(LaunchError::io("create", path))
}

/// Has the runtime take away what it knows of a container. What it leaves is ended by cgroup.
fn delete(container: &OciContainer) {
    let mut command = Command::new(&container.runtime);
    command
        .args(&container.runtime_arguments)
        .arg("--root")
        .arg(&container.root)
        .args(["delete", "--force", &container.id]);
    if let Err(error) = run(command, RUNTIME_PATIENCE) {
        tracing::warn!(container = container.id, %error, "the runtime did not delete a container");
    }
}

/// Removes a tree; what is not there needs no removing.
pub(crate) fn remove_tree(path: &Path) {
    match fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a directory could not be removed")
        }
    }
}

/// Runs a short program and gives its output; one that takes too long is killed.
pub(crate) fn run(mut command: Command, patience: Duration) -> io::Result<String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", plan::DEFAULT_PATH)
        .spawn()?;
    let child = wait(child, patience)?;
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let words = text(&output.stderr);
    let words = words.lines().last().unwrap_or("without a word").to_owned();
    Err(io::Error::other(format!("{}: {words}", output.status)))
}

/// Waits until a child has ended, and kills it if that takes too long.
fn wait(mut child: Child, patience: Duration) -> io::Result<Child> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(
        std::os::fd::AsFd::as_fd(&pidfd),
        PollFlags::POLLIN,
    )];
    if poll(&mut watched, timeout)? == 0 {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it took too long and was killed",
        ));
    }
    Ok(child)
}
