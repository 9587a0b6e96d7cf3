//! Control groups of both versions: finding the hierarchies, holding processes, ending and removing groups.
//!
//! Rule: the kernel's cgroup-v1 and cgroup-v2 documents. On a hybrid host (version 1 controllers, an almost empty
//! unified hierarchy beside them) the version 1 files count.
//! Invariant: only groups below the root that is named (such as `mezzo/<tag>`) are ever touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_executor::plan::CgroupWatch;

use super::procs;
use crate::core::Limits;

/// How often a group is tried to be removed; the kernel refuses while a process in it is still being torn down.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// The period of a hard limit on processors, in microseconds: that of all runtimes.
pub(crate) const CPU_PERIOD_US: u64 = 100_000;

/// The least share that version 1 takes.
const SHARES_MIN: u64 = 2;

/// The hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// One hierarchy for each controller or set of controllers.
    V1 {
        /// Where each controller is mounted.
        controllers: BTreeMap<String, PathBuf>,
        /// Hierarchies without one (`name=systemd`, the unified one of a hybrid host).
        others: Vec<PathBuf>,
    },
    /// One hierarchy for all.
    V2 {
        /// Where it is mounted.
        root: PathBuf,
    },
}

impl Cgroups {
    /// Looks at this host; `None` without control groups.
    pub fn detect() -> Option<Self> {
        Self::from_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?)
    }

    /// Reads the form of `/proc/self/mountinfo`.
    pub fn from_mounts(mountinfo: &str) -> Option<Self> {
        let mut controllers = BTreeMap::new();
        let mut others = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let (left, right) = line.split_once(" - ")?;
            let Some(point) = left.split(' ').nth(4) else {
                continue;
            };
            let point = PathBuf::from(unescape(point));
            let mut words = right.split(' ');
            match words.next() {
                Some("cgroup2") => unified = Some(point),
                Some("cgroup") => {
                    let options = words.nth(1).unwrap_or_default();
                    let known = options
                        .split(',')
                        .filter(|option| {
                            !matches!(*option, "rw" | "ro" | "xattr" | "clone_children")
                        })
                        .filter(|option| !option.contains('='));
                    let before = controllers.len();
                    for controller in known {
                        controllers.insert(controller.to_owned(), point.clone());
                    }
                    if controllers.len() == before {
                        others.push(point);
                    }
                }
                _ => {}
            }
        }
        match (controllers.is_empty(), unified) {
            (false, unified) => {
                others.extend(unified);
                Some(Self::V1 {
                    controllers,
                    others,
                })
            }
            (true, Some(root)) => Some(Self::V2 { root }),
            (true, None) => None,
        }
    }

    /// Every hierarchy, each once.
    fn mounts(&self) -> Vec<&Path> {
        let mut mounts: Vec<&Path> = match self {
            Self::V1 {
                controllers,
                others,
            } => controllers
                .values()
                .chain(others)
                .map(PathBuf::as_path)
                .collect(),
            Self::V2 { root } => vec![root],
        };
        mounts.sort_unstable();
        mounts.dedup();
        mounts
    }

    /// A holder of processes below `root`, if groups can be made there.
    pub fn tracker(&self, root: &str) -> Option<Tracker> {
        let mount = match self {
            Self::V1 {
                controllers,
                others,
            } => controllers
                .get("freezer")
                .or(controllers.get("pids"))
                .or(others.first())?,
            Self::V2 { root } => root,
        };
        let base = mount.join(root);
        fs::create_dir_all(&base).ok()?;
        Some(Tracker { base })
    }

    /// Where the memory of a group is watched.
    pub fn watches(&self, group: &str) -> Vec<CgroupWatch> {
        match self {
            Self::V1 { controllers, .. } => controllers
                .get("memory")
                .map(|mount| CgroupWatch::V1Memory(mount.join(group)))
                .into_iter()
                .collect(),
            Self::V2 { root } => vec![CgroupWatch::V2(root.join(group))],
        }
    }

    /// Whether a limit on memory and swap together can be set.
    pub fn counts_swap(&self) -> bool {
        match self {
            Self::V1 { controllers, .. } => controllers
                .get("memory")
                .is_some_and(|mount| mount.join("memory.memsw.limit_in_bytes").exists()),
            // The root of version 2 has no limits; a kernel that counts swap says so where swap is used.
            Self::V2 { .. } => {
                fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1)
            }
        }
    }

    /// Changes the limits of a group that exists.
    ///
    /// # Errors
    /// What the kernel says to the first file that it does not take.
    pub fn set_limits(&self, group: &str, limits: &Limits) -> io::Result<()> {
        match self {
            Self::V1 { controllers, .. } => set_v1(controllers, group, limits),
            Self::V2 { root } => set_v2(&root.join(group), limits),
        }
    }

    /// Ends every process in a group of every hierarchy, and removes the groups. Gives how many processes are left.
    pub fn end(&self, group: &str) -> usize {
        let groups: Vec<PathBuf> = self
            .mounts()
            .into_iter()
            .map(|mount| mount.join(group))
            .collect();
        let left = groups.iter().map(|group| kill_in(group)).max().unwrap_or(0);
        for group in &groups {
            remove(group);
        }
        left
    }

    /// The names of the groups right below a root, in any hierarchy.
    pub fn children(&self, root: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .mounts()
            .into_iter()
            .flat_map(|mount| subdirectories(&mount.join(root)))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes a root and the directory above it where they are empty.
    pub fn remove_empty(&self, root: &str) {
        for mount in self.mounts() {
            let mut path = Path::new(root);
            while !path.as_os_str().is_empty() && fs::remove_dir(mount.join(path)).is_ok() {
                path = path.parent().unwrap_or(Path::new(""));
            }
        }
    }
}

