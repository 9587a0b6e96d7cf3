//! How a payload is contained: a plain process, or an OCI runtime's container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What stands between the executor and the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Containerizer {
    /// Nothing but a session of its own.
    Process,
    /// A container of an OCI runtime.
    Oci(OciContainer),
}

/// A container that an OCI runtime is to run. The executor runs
/// `<runtime> <runtime_arguments> --root <root> --log <run_directory>/runtime.log run --detach --bundle <bundle>
/// --pid-file <run_directory>/init.pid <id>`, and `delete --force <id>` at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciContainer {
    /// The runtime's program (`/usr/sbin/runc`).
    pub runtime: PathBuf,
    /// Global arguments of the runtime beyond `--root` and `--log` (`--systemd-cgroup`).
    pub runtime_arguments: Vec<String>,
    /// The directory of the runtime's own state.
    pub root: PathBuf,
    /// The bundle: a directory with `config.json`, ready to run.
    pub bundle: PathBuf,
    /// The container's name for the runtime.
    pub id: String,
    /// What the executor mounts, in order, in a mount namespace of its own before the runtime starts. They vanish with
    /// the last process in it, however that ends; the host never sees them. Empty: no namespace is made.
    pub mounts: Vec<Mount>,
    /// The memory controllers of the container, looked at when it has ended and before it is deleted.
    pub cgroups: Vec<CgroupWatch>,
    /// The memory limit in bytes, for the words of an out-of-memory report.
    pub memory_limit_bytes: Option<u64>,
}

/// One mount of a private mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mount {
    /// A file system by its type: `overlay` with its `data`, `tmpfs`, `proc`.
    FileSystem {
        /// The type's name.
        kind: String,
        /// What stands in the mount table as its source.
        source: String,
        /// Where it goes; must exist.
        target: PathBuf,
        /// The type's own options, comma-separated.
        data: String,
        /// Mounted read-only.
        read_only: bool,
    },
    /// A directory or file of the host at another place.
    Bind {
        /// What is shown.
        source: PathBuf,
        /// Where; must exist.
        target: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
        /// Made read-only.
        read_only: bool,
    },
    /// Takes a mount away (crun wants `/sys/fs/cgroup/unified` gone on a hybrid host).
    Unmount {
        /// The mount point; not an error when nothing is mounted there.
        target: PathBuf,
    },
}

/// A cgroup whose memory events tell whether the kernel killed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupWatch {
    /// A directory of the version 1 memory controller (`memory.oom_control`, `memory.max_usage_in_bytes`).
    V1Memory(PathBuf),
    /// A directory of the unified hierarchy (`memory.events`, `memory.peak`).
    V2(PathBuf),
}
