//! The flags of `mezzo master`: Mesos' names where the meaning is the same, each from the environment too
//! (`--work_dir` is `MEZZO_MASTER_WORK_DIR`). Durations are written `10secs`, `75secs`, `1.5mins`, `500ms`,
//! or as a bare number of seconds.

use std::net::IpAddr;
use std::path::PathBuf;

use mezzo_model::Millis;

/// What a master is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The address to listen on. Anything but loopback needs --credentials, or --insecure.
    #[arg(long, env = "MEZZO_MASTER_IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, env = "MEZZO_MASTER_PORT", default_value_t = 5050)]
    pub port: u16,

    /// The name under which people and other processes reach this master; the advertised address otherwise.
    #[arg(long, env = "MEZZO_MASTER_HOSTNAME")]
    pub hostname: Option<String>,

    /// The address under which other processes reach this master, if it is another than --ip.
    #[arg(
        long = "advertise_ip",
        alias = "advertise-ip",
        env = "MEZZO_MASTER_ADVERTISE_IP"
    )]
    pub advertise_ip: Option<IpAddr>,

    /// The port under which other processes reach this master, if it is another than --port.
    #[arg(
        long = "advertise_port",
        alias = "advertise-port",
        env = "MEZZO_MASTER_ADVERTISE_PORT"
    )]
    pub advertise_port: Option<u16>,

    /// Where masters elect their leader and keep the registry: zk://host:port/path or file:///directory.
    /// Without it both lie in the directory `state` of --work_dir, and other masters that name the same
    /// directory stand by.
    #[arg(long, env = "MEZZO_MASTER_ZK")]
    pub zk: Option<String>,

    /// For how long ZooKeeper keeps a leader that it does not hear from.
    #[arg(
        long = "zk_session_timeout",
        alias = "zk-session-timeout",
        env = "MEZZO_MASTER_ZK_SESSION_TIMEOUT",
        default_value = "10secs"
    )]
    pub zk_session_timeout: Millis,

    /// Where what must last is kept, unless --zk says otherwise.
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_MASTER_WORK_DIR",
        default_value = "/var/lib/mezzo/master"
    )]
    pub work_dir: PathBuf,

    /// A name of the cluster for people.
    #[arg(long, env = "MEZZO_MASTER_CLUSTER")]
    pub cluster: Option<String>,

    /// Roles that frameworks may use, separated by commas; `*` is always allowed. Without it all are.
    #[arg(long, env = "MEZZO_MASTER_ROLES")]
    pub roles: Option<String>,

    /// Weights of roles, such as `eng=2,ops=1.5`; 1 otherwise. The registry's weights win.
    #[arg(long, env = "MEZZO_MASTER_WEIGHTS")]
    pub weights: Option<String>,

    /// How old an offer may get before it is taken back if another framework could use it. One that nobody
    /// else wants is taken back after five minutes.
    #[arg(
        long = "offer_timeout",
        alias = "offer-timeout",
        env = "MEZZO_MASTER_OFFER_TIMEOUT",
        default_value = "30secs"
    )]
    pub offer_timeout: Millis,

    /// An offer holds at least one of these sets of amounts: `|` is or, `;` is and.
    #[arg(
        long = "min_allocatable_resources",
        alias = "min-allocatable-resources",
        env = "MEZZO_MASTER_MIN_ALLOCATABLE_RESOURCES",
        default_value = "cpus:0.01|mem:32"
    )]
    pub min_allocatable_resources: String,

    /// Resources that do not count for fairness, separated by commas.
    #[arg(
        long = "fair_sharing_excluded_resource_names",
        alias = "fair-sharing-excluded-resource-names",
        env = "MEZZO_MASTER_FAIR_SHARING_EXCLUDED_RESOURCE_NAMES"
    )]
    pub fair_sharing_excluded_resource_names: Option<String>,

    /// Whether agents with GPUs go only to frameworks that know GPUs.
    #[arg(
        long = "filter_gpu_resources",
        alias = "filter-gpu-resources",
        env = "MEZZO_MASTER_FILTER_GPU_RESOURCES",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub filter_gpu_resources: bool,

    /// How often agents are pinged.
    #[arg(
        long = "agent_ping_timeout",
        alias = "agent-ping-timeout",
        alias = "slave_ping_timeout",
        env = "MEZZO_MASTER_AGENT_PING_TIMEOUT",
        default_value = "15secs"
    )]
    pub agent_ping_timeout: Millis,

    /// After so many unanswered pings an agent counts as unreachable.
    #[arg(
        long = "max_agent_ping_timeouts",
        alias = "max-agent-ping-timeouts",
        alias = "max_slave_ping_timeouts",
        env = "MEZZO_MASTER_MAX_AGENT_PING_TIMEOUTS",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_agent_ping_timeouts: u32,

    /// For how long a new leader waits for the agents of the registry.
    #[arg(
        long = "agent_reregister_timeout",
        alias = "agent-reregister-timeout",
        alias = "slave_reregister_timeout",
        env = "MEZZO_MASTER_AGENT_REREGISTER_TIMEOUT",
        default_value = "10mins"
    )]
    pub agent_reregister_timeout: Millis,

    /// How fast agents may be declared unreachable, such as `1/10mins`; at once otherwise.
    #[arg(
        long = "agent_removal_rate_limit",
        alias = "agent-removal-rate-limit",
        alias = "slave_removal_rate_limit",
        env = "MEZZO_MASTER_AGENT_REMOVAL_RATE_LIMIT"
    )]
    pub agent_removal_rate_limit: Option<String>,

    /// A file with the names and secrets of those who may come in: JSON, or lines of `principal secret`. Without it
    /// everybody who reaches the port may.
    #[arg(long, env = "MEZZO_MASTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Listen beyond loopback without --credentials.
    #[arg(long, env = "MEZZO_MASTER_INSECURE")]
    pub insecure: bool,

    /// Whether frameworks may run as root.
    #[arg(
        long = "root_submissions",
        alias = "root-submissions",
        env = "MEZZO_MASTER_ROOT_SUBMISSIONS",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub root_submissions: bool,

    /// Frameworks that ended and are still shown.
    #[arg(
        long = "max_completed_frameworks",
        alias = "max-completed-frameworks",
        env = "MEZZO_MASTER_MAX_COMPLETED_FRAMEWORKS",
        default_value_t = 50
    )]
    pub max_completed_frameworks: usize,

    /// Tasks that ended and are still shown, of each framework.
    #[arg(
        long = "max_completed_tasks_per_framework",
        alias = "max-completed-tasks-per-framework",
        env = "MEZZO_MASTER_MAX_COMPLETED_TASKS_PER_FRAMEWORK",
        default_value_t = 1000
    )]
    pub max_completed_tasks_per_framework: usize,

    /// Unreachable tasks that are remembered, of each framework.
    #[arg(
        long = "max_unreachable_tasks_per_framework",
        alias = "max-unreachable-tasks-per-framework",
        env = "MEZZO_MASTER_MAX_UNREACHABLE_TASKS_PER_FRAMEWORK",
        default_value_t = 1000
    )]
    pub max_unreachable_tasks_per_framework: usize,
}
