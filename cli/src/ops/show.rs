//! `mezzo status`, `agents`, `frameworks` and `tasks`.

use std::fmt::Write as _;
use std::time::SystemTime;

use http::Method;
use serde::Serialize;
use serde_json::Value;

use super::answer;
use crate::client::master::Master;
use crate::client::rest::Rest;
use crate::cluster::{Amounts, Cluster, SeenTask};
use crate::endpoints::Where;
use crate::failure::Failure;
use crate::output::{Format, ago, json, mebibytes, rows, short};

/// Flags of `mezzo tasks`.
#[derive(Clone, Debug, clap::Args)]
pub struct TasksFlags {
    /// Show tasks that have ended, too.
    #[arg(long, short)]
    pub all: bool,

    /// Only tasks whose id or name contains this.
    #[arg(value_name = "WORD")]
    pub word: Option<String>,

    /// Where the cluster is.
    #[command(flatten)]
    pub place: Where,
}

/// Shows the agents.
///
/// # Errors
/// If the master does not answer.
pub async fn agents(place: &Where) -> Result<(), Failure> {
    let mut master = Master::connect(&place.endpoints()?).await?;
    let cluster = Cluster::of(&master.state().await?);
    answer(&rows(&cluster.agents, place.output))
}

/// Shows the frameworks.
///
/// # Errors
/// If the master does not answer.
pub async fn frameworks(place: &Where) -> Result<(), Failure> {
    let mut master = Master::connect(&place.endpoints()?).await?;
    let cluster = Cluster::of(&master.state().await?);
    answer(&rows(&cluster.frameworks, place.output))
}

/// Shows tasks.
///
/// # Errors
/// If the master does not answer.
pub async fn tasks(flags: &TasksFlags) -> Result<(), Failure> {
    let mut master = Master::connect(&flags.place.endpoints()?).await?;
    let cluster = Cluster::of(&master.state().await?);
    let now = now();
    let word = flags.word.as_deref().unwrap_or_default();
    let wanted = cluster.tasks.iter().filter(|task| flags.all || !task.ended);
    let wanted = wanted.filter(|task| task.id.contains(word) || task.name.contains(word));
    let seen: Vec<SeenTask<'_>> = wanted.map(|task| SeenTask { task, now }).collect();
    answer(&rows(&seen, flags.place.output))
}

/// The wall clock, in seconds since the Unix epoch.
pub fn now() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs_f64()
}

/// The answer of `mezzo status`.
#[derive(Debug, Serialize)]
struct Status {
    master: String,
    master_id: Option<String>,
    version: Option<String>,
    elected: Option<f64>,
    agents_active: usize,
    agents: usize,
    total: Amounts,
    used: Amounts,
    frameworks: usize,
    tasks: std::collections::BTreeMap<&'static str, usize>,
    service: Part,
    batch: Part,
}

/// A framework of ours, as seen from here.
#[derive(Debug, Serialize)]
struct Part {
    address: String,
    /// What it keeps: apps or jobs.
    count: Option<usize>,
    /// Why it does not answer.
    error: Option<String>,
}

/// Shows the cluster at a glance.
///
/// # Errors
/// If the master does not answer. That a framework does not is told in the answer.
pub async fn status(place: &Where) -> Result<(), Failure> {
    let endpoints = place.endpoints()?;
    let mut master = Master::connect(&endpoints).await?;
    let leader = master.leader().await?;
    let cluster = Cluster::of(&master.state().await?);
    let service = Rest::service(&endpoints);
    let batch = Rest::batch(&endpoints);
    let (apps, jobs) = tokio::join!(
        service.ask(Method::GET, "/v2/apps", None),
        batch.ask(Method::GET, "/v1/jobs", None)
    );
    let (total, used) = cluster.amounts();
    let info = leader.master_info;
    let status = Status {
        master: master.address().to_owned(),
        master_id: info.as_ref().map(|info| info.id.clone()),
        version: info.and_then(|info| info.version),
        elected: leader.elected_time,
        agents_active: cluster
            .agents
            .iter()
            .filter(|agent| agent.state == "active")
            .count(),
        agents: cluster.agents.len(),
        total,
        used,
        frameworks: cluster
            .frameworks
            .iter()
            .filter(|one| one.state == "active")
            .count(),
        tasks: cluster.states(),
        service: part(
            &service,
            apps.map(|apps| apps["apps"].as_array().map(Vec::len)),
        ),
        batch: part(&batch, jobs.map(|jobs| jobs.as_array().map(Vec::len))),
    };
    match place.output {
        Format::Json => answer(&json(&status)),
        Format::Table => answer(&words(&status, now())),
    }
}