/// A mount point as mountinfo writes it: octal escapes for blanks and backslashes.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// Shares of a processor as version 1 counts them: 1024 are one.
pub(crate) fn shares(limits: &Limits) -> u64 {
    (limits.cpu_milli.saturating_mul(1_024) / 1_000).max(SHARES_MIN)
}

/// Microseconds of each period that a hard limit allows.
pub(crate) fn quota_us(limits: &Limits) -> Option<u64> {
    let most = limits.cpu_max_milli?;
    // The kernel takes no less than a millisecond.
    Some((most.saturating_mul(CPU_PERIOD_US) / 1_000).max(1_000))
}

fn set_v1(controllers: &BTreeMap<String, PathBuf>, group: &str, limits: &Limits) -> io::Result<()> {
    if let Some(cpu) = controllers.get("cpu").map(|mount| mount.join(group)) {
        fs::write(cpu.join("cpu.shares"), shares(limits).to_string())?;
        let quota = quota_us(limits).map_or("-1".to_owned(), |quota| quota.to_string());
        fs::write(cpu.join("cpu.cfs_quota_us"), quota)?;
    }
    let Some(memory) = controllers.get("memory").map(|mount| mount.join(group)) else {
        return Ok(());
    };
    let limit = limits
        .memory_bytes
        .map_or("-1".to_owned(), |bytes| bytes.to_string());
    let (plain, with_swap) = (
        memory.join("memory.limit_in_bytes"),
        memory.join("memory.memsw.limit_in_bytes"),
    );
    if !with_swap.exists() {
        return fs::write(plain, limit);
    }
    // One is never above the other, so the order depends on the direction: one of the two fits first.
    match fs::write(&with_swap, &limit) {
        Ok(()) => fs::write(plain, limit),
        Err(_) => fs::write(plain, &limit).and_then(|()| fs::write(with_swap, limit)),
    }
}

