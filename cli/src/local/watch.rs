//! Looks at the cluster twice a second, for the view.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::view::{App, Job, Run, Screen, Snapshot, changes};
use crate::client::master::Master;
use crate::client::rest::Rest;
use crate::cluster::Cluster;
use crate::endpoints::Endpoints;
use crate::failure::Failure;
use crate::output::say;

/// How often the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Shows what happens for as long as it is let: redrawn in place on a terminal, as lines elsewhere.
///
/// # Errors
/// If it cannot be written down. A part that does not answer is told of, and asked again.
pub async fn go_on(endpoints: &Endpoints, head: &[String], terminal: bool) -> Result<(), Failure> {
    let writing = |source| Failure::Machine {
        what: "writing".to_owned(),
        source,
    };
    let mut eyes = Eyes::open(endpoints).await?;
    let mut before = Snapshot::default();
    let mut screen = Screen::new(head);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = eyes.look().await;
        let text = if terminal {
            screen.draw(&now, size())
        } else {
            changes(&before, &now)
                .into_iter()
                .map(|line| format!("{line}\n"))
                .collect()
        };
        if !text.is_empty() {
            say(&text).map_err(writing)?;
        }
        before = now;
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        Ok(_) | Err(_) => (80, 24),
    }
}

struct Eyes {
    master: Master,
    service: Rest,
    batch: Rest,
}

impl Eyes {
    async fn open(endpoints: &Endpoints) -> Result<Self, Failure> {
        Ok(Self {
            master: Master::connect(endpoints).await?,
            service: Rest::service(endpoints),
            batch: Rest::batch(endpoints),
        })
    }

    async fn look(&mut self) -> Snapshot {
        let jobs_path = "/v2/jobs?embed=activeRuns,history";
        let (state, apps, tasks, jobs) = tokio::join!(
            self.master.state(),
            self.service.list("/v2/apps", Some("apps")),
            self.service.list("/v2/tasks", Some("tasks")),
            self.batch.list(jobs_path, None)
        );
        let mut snapshot = Snapshot::default();
        let mut away = |failure: Failure| snapshot.away.push(failure.to_string());
        let cluster = state
            .map_err(&mut away)
            .map(|state| Cluster::of(&state))
            .unwrap_or_default();
        let apps = apps.map_err(&mut away).unwrap_or_default();
        let tasks = tasks.map_err(&mut away).unwrap_or_default();
        let jobs = jobs.map_err(&mut away).unwrap_or_default();
        snapshot.away.dedup();
        snapshot.apps = apps.iter().map(|app| app_of(app, &tasks)).collect();
        snapshot.jobs = jobs.iter().map(job_of).collect();
        snapshot.see(&cluster);
        snapshot
    }
}

fn app_of(app: &Value, tasks: &[Value]) -> App {
    let count = |name: &str| app[name].as_u64().unwrap_or(0);
    let id = app["id"].as_str().unwrap_or_default().to_owned();
    let own = tasks
        .iter()
        .filter(|task| task["appId"] == id.as_str() && task["state"] == "TASK_RUNNING");
    let urls = own.filter_map(|task| {
        let host = task["host"].as_str()?;
        let port = task["ports"].as_array()?.first()?.as_u64()?;
        Some(format!("http://{host}:{port}"))
    });
    App {
        urls: urls.collect(),
        wanted: count("instances"),
        running: count("tasksRunning"),
        healthy: count("tasksHealthy"),
        checked: app["healthChecks"]
            .as_array()
            .is_some_and(|checks| !checks.is_empty()),
        id,
    }
}

fn job_of(job: &Value) -> Job {
    let run = |run: &Value, status: &str| Run {
        id: run["id"].as_str().unwrap_or_default().to_owned(),
        status: run["status"].as_str().unwrap_or(status).to_owned(),
    };
    let history = &job["history"];
    let list = |value: &Value, status: &str| -> Vec<Run> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| run(one, status))
            .collect()
    };
    let mut runs = list(&history["successfulFinishedRuns"], "SUCCESS");
    runs.extend(list(&history["failedFinishedRuns"], "FAILED"));
    runs.extend(list(&job["activeRuns"], "STARTING"));
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    Job {
        id: job["id"].as_str().unwrap_or_default().to_owned(),
        active: job["activeRuns"].as_array().map_or(0, Vec::len),
        succeeded: history["successCount"].as_u64().unwrap_or(0),
        failed: history["failureCount"].as_u64().unwrap_or(0),
        runs,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn apps_and_jobs_are_seen() {
        let app = json!({"id": "/a", "instances": 2, "tasksRunning": 1, "tasksHealthy": 1, "healthChecks": [{}]});
        let tasks = [
            json!({"appId": "/a", "state": "TASK_RUNNING", "host": "h", "ports": [31000, 31001]}),
            json!({"appId": "/a", "state": "TASK_STAGING", "host": "h", "ports": [31002]}),
            json!({"appId": "/b", "state": "TASK_RUNNING", "host": "h", "ports": [31003]}),
        ];
        let seen = app_of(&app, &tasks);
        assert_eq!(
            (seen.urls.as_slice(), seen.checked),
            (&["http://h:31000".to_owned()][..], true)
        );
        let job = json!({
            "id": "j", "activeRuns": [{"id": "2", "status": "ACTIVE"}],
            "history": {"successCount": 1, "failureCount": 0, "successfulFinishedRuns": [{"id": "1"}]},
        });
        let seen = job_of(&job);
        let runs: Vec<(&str, &str)> = seen
            .runs
            .iter()
            .map(|run| (run.id.as_str(), run.status.as_str()))
            .collect();
        assert_eq!(runs, [("1", "SUCCESS"), ("2", "ACTIVE")]);
        assert_eq!((seen.active, seen.succeeded), (1, 1));
    }
}
