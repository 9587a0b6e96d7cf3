//! The flags of `mezzo batch`: Mesos' and Marathon's names where the meaning is the same, each from the environment too
//! (`--work_dir` is `MEZZO_BATCH_WORK_DIR`).

use std::net::IpAddr;
use std::path::PathBuf;

use mezzo_model::time::Millis;

/// What the batch framework is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where the leading master is found: zk://host:port/path, file:///directory or host:port.
    #[arg(long, env = "MEZZO_BATCH_MASTER", default_value = "127.0.0.1:5050")]
    pub master: String,

    /// Where this framework elects its own leader and keeps its jobs: zk://host:port/path or file:///directory.
    /// Without it they lie in the directory `state` of --work_dir.
    #[arg(long, env = "MEZZO_BATCH_ZK")]
    pub zk: Option<String>,

    /// For how long ZooKeeper keeps a leader that it does not hear from.
    #[arg(
        long = "zk_session_timeout",
        alias = "zk-session-timeout",
        env = "MEZZO_BATCH_ZK_SESSION_TIMEOUT",
        default_value = "10secs"
    )]
    pub zk_session_timeout: Millis,

    /// Where what must last is kept.
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_BATCH_WORK_DIR",
        default_value = "/var/lib/mezzo/batch"
    )]
    pub work_dir: PathBuf,

    /// The address to listen on.
    #[arg(long, env = "MEZZO_BATCH_IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, env = "MEZZO_BATCH_PORT", default_value_t = 9000)]
    pub port: u16,

    /// The name under which other processes reach this one; the address it listens on otherwise.
    #[arg(long, env = "MEZZO_BATCH_HOSTNAME")]
    pub hostname: Option<String>,

    /// The address under which other processes reach this one, if it is another than --ip.
    #[arg(
        long = "advertise_ip",
        alias = "advertise-ip",
        env = "MEZZO_BATCH_ADVERTISE_IP"
    )]
    pub advertise_ip: Option<IpAddr>,

    /// The port under which other processes reach this one, if it is another than --port.
    #[arg(
        long = "advertise_port",
        alias = "advertise-port",
        env = "MEZZO_BATCH_ADVERTISE_PORT"
    )]
    pub advertise_port: Option<u16>,

    /// A file with the names and secrets of those who may come in; without it everybody who reaches the port may.
    #[arg(long, env = "MEZZO_BATCH_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Listen beyond loopback without --credentials.
    #[arg(long, env = "MEZZO_BATCH_INSECURE")]
    pub insecure: bool,

    /// The framework's name, as the master shows it.
    #[arg(
        long = "framework_name",
        alias = "framework-name",
        env = "MEZZO_BATCH_FRAMEWORK_NAME",
        default_value = "batch"
    )]
    pub framework_name: String,

    /// The user that tasks run as where their job names none.
    #[arg(
        long = "mesos_user",
        alias = "mesos-user",
        env = "MEZZO_BATCH_MESOS_USER",
        default_value = "nobody"
    )]
    pub mesos_user: String,

    /// The role in which this framework is offered resources.
    #[arg(
        long = "mesos_role",
        alias = "mesos-role",
        env = "MEZZO_BATCH_MESOS_ROLE",
        default_value = "*"
    )]
    pub mesos_role: String,

    /// A file with the principal and the secret with which this framework logs in at the master: `principal secret`, or
    /// JSON with these two names.
    #[arg(long, env = "MEZZO_BATCH_CREDENTIAL")]
    pub credential: Option<PathBuf>,

    /// The name with which this framework logs in at the master, instead of --credential.
    #[arg(
        long = "mesos_authentication_principal",
        alias = "mesos-authentication-principal",
        env = "MEZZO_BATCH_MESOS_AUTHENTICATION_PRINCIPAL"
    )]
    pub mesos_authentication_principal: Option<String>,

    /// A file with the secret for it.
    #[arg(
        long = "mesos_authentication_secret_file",
        alias = "mesos-authentication-secret-file",
        env = "MEZZO_BATCH_MESOS_AUTHENTICATION_SECRET_FILE"
    )]
    pub mesos_authentication_secret_file: Option<PathBuf>,

    /// For how long the master keeps the tasks of this framework while no process of it is there.
    #[arg(
        long = "failover_timeout",
        alias = "failover-timeout",
        env = "MEZZO_BATCH_FAILOVER_TIMEOUT",
        default_value = "1weeks"
    )]
    pub failover_timeout: Millis,

    /// A run whose agent cannot be reached for so long is given up.
    #[arg(
        long = "task_unreachable_timeout",
        alias = "task-unreachable-timeout",
        env = "MEZZO_BATCH_TASK_UNREACHABLE_TIMEOUT",
        default_value = "10mins"
    )]
    pub task_unreachable_timeout: Millis,

    /// How many ended runs of each outcome are kept for each job.
    #[arg(
        long = "history_count",
        alias = "history-count",
        env = "MEZZO_BATCH_HISTORY_COUNT",
        default_value_t = 1000
    )]
    pub history_count: usize,

    /// How many ended runs are kept in all.
    #[arg(
        long = "history_total",
        alias = "history-total",
        env = "MEZZO_BATCH_HISTORY_TOTAL",
        default_value_t = 20_000
    )]
    pub history_total: usize,

    /// How many jobs there may be.
    #[arg(
        long = "max_jobs",
        alias = "max-jobs",
        env = "MEZZO_BATCH_MAX_JOBS",
        default_value_t = 10_000
    )]
    pub max_jobs: usize,

    /// How many runs may be active at once.
    #[arg(
        long = "max_active_runs",
        alias = "max-active-runs",
        env = "MEZZO_BATCH_MAX_ACTIVE_RUNS",
        default_value_t = 50_000
    )]
    pub max_active_runs: usize,
}
