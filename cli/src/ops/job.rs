//! `mezzo job run` and `list`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::answer;
use super::show::text;
use crate::client::rest::{Rest, escape};
use crate::deploy::{self, job_path};
use crate::endpoints::Where;
use crate::failure::Failure;
use crate::files::{self, Document};
use crate::output::{self, Format, Row, mebibytes, rows, short};

/// How often a run is looked at while it is waited for: the framework has no stream of events yet.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What to do with jobs.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum JobCommand {
    /// Start a run of a job; a file makes or replaces the job first
    Run {
        /// The id of a job that is there, or a file with jobs, one or an array; - is the standard input.
        #[arg(value_name = "JOB|FILE")]
        what: String,
        /// Wait until the run has ended; the command fails if the run does.
        #[arg(long, short)]
        wait: bool,
        /// For how many seconds to wait.
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        timeout: u64,
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
    /// Show all jobs
    List {
        /// Where the cluster is.
        #[command(flatten)]
        place: Where,
    },
}

/// Carries a command out.
///
/// # Errors
/// If the batch framework does not answer or refuses, or a run that was waited for failed.
pub async fn run(command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::Run {
            what,
            wait,
            timeout,
            place,
        } => start(&what, wait.then_some(timeout), &place).await,
        JobCommand::List { place } => list(&place).await,
    }
}

#[derive(Debug, Serialize)]
struct Started {
    job: String,
    run: String,
    status: String,
}

async fn start(what: &str, wait: Option<u64>, place: &Where) -> Result<(), Failure> {
    let batch = Rest::batch(&place.endpoints()?);
    let mut started = Vec::new();
    for job in jobs_of(what, &batch).await? {
        let run = deploy::start_run(&batch, &job).await?;
        if place.output == Format::Table {
            answer(&format!("run {run} of {job} is started\n"))?;
        }
        started.push(Started {
            job,
            run,
            status: "STARTING".to_owned(),
        });
    }
    let mut failed = None;
    if let Some(seconds) = wait {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        for one in &mut started {
            let ended = wait_for(&batch, one, deadline, seconds).await?;
            one.status = text(&ended["status"]);
            if place.output == Format::Table {
                answer(&format!(
                    "run {} of {} ended: {}\n",
                    one.run, one.job, one.status
                ))?;
            }
            if one.status != "SUCCESS" {
                let words = last_words(&ended);
                failed = Some(Failure::RunFailed {
                    job: one.job.clone(),
                    run: one.run.clone(),
                    words,
                });
            }
        }
    }
    if place.output == Format::Json {
        answer(&output::json(&started))?;
    }
    failed.map_or(Ok(()), Err)
}

/// The ids of the jobs to run; those of a file are made or replaced.
async fn jobs_of(what: &str, batch: &Rest) -> Result<Vec<String>, Failure> {
    // A job's id has no slash and no JSON at its end; what looks like a file is one.
    let is_file =
        what == "-" || what.contains('/') || what.ends_with(".json") || Path::new(what).is_file();
    if !is_file {
        return Ok(vec![what.to_owned()]);
    }
    let path = PathBuf::from(what);
    let mut jobs = Vec::new();
    for document in files::read(&path)? {
        match document {
            Document::Job(job) => jobs.push(deploy::job(batch, &job).await?),
            Document::App(app) => {
                let words = format!(
                    "{} is an app: deploy it with `mezzo app deploy {what}`",
                    text(&app["id"])
                );
                return Err(Failure::Document { path, words });
            }
        }
    }
    Ok(jobs)
}

async fn wait_for(
    batch: &Rest,
    one: &Started,
    deadline: Instant,
    seconds: u64,
) -> Result<Value, Failure> {
    let path = format!("{}/runs/{}", job_path(&one.job), escape(&one.run));
    loop {
        let run = batch.ask(Method::GET, &path, None).await?;
        if run["completedAt"].is_string() {
            return Ok(run);
        }
        if Instant::now() >= deadline {
            let what = format!("the end of run {} of {}", one.run, one.job);
            return Err(Failure::Late { what, seconds });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the last task of a run said.
fn last_words(run: &Value) -> String {
    let last = run["tasks"].as_array().and_then(|tasks| tasks.last());
    let words = last.map(|task| match task["message"].as_str() {
        Some(message) => message.to_owned(),
        None => text(&task["status"]),
    });
    words
        .filter(|words| !words.is_empty())
        .unwrap_or_else(|| "no task of it was started".to_owned())
}

#[derive(Debug, Serialize)]
struct Job {
    id: String,
    active: usize,
    succeeded: u64,
    failed: u64,
    last_success: Option<String>,
    last_failure: Option<String>,
    cpus: f64,
    mem: f64,
    command: String,
}

impl Job {
    fn of(job: &Value) -> Self {
        let summary = &job["historySummary"];
        let run = &job["run"];
        let command = match (&run["cmd"], run["args"].as_array()) {
            (Value::String(line), _) => line.clone(),
            (_, Some(words)) => words.iter().map(text).collect::<Vec<_>>().join(" "),
            (_, None) => String::new(),
        };
        Self {
            id: text(&job["id"]),
            active: job["activeRuns"].as_array().map_or(0, Vec::len),
            succeeded: summary["successCount"].as_u64().unwrap_or(0),
            failed: summary["failureCount"].as_u64().unwrap_or(0),
            last_success: summary["lastSuccessAt"].as_str().map(str::to_owned),
            last_failure: summary["lastFailureAt"].as_str().map(str::to_owned),
            cpus: run["cpus"].as_f64().unwrap_or(0.0),
            mem: run["mem"].as_f64().unwrap_or(0.0),
            command,
        }
    }
}

impl Row for Job {
    const TITLES: &'static [&'static str] = &[
        "ID",
        "ACTIVE",
        "SUCCEEDED",
        "FAILED",
        "CPUS",
        "MEM",
        "COMMAND",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.active.to_string(),
            self.succeeded.to_string(),
            self.failed.to_string(),
            short(self.cpus),
            mebibytes(self.mem),
            self.command.chars().take(60).collect(),
        ]
    }
}

async fn list(place: &Where) -> Result<(), Failure> {
    let batch = Rest::batch(&place.endpoints()?);
    let jobs = batch
        .list("/v2/jobs?embed=activeRuns,historySummary", None)
        .await?;
    let jobs: Vec<Job> = jobs.iter().map(Job::of).collect();
    answer(&rows(&jobs, place.output))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_are_rows() {
        let job = json!({
            "id": "a.b", "activeRuns": [{}], "historySummary": {"successCount": 2, "failureCount": 1},
            "run": {"cpus": 0.5, "mem": 32, "args": ["/bin/echo", "hi"]},
        });
        let expected = "ID   ACTIVE  SUCCEEDED  FAILED  CPUS  MEM  COMMAND\n\
                        a.b  1       2          1       0.5   32M  /bin/echo hi\n";
        assert_eq!(rows(&[Job::of(&job)], Format::Table), expected);
    }

    #[test]
    fn a_failed_run_tells_its_last_words() {
        let run = json!({"tasks": [{"status": "TASK_FAILED", "message": "Command exited with status 3"}]});
        assert_eq!(last_words(&run), "Command exited with status 3");
        assert_eq!(
            last_words(&json!({"tasks": [{"status": "TASK_LOST"}]})),
            "TASK_LOST"
        );
        assert_eq!(
            last_words(&json!({"tasks": []})),
            "no task of it was started"
        );
    }
}
