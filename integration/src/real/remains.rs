//! The end of what daemons leave behind when they are killed: tasks, which outlive them on purpose, and their cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::eventually;

/// The name of the cgroups of all agents that work below this folder, to be given to them as `--cgroups_root`.
pub fn cgroups_root(dir: &Path) -> String {
    dir.file_name().map_or_else(
        || "mezzo-it".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Ends every process that has to do with the folder, and removes the agents' cgroups. Says what could not be ended.
pub fn end(dir: &Path) {
    let ended = eventually("the end of every task", Duration::from_secs(10), || {
        let left = processes_of(dir);
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?} live"))
        }
    });
    if let Err(error) = ended {
        eprintln!("{error:#}");
    }
    let name = cgroups_root(dir);
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    for hierarchy in hierarchies
        .map(|entry| entry.path())
        .chain([PathBuf::from("/sys/fs/cgroup")])
    {
        let group = hierarchy.join(&name);
        if group.is_dir() {
            remove_group(&group);
        }
    }
}

/// A group goes when those below it are gone; its files go with it.
fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // A process that has ended may still be taken apart by the kernel.
    let removed = eventually("its end", Duration::from_secs(10), || {
        fs::remove_dir(group).map_err(|error| error.to_string())
    });
    if let Err(error) = removed {
        eprintln!("{} is left: {error:#}", group.display());
    }
}

/// Every process whose arguments, environment or working directory name the folder.
pub(crate) fn processes_of(dir: &Path) -> Vec<Pid> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let mine = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != mine)
        .filter(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let names = |file: &str| {
                fs::read(proc.join(file))
                    .is_ok_and(|text| text.windows(needle.len()).any(|window| window == needle))
            };
            names("cmdline") || names("environ")
        })
        .filter_map(|pid| Some(Pid::from_raw(i32::try_from(pid).ok()?)))
        .collect()
}
