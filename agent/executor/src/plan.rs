//! The launch plan: what the agent decided about one container, handed to its executor process as a file.
//!
//! The plan says how the payload is started (containerizer, command, user, limits, places) and how the executor reaches
//! its agent. What the framework said about the task itself (kill policy, checks, maximal run time) is not here: it
//! comes
//! with the LAUNCH event in the `TaskInfo`.
//! Invariant: a plan is complete; the executor looks nothing up (no user database, no agent flags). It holds the
//! executor's token and the task's environment, therefore the file has mode 0600.

mod command;
mod container;
mod ended;
mod file;

pub use command::{CommandError, CommandLine};
pub use container::{CgroupWatch, Containerizer, Mount, OciContainer};
pub use ended::{ENDED_FILE, Ended, EndedHow};
pub use file::PlanError;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the plan that this build writes; it reads every version up to this one.
pub const PLAN_VERSION: u32 = 1;

/// Everything that one executor process must know to run its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of the writer; a newer one than the reader's is refused.
    pub version: u32,
    /// The framework whose executor this is.
    pub framework_id: String,
    /// The executor's id; for the built-in command executor the id of its task.
    pub executor_id: String,
    /// The container's id, unique for each run; it marks every process of the container in its environment.
    pub container_id: String,
    /// The agent's id, for the payload's environment.
    pub agent_id: String,
    /// Who speaks the executor API.
    pub role: ExecutorRole,
    /// How the payload is contained.
    pub containerizer: Containerizer,
    /// What is run. With [`Containerizer::Oci`] the bundle says it to the runtime, and this is for words only.
    pub command: CommandLine,
    /// The variables of the command, in order; a later one of the same name wins. [`Plan::environment`] adds our own.
    pub environment: Vec<(String, String)>,
    /// The user that the payload and its checks run as; absent: the executor's own. Not used with
    /// [`Containerizer::Oci`], whose bundle names the user.
    pub user: Option<User>,
    /// The container's directory on the host: log files are kept here. It may belong to the payload's user.
    pub sandbox: PathBuf,
    /// The same directory as the payload sees it; absent: `sandbox`.
    pub sandbox_inside: Option<PathBuf>,
    /// Where the payload starts; absent: the sandbox.
    pub working_directory: Option<PathBuf>,
    /// A directory that only the agent and the executor may enter: the plan, [`ENDED_FILE`], the runtime's files.
    pub run_directory: PathBuf,
    /// Limits set in the payload, in order.
    pub rlimits: Vec<Rlimit>,
    /// How much of the payload's output is kept.
    pub output: OutputLimits,
    /// How to reach the agent.
    pub agent: AgentAddress,
    /// How long the executor waits for each party.
    pub timing: Timing,
}

/// Who speaks the executor API with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutorRole {
    /// This process itself: the payload is the command of one task.
    Command,
    /// The payload does (a framework's own executor); this process only keeps it: output, descendants, exit status in
    /// [`ENDED_FILE`]. SIGTERM asks it to end the payload with [`Timing::shutdown_grace_ms`].
    Custom,
}

/// The user of a payload, looked up by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, for words and `USER`.
    pub name: String,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric primary group id.
    pub gid: u32,
    /// Supplementary group ids; they replace those of the executor.
    pub groups: Vec<u32>,
}

/// One resource limit of the payload's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub kind: RlimitKind,
    /// The soft limit in the unit of setrlimit(2); absent: unlimited.
    pub soft: Option<u64>,
    /// The hard limit; absent: unlimited.
    pub hard: Option<u64>,
}

/// The limits that setrlimit(2) knows on Linux, by the names of the v1 `RLimitInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The names are those of setrlimit(2), which explains them.
pub enum RlimitKind {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// How much of each of `stdout` and `stderr` is kept in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLimits {
    /// Bytes of one file; a file that would pass it is turned over to `.1` first. 0: never turned over.
    pub file_bytes_max: u64,
    /// How many turned-over files (`.1` the newest) are kept beside the current one.
    pub old_files_max: u32,
}

/// How the executor reaches its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentAddress {
    /// The agent's unix socket; its directory must exist.
    pub socket: PathBuf,
    /// The secret that proves that this is the executor the agent started.
    pub token: String,
    /// `host:port` of the agent's door, for the payload's environment.
    pub endpoint: String,
}

