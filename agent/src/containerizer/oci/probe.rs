//! Does it work here? One container runs `true`, exactly as every task would, before the first task comes.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mezzo_executor::plan::{Ended, EndedHow, ExecutorRole};
use mezzo_model::Millis;
use mezzo_model::ids::{AgentId, ContainerId, ExecutorId, FrameworkId};
use mezzo_wire::v1;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Spec;

use super::{Host, Oci, RUNTIME_PATIENCE, Runtime, remove_tree, run};
use crate::containerizer::launch::{Common, plan_path};
use crate::containerizer::{Containerizer, LaunchError, spawn};
use crate::core::{Launch, Limits, Place};

/// The runtime that is looked for when no flag names one.
pub const DEFAULT_RUNTIME: &str = "runc";

/// How long the container of the probe may take from start to end.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);

/// Why no container can be run here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Only root may make containers of this kind.
    #[error("the agent does not run as root")]
    NotRoot,
    /// No such program.
    #[error(
        "there is no runtime '{name}' in {}",
        mezzo_executor::plan::DEFAULT_PATH
    )]
    NoRuntime {
        /// What was looked for.
        name: String,
    },
    /// The kernel has no control groups mounted.
    #[error("no control groups are mounted under /sys/fs/cgroup")]
    NoCgroups,
    /// The runtime does not even say its version.
    #[error("{program} does not work: {source}", program = program.display())]
    Runtime {
        /// Its program.
        program: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// Nothing could be prepared.
    #[error("a container could not be prepared: {0}")]
    Prepare(#[from] LaunchError),
    /// The executor could not be started.
    #[error("an executor could not be started: {0}")]
    Spawn(#[source] io::Error),
    /// The container did not run `true`.
    #[error("{runtime} did not run a container: {words}")]
    Failed {
        /// As the runtime calls itself.
        runtime: String,
        /// In its words, or the executor's.
        words: String,
    },
}

/// Finds a runtime and runs a container with it. Blocks until that has ended.
///
/// # Errors
/// Why not, in words for the log.
pub(crate) fn probe(
    name: Option<&str>,
    host: &Host,
    common: &Common,
    executor: &Path,
) -> Result<Oci, ProbeError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ProbeError::NotRoot);
    }
    let name = name.unwrap_or(DEFAULT_RUNTIME);
    let program = find(name).ok_or_else(|| ProbeError::NoRuntime {
        name: name.to_owned(),
    })?;
    let runtime = Runtime {
        version: version(&program)?,
        spec: default_spec(&program, common),
        program,
        unmounts: Vec::new(),
    };
    let plain = Oci {
        runtime,
        host: host.clone(),
    };
    let failed = match try_out(&plain, common, executor) {
        Ok(()) => return Ok(plain),
        Err(error) => error,
    };
    // Some runtimes (crun) will not work beside a unified hierarchy that they think they should use.
    let unified = Path::new("/sys/fs/cgroup/unified");
    if !unified.join("cgroup.procs").exists() {
        return Err(failed);
    }
    let mut hidden = plain;
    hidden.runtime.unmounts = vec![unified.to_owned()];
    match try_out(&hidden, common, executor) {
        Ok(()) => Ok(hidden),
        Err(_) => Err(failed),
    }
}

/// A program by its path, or by its name in the usual places.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let places = mezzo_executor::plan::DEFAULT_PATH.split(':');
    places
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file())
}

/// `runc version 1.1.5+ds1` becomes `runc-1.1.5+ds1`.
fn version(program: &Path) -> Result<String, ProbeError> {
    let mut command = Command::new(program);
    command.arg("--version");
    let said = run(command, RUNTIME_PATIENCE).map_err(|source| ProbeError::Runtime {
        program: program.to_owned(),
        source,
    })?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let number = said
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or("unknown");
    Ok(format!("{name}-{number}"))
}

