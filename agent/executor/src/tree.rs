//! The processes below a process: listing them and signalling them all.
//!
//! A process cannot leave the tree of its nearest subreaper by forking twice or by a session of its own: when its
//! parent
//! dies it is handed to the subreaper. Invariant: a signal goes only to a process that was seen below the root after it
//! was pinned by a pidfd, so a reused process id is never hit.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::pinned::Pinned;

/// One process and the parent under which it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
}

/// Every living descendant of `root`, parents before children; `skip` are left out with all below them.
pub fn descendants(root: i32, skip: &[i32]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    // Somebody handed up while we look is seen twice.
    let mut seen: BTreeSet<i32> = skip.iter().copied().collect();
    let mut next = 0;
    let mut parent = root;
    loop {
        for pid in children(parent) {
            if seen.insert(pid) {
                found.push(Found { pid, parent });
            }
        }
        let Some(&Found { pid, .. }) = found.get(next) else {
            return found;
        };
        parent = pid;
        next += 1;
    }
}

/// How many processes are pinned at a time: each takes a descriptor.
const PINNED_MAX: usize = 128;

/// Sends `signal` to every descendant of `root` that is not below `skip`, parents first; returns how many there were.
pub fn signal(root: i32, skip: &[i32], signal: Signal) -> usize {
    let found = descendants(root, skip);
    for some in found.chunks(PINNED_MAX) {
        // All are pinned before the first is hit: a parent's end hands its children to somebody else.
        let pinned: Vec<Pinned> = some.iter().filter_map(|one| pin(root, *one)).collect();
        for one in pinned {
            one.signal(signal);
        }
    }
    found.len()
}

/// Pins a process, if it still is where it was found.
fn pin(root: i32, process: Found) -> Option<Pinned> {
    let pinned = Pinned::new(process.pid)?;
    // Its parent is the one it had, or that one died and it was handed up.
    let parent = parent_of(process.pid)?;
    (parent == process.parent || is_below(parent, root)).then_some(pinned)
}

/// Whether `pid` is `root` or below it.
fn is_below(pid: i32, root: i32) -> bool {
    let mut at = Some(pid);
    while let Some(pid) = at.filter(|&pid| pid > 1) {
        if pid == root {
            return true;
        }
        at = parent_of(pid);
    }
    root == 1
}

/// The direct children of a process, from all its threads.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>)),
            // The thread or the process is gone, or the kernel lists no children at all.
            Err(_) if !fs::exists("/proc/thread-self/children").unwrap_or(true) => {
                return children_by_scan(pid);
            }
            Err(_) => {}
        }
    }
    found
}

/// The same for a kernel without `CONFIG_PROC_CHILDREN`: asks every process for its parent.
fn children_by_scan(parent: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// The parent of a process; `None` when it is gone. A process that ended and was not yet waited for has one.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too; state and parent follow the last one.
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_found_and_ended_and_a_skipped_branch_is_not() {
        // A shell with a grandchild below a shell with an odd name, and a second child.
        let script = "(sh -c 'sleep 1000; true' 'a) b' & wait) & sleep 1000 & echo $!; wait";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let second: i32 = line.trim().parse().unwrap();
        let root = shell.id() as i32;
        // The grandchildren start on their own time.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while descendants(root, &[]).len() < 4 {
            assert!(std::time::Instant::now() < deadline, "the tree never grew");
            std::thread::yield_now();
        }
        let all = descendants(root, &[]);
        let rest = descendants(root, &[second]);
        assert!(all.iter().any(|f| f.pid == second && f.parent == root));
        assert_eq!(rest.len(), all.len() - 1);
        for found in &all {
            assert_eq!(parent_of(found.pid), Some(found.parent));
            assert!(is_below(found.pid, root));
            assert!(children_by_scan(found.parent).contains(&found.pid));
        }
        assert!(!is_below(root, second));
        assert_eq!(signal(root, &[], Signal::SIGKILL), all.len());
        assert!(shell.wait().is_ok());
        for found in &all {
            assert_eq!(parent_of(found.pid).filter(|&p| p == root), None);
        }
    }

    #[test]
    fn who_is_gone_has_no_tree() {
        assert!(descendants(i32::MAX, &[]).is_empty());
        assert_eq!(parent_of(i32::MAX), None);
    }
}
