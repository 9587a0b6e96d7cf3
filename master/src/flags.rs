//! The flags of `mezzo master`: Mesos' names where the meaning is the same, each from the environment too
//! (`--work_dir` is `MEZZO_MASTER_WORK_DIR`).

use std::net::IpAddr;
use std::path::PathBuf;

use mezzo_model::time::Millis;

/// What a master is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where masters elect their leader and keep the registry: zk://host:port[,host:port]/path or file:///directory.
    /// Without it they lie in the directory `state` of --work_dir, for a single machine.
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

    /// Where what must last is kept.
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_MASTER_WORK_DIR",
        default_value = "/var/lib/mezzo/master"
    )]
    pub work_dir: PathBuf,

    /// The address to listen on.
    #[arg(long, env = "MEZZO_MASTER_IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, env = "MEZZO_MASTER_PORT", default_value_t = 5050)]
    pub port: u16,

    /// The name under which agents, schedulers and people reach this master; its address otherwise.
    #[arg(long, env = "MEZZO_MASTER_HOSTNAME")]
    pub hostname: Option<String>,

    /// The address under which this master is reached, if it is another than --ip.
    #[arg(
        long = "advertise_ip",
        alias = "advertise-ip",
        env = "MEZZO_MASTER_ADVERTISE_IP"
    )]
    pub advertise_ip: Option<IpAddr>,

    /// The port under which this master is reached, if it is another than --port.
    #[arg(
        long = "advertise_port",
        alias = "advertise-port",
        env = "MEZZO_MASTER_ADVERTISE_PORT"
    )]
    pub advertise_port: Option<u16>,

    /// A name for the cluster, for people.
    #[arg(long, env = "MEZZO_MASTER_CLUSTER")]
    pub cluster: Option<String>,

    /// The only roles that frameworks may have, separated by commas; without it any role may be used.
    #[arg(long, env = "MEZZO_MASTER_ROLES")]
    pub roles: Option<String>,

    /// Weights of roles, such as `web=2,batch=1`: who weighs twice as much gets twice the share. 1 where nothing is said.
    #[arg(long, env = "MEZZO_MASTER_WEIGHTS")]
    pub weights: Option<String>,

    /// An offer that is not answered for so long is taken back if another framework could use it, and in any case after
    /// ten times as long. 0 turns it off.
    #[arg(
        long = "offer_timeout",
        alias = "offer-timeout",
        env = "MEZZO_MASTER_OFFER_TIMEOUT",
        default_value = "30secs"
    )]
    pub offer_timeout: Millis,

    /// How often agents are asked whether they live.
    #[arg(
        long = "agent_ping_timeout",
        alias = "agent-ping-timeout",
        env = "MEZZO_MASTER_AGENT_PING_TIMEOUT",
        default_value = "15secs"
    )]
    pub agent_ping_timeout: Millis,

    /// An agent that leaves so many questions in a row unanswered is unreachable.
    #[arg(
        long = "max_agent_ping_timeouts",
        alias = "max-agent-ping-timeouts",
        env = "MEZZO_MASTER_MAX_AGENT_PING_TIMEOUTS",
        default_value_t = 5
    )]
    pub max_agent_ping_timeouts: u32,

    /// How long an agent may take to come back after its connection broke or a new master was elected.
    #[arg(
        long = "agent_reregister_timeout",
        alias = "agent-reregister-timeout",
        env = "MEZZO_MASTER_AGENT_REREGISTER_TIMEOUT",
        default_value = "10mins"
    )]
    pub agent_reregister_timeout: Millis,

    /// The least that is worth an offer: what is left of an agent counts if it has one of these amounts.
    #[arg(
        long = "min_allocatable_resources",
        alias = "min-allocatable-resources",
        env = "MEZZO_MASTER_MIN_ALLOCATABLE_RESOURCES",
        default_value = "cpus:0.01|mem:32"
    )]
    pub min_allocatable_resources: String,

    /// A file with the names and secrets of those who may come in; without it everybody who reaches the port may.
    #[arg(long, env = "MEZZO_MASTER_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Listen beyond loopback without --credentials.
    #[arg(long, env = "MEZZO_MASTER_INSECURE")]
    pub insecure: bool,
}
