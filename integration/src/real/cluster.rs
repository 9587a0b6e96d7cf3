//! The cluster: what to start, and the end of all of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use mezzo_coordination::testing::ZooKeeper;
use mezzo_coordination::{Detector, Target};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::remains;
use super::rest::Rest;

/// What a cluster consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Masters, all contending.
    pub masters: usize,
    /// Agents.
    pub agents: usize,
    /// Each agent's resources, in Mesos' text form.
    pub resources: String,
    /// Each agent's containerizer: `process` or `oci`.
    pub containerizer: String,
    /// The session timeout that masters ask ZooKeeper for, such as `4secs`.
    pub session: String,
    /// ZooKeeper's tick, which bounds the sessions it grants and how soon it sees them end.
    pub tick: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            masters: 3,
            agents: 2,
            resources: "cpus:32;mem:32768;disk:32768;ports:[31000-31500]".to_owned(),
            containerizer: "process".to_owned(),
            session: "4secs".to_owned(),
            tick: Duration::from_millis(500),
        }
    }
}

/// A running cluster. Dropping it ends every process that it started, tasks included.
#[derive(Debug)]
pub struct Cluster {
    /// ZooKeeper.
    pub zookeeper: ZooKeeper,
    /// The masters, leading or not.
    pub masters: Vec<Daemon>,
    /// The agents.
    pub agents: Vec<Daemon>,
    /// The service framework.
    pub service: Daemon,
    /// The batch framework.
    pub batch: Daemon,
    dir: TempDir,
}

impl Cluster {
    /// Starts all of it and waits until every daemon is healthy and both frameworks are subscribed.
    ///
    /// # Errors
    /// If a part does not come up; its log is in the words.
    pub async fn start(binary: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("mezzo-it-").tempdir()?;
        let root = dir.path().to_owned();
        // Tasks run as another user and must reach the ledger and their sandboxes.
        fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let zookeeper = ZooKeeper::start_with_tick(plan.tick).context("ZooKeeper")?;
        let zk = format!("zk://{}", zookeeper.address());
        let mut masters = Vec::new();
        for n in 0..plan.masters {
            let arguments = [
                format!("--zk={zk}/mezzo"),
                format!("--work_dir={}", work_dir(&root, &format!("master-{n}"))?),
                format!("--zk_session_timeout={}", plan.session),
            ];
            masters.push(Daemon::start(
                binary,
                &root,
                &format!("master-{n}"),
                "master",
                &arguments,
            )?);
        }
        let mut agents = Vec::new();
        for n in 0..plan.agents {
            let arguments = [
                format!("--master={zk}/mezzo"),
                format!("--work_dir={}", work_dir(&root, &format!("agent-{n}"))?),
                format!("--resources={}", plan.resources),
                format!("--attributes=rack:r{n}"),
                format!("--containerizers={}", plan.containerizer),
                format!("--cgroups_root={}", remains::cgroups_root(&root)),
            ];
            agents.push(Daemon::start(
                binary,
                &root,
                &format!("agent-{n}"),
                "agent",
                &arguments,
            )?);
        }
        let service = framework(binary, &root, "service", &zk)?;
        let batch = framework(binary, &root, "batch", &zk)?;
        let cluster = Self {
            zookeeper,
            masters,
            agents,
            service,
            batch,
            dir,
        };
        cluster.healthy().await?;
        Ok(cluster)
    }

    /// Waits until every daemon that is meant to run is healthy.
    ///
    /// # Errors
    /// Names the one that is not.
    pub async fn healthy(&self) -> anyhow::Result<()> {
        let frameworks = [&self.service, &self.batch];
        for daemon in self.masters.iter().chain(&self.agents).chain(frameworks) {
            if daemon.pid().is_ok() {
                daemon.healthy().await?;
            }
        }
        Ok(())
    }

    /// The folder that is removed at the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The index of the master that leads, asked of the election itself.
    ///
    /// # Errors
    /// If none of ours leads within half a minute.
    pub async fn leading_master(&self) -> anyhow::Result<usize> {
        let target = format!("zk://{}/mezzo", self.zookeeper.address());
        let mut detector = Detector::watch(&Target::parse(&target)?)?;
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let leader = detector.leader().await;
                let ours = self.masters.iter().position(|master| {
                    master.pid().is_ok() && master.addr.to_string() == leader.address
                });
                match ours {
                    Some(index) => return index,
                    // A killed leader's node is there until its session runs out.
                    None => drop(detector.changed().await),
                }
            }
        });
        found.await.context("no master of ours leads")
    }

    /// A client of the service framework.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn apps(&self) -> anyhow::Result<Rest> {
        Rest::new(self.service.addr)
    }

    /// A client of the batch framework.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn jobs(&self) -> anyhow::Result<Rest> {
        Rest::new(self.batch.addr)
    }

    /// The ends of all logs, for the words of a failure.
    pub fn logs(&self) -> String {
        let frameworks = [&self.service, &self.batch];
        let daemons = self.masters.iter().chain(&self.agents).chain(frameworks);
        daemons
            .map(|daemon| format!("--- {}\n{}\n", daemon.name, daemon.log_tail()))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let frameworks = [&mut self.service, &mut self.batch];
        for daemon in frameworks
            .into_iter()
            .chain(&mut self.agents)
            .chain(&mut self.masters)
        {
            let _ = daemon.kill();
        }
        remains::end(self.dir.path());
    }
}

fn work_dir(root: &Path, name: &str) -> anyhow::Result<String> {
    let path = root.join(name);
    fs::create_dir_all(&path)?;
    Ok(path.display().to_string())
}

fn framework(binary: &Path, root: &Path, kind: &str, zk: &str) -> anyhow::Result<Daemon> {
    let arguments = [
        format!("--master={zk}/mezzo"),
        format!("--zk={zk}/{kind}"),
        format!("--work_dir={}", work_dir(root, kind)?),
    ];
    Daemon::start(binary, root, kind, kind, &arguments)
}
