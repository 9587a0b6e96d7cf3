//! Real processes and a real ZooKeeper: whatever part of the control plane is killed, no task notices.
//!
//! The judge is a file outside Mezzo to which each payload appends (task, boot, pid, time).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mezzo_integration::real::{Cluster, Ledger, Plan, eventually_async};
use serde_json::{Value, json};

const MEZZO: &str = env!("CARGO_BIN_EXE_mezzo-under-test");
const INSTANCES: usize = 20;
const RUNS: usize = 50;
/// Nothing here takes long; a bound that is hit means that it never came.
const BOUND: Duration = Duration::from_secs(90);

struct Story {
    cluster: Cluster,
    ledger: Ledger,
    /// Apps that were deployed, with their instance counts.
    wanted: BTreeMap<String, usize>,
    /// Runs that were started.
    runs: usize,
}

impl Story {
    async fn begin() -> anyhow::Result<Self> {
        let cluster = Cluster::start(Path::new(MEZZO), &Plan::default()).await?;
        let ledger = Ledger::create(cluster.dir())?;
        let mut story = Self {
            cluster,
            ledger,
            wanted: BTreeMap::new(),
            runs: 0,
        };
        story.deploy("/web", INSTANCES).await?;
        story.define_job().await?;
        story.start_runs(RUNS).await?;
        Ok(story)
    }

