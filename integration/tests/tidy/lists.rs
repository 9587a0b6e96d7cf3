//! What the rules are told: limits, tables, and each exception with its reason.
//!
//! An exception that no longer applies is itself a finding (`tidy.rs` checks), so these lists cannot rot.

/// A file is comfortable at 150 to 400 lines; past this one it must be a room with a reason.
pub const LINES_MAX: usize = 700;

/// Characters in a line.
pub const WIDTH_MAX: usize = 120;

/// (file, why it may be longer)
pub const LONG_FILES: &[(&str, &str)] = &[];

/// (file, why an identifier there may say the old word for an agent)
pub const OLD_NAMES: &[(&str, &str)] = &[(
    "agent/executor/src/mounts.rs",
    "the kernel's name for a mount that follows its parent, and no agent",
)];

/// (file, what is unsafe there; the argument for its soundness opens the file)
pub const UNSAFE_MODULES: &[(&str, &str)] = &[
    (
        "agent/executor/src/sys.rs",
        "fork, _exit and closing descriptors before exec",
    ),
    (
        "coordination/src/readiness.rs",
        "a descriptor that a library lends, watched by the runtime",
    ),
    (
        "agent/executor/tests/real/output.rs",
        "a limit set between fork and exec, which stands for a full disk",
    ),
    ("agent/src/sys.rs", "a descriptor handed to the runtime"),
];

/// (what a core may not name, why). A trailing `::` means the crate of that name.
pub const CORES_NAME_NOTHING_OF: &[(&str, &str)] = &[
    ("tokio::", "a core is synchronous"),
    ("tracing::", "what is to be logged goes out as a value"),
    ("rand::", "seeds are handed in"),
    ("uuid::Uuid::new_v4", "seeds are handed in"),
    ("Uuid::new_v4", "seeds are handed in"),
    ("Uuid::now_v7", "seeds and time are handed in"),
    ("std::time::Instant", "time is handed in"),
    ("std::time::SystemTime", "time is handed in"),
    ("SystemTime::now", "time is handed in"),
    ("Instant::now", "time is handed in"),
    ("HashMap", "its order is another one in each run"),
    ("HashSet", "its order is another one in each run"),
    ("std::fs", "a core has no disk"),
    ("std::env", "what a core knows is handed in"),
    ("std::process", "a core starts nothing"),
    ("std::thread", "a core is one thread's"),
    ("std::net::TcpStream", "a core has no socket"),
    ("std::net::TcpListener", "a core has no socket"),
    ("std::net::UdpSocket", "a core has no socket"),
    ("std::os::unix::net", "a core has no socket"),
    ("axum::", "a core does not know its door"),
    ("hyper::", "a core does not know its door"),
    ("tonic::", "a core does not know its door"),
    ("nix::", "a core does not know its machine"),
    ("rustix::", "a core does not know its machine"),
    ("crate::shell", "the shell stands around the core"),
    ("super::shell", "the shell stands around the core"),
];

/// Two crates on one floor of which the first may use the second: (user, used, why)
pub const NEIGHBOURS: &[(&str, &str, &str)] = &[
    (
        "proto/model",
        "proto/wire",
        "pure values are made from messages and turned back into them",
    ),
    (
        "proto/door",
        "proto/model",
        "who may come in is a credentials file, which is a pure value",
    ),
    (
        "agent",
        "agent/executor",
        "the agent writes the plan that the executor reads",
    ),
];

/// What the frameworks may use of the house: what any author outside of this repository has, and the daemon's door.
pub const FRAMEWORKS_USE: &[&str] = &[
    "proto/wire",
    "proto/model",
    "proto/door",
    "coordination",
    "framework-sdk",
];

/// Everything that outlives a process or is spoken by two builds: (format, file, the constant with its version)
pub const FORMATS: &[(&str, &str, &str)] = &[
    ("registry", "master/src/registry.rs", "FORMAT"),
    ("agent log", "agent/src/log/frame.rs", "LOG_VERSION"),
    (
        "launch plan of an executor, and its last words",
        "agent/executor/src/plan.rs",
        "PLAN_VERSION",
    ),
    (
        "executor socket",
        "proto/wire/src/version.rs",
        "EXECUTOR_SOCKET_VERSION",
    ),
    (
        "link between master and agent",
        "proto/wire/src/version.rs",
        "LINK_VERSION",
    ),
    (
        "state in ZooKeeper",
        "coordination/src/store/zk_ops.rs",
        "FORMAT",
    ),
    (
        "state in a directory",
        "coordination/src/store/embedded.rs",
        "FORMAT",
    ),
    (
        "what the SDK stores of a framework",
        "framework-sdk/src/store.rs",
        "VERSION",
    ),
    (
        "apps, instances and deployments",
        "frameworks/service/src/store.rs",
        "FORMAT",
    ),
    (
        "jobs and runs",
        "frameworks/batch/src/store/load.rs",
        "FORMAT",
    ),
    ("where `mezzo local` runs", "cli/src/context.rs", "VERSION"),
];

/// Flags in the documents that belong to other programs.
pub const FOREIGN_FLAGS: &[&str] = &["release", "bin", "example"];
