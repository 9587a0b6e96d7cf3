//! The one binary, `mezzo`: every daemon, every operator command, and a whole cluster on one machine.
//!
//! Floor 5 of the house. [`main`] is all that the binary calls. A command is read ([`args`]), carried out, and
//! answered in the form that was asked for ([`output`]); a [`Failure`](failure::Failure) says what happened and
//! what to do next.
//!
//! Invariant: nothing here decides what runs where; commands ask daemons, and daemons are started as they are.

pub mod args;
pub mod client;
pub mod cluster;
pub mod context;
mod daemon;
pub mod deploy;
pub mod endpoints;
pub mod failure;
pub mod files;
pub mod hello;
pub mod local;
pub mod logs;
pub mod ops;
pub mod output;
mod signals;

use std::future::Future;
use std::process::ExitCode;

use args::{Cli, Command};
use failure::Failure;

/// What the binary does: reads the command line and carries it out.
///
/// The executor is entered before anything else: it must have no thread and no runtime.
pub fn main() -> ExitCode {
    mezzo_executor::enter_if_asked();
    // Whoever was first stays; there is one provider only.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            if let Some(hint) = failure.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), "mezzo", &mut script);
            output::say(&String::from_utf8_lossy(&script)).map_err(|source| Failure::Machine {
                what: "writing".to_owned(),
                source,
            })
        }
        Command::Local(flags) => many(local::run(*flags)),
        Command::Master(given) => many(daemon::run(
            "master",
            *given,
            mezzo_master::start,
            mezzo_master::Running::ended,
        )),
        Command::Agent(given) => many(daemon::run(
            "agent",
            *given,
            mezzo_agent::start,
            mezzo_agent::Running::ended,
        )),
        Command::Service(given) => many(daemon::run(
            "service",
            *given,
            mezzo_service::start,
            mezzo_service::Running::ended,
        )),
        Command::Batch(given) => many(daemon::run(
            "batch",
            *given,
            mezzo_batch::start,
            mezzo_batch::Running::ended,
        )),
        Command::Status(place) => one(ops::status(&place)),
        Command::Agents(place) => one(ops::agents(&place)),
        Command::Frameworks(place) => one(ops::frameworks(&place)),
        Command::Tasks(flags) => one(ops::tasks(&flags)),
        Command::App(command) => one(ops::app(command)),
        Command::Job(command) => one(ops::job(command)),
        Command::Logs(flags) => one(ops::logs(flags)),
        Command::Hello(flags) => one(hello::run(flags)),
    }
}

/// Runs on a thread for each processor: daemons.
fn many(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    run(tokio::runtime::Builder::new_multi_thread(), work)
}

/// Runs on this thread alone: commands.
fn one(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    run(tokio::runtime::Builder::new_current_thread(), work)
}

fn run(
    mut builder: tokio::runtime::Builder,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|source| Failure::Machine {
            what: "starting the runtime".to_owned(),
            source,
        })?;
    let done = runtime.block_on(work);
    // A thread that waits for the disk or for a name must not hold the end up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    done
}

#[cfg(test)]
mod tests;
