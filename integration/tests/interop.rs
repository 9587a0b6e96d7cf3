//! Programs that nobody here wrote, against real processes of ours: `pymesos`, which schedules and reads state over the
//! HTTP API of Mesos, and Prometheus, which scrapes.
//!
//! They come from their ordinary package managers (`./test` installs them). Invariant: a client is never changed
//! for us; what is ours in Python only says which of its functions to call.

#[path = "interop/prometheus.rs"]
mod prometheus;
#[path = "interop/python.rs"]
mod python;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_integration::real::{Cluster, Daemon, Ledger, Plan, Rest, eventually, eventually_async};
use prometheus::Prometheus;
use python::Program;
use serde_json::{Value, json};

const MEZZO: &str = env!("CARGO_BIN_EXE_mezzo-under-test");
/// Nothing here takes long; a bound that is hit means that it never came.
const BOUND: Duration = Duration::from_secs(60);

/// Whether the test can run; CI accepts no "no".
fn can_run(is_there: bool, what: &str) -> bool {
    assert!(
        is_there || std::env::var_os("MEZZO_REQUIRE_ALL").is_none(),
        "{what} is not installed; ./test installs it"
    );
    if !is_there {
        eprintln!("left out: {what} is not installed; ./test installs it");
    }
    is_there
}

fn pymesos() -> Option<PathBuf> {
    let python = python::interpreter(Path::new(MEZZO));
    can_run(python.is_some(), "pymesos").then_some(python?)
}

fn is_update(event: &Value, task: &str, state: &str) -> bool {
    event["event"] == "update" && event["task"] == task && event["state"] == state
}

fn is_reconciled(event: &Value) -> bool {
    event["event"] == "update" && event["reason"] == "REASON_RECONCILIATION"
}

/// A cluster, a scheduler on it, and what its tasks write down.
struct Story {
    python: PathBuf,
    cluster: Cluster,
    ledger: Ledger,
    scheduler: Program,
    framework: String,
}

