//! The flags of `mezzo agent`: Mesos' names where the meaning is the same, each from the environment too
//! (`--work_dir` is `MEZZO_AGENT_WORK_DIR`).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use mezzo_model::Millis;

/// What an agent is told at its start.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where the leading master is found: zk://host:port[,host:port]/path, file:///directory, or host:port of a master
    /// that always leads.
    #[arg(long, env = "MEZZO_AGENT_MASTER")]
    pub master: String,

    /// The address to listen on.
    #[arg(long, env = "MEZZO_AGENT_IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, env = "MEZZO_AGENT_PORT", default_value_t = 5051)]
    pub port: u16,

    /// The name under which people and other machines reach this host; its own name otherwise.
    #[arg(long, env = "MEZZO_AGENT_HOSTNAME")]
    pub hostname: Option<String>,

    /// The address under which tasks of this agent are reached, if it is another than --ip.
    #[arg(
        long = "advertise_ip",
        alias = "advertise-ip",
        env = "MEZZO_AGENT_ADVERTISE_IP"
    )]
    pub advertise_ip: Option<IpAddr>,

    /// The port under which this agent is reached, if it is another than --port.
    #[arg(
        long = "advertise_port",
        alias = "advertise-port",
        env = "MEZZO_AGENT_ADVERTISE_PORT"
    )]
    pub advertise_port: Option<u16>,

    /// Where the agent keeps what must last, and its tasks their sandboxes.
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_AGENT_WORK_DIR",
        default_value = "/var/lib/mezzo/agent"
    )]
    pub work_dir: PathBuf,

    /// What operators say about this agent, such as `rack:r1;level:3`.
    #[arg(long, env = "MEZZO_AGENT_ATTRIBUTES", default_value = "")]
    pub attributes: String,

    /// What can be offered, such as `cpus:4;mem:8192;ports:[31000-32000]` or JSON; what is not named is detected.
    #[arg(long, env = "MEZZO_AGENT_RESOURCES", default_value = "")]
    pub resources: String,

    /// How tasks are contained: `process`, `oci`, or several, of which the first that works is used. Without it `oci`
    /// if the agent is root and a container can be run, else `process`.
    #[arg(long, env = "MEZZO_AGENT_CONTAINERIZERS")]
    pub containerizers: Option<String>,

    /// The OCI runtime, by name or path.
    #[arg(
        long = "oci_runtime",
        alias = "oci-runtime",
        env = "MEZZO_AGENT_OCI_RUNTIME"
    )]
    pub oci_runtime: Option<String>,

    /// The root of the control groups that are made for containers, below that of the host.
    #[arg(
        long = "cgroups_root",
        alias = "cgroups-root",
        env = "MEZZO_AGENT_CGROUPS_ROOT",
        default_value = "mezzo"
    )]
    pub cgroups_root: String,

    /// Directories of the host that containers with the host's root do not see, beside --work_dir; separated by commas.
    #[arg(
        long = "hidden_dirs",
        alias = "hidden-dirs",
        env = "MEZZO_AGENT_HIDDEN_DIRS",
        value_delimiter = ','
    )]
    pub hidden_dirs: Vec<PathBuf>,

    /// Run tasks as the user that they or their framework name. An agent that is not root runs all as its own.
    #[arg(
        long = "switch_user",
        alias = "switch-user",
        env = "MEZZO_AGENT_SWITCH_USER",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub switch_user: bool,

    /// The user of a task for which nobody names one, where users are switched.
    #[arg(
        long = "default_user",
        alias = "default-user",
        env = "MEZZO_AGENT_DEFAULT_USER",
        default_value = "nobody"
    )]
    pub default_user: String,

    /// How long an executor may take to shut down, unless its framework says otherwise.
    #[arg(
        long = "executor_shutdown_grace_period",
        alias = "executor-shutdown-grace-period",
        env = "MEZZO_AGENT_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
        default_value = "5secs"
    )]
    pub executor_shutdown_grace_period: Millis,

    /// How long an executor may take to register after it was started.
    #[arg(
        long = "executor_registration_timeout",
        alias = "executor-registration-timeout",
        env = "MEZZO_AGENT_EXECUTOR_REGISTRATION_TIMEOUT",
        default_value = "1mins"
    )]
    pub executor_registration_timeout: Millis,

    /// How long an executor that lives may take to register again after the agent came back.
    #[arg(
        long = "executor_reregistration_timeout",
        alias = "executor-reregistration-timeout",
        env = "MEZZO_AGENT_EXECUTOR_REREGISTRATION_TIMEOUT",
        default_value = "1mins"
    )]
    pub executor_reregistration_timeout: Millis,

    /// How long executors live without an agent.
    #[arg(
        long = "recovery_timeout",
        alias = "recovery-timeout",
        env = "MEZZO_AGENT_RECOVERY_TIMEOUT",
        default_value = "15mins"
    )]
    pub recovery_timeout: Millis,

    /// What becomes of executors that are found alive at the start: `reconnect` or `cleanup`.
    #[arg(long, env = "MEZZO_AGENT_RECOVER", default_value = "reconnect")]
    pub recover: Recover,

    /// How old the sandbox of an ended task grows before it is removed.
    #[arg(
        long = "gc_delay",
        alias = "gc-delay",
        env = "MEZZO_AGENT_GC_DELAY",
        default_value = "1weeks"
    )]
    pub gc_delay: Millis,

    /// How many sandboxes of ended tasks are kept at most.
    #[arg(
        long = "gc_max_sandboxes",
        alias = "gc-max-sandboxes",
        env = "MEZZO_AGENT_GC_MAX_SANDBOXES",
        default_value_t = 1_000
    )]
    pub gc_max_sandboxes: usize,

    /// How long `stdout` and `stderr` of a task grow before they are turned over; 0B lets them grow.
    #[arg(
        long = "log_rotate_size",
        alias = "log-rotate-size",
        env = "MEZZO_AGENT_LOG_ROTATE_SIZE",
        default_value = "10MB"
    )]
    pub log_rotate_size: Bytes,

    /// How many turned-over files of each are kept.
    #[arg(
        long = "log_rotate_files",
        alias = "log-rotate-files",
        env = "MEZZO_AGENT_LOG_ROTATE_FILES",
        default_value_t = 2
    )]
    pub log_rotate_files: u32,

    /// The longest first wait before a master is tried again; it doubles with each failure.
    #[arg(
        long = "registration_backoff_factor",
        alias = "registration-backoff-factor",
        env = "MEZZO_AGENT_REGISTRATION_BACKOFF_FACTOR",
        default_value = "200ms"
    )]
    pub registration_backoff_factor: Millis,

    /// A file with the name and the secret that this agent shows to masters.
    #[arg(long, env = "MEZZO_AGENT_CREDENTIAL")]
    pub credential: Option<PathBuf>,

    /// A file with the names and secrets of those who may come in; without it everybody who reaches the port may.
    #[arg(long, env = "MEZZO_AGENT_CREDENTIALS")]
    pub credentials: Option<PathBuf>,

    /// Listen beyond loopback without --credentials.
    #[arg(long, env = "MEZZO_AGENT_INSECURE")]
    pub insecure: bool,

    /// The program that becomes the executor of a container; this program otherwise.
    #[arg(
        long = "executor_program",
        alias = "executor-program",
        env = "MEZZO_AGENT_EXECUTOR_PROGRAM",
        hide = true
    )]
    pub executor_program: Option<PathBuf>,
}