fn set_v2(group: &Path, limits: &Limits) -> io::Result<()> {
    // As runtimes translate shares into weights.
    let weight = 1 + (shares(limits).clamp(SHARES_MIN, 262_144) - SHARES_MIN) * 9_999 / 262_142;
    fs::write(group.join("cpu.weight"), weight.to_string())?;
    let quota = quota_us(limits).map_or("max".to_owned(), |quota| quota.to_string());
    fs::write(group.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
    let limit = limits
        .memory_bytes
        .map_or("max".to_owned(), |bytes| bytes.to_string());
    fs::write(group.join("memory.max"), limit)
}

/// Holds processes in groups without limits, so that their descendants can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    base: PathBuf,
}

impl Tracker {
    pub fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    pub fn make(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(name))
    }

    /// Puts a process, and what it has started already, into the group.
    pub fn enter(&self, name: &str, pid: u32) -> io::Result<()> {
        let file = self.path(name).join("cgroup.procs");
        fs::write(&file, pid.to_string())?;
        let mut known = vec![pid];
        let mut at = 0;
        while let Some(parent) = known.get(at).copied() {
            at += 1;
            for child in children_of(parent) {
                if !known.contains(&child) {
                    // One that has ended meanwhile needs no holding.
                    let _ = fs::write(&file, child.to_string());
                    known.push(child);
                }
            }
        }
        Ok(())
    }

    /// Ends what is in the group and removes it. Gives how many processes are left.
    pub fn end(&self, name: &str) -> usize {
        let path = self.path(name);
        let left = kill_in(&path);
        remove(&path);
        left
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The processes in a group and the groups below it.
fn processes_in(group: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut groups = vec![group.to_owned()];
    while let Some(group) = groups.pop() {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        groups.extend(subdirectories(&group));
    }
    found
}

/// Kills everything in a group. Gives how many processes are left.
fn kill_in(group: &Path) -> usize {
    if processes_in(group).is_empty() {
        return 0;
    }
    // Version 2 does it in one stroke; version 1 holds them still meanwhile, where there is a freezer.
    if fs::write(group.join("cgroup.kill"), "1").is_err() {
        let _ = fs::write(group.join("freezer.state"), "FROZEN");
    }
    let left = procs::kill_rounds(|| {
        let found = processes_in(group);
        if !found.is_empty() {
            // What is frozen cannot die: each round they get a moment to.
            for pid in &found {
                let _ = procs::kill_quietly(*pid);
            }
            let _ = fs::write(group.join("freezer.state"), "THAWED");
        }
        found
    });
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    left
}

/// Removes a group and those below it.
fn remove(group: &Path) {
    for _ in 0..REMOVE_TRIES {
        for below in subdirectories(group) {
            remove_tree(&below);
        }
        match fs::remove_dir(group) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(REMOVE_PAUSE),
        }
    }
    tracing::warn!(group = %group.display(), "a control group could not be removed");
}