impl Story {
    /// Starts it all; the scheduler is told of the master by what `master` says.
    async fn begin(
        python: PathBuf,
        plan: &Plan,
        master: impl AsyncFn(&Cluster) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::start(Path::new(MEZZO), plan).await?;
        let ledger = Ledger::create(cluster.dir())?;
        let arguments = [master(&cluster).await?, "interop".to_owned()];
        let arguments = arguments.each_ref().map(String::as_str);
        let mut scheduler = Program::start(
            &python,
            "scheduler.py",
            cluster.dir(),
            "scheduler",
            &arguments,
        )?;
        let registered = scheduler
            .until(0, "registered", |event| event["event"] == "registered")
            .await?;
        let framework = registered["framework"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(registered["version"], "1.11.0");
        let mut story = Self {
            python,
            cluster,
            ledger,
            scheduler,
            framework,
        };
        let leader = story.leader().await?.addr.port();
        assert_eq!(registered["port"], leader, "the leader is who answered");
        // Tasks that stay, one that ends well, and one that does not.
        for sleeper in ["sleeper-1", "sleeper-2"] {
            let command = story.ledger.service_command();
            story.launch(sleeper, &command, "TASK_RUNNING").await?;
        }
        story.launch("good", "echo done", "TASK_FINISHED").await?;
        let failed = story.launch("bad", "exit 7", "TASK_FAILED").await?;
        assert_eq!(failed["to_be_acknowledged"], true);
        Ok(story)
    }

    async fn leader(&self) -> anyhow::Result<&Daemon> {
        Ok(&self.cluster.masters[self.cluster.leading_master().await?])
    }

    /// Launches a task and waits for a state of it.
    async fn launch(&mut self, task: &str, command: &str, state: &str) -> anyhow::Result<Value> {
        let order = json!({"do": "launch", "task": task, "command": command});
        let since = self.scheduler.order(&order)?;
        let what = format!("{state} of {task}");
        self.scheduler
            .until(since, &what, |event| is_update(event, task, state))
            .await
    }

    /// Kills the leading master and waits until the scheduler is with the next one, under its old id, and so are all
    /// agents: before that, nothing is said of tasks.
    async fn kill_leader(&mut self) -> anyhow::Result<()> {
        let leader = self.cluster.leading_master().await?;
        self.cluster.masters[leader].kill()?;
        let again = self
            .scheduler
            .until(0, "reregistered", |event| event["event"] == "reregistered")
            .await?;
        assert_eq!(again["framework"], self.framework.as_str());
        assert_eq!(again["port"], self.leader().await?.addr.port());
        let agents = self.cluster.agents.len();
        let master = Rest::new(self.leader().await?.addr)?;
        eventually_async("all agents are back", BOUND, || async {
            let page = master.get("/slaves").await?;
            let back = page["slaves"].as_array().map_or(0, Vec::len);
            let awaited = page["recovered_slaves"].as_array().map_or(0, Vec::len);
            match (back, awaited) {
                (back, 0) if back == agents => Ok(()),
                _ => Err(format!("{back} are, {awaited} are not")),
            }
        })
        .await
    }

    /// What the master says of these tasks, as (task, state); of all that live if none is named.
    async fn reconcile(&mut self, tasks: &[&str]) -> anyhow::Result<BTreeSet<(String, String)>> {
        let order = json!({"do": "reconcile", "tasks": tasks});
        let since = self.scheduler.order(&order)?;
        // Answers come in the order of the questions: after that to the second, there are no more to the first.
        let fence = format!("fence-{since}");
        self.scheduler
            .order(&json!({"do": "reconcile", "tasks": [fence]}))?;
        self.scheduler
            .until(since, "an answer of what is unknown", |event| {
                is_reconciled(event) && event["task"] == fence.as_str()
            })
            .await?;
        let told = self.scheduler.told_since(since);
        let answers = told.iter().filter(|event| is_reconciled(event));
        let answers = answers.filter(|event| event["task"] != fence.as_str());
        let answers: Vec<&Value> = answers.collect();
        for answer in &answers {
            assert_eq!(answer["to_be_acknowledged"], false, "{answer}");
            assert_eq!(answer["source"], "SOURCE_MASTER", "{answer}");
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(answers
            .into_iter()
            .map(|answer| (text(&answer["task"]), text(&answer["state"])))
            .collect())
    }

    async fn kill(&mut self, task: &str) -> anyhow::Result<()> {
        let since = self.scheduler.order(&json!({"do": "kill", "task": task}))?;
        self.scheduler
            .until(since, "a kill", |event| {
                is_update(event, task, "TASK_KILLED")
            })
            .await?;
        Ok(())
    }

    /// Ends the scheduler, which tears its framework down: its tasks end, and the master knows it as one of the past.
    async fn end(mut self) -> anyhow::Result<()> {
        self.scheduler
            .order(&json!({"do": "stop", "failover": false}))?;
        let master = Rest::new(self.leader().await?.addr)?;
        self.scheduler.ended().await?;
        let framework = self.framework;
        eventually_async("the framework is torn down", BOUND, || async {
            let page = master.get("/frameworks").await?;
            let is_ours = |row: &Value| row["id"] == framework.as_str();
            let has = |list: &str| {
                page[list]
                    .as_array()
                    .is_some_and(|rows| rows.iter().any(is_ours))
            };
            match (has("frameworks"), has("completed_frameworks")) {
                (false, true) => Ok(()),
                (live, past) => Err(format!("live: {live}, past: {past}")),
            }
        })
        .await?;
        let started = self.ledger.starts(|_| true)?;
        eventually("no task lives", BOUND, || {
            let left = started.iter().filter(|entry| lives(entry.pid)).count();
            if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} do"))
            }
        })?;
        self.ledger.check_started_once()
    }
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.starts_with(" Z"))
    })
}