/// Waits of an executor, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between SIGTERM and SIGKILL where neither the kill nor the task has a policy.
    pub kill_grace_ms: u64,
    /// The same when the agent shuts the executor down.
    pub shutdown_grace_ms: u64,
    /// How long the executor lives on without its agent; 0: it ends its task as soon as the agent is gone.
    pub recovery_timeout_ms: u64,
    /// Longest pause between two attempts to subscribe.
    pub subscribe_backoff_max_ms: u64,
    /// How long an executor whose task has ended waits for the acknowledgement of its connected agent.
    pub linger_ms: u64,
}

impl Default for Timing {
    /// Mesos' defaults: 3 s, 5 s, 15 min, 2 s, 60 s.
    fn default() -> Self {
        Self {
            kill_grace_ms: 3_000,
            shutdown_grace_ms: 5_000,
            recovery_timeout_ms: 15 * 60_000,
            subscribe_backoff_max_ms: 2_000,
            linger_ms: 60_000,
        }
    }
}

impl Default for OutputLimits {
    /// Ten MiB a file and two old files: at most 60 MiB of both streams together.
    fn default() -> Self {
        Self {
            file_bytes_max: 10 << 20,
            old_files_max: 2,
        }
    }
}

/// The variable that marks every process of a container with the container's id.
pub const MARKER_VARIABLE: &str = "MEZZO_CONTAINER_ID";

/// Where commands are looked for when the task's environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Plan {
    /// The sandbox as the payload sees it.
    pub fn sandbox_inside(&self) -> &Path {
        self.sandbox_inside.as_deref().unwrap_or(&self.sandbox)
    }

    /// The payload's whole environment: a `PATH`, the command's variables, then those of the executor API and the
    /// container's marker, which the command cannot override. The agent uses it for a bundle's `process.env`.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        for (name, value) in &self.environment {
            set(&mut env, name, value.clone());
        }
        let inside = self.sandbox_inside().to_string_lossy().into_owned();
        set(&mut env, "MESOS_FRAMEWORK_ID", self.framework_id.clone());
        set(&mut env, "MESOS_EXECUTOR_ID", self.executor_id.clone());
        set(&mut env, "MESOS_CONTAINER_ID", self.container_id.clone());
        set(&mut env, "MESOS_SLAVE_ID", self.agent_id.clone());
        set(
            &mut env,
            "MESOS_AGENT_ENDPOINT",
            self.agent.endpoint.clone(),
        );
        set(
            &mut env,
            "MESOS_DIRECTORY",
            self.sandbox.to_string_lossy().into_owned(),
        );
        set(&mut env, "MESOS_SANDBOX", inside);
        if self.role == ExecutorRole::Command {
            set(&mut env, "MESOS_TASK_ID", self.executor_id.clone());
        } else {
            self.set_executor_variables(&mut env);
        }
        set(&mut env, MARKER_VARIABLE, self.container_id.clone());
        env
    }

    /// What a framework's own executor needs beyond what a task's command gets: the way to the agent and its waits.
    fn set_executor_variables(&self, env: &mut Vec<(String, String)>) {
        let timing = &self.timing;
        let checkpoint = u8::from(timing.recovery_timeout_ms > 0);
        set(env, "MESOS_CHECKPOINT", checkpoint.to_string());
        set(env, "MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned());
        let words = duration_words(timing.shutdown_grace_ms);
        set(env, "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", words);
        let words = duration_words(timing.recovery_timeout_ms);
        set(env, "MESOS_RECOVERY_TIMEOUT", words);
        let words = duration_words(timing.subscribe_backoff_max_ms);
        set(env, "MESOS_SUBSCRIPTION_BACKOFF_MAX", words);
        let token = self.agent.token.clone();
        set(env, "MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token);
        let socket = self.agent.socket.to_string_lossy().into_owned();
        set(env, "MEZZO_AGENT_SOCKET", socket);
    }
}

/// Puts `value` in the place of an earlier variable of that name, or at the end.
pub(crate) fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}

/// A duration as Mesos prints it in the environment: `5secs`, `250ms`.
fn duration_words(ms: u64) -> String {
    if ms.is_multiple_of(1_000) {
        format!("{}secs", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

#[cfg(test)]
mod tests;