fn remove_tree(group: &Path) {
    for below in subdirectories(group) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
";

    fn limits(memory: Option<u64>, most: Option<u64>) -> Limits {
        Limits {
            cpu_milli: 1_500,
            cpu_max_milli: most,
            memory_bytes: memory,
        }
    }

    #[test]
    fn hierarchies_are_told_apart() {
        let Some(Cgroups::V1 {
            controllers,
            others,
        }) = Cgroups::from_mounts(HYBRID)
        else {
            panic!("a hybrid host counts as version 1");
        };
        assert_eq!(controllers["cpuacct"], controllers["cpu"]);
        assert_eq!(controllers.len(), 4);
        assert_eq!(others.len(), 2);
        let unified = Cgroups::from_mounts(UNIFIED).expect("groups");
        assert_eq!(
            unified,
            Cgroups::V2 {
                root: "/sys/fs/cgroup".into()
            }
        );
        assert_eq!(
            unified.watches("m/c"),
            [CgroupWatch::V2("/sys/fs/cgroup/m/c".into())]
        );
        assert_eq!(
            Cgroups::from_mounts("1 2 0:1 / / rw - ext4 /dev/a rw\n"),
            None
        );
        assert_eq!(unescape("/a\\040b\\134c\\x"), "/a b\\c\\x");
    }

    #[test]
    fn limits_of_version_one() {
        let scratch = tempfile::tempdir().expect("a directory");
        let mount = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.join("m/c")).expect("makes");
            (name.to_owned(), path)
        };
        let controllers = BTreeMap::from([mount("cpu"), mount("memory")]);
        let groups = Cgroups::V1 {
            controllers,
            others: Vec::new(),
        };
        let read = |file: &str| fs::read_to_string(scratch.path().join(file)).expect("is written");
        groups
            .set_limits("m/c", &limits(Some(64 << 20), Some(500)))
            .expect("sets");
        assert_eq!(read("cpu/m/c/cpu.shares"), "1536");
        assert_eq!(read("cpu/m/c/cpu.cfs_quota_us"), "50000");
        assert_eq!(read("memory/m/c/memory.limit_in_bytes"), "67108864");
        fs::write(
            scratch
                .path()
                .join("memory/m/c/memory.memsw.limit_in_bytes"),
            "",
        )
        .expect("writes");
        groups.set_limits("m/c", &limits(None, None)).expect("sets");
        assert_eq!(read("cpu/m/c/cpu.cfs_quota_us"), "-1");
        assert_eq!(read("memory/m/c/memory.memsw.limit_in_bytes"), "-1");
        assert!(groups.set_limits("m/gone", &limits(None, None)).is_err());
    }

    #[test]
    fn limits_of_version_two() {
        let scratch = tempfile::tempdir().expect("a directory");
        let group = scratch.path().join("m/c");
        fs::create_dir_all(&group).expect("makes");
        let groups = Cgroups::V2 {
            root: scratch.path().to_owned(),
        };
        groups
            .set_limits("m/c", &limits(Some(1 << 20), Some(1_000)))
            .expect("sets");
        let read = |file: &str| fs::read_to_string(group.join(file)).expect("is written");
        assert_eq!(read("cpu.weight"), "59");
        assert_eq!(read("cpu.max"), "100000 100000");
        assert_eq!(read("memory.max"), "1048576");
        groups.set_limits("m/c", &limits(None, None)).expect("sets");
        assert_eq!(
            (read("cpu.max").as_str(), read("memory.max").as_str()),
            ("max 100000", "max")
        );
    }

    #[test]
    fn groups_below_a_root_are_named_and_an_empty_root_goes() {
        let scratch = tempfile::tempdir().expect("a directory");
        let groups = Cgroups::V2 {
            root: scratch.path().to_owned(),
        };
        let tracker = groups.tracker("m/tag").expect("a tracker");
        tracker.make("a").expect("makes");
        tracker.make("b").expect("makes");
        assert_eq!(groups.children("m/tag"), ["a", "b"]);
        groups.remove_empty("m/tag");
        assert!(tracker.exists("a"));
        for name in ["a", "b"] {
            assert_eq!(groups.end(&format!("m/tag/{name}")), 0);
        }
        groups.remove_empty("m/tag");
        assert!(!scratch.path().join("m").exists());
    }

    #[test]
    fn what_is_held_is_ended_with_all_its_descendants() {
        use std::os::unix::process::CommandExt;
        let Some(groups) = Cgroups::detect() else {
            return;
        };
        let root = format!("mezzo-test-{}", std::process::id());
        let Some(tracker) = groups.tracker(&root) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no control group could be made here"
            );
            return;
        };
        tracker.make("c").expect("makes");
        // It wipes its environment and leaves its session: only the group knows it.
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read go; env -i setsid sleep 1000 & wait"])
            .stdin(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("spawns");
        tracker.enter("c", child.id()).expect("enters");
        drop(child.stdin.take());
        while processes_in(&tracker.path("c")).len() < 2 {
            std::thread::yield_now();
        }
        let reaper = std::thread::spawn(move || child.wait());
        assert_eq!(tracker.end("c"), 0);
        assert!(!tracker.exists("c"));
        reaper.join().expect("no panic").expect("ends");
        groups.remove_empty(&root);
    }
}
