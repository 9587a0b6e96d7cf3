//! What a cluster that was killed left on the machine: executors and tasks that live on, mounts, control groups.
//!
//! An executor is known by the plan in its arguments, a task by the sandbox in its environment, a mount by its place, a
//! control group by a name made from the directory. Invariant: nothing is touched that does not name the directory
//! that is being cleaned.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// For how long ended processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends what is left of a cluster below the directory. Gives a line for each kind of thing that was found.
///
/// # Errors
/// If something does not go away.
pub fn end(dir: &Path) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let mut ended = 0;
    // Whoever is ended may have started another meanwhile, so this is looked at until nobody is found.
    loop {
        let found = processes_of(dir);
        if found.is_empty() {
            break;
        }
        for pid in &found {
            ended += usize::from(end_process(*pid, deadline)?);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("processes {found:?} do not end")));
        }
    }
    if ended > 0 {
        lines.push(format!(
            "cleaned    {ended} processes of a cluster that was killed"
        ));
    }
    let mounts = mounts_below(dir)?;
    for mount in mounts.iter().rev() {
        match umount2(mount, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => {
                return Err(io::Error::other(format!(
                    "unmounting {}: {error}",
                    mount.display()
                )));
            }
        }
    }
    if !mounts.is_empty() {
        lines.push(format!("cleaned    {} mounts", mounts.len()));
    }
    // Whatever is removed below must be ours, and not the machine's own files under another name.
    if let Some(mount) = mounts_below(dir)?.first() {
        return Err(io::Error::other(format!(
            "{} is still mounted",
            mount.display()
        )));
    }
    let groups = groups_of(dir)?;
    for group in &groups {
        remove_group(group)?;
    }
    if !groups.is_empty() {
        lines.push(format!("cleaned    {} control groups", groups.len()));
    }
    Ok(lines)
}

/// Executors and tasks of agents below the directory, this process apart.
fn processes_of(dir: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id();
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && belongs(*pid, dir))
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}

fn belongs(pid: u32, dir: &Path) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let arguments = read("cmdline");
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    let is_executor = arguments.next() == Some(mezzo_executor::ENTRY_WORD.as_bytes())
        && arguments.next().is_some_and(|plan| below(plan, dir));
    is_executor
        || read("environ")
            .split(|byte| *byte == 0)
            .filter_map(|entry| entry.strip_prefix(b"MESOS_DIRECTORY="))
            .any(|sandbox| below(sandbox, dir))
}

fn below(path: &[u8], dir: &Path) -> bool {
    Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(dir)
}

/// Kills a process and waits until it is gone. `false` if it was gone already.
fn end_process(pid: Pid, deadline: Instant) -> io::Result<bool> {
    let Some(raw) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return Ok(false);
    };
    let handle = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match kill(pid, Signal::SIGKILL) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(false),
        Err(error) => return Err(io::Error::other(format!("ending process {pid}: {error}"))),
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(&handle, PollFlags::IN)];
    // It becomes readable when the process has ended.
    poll(&mut polled, Some(&timeout))?;
    Ok(true)
}

/// Mounts below the directory, outermost first.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo")?;
    Ok(mount_points(&text)
        .into_iter()
        .filter(|point| point != dir && point.starts_with(dir))
        .collect())
}

/// The fifth field of each line, with its octal escapes undone (proc(5)).
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                let value = digits
                    .iter()
                    .fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value).unwrap_or(b'?'));
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The control groups of a cluster in this directory, in every hierarchy.
fn groups_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let hierarchies = mountinfo.lines().filter(|line| {
        let kind = line.split_once(" - ").map_or("", |(_, kind)| kind);
        kind.starts_with("cgroup ") || kind.starts_with("cgroup2 ")
    });
    let hierarchies = hierarchies.collect::<Vec<_>>().join("\n");
    let root = cgroups_root(dir);
    let groups = mount_points(hierarchies.as_bytes())
        .into_iter()
        .map(|point| point.join(&root));
    Ok(groups.filter(|group| group.is_dir()).collect())
}

/// The control group below which those of a cluster in this directory lie: no two directories share one.
pub fn cgroups_root(dir: &Path) -> String {
    // FNV-1a: a short name, and nothing depends on it being secret.
    let hash = dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("mezzo-local-{hash:016x}")
}

/// Removes a group with all below it; the processes in it have ended.
fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The kernel still takes the last processes apart.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                return Err(io::Error::other(format!(
                    "removing {}: {error}",
                    group.display()
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that waits for its input, which never comes.
    fn waiting(arguments: &[&OsStr], sandbox: Option<&Path>, dir: &Path) -> Child {
        let mut shell = Command::new("sh");
        shell
            .args(arguments)
            .current_dir(dir)
            .env_remove("MESOS_DIRECTORY");
        if let Some(sandbox) = sandbox {
            shell.env("MESOS_DIRECTORY", sandbox);
        }
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        shell.spawn().expect("starts")
    }

    #[test]
    fn tasks_and_executors_of_a_directory_are_ended_and_nothing_else() {
        let ours = tempfile::tempdir().expect("a directory");
        let other = tempfile::tempdir().expect("a directory");
        let dir = other.path();
        // A program with the arguments of an executor.
        fs::write(dir.join(mezzo_executor::ENTRY_WORD), "read line").expect("writes");
        let [read, entry] = ["read line", mezzo_executor::ENTRY_WORD].map(OsStr::new);
        let (flag, plan) = (
            OsStr::new("-c"),
            ours.path().join("agent-0/containers/x/plan.json"),
        );
        let sandbox = |root: &Path| root.join("agent-0/runs/1");
        let mut task = waiting(&[flag, read], Some(&sandbox(ours.path())), dir);
        let mut executor = waiting(&[entry, plan.as_os_str()], None, dir);
        let mut stranger = waiting(&[flag, read], Some(&sandbox(other.path())), dir);
        let mut other_place = waiting(&[flag, read, entry, plan.as_os_str()], None, dir);

        // A child is another program until it has become the one that it is to run.
        let pid = |child: &Child| Pid::from_raw(i32::try_from(child.id()).expect("small"));
        let wanted = [pid(&task), pid(&executor)];
        let deadline = Instant::now() + PATIENCE;
        while !wanted
            .iter()
            .all(|pid| processes_of(ours.path()).contains(pid))
        {
            assert!(Instant::now() < deadline, "they are not found");
            std::thread::yield_now();
        }
        let lines = end(ours.path()).expect("ends");
        assert!(
            lines.iter().any(|line| line.contains("2 processes")),
            "{lines:?}"
        );
        for child in [&mut task, &mut executor] {
            assert!(!child.wait().expect("it has ended").success());
        }
        for child in [&mut stranger, &mut other_place] {
            assert!(
                child.try_wait().expect("asked").is_none(),
                "it was none of ours"
            );
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b rw - ext3 /dev/root rw\n40 35 0:1 / /mnt2 rw - tmpfs t rw\n";
        assert_eq!(
            mount_points(text),
            [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt2")]
        );
    }
}
