//! Two frameworks share one agent: what the service framework lets go, the batch framework has within 100 ms.
//!
//! An app holds the agent while a run waits that needs the whole of it; then the app is deleted. Once the app has all
//! there is, and once it leaves a piece, which the batch framework is offered and declines for seconds: the grown set
//! must come at once all the same. Both payloads write their times to a file outside Mezzo: from the end of the one to
//! the start of the other the status of the end went to the master, what was freed was offered, the launch was stored
//! by ZooKeeper, and a process started.
//!
//! One measurement on a machine that does other things says little, so the promise is about the median of several.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_integration::real::{Cluster, Entry, Ledger, Plan, eventually_async};
use serde_json::json;

const MEZZO: &str = env!("CARGO_BIN_EXE_mezzo-under-test");

/// How often the agent changes hands, for each share.
const TIMES: usize = 5;

/// Which part of the agent the app has.
const SHARES: [f64; 2] = [1.0, 0.75];

/// What the median may take.
const PROMISE: Duration = Duration::from_millis(100);

/// Nothing here takes long; a bound that is hit means that it never came.
const BOUND: Duration = Duration::from_secs(60);

/// All that the one agent has of what tasks compete for.
const CPUS: f64 = 4.0;
const MEM: f64 = 1024.0;

struct Stage {
    cluster: Cluster,
    ledger: Ledger,
    path: PathBuf,
}

impl Stage {
    async fn begin() -> anyhow::Result<Self> {
        let plan = Plan {
            masters: 1,
            agents: 1,
            resources: format!("cpus:{CPUS};mem:{MEM};disk:1024;ports:[31000-31009]"),
            ..Plan::default()
        };
        let cluster = Cluster::start(Path::new(MEZZO), &plan).await?;
        let ledger = Ledger::create(cluster.dir())?;
        let path = cluster.dir().join("ledger");
        let stage = Self {
            cluster,
            ledger,
            path,
        };
        let job = json!({
            "id": "heir",
            "run": {"cpus": CPUS, "mem": MEM, "disk": 0, "cmd": stage.note("start")},
        });
        let jobs = stage.cluster.jobs()?;
        let created = jobs.post("/v1/jobs", &job).await;
        created.map_err(|why| anyhow::anyhow!("the job was refused: {why}"))?;
        Ok(stage)
    }

    /// A shell command that appends a line to the ledger. Only the clock needs a process of its own.
    fn note(&self, what: &str) -> String {
        let path = self.path.display();
        format!("echo {what} $MESOS_TASK_ID - $$ $(date +%s%N) >> {path}")
    }

    /// The app that holds a part of the agent, and notes when it lets go.
    async fn hold(&self, id: &str, share: f64) -> anyhow::Result<()> {
        let (begun, ended) = (self.note("start"), self.note("end"));
        let app = json!({
            "id": id, "cpus": CPUS * share, "mem": MEM * share, "ports": [],
            "cmd": format!("trap '{ended}; exit 0' TERM; {begun}; sleep 1000000 & wait"),
        });
        let apps = self.cluster.apps()?;
        let created = apps.post("/v2/apps", &app).await;
        created.map_err(|why| anyhow::anyhow!("the app was refused: {why}"))?;
        self.entry("start", id.trim_start_matches('/')).await?;
        let nothing_under_way = || async {
            match apps.get("/v2/deployments").await? {
                list if list == json!([]) => Ok(()),
                list => Err(list.to_string()),
            }
        };
        eventually_async("the app is deployed", BOUND, nothing_under_way).await
    }

    /// A run that waits for the whole agent; its id.
    async fn wait_in_line(&self) -> anyhow::Result<String> {
        let jobs = self.cluster.jobs()?;
        let run = jobs.post("/v1/jobs/heir/runs", &json!({})).await;
        let run = run.map_err(|why| anyhow::anyhow!("the run was refused: {why}"))?;
        let id = run["id"].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(!id.is_empty(), "the run has no id: {run}");
        let queue = || async {
            let queue = jobs.get("/v1/queue").await?.to_string();
            if queue.contains(&id) {
                Ok(())
            } else {
                Err(queue)
            }
        };
        eventually_async("the run waits for an offer", BOUND, queue).await?;
        Ok(id)
    }

    /// The line that a payload wrote whose task's id has this in it.
    async fn entry(&self, what: &str, of: &str) -> anyhow::Result<Entry> {
        let found = || async {
            let entries = self.ledger.entries().map_err(|error| error.to_string())?;
            let mut ours = entries
                .into_iter()
                .filter(|entry| entry.what == what && entry.task.contains(of));
            ours.next().ok_or_else(|| "not yet".to_owned())
        };
        eventually_async(&format!("the {what} of {of}"), BOUND, found).await
    }

    /// From the end of the app's payload to the start of the run's.
    async fn hand_over(&self, name: &str, share: f64) -> anyhow::Result<Duration> {
        let id = format!("/{name}");
        self.hold(&id, share).await?;
        let run = self.wait_in_line().await?;
        let deleted = self
            .cluster
            .apps()?
            .send("DELETE", &format!("/v2/apps{id}"), None)
            .await?;
        anyhow::ensure!(
            deleted.status == 200,
            "{}: {}",
            deleted.status,
            deleted.text
        );
        let started = self.entry("start", &run).await?;
        let ended = self.entry("end", id.trim_start_matches('/')).await?;
        let nanoseconds = started.at_ns.checked_sub(ended.at_ns);
        let nanoseconds = nanoseconds.ok_or_else(|| {
            anyhow::anyhow!("the run began before the app had ended: both had the whole agent")
        })?;
        self.run_ends(&run).await?;
        Ok(Duration::from_nanos(u64::try_from(nanoseconds)?))
    }

    async fn run_ends(&self, run: &str) -> anyhow::Result<()> {
        let jobs = self.cluster.jobs()?;
        let over = || async {
            let job = jobs.get("/v1/jobs/heir?embed=history").await?;
            let good = job["history"]["successfulFinishedRuns"].to_string();
            if good.contains(run) {
                Ok(())
            } else {
                Err(job.to_string())
            }
        };
        eventually_async("the run succeeds", BOUND, over).await
    }
}

#[tokio::test]
async fn batch_has_a_whole_agent_within_100_ms_after_service_lets_it_go() -> anyhow::Result<()> {
    let stage = Stage::begin().await?;
    for (number, share) in SHARES.into_iter().enumerate() {
        let mut taken = Vec::new();
        for time in 0..TIMES {
            let name = format!("holder-{number}-{time}");
            taken.push(stage.hand_over(&name, share).await?);
        }
        taken.sort();
        let median = taken[TIMES / 2];
        println!(
            "end of an app with {share} of the agent to start of the run: median {median:?} of {taken:?}"
        );
        anyhow::ensure!(
            median <= PROMISE,
            "the median is {median:?}, more than {PROMISE:?}, of {taken:?}\n{}",
            stage.cluster.logs()
        );
    }
    stage.ledger.check_started_once()?;
    Ok(())
}
