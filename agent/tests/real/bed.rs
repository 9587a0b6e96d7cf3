//! An agent in a directory of its own, with a master. What is started here is ended here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use mezzo_agent::{Flags, Running};
use mezzo_door::Stop;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::master::{Master, PATIENCE};

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

/// An agent and its master.
pub struct Bed {
    pub scratch: tempfile::TempDir,
    pub master: Master,
    containerizer: String,
    more: Vec<String>,
    agent: Option<(Running, Stop)>,
}

impl Bed {
    /// An agent that a master has welcomed.
    pub async fn new(containerizer: &str) -> Self {
        Self::with(containerizer, &[]).await
    }

    pub async fn with(containerizer: &str, more: &[&str]) -> Self {
        let mut bed = Self {
            scratch: scratch(),
            master: Master::start().await,
            containerizer: containerizer.to_owned(),
            more: more.iter().map(|flag| (*flag).to_owned()).collect(),
            agent: None,
        };
        bed.start().await;
        bed.master.welcome().await;
        bed
    }

    pub fn work_dir(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    pub fn flags(&self) -> Flags {
        let mut arguments = vec![
            "agent".to_owned(),
            format!("--master={}", self.master.address),
            "--port=0".to_owned(),
            format!("--work_dir={}", self.work_dir().display()),
            format!("--containerizers={}", self.containerizer),
            format!("--executor_program={}", executor().display()),
            format!("--cgroups_root={}", cgroups_root()),
            "--resources=cpus:4;mem:4096;disk:1024".to_owned(),
        ];
        arguments.extend(self.more.iter().cloned());
        Program::try_parse_from(arguments).expect("flags").flags
    }

    /// Starts the agent (again); the master has yet to welcome it.
    pub async fn start(&mut self) {
        let stop = Stop::new();
        let running = mezzo_agent::start(self.flags(), stop.clone()).await;
        self.agent = Some((running.expect("the agent starts"), stop));
    }

    /// Ends the agent as SIGTERM does: its tasks go on.
    pub async fn stop(&mut self) {
        if let Some((running, stop)) = self.agent.take() {
            stop.stop();
            let ended = tokio::time::timeout(PATIENCE, running.ended()).await;
            assert_eq!(ended.expect("it ends"), None);
        }
    }

    pub fn agent(&self) -> &Running {
        &self.agent.as_ref().expect("it runs").0
    }

    pub fn addr(&self) -> SocketAddr {
        self.agent().addr
    }

    /// Waits until the agent has ended by itself.
    pub async fn ended(&mut self) -> Option<String> {
        let (running, _) = self.agent.take().expect("it runs");
        tokio::time::timeout(PATIENCE, running.ended())
            .await
            .expect("it ends")
    }

    /// Ends every task and the agent, and looks that nothing is left.
    pub async fn finish(mut self) {
        self.agent().end_tasks().await;
        assert_eq!(self.ended().await, None);
        let left = std::fs::read_dir(self.work_dir().join("containers"))
            .expect("is there")
            .count();
        assert_eq!(left, 0, "directories of containers are left");
        assert_eq!(mounts_below(self.scratch.path()), Vec::<String>::new());
    }

    /// The private directory of the only container.
    pub fn container(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(self.work_dir().join("containers")).expect("is there");
        let one = entries
            .next()
            .expect("a container")
            .expect("an entry")
            .path();
        assert!(entries.next().is_none(), "more than one container");
        one
    }

    /// The executor of the only container.
    pub fn executor_pid(&self) -> i32 {
        let container = self.container();
        let name = container
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        let marked = marked(&name);
        let executor = marked.iter().find(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let parent = parent_of(**pid);
            command.split(|byte| *byte == 0).nth(1) == Some(b"executor")
                && parent.is_none_or(|parent| !marked.contains(&parent))
        });
        *executor.expect("an executor")
    }

    /// Kills the executor of the only container and the leash that would clean after it, and waits until both are gone.
    pub async fn kill_executor_and_leash(&self) {
        let executor = self.executor_pid();
        let children =
            std::fs::read_to_string(format!("/proc/{executor}/task/{executor}/children"))
                .expect("the children of the executor");
        let leash = children.split_whitespace().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim() == "mezzo-leash")
        });
        let leash = leash.expect("a leash").parse().expect("a pid");
        // Stopped, so that it cannot act on the end of its leash.
        kill(Pid::from_raw(executor), Signal::SIGSTOP).expect("stops");
        for pid in [leash, executor] {
            kill_9(pid);
            until_gone(pid).await;
        }
    }
}

/// A test that failed leaves nothing either.
impl Drop for Bed {
    fn drop(&mut self) {
        let containers = std::fs::read_dir(self.work_dir().join("containers"));
        let names = containers.into_iter().flatten();
        for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            for pid in marked(&name) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let root = cgroups_root();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        for hierarchy in hierarchies.flatten() {
            remove_group(&hierarchy.path().join(&root));
        }
        remove_group(&Path::new("/sys/fs/cgroup").join(&root));
    }
}

/// The name of the cgroups of this process' agent.
pub fn cgroups_root() -> String {
    format!("mezzo-agent-test-{}", std::process::id())
}

/// Removes a group and those below it, as far as they are empty.
fn remove_group(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // A process that has ended may still be taken apart by the kernel, which gives no event of it.
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::remove_dir(group).is_err() && group.is_dir() {
        if std::time::Instant::now() > deadline {
            eprintln!("{} is left", group.display());
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A directory that every user may enter, as tasks of other users must.
fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open).expect("opens");
    scratch
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The processes that carry a container's marker.
pub fn marked(container: &str) -> Vec<i32> {
    let marker = format!("MEZZO_CONTAINER_ID={container}");
    let entries = std::fs::read_dir("/proc").expect("is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == marker.as_bytes())
    })
    .collect()
}

fn executor() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let profile = here
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let program = profile.join("examples/container_executor");
    assert!(
        program.exists(),
        "{} is not built; `cargo test -p mezzo-agent` builds it",
        program.display()
    );
    program
}

pub fn mounts_below(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("is there");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| Path::new(point).starts_with(path))
        .map(str::to_owned)
        .collect()
}

pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat
        .rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
    !zombie && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

pub fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kills");
}

/// Waits until a process is gone, through the kernel.
pub async fn until_gone(pid: i32) {
    let raw = rustix::process::Pid::from_raw(pid).expect("a pid");
    let Ok(pidfd) = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let waited = tokio::task::spawn_blocking(move || {
        use std::os::fd::AsFd;
        let timeout = nix::poll::PollTimeout::try_from(PATIENCE).expect("fits");
        let mut watched = [nix::poll::PollFd::new(
            pidfd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut watched, timeout)
    });
    assert_eq!(
        waited.await.expect("no panic"),
        Ok(1),
        "process {pid} is still there"
    );
}

/// Whether this machine can run what only root can; a skipped test counts as failed where that must not be.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "this test needs root"
    );
    root
}
