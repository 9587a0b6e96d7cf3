//! Did the kernel kill for want of memory? Read from the container's cgroups when its payload has ended.
//!
//! Rule: version 1 counts kills in `memory.oom_control` (`oom_kill`, since Linux 4.13), version 2 in `memory.events`.
//! Invariant: what
//! cannot be read counts as no; a file of the kernel is believed, and nothing else is.

use std::fs;
use std::path::Path;

pub use crate::core::MemoryReport;
use crate::plan::CgroupWatch;

/// Reads the cgroups; sums the kills, takes the lowest limit and the highest use.
pub fn report(watches: &[CgroupWatch]) -> MemoryReport {
    let mut sum = MemoryReport::default();
    for watch in watches {
        let one = match watch {
            CgroupWatch::V1Memory(directory) => v1(directory),
            CgroupWatch::V2(directory) => v2(directory),
        };
        sum.kills += one.kills;
        sum.limit_bytes = [sum.limit_bytes, one.limit_bytes]
            .into_iter()
            .flatten()
            .min();
        sum.peak_bytes = sum.peak_bytes.max(one.peak_bytes);
    }
    sum
}

fn v1(directory: &Path) -> MemoryReport {
    // "Unlimited" is the largest page count that fits; no machine has an eighth of that.
    let limit = number(directory, "memory.limit_in_bytes").filter(|&bytes| bytes < 1 << 60);
    MemoryReport {
        kills: field(directory, "memory.oom_control", "oom_kill").unwrap_or(0),
        limit_bytes: limit,
        peak_bytes: number(directory, "memory.max_usage_in_bytes"),
    }
}

fn v2(directory: &Path) -> MemoryReport {
    MemoryReport {
        kills: field(directory, "memory.events", "oom_kill").unwrap_or(0),
        // "max" when there is none.
        limit_bytes: number(directory, "memory.max"),
        peak_bytes: number(directory, "memory.peak"),
    }
}

/// The number in a line `<name> <number>`.
fn field(directory: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(field, _)| *field == name)?;
    value.trim().parse().ok()
}

fn number(directory: &Path, file: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn version_one() {
        let dir = cgroup(&[
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
            ("memory.limit_in_bytes", "67108864\n"),
            ("memory.max_usage_in_bytes", "67108864\n"),
        ]);
        let report = report(&[CgroupWatch::V1Memory(dir.path().into())]);
        assert_eq!(report.kills, 2);
        assert_eq!(report.limit_bytes, Some(64 << 20));
        assert_eq!(report.peak_bytes, Some(64 << 20));
        let unlimited = cgroup(&[("memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(v1(unlimited.path()), MemoryReport::default());
    }

    #[test]
    fn version_two() {
        let dir = cgroup(&[
            (
                "memory.events",
                "low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n",
            ),
            ("memory.max", "33554432\n"),
            ("memory.peak", "33554432\n"),
        ]);
        let watches = [CgroupWatch::V2(dir.path().into())];
        assert_eq!(report(&watches).kills, 1);
        let unlimited = cgroup(&[("memory.max", "max\n"), ("memory.events", "oom_kill 0\n")]);
        assert_eq!(v2(unlimited.path()), MemoryReport::default());
    }

    #[test]
    fn a_cgroup_that_is_gone_says_no() {
        let gone = CgroupWatch::V2("/nowhere".into());
        let odd = CgroupWatch::V1Memory("/proc".into());
        assert_eq!(report(&[gone, odd]), MemoryReport::default());
        assert_eq!(report(&[]), MemoryReport::default());
    }
}