fn part(rest: &Rest, asked: Result<Option<usize>, Failure>) -> Part {
    let address = rest.address().to_owned();
    match asked {
        Ok(count) => Part {
            address,
            count,
            error: None,
        },
        Err(failure) => Part {
            address,
            count: None,
            error: Some(failure.to_string()),
        },
    }
}

fn words(status: &Status, now: f64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11}{value}");
    };
    let elected = status
        .elected
        .map(|at| format!(", leads for {}", ago(now - at)))
        .unwrap_or_default();
    let version = status
        .version
        .as_ref()
        .map(|version| format!(", version {version}"))
        .unwrap_or_default();
    line(
        "master",
        format!("http://{}{elected}{version}", status.master),
    );
    line(
        "agents",
        format!("{} active of {}", status.agents_active, status.agents),
    );
    let (used, total) = (status.used, status.total);
    line(
        "cpus",
        format!("{} of {} used", short(used.cpus), short(total.cpus)),
    );
    line(
        "mem",
        format!("{} of {} used", mebibytes(used.mem), mebibytes(total.mem)),
    );
    line(
        "disk",
        format!("{} of {} used", mebibytes(used.disk), mebibytes(total.disk)),
    );
    line("frameworks", format!("{} active", status.frameworks));
    let tasks: Vec<String> = status
        .tasks
        .iter()
        .map(|(state, count)| {
            format!(
                "{count} {}",
                state.trim_start_matches("TASK_").to_ascii_lowercase()
            )
        })
        .collect();
    line(
        "tasks",
        if tasks.is_empty() {
            "none".to_owned()
        } else {
            tasks.join(", ")
        },
    );
    for (name, what, part) in [
        ("service", "apps", &status.service),
        ("batch", "jobs", &status.batch),
    ] {
        let value = match (&part.error, part.count) {
            (Some(error), _) => error.clone(),
            (None, Some(count)) => format!("http://{}, {count} {what}", part.address),
            (None, None) => format!("http://{}", part.address),
        };
        line(name, value);
    }
    text
}

/// A field of an answer as a text; empty if it is not there.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_a_few_lines() {
        let cluster = Cluster::of(&crate::cluster::tests::state());
        let (total, used) = cluster.amounts();
        let status = Status {
            master: "127.0.0.1:5050".to_owned(),
            master_id: None,
            version: Some("0.1.0".to_owned()),
            elected: Some(940.0),
            agents_active: 1,
            agents: 2,
            total,
            used,
            frameworks: 1,
            tasks: cluster.states(),
            service: Part {
                address: "127.0.0.1:8080".to_owned(),
                count: Some(1),
                error: None,
            },
            batch: Part {
                address: String::new(),
                count: None,
                error: Some("it is away".to_owned()),
            },
        };
        let expected = "master     http://127.0.0.1:5050, leads for 60s, version 0.1.0\n\
                        agents     1 active of 2\n\
                        cpus       0.1 of 4 used\n\
                        mem        32M of 4096M used\n\
                        disk       0M of 20.0G used\n\
                        frameworks 1 active\n\
                        tasks      1 finished, 1 running\n\
                        service    http://127.0.0.1:8080, 1 apps\n\
                        batch      it is away\n";
        assert_eq!(words(&status, 1000.0), expected);
        let json: Value = serde_json::from_str(&json(&status)).expect("JSON");
        assert_eq!(json["tasks"]["TASK_RUNNING"], 1);
    }
}
