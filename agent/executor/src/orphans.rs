//! Processes of containers whose executor and leash are both gone: found by the marker in their environment, and ended.
//!
//! This is the last net, for the agent: an executor takes its payload along, and so does a leash; only when both were
//! killed in the same moment something is left. Invariant: only processes that carry the marker are touched. One that
//! cleared
//! its environment *and* lost both its keepers is not found.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::pinned::Pinned;
use crate::plan::MARKER_VARIABLE;

/// How many processes are ended at a time: each takes a descriptor.
const PINNED_MAX: usize = 128;

/// The processes of each container on this host, executors apart, as far as their environment may be read. Costs a
/// look at every process.
pub fn marked() -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return found;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some((pid, container)) = pid.and_then(|pid| Some((pid, marker(pid)?))) {
            found.entry(container).or_default().push(pid);
        }
    }
    found
}

/// Kills every process of a container and waits until none is left, at most `patience`. Returns how many are left then:
/// 0 unless one hangs in the kernel or belongs to somebody else. Blocks.
pub fn end(container_id: &str, patience: Duration) -> usize {
    let deadline = Instant::now() + patience;
    loop {
        let pids = marked().remove(container_id).unwrap_or_default();
        let left = deadline.saturating_duration_since(Instant::now());
        if pids.is_empty() || left.is_zero() {
            return pids.len();
        }
        for some in pids.chunks(PINNED_MAX) {
            let pin = |&pid: &i32| {
                let pinned = Pinned::new(pid)?;
                // Read again now that the number cannot change hands.
                (marker(pid)? == container_id).then_some(pinned)
            };
            let pinned: Vec<Pinned> = some.iter().filter_map(pin).collect();
            for one in &pinned {
                one.signal(Signal::SIGKILL);
            }
            for end in pinned.iter().filter_map(Pinned::end) {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                let _ = poll(&mut [PollFd::new(end, PollFlags::POLLIN)], timeout);
            }
        }
    }
}

/// The container that a process carries the marker of.
fn marker(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|variable| {
        let value = variable.strip_prefix(MARKER_VARIABLE.as_bytes())?;
        value.strip_prefix(b"=")
    })?;
    String::from_utf8(value.to_vec()).ok()
}
