//! Processes by what they carry: the container's marker in the environment.
//!
//! This is the net below the other nets (the executor's leashes, cgroups): it finds what an executor that was killed
//! could not take along. A process that wiped its environment is not found by it; where the agent is root, its cgroup
//! is.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use mezzo_executor::ENTRY_WORD;
use mezzo_executor::plan::MARKER_VARIABLE;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::core::Process;

/// How often processes are looked for and killed before they are given up: each time all that are found are killed, so
/// only one that forks faster than we look survives a round.
const ROUNDS_MAX: u32 = 200;

/// What killed processes need to be gone.
const ROUND_PAUSE: Duration = Duration::from_millis(5);

/// More of an environment than this is not looked at, in bytes.
const ENVIRONMENT_MAX: u64 = 2 << 20;

/// A process that carries a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub process: Process,
    pub container: String,
    /// It is the executor itself, not something that it runs.
    pub executor: bool,
}

/// All processes that carry a marker and that we may look into. Costs a read for each process of the host.
pub(crate) fn marked() -> Vec<Marked> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(look_at)
        .collect()
}

fn look_at(pid: u32) -> Option<Marked> {
    let mut environment = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(ENVIRONMENT_MAX)
        .read_to_end(&mut environment)
        .ok()?;
    let marker = format!("{MARKER_VARIABLE}=");
    let container = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(marker.as_bytes()))?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let executor = command.split(|byte| *byte == 0).nth(1) == Some(ENTRY_WORD.as_bytes());
    Some(Marked {
        process: Process {
            pid,
            start: start_time(pid)?,
        },
        container: String::from_utf8_lossy(container).into_owned(),
        executor,
    })
}

/// The executors that live, by container.
pub(crate) fn executors() -> BTreeMap<String, Process> {
    marked()
        .into_iter()
        .filter(|marked| marked.executor)
        .map(|marked| (marked.container, marked.process))
        .collect()
}

/// When a process started, in clock ticks since boot; `None` if there is none.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything; the start is the 22nd.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Kills every process of the container, again until none is left. Gives how many are.
pub(crate) fn kill_marked(container: &str) -> usize {
    kill_rounds(|| {
        marked()
            .into_iter()
            .filter(|marked| marked.container == container)
            .map(|marked| marked.process.pid)
            .collect()
    })
}

/// Kills what `find` finds, again until it finds nothing. Gives how many are left.
pub(crate) fn kill_rounds(mut find: impl FnMut() -> Vec<u32>) -> usize {
    let mut found = find();
    for _ in 0..ROUNDS_MAX {
        if found.is_empty() {
            return 0;
        }
        for pid in &found {
            kill_one(*pid);
        }
        std::thread::sleep(ROUND_PAUSE);
        found = find();
    }
    found.len()
}

fn kill_one(pid: u32) {
    if let Err(errno) = kill_quietly(pid) {
        tracing::warn!(pid, errno = errno.desc(), "a process could not be killed");
    }
}

/// Kills one process; one that is gone is no error.
pub(crate) fn kill_quietly(pid: u32) -> nix::Result<()> {
    let Ok(pid) = i32::try_from(pid) else {
        return Ok(());
    };
    // Never ourselves, nor everybody (0 and -1 mean groups).
    if pid <= 1 || pid == Pid::this().as_raw() {
        return Ok(());
    }
    match kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// The boot id of the running kernel.
pub(crate) fn boot_id() -> std::io::Result<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_carries_the_marker_is_found_and_killed() {
        let container = format!("test-{}", std::process::id());
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & sleep 1000"])
            .env(MARKER_VARIABLE, &container)
            .stdout(Stdio::null())
            .spawn()
            .expect("spawns");
        // The marker is there when exec is through.
        let mine = |marked: &Marked| marked.container == container;
        while !marked().iter().any(mine) {
            std::thread::yield_now();
        }
        assert!(
            marked()
                .into_iter()
                .filter(mine)
                .all(|marked| !marked.executor)
        );
        let reaper = std::thread::spawn(move || child.wait().expect("ends"));
        assert_eq!(kill_marked(&container), 0);
        assert!(!reaper.join().expect("no panic").success());
        assert!(!marked().iter().any(mine));
    }

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = std::process::id();
        assert!(start_time(own).is_some_and(|start| start > 0));
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(0), None);
        assert!(!boot_id().expect("a boot id").is_empty());
    }
}