/// What becomes of executors that are found alive at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recover {
    /// They are adopted.
    Reconnect,
    /// They are ended.
    Cleanup,
}

/// `--recover` is neither of its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither 'reconnect' nor 'cleanup'")]
pub struct RecoverError(String);

impl FromStr for Recover {
    type Err = RecoverError;

    fn from_str(text: &str) -> Result<Self, RecoverError> {
        match text {
            "reconnect" => Ok(Self::Reconnect),
            "cleanup" => Ok(Self::Cleanup),
            other => Err(RecoverError(other.to_owned())),
        }
    }
}

/// A number of bytes, written as Mesos does: `10MB`, `512KB`, `1GB`, `100B`; powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A text is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size; write a whole number and one of B, KB, MB, GB, TB, such as 10MB")]
pub struct BytesError(String);

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let refuse = || BytesError(text.to_owned());
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let doublings = match unit.trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "KB" | "K" => 10,
            "MB" | "M" => 20,
            "GB" | "G" => 30,
            "TB" | "T" => 40,
            _ => return Err(refuse()),
        };
        number
            .checked_mul(1 << doublings)
            .map(Self)
            .ok_or_else(refuse)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
        for (doublings, unit) in UNITS {
            let size = 1 << doublings;
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        let all = ["agent", "--master=127.0.0.1:5050"].iter().chain(arguments);
        Program::try_parse_from(all).map(|program| program.flags)
    }

    #[test]
    fn flags_have_the_usual_names_and_defaults() {
        let flags = parse(&[]).expect("parses");
        assert_eq!((flags.port, flags.ip.is_loopback()), (5051, true));
        assert_eq!(flags.log_rotate_size, Bytes(10 << 20));
        assert_eq!(flags.recover, Recover::Reconnect);
        assert!(flags.switch_user);
        let both =
            parse(&["--work-dir=/a", "--executor_registration_timeout=5secs"]).expect("parses");
        assert_eq!(both.work_dir, PathBuf::from("/a"));
        assert_eq!(both.executor_registration_timeout, Millis::from_secs(5));
        assert!(!parse(&["--switch_user=false"]).expect("parses").switch_user);
        let hidden = parse(&["--hidden_dirs=/a,/b"]).expect("parses").hidden_dirs;
        assert_eq!(hidden, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn bad_values_are_refused_in_words() {
        for (bad, words) in [
            ("--log_rotate_size=ten", "is not a size"),
            ("--recover=maybe", "neither 'reconnect' nor 'cleanup'"),
            ("--gc_delay=1fortnight", "is not a duration"),
            ("--port=70000", "70000"),
        ] {
            let said = parse(&[bad]).expect_err(bad).to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes) in [
            ("10MB", 10 << 20),
            ("512KB", 512 << 10),
            ("7B", 7),
            ("0B", 0),
            ("3", 3),
            ("2gb", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }
        for bad in ["", "MB", "-1MB", "1.5MB", "1XB", "99999999999TB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
