//! The command line.

use clap::{Args, Parser, Subcommand};
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