    async fn deploy(&mut self, id: &str, instances: usize) -> anyhow::Result<()> {
        let app = json!({
            "id": id, "cmd": self.ledger.service_command(), "cpus": 0.1, "mem": 32,
            "disk": 0, "instances": instances,
        });
        let apps = self.cluster.apps()?;
        eventually_async("an app is accepted", BOUND, || async {
            match apps.send("POST", "/v2/apps", Some(&app)).await {
                Ok(answer) if answer.status == 201 || answer.status == 409 => Ok(()),
                Ok(answer) => Err(format!("{}: {}", answer.status, answer.text)),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await?;
        self.wanted.insert(id.to_owned(), instances);
        self.apps_run().await
    }

    /// Every app has as many running tasks as it wants, and as many live payloads.
    async fn apps_run(&self) -> anyhow::Result<()> {
        let apps = self.cluster.apps()?;
        for (id, instances) in &self.wanted {
            let what = format!("{instances} instances of {id}");
            eventually_async(&what, BOUND, || async {
                let app = apps.get(&format!("/v2/apps{id}")).await?;
                let running = app["app"]["tasksRunning"].as_u64().unwrap_or(0);
                let deployments = app["app"]["deployments"].as_array().map_or(0, Vec::len);
                let alive = self.alive(id).map_err(|error| error.to_string())?;
                if running == *instances as u64 && alive == *instances && deployments == 0 {
                    Ok(())
                } else {
                    Err(format!(
                        "{running} said to run, {alive} alive, {deployments} deployments"
                    ))
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Payloads of an app that live, by the kernel's word.
    fn alive(&self, id: &str) -> anyhow::Result<usize> {
        let prefix = format!("{}.", id.trim_start_matches('/'));
        let starts = self.ledger.starts(|task| task.starts_with(&prefix))?;
        Ok(starts.iter().filter(|entry| lives(entry.pid)).count())
    }

    async fn define_job(&self) -> anyhow::Result<()> {
        let job = json!({
            "id": "count", "description": "notes its start and its end",
            "run": {"cpus": 0.1, "mem": 32, "disk": 0, "cmd": self.ledger.job_command(1.0)},
        });
        let created = self.cluster.jobs()?.post("/v1/jobs", &job).await;
        anyhow::ensure!(created.is_ok(), "the job was refused: {created:?}");
        Ok(())
    }

    async fn start_runs(&mut self, count: usize) -> anyhow::Result<()> {
        let jobs = self.cluster.jobs()?;
        for _ in 0..count {
            // A run is started once: an answer that was lost would make the count uncertain, so it must not be.
            let started = eventually_async("a run is started", BOUND, || async {
                jobs.post("/v1/jobs/count/runs", &json!({})).await
            });
            started.await?;
            self.runs += 1;
        }
        Ok(())
    }

    async fn runs_end(&self) -> anyhow::Result<()> {
        let jobs = self.cluster.jobs()?;
        let what = format!("{} successful runs", self.runs);
        eventually_async(&what, BOUND, || async {
            let job = jobs
                .get("/v1/jobs/count?embed=historySummary&embed=activeRuns")
                .await?;
            let summary = &job["historySummary"];
            let good = summary["successCount"].as_u64().unwrap_or(0);
            let bad = summary["failureCount"].as_u64().unwrap_or(0);
            if bad > 0 {
                return Err(format!("{bad} runs failed"));
            }
            if good == self.runs as u64 {
                Ok(())
            } else {
                Err(format!("{good} so far: {job}"))
            }
        })
        .await
    }

    /// Nothing lost, nothing started twice: the payloads of before are those of now.
    async fn nothing_was_touched(&self, before: &[u32]) -> anyhow::Result<()> {
        self.apps_run().await?;
        for pid in before {
            anyhow::ensure!(lives(*pid), "the payload with pid {pid} did not survive");
        }
        self.ledger.check_started_once()
    }

    fn payloads(&self) -> anyhow::Result<Vec<u32>> {
        let starts = self.ledger.starts(|task| !task.starts_with("count"))?;
        Ok(starts
            .iter()
            .map(|entry| entry.pid)
            .filter(|pid| lives(*pid))
            .collect())
    }

    async fn end(self) -> anyhow::Result<()> {
        self.runs_end().await?;
        self.apps_run().await?;
        self.ledger.check_started_once()?;
        let ends = self
            .ledger
            .entries()?
            .into_iter()
            .filter(|entry| entry.what == "end")
            .count();
        anyhow::ensure!(
            ends == self.runs,
            "{ends} payloads ended by themselves, not {}",
            self.runs
        );
        let starts = self.ledger.starts(|task| !task.starts_with("count"))?.len();
        let wanted: usize = self.wanted.values().sum();
        anyhow::ensure!(
            starts == wanted,
            "{starts} service payloads were started for {wanted}"
        );
        Ok(())
    }
}

fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

#[tokio::test]
async fn a_killed_leader_touches_no_task() -> anyhow::Result<()> {
    let mut story = Story::begin().await?;
    let before = story.payloads()?;
    let leader = story.cluster.leading_master().await?;
    story.cluster.masters[leader].kill()?;
    let next = story.cluster.leading_master().await?;
    assert_ne!(leader, next);
    story.deploy("/after-the-leader", 2).await?;
    story.start_runs(2).await?;
    story.nothing_was_touched(&before).await?;
    story.cluster.masters[leader].restart()?;
    story.cluster.masters[leader].healthy().await?;
    story.end().await
}

#[tokio::test]
async fn a_killed_agent_adopts_its_tasks_when_it_returns() -> anyhow::Result<()> {
    let mut story = Story::begin().await?;
    let before = story.payloads()?;
    story.cluster.agents[0].kill()?;
    story.cluster.agents[0].restart()?;
    story.cluster.agents[0].healthy().await?;
    story.deploy("/after-the-agent", 2).await?;
    story.start_runs(2).await?;
    story.nothing_was_touched(&before).await?;
    story.end().await
}

#[tokio::test]
async fn killed_frameworks_find_their_tasks_again() -> anyhow::Result<()> {
    let mut story = Story::begin().await?;
    let before = story.payloads()?;
    story.cluster.service.kill()?;
    story.cluster.batch.kill()?;
    story.cluster.service.restart()?;
    story.cluster.batch.restart()?;
    story.cluster.healthy().await?;
    story.deploy("/after-the-frameworks", 2).await?;
    story.start_runs(2).await?;
    story.nothing_was_touched(&before).await?;
    story.end().await
}

#[tokio::test]
async fn a_restarted_zookeeper_touches_no_task() -> anyhow::Result<()> {
    let mut story = Story::begin().await?;
    let before = story.payloads()?;
    story.cluster.zookeeper.kill();
    story.cluster.zookeeper.start_again()?;
    story.cluster.healthy().await?;
    story.deploy("/after-zookeeper", 2).await?;
    story.start_runs(2).await?;
    story.nothing_was_touched(&before).await?;
    story.end().await
}

/// The frameworks answer in the foreign formats also after all of this; one look at the shapes that tools read.
#[tokio::test]
async fn the_doors_speak_the_known_shapes() -> anyhow::Result<()> {
    let story = Story::begin().await?;
    let apps = story.cluster.apps()?;
    let tasks = apps.get("/v2/tasks").await.map_err(anyhow::Error::msg)?;
    let tasks = tasks["tasks"].as_array().cloned().unwrap_or_default();
    assert_eq!(tasks.len(), INSTANCES);
    for task in &tasks {
        assert_eq!(task["appId"], Value::from("/web"));
        assert_eq!(task["state"], Value::from("TASK_RUNNING"));
    }
    let info = apps.get("/v2/info").await.map_err(anyhow::Error::msg)?;
    assert!(info["frameworkId"].is_string(), "{info}");
    story.end().await
}