/// What the runtime itself would begin with; the library's idea of it if the runtime has none.
fn default_spec(program: &Path, common: &Common) -> Spec {
    let scratch = common.layout.containers().join(".spec");
    remove_tree(&scratch);
    let made = fs::create_dir(&scratch).and_then(|()| {
        let mut command = Command::new(program);
        command.arg("spec").current_dir(&scratch);
        run(command, RUNTIME_PATIENCE)
    });
    let spec = made
        .ok()
        .and_then(|_| Spec::load(scratch.join("config.json")).ok())
        .unwrap_or_default();
    remove_tree(&scratch);
    spec
}

/// A launch of `true`, with limits, as the agent's own user.
fn launch(common: &Common) -> Result<Launch, LaunchError> {
    let id = format!("probe-{}", uuid::Uuid::new_v4());
    let words = |error: mezzo_model::ids::IdError| LaunchError::Refused(error.to_string());
    Ok(Launch {
        place: Place::new(
            AgentId::parse("probe").map_err(words)?,
            FrameworkId::parse("probe").map_err(words)?,
            ExecutorId::parse("probe").map_err(words)?,
            ContainerId::parse(&id).map_err(words)?,
        ),
        user: Arc::from(common.own_user.as_str()),
        custom: false,
        command: v1::CommandInfo {
            value: Some("true".to_owned()),
            ..Default::default()
        },
        container: None,
        volumes_asked: false,
        limits: Limits {
            cpu_milli: 100,
            cpu_max_milli: None,
            memory_bytes: Some(64 << 20),
        },
        checkpoint: true,
        shutdown_grace: Millis::from_secs(1),
    })
}

fn try_out(oci: &Oci, common: &Common, executor: &Path) -> Result<(), ProbeError> {
    let launch = launch(common)?;
    let site = common.site(&launch.place);
    let result = run_true(oci, common, executor, &launch);
    let plan = mezzo_executor::plan::Plan::load(&plan_path(&site)).ok();
    oci.clean(&site, plan.as_ref(), false);
    remove_tree(&site.directory);
    if let Err(error) = common.layout.remove_sandbox(&launch.place) {
        tracing::warn!(%error, "the sandbox of the probe could not be removed");
    }
    let _ = fs::remove_dir(common.layout.work_dir().join("agents/probe/frameworks"));
    let _ = fs::remove_dir(common.layout.work_dir().join("agents/probe"));
    result
}

fn run_true(
    oci: &Oci,
    common: &Common,
    executor: &Path,
    launch: &Launch,
) -> Result<(), ProbeError> {
    let site = common.site(&launch.place);
    let mut plan = common.plan(launch, &site, String::new())?;
    common.make_directories(launch, &site, &plan)?;
    oci.prepare(launch, &site, &mut plan)?;
    // Nobody listens to this one: it only keeps its payload and leaves its end in writing.
    plan.role = ExecutorRole::Custom;
    plan.store(&plan_path(&site)).map_err(LaunchError::from)?;
    let spawned = spawn::spawn(executor, &plan_path(&site), site.container.as_str())
        .map_err(ProbeError::Spawn)?;
    let timeout = PollTimeout::try_from(PROBE_PATIENCE).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)];
    let in_time = poll(&mut watched, timeout).is_ok_and(|ready| ready > 0);
    if !in_time {
        let _ = rustix::process::pidfd_send_signal(&spawned.pidfd, rustix::process::Signal::KILL);
    }
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(spawned.pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
    let failed = |words: String| ProbeError::Failed {
        runtime: oci.runtime.version.clone(),
        words,
    };
    match Ended::load(&site.directory) {
        Ok(Some(Ended {
            how: EndedHow::Exited(0),
            ..
        })) => Ok(()),
        Ok(Some(ended)) => Err(failed(ended.message)),
        Ok(None) | Err(_) if !in_time => Err(failed(format!(
            "nothing came of it in {} s",
            PROBE_PATIENCE.as_secs()
        ))),
        Ok(None) | Err(_) => {
            let words = spawn::last_words(&site.directory);
            Err(failed(words.unwrap_or_else(|| {
                "its executor ended without a word".to_owned()
            })))
        }
    }
}
