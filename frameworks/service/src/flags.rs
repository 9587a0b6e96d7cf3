//! The flags of `mezzo service`: Marathon's and Mesos' names where the meaning is the same, each from the
//! environment too (`--work_dir` is `MEZZO_SERVICE_WORK_DIR`).

use std::net::IpAddr;
use std::path::PathBuf;

use mezzo_model::Millis;

/// What the service framework is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where the leading master is found: zk://host:port/path, file:///directory or host:port.
    #[arg(long, env = "MEZZO_SERVICE_MASTER", default_value = "127.0.0.1:5050")]
    pub master: String,

    /// Where this framework elects its own leader and keeps its apps: zk://host:port/path or file:///directory.
    /// Without it they lie in the directory `state` of --work_dir.
    #[arg(long, env = "MEZZO_SERVICE_ZK")]
    pub zk: Option<String>,

    /// For how long ZooKeeper keeps a leader that it does not hear from; a bare number is milliseconds.
    #[arg(
        long = "zk_session_timeout",
        alias = "zk-session-timeout",
        env = "MEZZO_SERVICE_ZK_SESSION_TIMEOUT",
        default_value = "10secs",
        value_parser = span
    )]
    pub zk_session_timeout: Millis,

    /// Where what must last is kept.
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_SERVICE_WORK_DIR",
        default_value = "/var/lib/mezzo/service"
    )]
    pub work_dir: PathBuf,

    /// The address to listen on.
    #[arg(
        long,
        alias = "http_address",
        env = "MEZZO_SERVICE_IP",
        default_value = "127.0.0.1"
    )]
    pub ip: IpAddr,

    /// The port to listen on; 0 lets the kernel choose.
    #[arg(
        long,
        alias = "http_port",
        alias = "http-port",
        env = "MEZZO_SERVICE_PORT",
        default_value_t = 8080
    )]
    pub port: u16,

    /// The name under which people and other processes reach this one; the address it listens on otherwise.
    #[arg(long, env = "MEZZO_SERVICE_HOSTNAME")]
    pub hostname: Option<String>,

    /// The address under which other processes reach this one, if it is another than --ip.
    #[arg(
        long = "advertise_ip",
        alias = "advertise-ip",
        env = "MEZZO_SERVICE_ADVERTISE_IP"
    )]
    pub advertise_ip: Option<IpAddr>,

    /// The port under which other processes reach this one, if it is another than --port.
    #[arg(
        long = "advertise_port",
        alias = "advertise-port",
        env = "MEZZO_SERVICE_ADVERTISE_PORT"
    )]
    pub advertise_port: Option<u16>,

    /// A file with the names and secrets of those who may come in; without it everybody who reaches the port may.
    #[arg(long, env = "MEZZO_SERVICE_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Listen beyond loopback without --credentials.
    #[arg(long, env = "MEZZO_SERVICE_INSECURE")]
    pub insecure: bool,

    /// The framework's name, as the master and DNS bridges show it.
    #[arg(
        long = "framework_name",
        alias = "framework-name",
        env = "MEZZO_SERVICE_FRAMEWORK_NAME",
        default_value = "marathon"
    )]
    pub framework_name: String,

    /// The user that tasks run as where their app names none. Not root: an app that needs root says so.
    #[arg(
        long = "mesos_user",
        alias = "mesos-user",
        env = "MEZZO_SERVICE_MESOS_USER",
        default_value = "nobody"
    )]
    pub mesos_user: String,

    /// The role in which this framework is offered resources.
    #[arg(
        long = "mesos_role",
        alias = "mesos-role",
        env = "MEZZO_SERVICE_MESOS_ROLE",
        default_value = "*"
    )]
    pub mesos_role: String,

    /// A file with the principal and the secret with which this framework logs in at the master: `principal secret`, or
    /// JSON with these two names.
    #[arg(long, env = "MEZZO_SERVICE_CREDENTIAL")]
    pub credential: Option<PathBuf>,

    /// The name with which this framework logs in at the master, instead of --credential.
    #[arg(
        long = "mesos_authentication_principal",
        alias = "mesos-authentication-principal",
        env = "MEZZO_SERVICE_MESOS_AUTHENTICATION_PRINCIPAL"
    )]
    pub mesos_authentication_principal: Option<String>,

    /// A file with the secret for it.
    #[arg(
        long = "mesos_authentication_secret_file",
        alias = "mesos-authentication-secret-file",
        env = "MEZZO_SERVICE_MESOS_AUTHENTICATION_SECRET_FILE"
    )]
    pub mesos_authentication_secret_file: Option<PathBuf>,

    /// For how long the master keeps the tasks of this framework while no process of it is there; a bare number is
    /// seconds.
    #[arg(
        long = "failover_timeout",
        alias = "failover-timeout",
        env = "MEZZO_SERVICE_FAILOVER_TIMEOUT",
        default_value = "1weeks"
    )]
    pub failover_timeout: Millis,

    /// For how long offers that suit no app are not wanted again; a bare number is milliseconds.
    #[arg(
        long = "decline_offer_duration",
        alias = "decline-offer-duration",
        env = "MEZZO_SERVICE_DECLINE_OFFER_DURATION",
        default_value = "120secs",
        value_parser = span
    )]
    pub decline_offer_duration: Millis,

    /// The shortest span between two requests for offers; a bare number is milliseconds.
    #[arg(
        long = "min_revive_offers_interval",
        alias = "min-revive-offers-interval",
        env = "MEZZO_SERVICE_MIN_REVIVE_OFFERS_INTERVAL",
        default_value = "100ms",
        value_parser = span
    )]
    pub min_revive_offers_interval: Millis,

    /// The most instances that are launched with one offer.
    #[arg(
        long = "max_instances_per_offer",
        alias = "max-instances-per-offer",
        env = "MEZZO_SERVICE_MAX_INSTANCES_PER_OFFER",
        default_value_t = 100
    )]
    pub max_instances_per_offer: usize,

    /// A launch that nobody confirms in this span is ended and tried again; a bare number is milliseconds.
    #[arg(
        long = "task_launch_confirm_timeout",
        alias = "task-launch-confirm-timeout",
        env = "MEZZO_SERVICE_TASK_LAUNCH_CONFIRM_TIMEOUT",
        default_value = "300secs",
        value_parser = span
    )]
    pub task_launch_confirm_timeout: Millis,

    /// A task that does not run in this span is ended and tried again; a bare number is milliseconds.
    #[arg(
        long = "task_launch_timeout",
        alias = "task-launch-timeout",
        env = "MEZZO_SERVICE_TASK_LAUNCH_TIMEOUT",
        default_value = "300secs",
        value_parser = span
    )]
    pub task_launch_timeout: Millis,

    /// How often the master is asked about every task; a bare number is milliseconds.
    #[arg(
        long = "reconciliation_interval",
        alias = "reconciliation-interval",
        env = "MEZZO_SERVICE_RECONCILIATION_INTERVAL",
        default_value = "600secs",
        value_parser = span
    )]
    pub reconciliation_interval: Millis,

    /// The most deployments at once.
    #[arg(
        long = "max_running_deployments",
        alias = "max-running-deployments",
        env = "MEZZO_SERVICE_MAX_RUNNING_DEPLOYMENTS",
        default_value_t = 100
    )]
    pub max_running_deployments: usize,

    /// The most apps.
    #[arg(
        long = "max_apps",
        alias = "max-apps",
        env = "MEZZO_SERVICE_MAX_APPS",
        default_value_t = 20_000
    )]
    pub max_apps: usize,

    /// The most old definitions that are kept of each app.
    #[arg(
        long = "zk_max_versions",
        alias = "zk-max-versions",
        env = "MEZZO_SERVICE_ZK_MAX_VERSIONS",
        default_value_t = 50
    )]
    pub zk_max_versions: usize,

    /// The first service port that is given to apps that leave the number open.
    #[arg(
        long = "local_port_min",
        alias = "local-port-min",
        env = "MEZZO_SERVICE_LOCAL_PORT_MIN",
        default_value_t = 10_000
    )]
    pub local_port_min: u16,

    /// The last service port that is given to apps that leave the number open.
    #[arg(
        long = "local_port_max",
        alias = "local-port-max",
        env = "MEZZO_SERVICE_LOCAL_PORT_MAX",
        default_value_t = 20_000
    )]
    pub local_port_max: u16,

    /// Put before the names of the variables that tell a task its ports and its host.
    #[arg(
        long = "env_vars_prefix",
        alias = "env-vars-prefix",
        env = "MEZZO_SERVICE_ENV_VARS_PREFIX",
        default_value = ""
    )]
    pub env_vars_prefix: String,

    /// The address of a page for people, as the master shows it; this process' own address otherwise.
    #[arg(
        long = "webui_url",
        alias = "webui-url",
        env = "MEZZO_SERVICE_WEBUI_URL"
    )]
    pub webui_url: Option<String>,
}

