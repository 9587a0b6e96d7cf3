//! The processes below a process: listing them and signalling them all.
//!
//! A process cannot leave the tree of its nearest subreaper by forking twice or by a session of its own: when its parent
//! dies it is handed to the subreaper. Invariant: a signal goes only to a process that was seen below the root after it
//! was pinned by a pidfd, so a reused process id is never hit.

use std::fs;

use nix::sys::signal::Signal as NixSignal;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

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
    let mut next = 0;
    let mut parent = root;
    loop {
        for pid in children(parent) {
            let known = found.iter().any(|f| f.pid == pid);
            if !known && !skip.contains(&pid) {
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

/// Sends `signal` to every descendant of `root` that is not below `skip`; returns how many there were.
pub fn signal(root: i32, skip: &[i32], signal: NixSignal) -> usize {
    let found = descendants(root, skip);
    for process in &found {
        signal_one(root, *process, signal);
    }
    found.len()
}

fn signal_one(root: i32, process: Found, signal: NixSignal) {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else {
        return;
    };
    let Some(number) = Signal::from_named_raw(signal as i32) else {
        return;
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pinned) => {
            let parent = parent_of(process.pid);
            // Its parent is the one it had, or that one died and it was handed up.
            if parent.is_some_and(|p| p == process.parent || is_below(p, root)) {
                let _ = pidfd_send_signal(&pinned, number);
            }
        }
        Err(rustix::io::Errno::NOSYS) => {
            // A kernel before 5.3 has nothing better.
            let _ = nix::sys::signal::kill(Pid::from_raw(process.pid), signal);
        }
        Err(_) => {}
    }
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
        assert_eq!(signal(root, &[], NixSignal::SIGKILL), all.len());
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