fn pairs(rows: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    rows.iter()
        .map(|(task, state)| ((*task).to_owned(), (*state).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_scheduler_of_pymesos_outlives_the_master_that_it_found_in_zookeeper()
-> anyhow::Result<()> {
    let Some(python) = pymesos() else {
        return Ok(());
    };
    let in_zookeeper =
        async |cluster: &Cluster| -> anyhow::Result<String> { Ok(cluster.zookeeper.url("/mezzo")) };
    let mut story = Story::begin(python, &Plan::default(), in_zookeeper).await?;
    story.kill_leader().await?;
    let running = [("sleeper-1", "TASK_RUNNING"), ("sleeper-2", "TASK_RUNNING")];
    // A framework that does not know partitions hears of what is unknown as lost.
    let asked = story
        .reconcile(&["sleeper-1", "sleeper-2", "never-was"])
        .await?;
    let mut answers = pairs(&running);
    answers.insert(("never-was".to_owned(), "TASK_LOST".to_owned()));
    assert_eq!(asked, answers);
    story.kill("sleeper-1").await?;
    story.launch("after", "echo done", "TASK_FINISHED").await?;
    let mut live = story.reconcile(&[]).await?;
    // What has ended is told until its acknowledgement, which may still be on its way.
    live.retain(|(_, state)| state != "TASK_KILLED" && state != "TASK_FINISHED");
    assert_eq!(live, pairs(&running[1..]));
    story.end().await
}

#[tokio::test]
async fn clients_of_pymesos_that_ask_a_standby_are_sent_to_the_leader() -> anyhow::Result<()> {
    let Some(python) = pymesos() else {
        return Ok(());
    };
    let plan = Plan {
        masters: 2,
        ..Plan::default()
    };
    let at_a_standby = async |cluster: &Cluster| -> anyhow::Result<String> {
        let leader = cluster.leading_master().await?;
        Ok(cluster.masters[1 - leader].addr.to_string())
    };
    let story = Story::begin(python, &plan, at_a_standby).await?;
    let standby = at_a_standby(&story.cluster).await?;
    let mut operator = Program::start(
        &story.python,
        "operator_client.py",
        story.cluster.dir(),
        "operator",
        &[&standby],
    )?;
    the_cluster_is_read(&mut operator, &story).await?;
    operator.ended().await?;
    story.end().await
}

/// One call of the operator client; what is under the name of the answer.
async fn read(
    operator: &mut Program,
    call: &str,
    with: Value,
    name: &str,
) -> anyhow::Result<Value> {
    let since = operator.order(&json!({"call": call, "with": with}))?;
    let mut told = operator
        .until(since, call, |told| told["call"] == call)
        .await?;
    assert!(told["refused"].is_null(), "{told}");
    let answer = told["answer"][name].take();
    assert!(!answer.is_null(), "{call} has no {name}: {told}");
    Ok(answer)
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Every reading call that the client has and the master serves, and what it must say of this cluster.
async fn the_cluster_is_read(operator: &mut Program, story: &Story) -> anyhow::Result<()> {
    let none = json!([]);
    let health = read(operator, "getHealth", none.clone(), "get_health").await?;
    assert_eq!(health["healthy"], true);
    let version = read(operator, "getVersion", none.clone(), "get_version").await?;
    assert_eq!(version["version_info"]["version"], "1.11.0");
    let flags = read(operator, "getFlags", none.clone(), "get_flags").await?;
    assert!(
        rows(&flags["flags"])
            .iter()
            .any(|flag| flag["name"] == "zk"),
        "{flags}"
    );
    let level = read(
        operator,
        "getLoggingLevel",
        none.clone(),
        "get_logging_level",
    )
    .await?;
    assert!(level["level"].is_u64(), "{level}");
    let five_seconds = json!([5_000_000_000_u64]);
    let metrics = read(operator, "getMetrics", five_seconds, "get_metrics").await?;
    let elected = |metric: &Value| metric["name"] == "master/elected" && metric["value"] == 1.0;
    assert!(rows(&metrics["metrics"]).iter().any(elected), "{metrics}");
    let master = read(operator, "getMaster", none.clone(), "get_master").await?;
    let leader = story.leader().await?.addr.port();
    assert_eq!(master["master_info"]["port"], leader);
    let roles = read(operator, "getRoles", none.clone(), "get_roles").await?;
    let of_all = |role: &Value| {
        role["name"] == "*"
            && rows(&role["frameworks"])
                .iter()
                .any(|id| id["value"] == story.framework.as_str())
    };
    assert!(rows(&roles["roles"]).iter().any(of_all), "{roles}");
    read(operator, "getWeights", none.clone(), "get_weights").await?;
    read(operator, "getExecutors", none.clone(), "get_executors").await?;

    let agents = read(operator, "getAgents", none.clone(), "get_agents").await?;
    the_agents_are_told(&agents, story);
    let frameworks = read(operator, "getFrameworks", none.clone(), "get_frameworks").await?;
    the_framework_is_told(&frameworks, story);
    let tasks = read(operator, "getTasks", none.clone(), "get_tasks").await?;
    the_tasks_are_told(&tasks, story);
    let state = read(operator, "getState", none, "get_state").await?;
    the_agents_are_told(&state["get_agents"], story);
    the_framework_is_told(&state["get_frameworks"], story);
    the_tasks_are_told(&state["get_tasks"], story);
    Ok(())
}

fn the_agents_are_told(answer: &Value, story: &Story) {
    let agents = rows(&answer["agents"]);
    assert_eq!(agents.len(), story.cluster.agents.len(), "{answer}");
    let ports: BTreeSet<u64> = agents
        .iter()
        .filter_map(|agent| agent["agent_info"]["port"].as_u64())
        .collect();
    let ours = story
        .cluster
        .agents
        .iter()
        .map(|agent| u64::from(agent.addr.port()));
    assert_eq!(ports, ours.collect(), "{answer}");
    assert!(
        agents.iter().all(|agent| agent["active"] == true),
        "{answer}"
    );
}

fn the_framework_is_told(answer: &Value, story: &Story) {
    let ours = rows(&answer["frameworks"])
        .iter()
        .find(|row| row["framework_info"]["id"]["value"] == story.framework.as_str());
    let ours = ours.unwrap_or_else(|| panic!("{} is not in {answer}", story.framework));
    assert_eq!(ours["framework_info"]["name"], "interop");
    for mark in ["active", "connected"] {
        assert_eq!(ours[mark], true, "{mark} of {ours}");
    }
}

fn the_tasks_are_told(answer: &Value, story: &Story) {
    let of = |list: &str| -> BTreeSet<(String, String)> {
        let ours = rows(&answer[list])
            .iter()
            .filter(|task| task["framework_id"]["value"] == story.framework.as_str());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ours.map(|task| (text(&task["task_id"]["value"]), text(&task["state"])))
            .collect()
    };
    let running = [("sleeper-1", "TASK_RUNNING"), ("sleeper-2", "TASK_RUNNING")];
    assert!(of("tasks").is_superset(&pairs(&running)), "{answer}");
    let all: BTreeSet<_> = of("tasks").union(&of("completed_tasks")).cloned().collect();
    let ended = [("good", "TASK_FINISHED"), ("bad", "TASK_FAILED")];
    assert!(all.is_superset(&pairs(&ended)), "{answer}");
}

#[tokio::test]
async fn prometheus_scrapes_every_daemon() -> anyhow::Result<()> {
    if !can_run(prometheus::is_installed(), "prometheus") {
        return Ok(());
    }
    let plan = Plan {
        masters: 2,
        ..Plan::default()
    };
    let cluster = Cluster::start(Path::new(MEZZO), &plan).await?;
    let addresses = |daemons: &[Daemon]| daemons.iter().map(|daemon| daemon.addr).collect();
    let jobs = [
        ("master", addresses(&cluster.masters)),
        ("agent", addresses(&cluster.agents)),
        ("service", vec![cluster.service.addr]),
        ("batch", vec![cluster.batch.addr]),
    ];
    let prometheus = Prometheus::start(cluster.dir(), &jobs).await?;
    every_target_is_up(&prometheus, &jobs).await?;

    let documented = documented_families();
    eventually_async("every documented metric is scraped", BOUND, || async {
        let names: BTreeSet<String> = prometheus.metric_names().await?.into_iter().collect();
        let missing: Vec<_> = documented.difference(&names).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} are not"))
        }
    })
    .await?;
    let families = prometheus.families().await.map_err(anyhow::Error::msg)?;
    for name in &documented {
        let (family, kind) = match name.strip_suffix("_total") {
            Some(family) => (family, "counter"),
            None => (name.as_str(), "gauge"),
        };
        let told = &families[family][0];
        assert_eq!(told["type"], kind, "{name}: {told}");
        assert!(
            told["help"].as_str().is_some_and(|help| !help.is_empty()),
            "{name}: {told}"
        );
    }
    let agents = f64::from(u32::try_from(plan.agents)?);
    for (expression, value) in [
        ("sum(mezzo_master_elected)", 1.0),
        ("sum(mezzo_master_agents_connected)", agents),
        ("sum(mezzo_agent_registered)", agents),
        ("sum(mezzo_service_leading)", 1.0),
        ("sum(mezzo_batch_leading)", 1.0),
    ] {
        eventually_async(expression, BOUND, || async {
            match prometheus.query(expression).await?.as_slice() {
                [one] if one.value.total_cmp(&value).is_eq() => Ok(()),
                other => Err(format!("{other:?} is not {value}")),
            }
        })
        .await?;
    }
    Ok(())
}

async fn every_target_is_up(
    prometheus: &Prometheus,
    jobs: &[(&str, Vec<std::net::SocketAddr>)],
) -> anyhow::Result<()> {
    let expected: BTreeSet<String> = jobs
        .iter()
        .flat_map(|(_, addresses)| addresses)
        .map(ToString::to_string)
        .collect();
    eventually_async("every target is up", BOUND, || async {
        let up = prometheus.query("up").await?;
        let up = up.iter().filter(|sample| sample.value > 0.0);
        let up: BTreeSet<String> = up.map(|sample| sample.instance.clone()).collect();
        if up == expected {
            Ok(())
        } else {
            Err(prometheus.targets().await)
        }
    })
    .await
}

/// The metrics that the page for operators tells them to look at. In its table a name that begins with `_` goes on
/// from the daemon's part (`mezzo_master`) of the one before it.
fn documented_families() -> BTreeSet<String> {
    let page = include_str!("../../docs/operators.md");
    let table = page
        .lines()
        .skip_while(|line| !line.starts_with("| metric |"));
    let table = table.skip(2).take_while(|line| line.starts_with('|'));
    let mut found = BTreeSet::new();
    for row in table {
        let names = row.split('|').nth(1).unwrap_or_default();
        let mut daemon = String::new();
        for name in names.split('`').skip(1).step_by(2) {
            if name.starts_with("mezzo_") {
                daemon = name.splitn(3, '_').take(2).collect::<Vec<_>>().join("_");
                found.insert(name.to_owned());
            } else {
                found.insert(format!("{daemon}{name}"));
            }
        }
    }
    assert!(found.len() > 10, "the table was not found: {found:?}");
    found
}
