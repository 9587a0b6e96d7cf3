//! The command line.

use std::env;
use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::endpoints::Where;
use crate::hello;
use crate::local;
use crate::logs::LogFlags;
use crate::ops::{AppCommand, JobCommand, LogsFlags, TasksFlags};

/// Mezzo runs apps and jobs on many machines: frameworks are offered resources, and decide what to run where.
#[derive(Debug, Parser)]
#[command(
    name = "mezzo",
    version,
    about,
    after_help = "A first look: `mezzo local examples/hello.json` starts a whole cluster on this machine.",
    arg_required_else_help = true,
    propagate_version = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole cluster on this machine, and deploy apps and jobs to it
    Local(Box<local::Flags>),

    /// Show the cluster at a glance
    Status(Where),
    /// Show the agents
    Agents(Where),
    /// Show the frameworks
    Frameworks(Where),
    /// Show the tasks
    Tasks(TasksFlags),
    /// Deploy, list, scale and end apps
    #[command(subcommand)]
    App(AppCommand),
    /// Run and list jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Show what a task writes
    Logs(LogsFlags),

    /// Run a master
    Master(Box<Daemon<mezzo_master::Flags>>),
    /// Run an agent
    Agent(Box<Daemon<mezzo_agent::Flags>>),
    /// Run the service framework: apps, with Marathon's API
    Service(Box<Daemon<mezzo_service::Flags>>),
    /// Run the batch framework: jobs, with Metronome's API
    Batch(Box<Daemon<mezzo_batch::Flags>>),

    /// Run a little web server, for something to deploy
    Hello(hello::Flags),
    /// Print the completions for a shell
    Completions {
        /// Which.
        shell: Shell,
    },
}

/// A daemon's own flags, and those of its log.
#[derive(Clone, Debug, Args)]
pub struct Daemon<F: Args> {
    /// What the daemon is told.
    #[command(flatten)]
    pub flags: F,
    /// How it logs.
    #[command(flatten)]
    pub logs: LogFlags,
}

/// The names that the two flags of the log have in the environment, for each command that runs for long: level, form.
const LOGS: [(&str, &str, &str); 5] = [
    (
        "master",
        "MEZZO_MASTER_LOG_LEVEL",
        "MEZZO_MASTER_LOG_FORMAT",
    ),
    ("agent", "MEZZO_AGENT_LOG_LEVEL", "MEZZO_AGENT_LOG_FORMAT"),
    (
        "service",
        "MEZZO_SERVICE_LOG_LEVEL",
        "MEZZO_SERVICE_LOG_FORMAT",
    ),
    ("batch", "MEZZO_BATCH_LOG_LEVEL", "MEZZO_BATCH_LOG_FORMAT"),
    ("local", "MEZZO_LOCAL_LOG_LEVEL", "MEZZO_LOCAL_LOG_FORMAT"),
];

/// The command line. Flags that several daemons share are read from the environment under each daemon's own name; the
/// common name (`MEZZO_LOG`, `MEZZO_LOG_FORMAT`) counts where that is not there.
pub fn command() -> clap::Command {
    let name = |own: &'static str, common: &'static str| {
        let is_set = |name: &str| env::var_os(name).is_some();
        if is_set(common) && !is_set(own) {
            common
        } else {
            own
        }
    };
    let mut command = Cli::command();
    for (daemon, level, form) in LOGS {
        command = command.mut_subcommand(daemon, |daemon| {
            daemon
                .mut_arg("log_level", |flag| flag.env(name(level, "MEZZO_LOG")))
                .mut_arg("log_format", |flag| {
                    flag.env(name(form, "MEZZO_LOG_FORMAT"))
                })
        });
    }
    command
}

/// Reads a command line, the name of the program first.
///
/// # Errors
/// What is wrong with it, or the help that was asked for.
pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(line)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}
