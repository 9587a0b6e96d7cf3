//! `mezzo local`: a whole cluster in one process, for a first look and for development.
//!
//! One master, a number of agents that share this machine, and both frameworks, with the embedded store, under one
//! directory. It is a fresh cluster each time: what an earlier one left is cleaned away at the start, and all tasks end
//! with it.

mod containers;
mod home;
pub mod leftovers;
mod ports;
mod share;
mod start;
mod view;
mod watch;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use mezzo_door::Stop;
use serde_json::Value;

use crate::client::rest::Rest;
use crate::context::{self, Context};
use crate::deploy;
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::files::{self, Document};
use crate::logs::{self, LogFlags, Sink};
use crate::output::say;
use crate::signals::Ending;
use containers::Choice;
use home::Home;
use start::Parts;

/// Flags of `mezzo local`.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Files with apps and jobs to deploy, one or an array each: a document with `run` is a job, and is run once.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// How many agents there are; they share the processors, memory, disk and ports of this machine.
    #[arg(
        long,
        env = "MEZZO_LOCAL_AGENTS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=64),
        value_name = "N"
    )]
    pub agents: u32,

    /// Where everything is kept [default: a directory `local` in this user's cache]
    #[arg(
        long = "work_dir",
        alias = "work-dir",
        env = "MEZZO_LOCAL_WORK_DIR",
        value_name = "DIR"
    )]
    pub work_dir: Option<PathBuf>,

    /// How tasks are contained: oci needs root and runc; auto takes it where it is there.
    #[arg(
        long,
        alias = "containerizers",
        env = "MEZZO_LOCAL_CONTAINERIZER",
        value_enum,
        default_value_t
    )]
    pub containerizer: Choice,

    /// What the agents share, instead of what this machine has: cpus:4;mem:4096;disk:10240;ports:[31000-31999]
    #[arg(long, env = "MEZZO_LOCAL_RESOURCES", value_name = "TEXT")]
    pub resources: Option<String>,

    /// How the daemons log, to a file in the directory.
    #[command(flatten)]
    pub logs: LogFlags,
}

/// Runs a cluster until Ctrl-C or SIGTERM.
///
/// # Errors
/// If it cannot be started, or a file cannot be deployed; nothing is left running then.
pub async fn run(flags: Flags) -> Result<(), Failure> {
    let machine = |what: &'static str| {
        move |source| Failure::Machine {
            what: what.to_owned(),
            source,
        }
    };
    // What is wrong with the files is told before anything is started.
    let mut documents = Vec::new();
    for file in &flags.files {
        documents.extend(files::read(file)?);
    }
    let mut ending = Ending::listen().map_err(machine("listening for signals"))?;
    let home = Home::take(
        flags
            .work_dir
            .clone()
            .unwrap_or_else(|| context::cache().join("local")),
    )?;
    logs::begin(&flags.logs, Sink::File(home.log_file()?));
    tell(&format!("state      {}", home.dir().display()))?;
    for line in home.clean().await? {
        tell(&line)?;
    }
    let containers = containers::choose(flags.containerizer)?;
    tell(&format!("containers {containers}"))?;
    let program = home.program()?;
    let stop = Stop::new();
    let started = tokio::select! {
        started = Parts::start(&home, &flags, &containers, &program, &stop, tell) => started,
        () = ending.next() => Err(interrupted()),
    };
    let parts = match started {
        Ok(parts) => parts,
        Err(failure) => {
            stop.stop();
            home.clean().await?;
            return Err(failure);
        }
    };
    let endpoints = parts.endpoints();
    let context = Context::of_this_process(
        endpoints.master.clone(),
        endpoints.service.clone(),
        endpoints.batch.clone(),
    );
    let context_file = context::path();
    if let Err(error) = context.write(&context_file) {
        tell(&format!(
            "other commands will not find it by themselves: {}: {error}",
            context_file.display()
        ))?;
    }
    let lived = tokio::select! {
        lived = live(&documents, &program, &endpoints, &parts) => lived,
        () = ending.next() => Ok(()),
    };
    tell("ending: tasks are stopped; once more ends it at once")?;
    tokio::select! {
        () = parts.end() => {}
        () = ending.next() => {}
    }
    stop.stop();
    context.remove(&context_file);
    home.clean().await?;
    tell("ended: no process is left")?;
    lived
}

fn interrupted() -> Failure {
    Failure::Start {
        daemon: "local".to_owned(),
        words: "told to end before everything was started".to_owned(),
    }
}

/// Deploys, and shows what happens; only a failure ends it.
async fn live(
    documents: &[Document],
    program: &std::path::Path,
    endpoints: &Endpoints,
    parts: &Parts,
) -> Result<(), Failure> {
    let service = Rest::service(endpoints);
    let batch = Rest::batch(endpoints);
    for document in documents {
        match document {
            Document::App(app) => {
                let app = with_program(app, &["env"], program);
                let deployed = deploy::app(&service, &app, false).await?;
                tell(&format!("{} is being started", deployed.id))?;
            }
            Document::Job(job) => {
                let job = with_program(job, &["run", "env"], program);
                let id = deploy::job(&batch, &job).await?;
                let run = deploy::start_run(&batch, &id).await?;
                tell(&format!("{id}: run {run} is started"))?;
            }
        }
    }
    tell("press Ctrl-C to end")?;
    let terminal = std::io::stdout().is_terminal();
    watch::go_on(endpoints, parts.lines(), terminal).await
}

/// The document with the path of this program in the environment, where it says nothing of that itself: on a fresh
/// machine it may be the only program worth running.
fn with_program(document: &Value, place: &[&str], program: &std::path::Path) -> Value {
    let mut changed = document.clone();
    let mut env = &mut changed;
    for step in place {
        env = match env {
            Value::Object(fields) => fields
                .entry(*step)
                .or_insert_with(|| Value::Object(serde_json::Map::new())),
            // What is wrong with it is told by whoever it is deployed to.
            _ => return document.clone(),
        };
    }
    if let Value::Object(fields) = env {
        fields
            .entry("MEZZO")
            .or_insert_with(|| Value::String(program.to_string_lossy().into_owned()));
    }
    changed
}

fn tell(line: &str) -> Result<(), Failure> {
    say(&format!("{line}\n")).map_err(|source| Failure::Machine {
        what: "writing".to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_told_where_the_program_is() {
        let program = std::path::Path::new("/x/mezzo");
        let app = with_program(&json!({"id": "/a", "env": {"A": "b"}}), &["env"], program);
        assert_eq!(app["env"], json!({"A": "b", "MEZZO": "/x/mezzo"}));
        let job = with_program(
            &json!({"id": "j", "run": {"cmd": "x"}}),
            &["run", "env"],
            program,
        );
        assert_eq!(job["run"]["env"], json!({"MEZZO": "/x/mezzo"}));
        let own = json!({"id": "/a", "env": {"MEZZO": "mine"}});
        assert_eq!(with_program(&own, &["env"], program), own);
        let odd = json!({"id": "j", "run": 7});
        assert_eq!(with_program(&odd, &["run", "env"], program), odd);
    }
}