/// Reads a span: Mesos' forms (`10secs`, `500ms`), and Marathon's bare milliseconds.
fn span(text: &str) -> Result<Millis, mezzo_model::time::DurationError> {
    match text.trim().parse::<u64>() {
        Ok(millis) => Ok(Millis(millis)),
        Err(_) => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        let all = std::iter::once(&"service").chain(arguments);
        Command::try_parse_from(all).map(|command| command.flags)
    }

    #[test]
    fn names_are_taken_in_both_forms_and_spans_in_both_units() {
        let flags = parse(&[
            "--work-dir=/tmp/x",
            "--http_port=0",
            "--decline_offer_duration=5000",
            "--task_launch_timeout=2mins",
            "--failover_timeout=604800",
        ])
        .expect("good flags");
        assert_eq!(
            (flags.port, flags.decline_offer_duration),
            (0, Millis(5000))
        );
        assert_eq!(flags.task_launch_timeout, Millis(120_000));
        assert_eq!(flags.failover_timeout, Millis::from_secs(604_800));
        assert_eq!(
            (flags.mesos_user.as_str(), flags.framework_name.as_str()),
            ("nobody", "marathon")
        );
        let refused = parse(&["--decline_offer_duration=soon"])
            .expect_err("no span")
            .to_string();
        assert!(refused.contains("'soon' is not a duration"), "{refused}");
    }
}
