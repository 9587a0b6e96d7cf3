//! How long a container takes until its payload runs, beside a bare run of the same runtime, bundle and root.
//!
//! The payload writes the time at which it runs; both sides start it in the same way, turn by turn, so that whatever
//! else the machine does falls on both alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use mezzo_executor::plan::{Containerizer, Mount, OciContainer, Plan};
use mezzo_wire::v1::TaskState;
use serde_json::{Value, json};
use tokio::process::Command;

use super::rig::Rig;
use super::stats::Samples;
use crate::client::{Client, task};

/// What the payload does first, in its sandbox.
const PAYLOAD: &str = "exec date +%s%N > started";

/// Between two runs. For a while after a process was moved between cgroups the kernel moves the next one faster, and
/// the cleaning after one run would take processors from the other; neither side is to have that from the other.
const REST: Duration = Duration::from_millis(100);

/// ACCEPT sent until the first instruction of the payload, and the same without Mezzo.
pub async fn run(count: usize) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("oci: left out, because only root may make containers");
        return Ok(());
    }
    let rig = Rig::start("oci").await?;
    let mut client = rig.client().await?;
    let bare = Bare::prepare(&rig, &mut client).await?;
    let (mut with, mut without) = (Samples::default(), Samples::default());
    for n in 0..count {
        tokio::time::sleep(REST).await;
        with.push(launched(&rig, &mut client, n).await?);
        tokio::time::sleep(REST).await;
        without.push(bare.launched(n).await?);
    }
    client.teardown().await?;
    let ratio = with.at(0.5).as_secs_f64() / without.at(0.5).as_secs_f64();
    println!("ACCEPT sent -> first instruction of the payload, oci: {with}");
    println!("  bare run of the same runtime, bundle and root:      {without}");
    println!("  {ratio:.2} times the bare run (goal: <= 1.5)");
    println!("  bounded by: the runtime itself, and one process start (the executor) before it");
    Ok(())
}

/// One task through the master and the agent.
async fn launched(rig: &Rig, client: &mut Client, n: usize) -> anyhow::Result<Duration> {
    let offers = client.offers().await?;
    let offer = offers.first().context("an empty offer event")?;
    let id = format!("oci-{n}");
    let payload = task(offer, &id, PAYLOAD, 0.1, 64.0);
    let sent = SystemTime::now();
    client.launch(&offers, vec![payload], 0.0).await?;
    client.until(&id, TaskState::TaskFinished).await?;
    client.revive().await?;
    since(sent, &sandbox(rig, &id)?.join("started"))
}

/// What the payload wrote, less the time at which it was asked for.
fn since(sent: SystemTime, file: &Path) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let started = UNIX_EPOCH + Duration::from_nanos(text.trim().parse()?);
    Ok(started.duration_since(sent)?)
}

/// The sandbox of a task, found below the agent's work directory.
fn sandbox(rig: &Rig, task: &str) -> anyhow::Result<PathBuf> {
    let mut at = rig.dir.path().join("a/agents");
    for below in ["", "frameworks", "", "executors", task, "runs", ""] {
        at = match below {
            "" => only(&at)?,
            name => at.join(name),
        };
    }
    Ok(at)
}

/// The only directory in one; a link such as `latest` does not count.
fn only(directory: &Path) -> anyhow::Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("looking into {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return Ok(entry.path());
        }
    }
    bail!("{} has no directory", directory.display())
}

/// A container that is like those of the agent and is run without it.
struct Bare {
    directory: PathBuf,
    runtime: OciContainer,
    /// The bundle's configuration; the name of its cgroup is filled in for each run.
    config: Value,
    /// The sandbox, as the host sees it.
    sandbox: PathBuf,
    /// The overlay that is its root.
    root: Mounted,
}

/// A mount that is taken away at the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmount = std::process::Command::new("umount").arg(&self.0).status();
        if !unmount.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

impl Bare {
    /// Takes the bundle of a container that the agent runs, and gives it a root and a sandbox of its own.
    async fn prepare(rig: &Rig, client: &mut Client) -> anyhow::Result<Self> {
        let offers = client.offers().await?;
        let offer = offers.first().context("an empty offer event")?;
        let specimen = task(offer, "specimen", "exec sleep 1000", 0.1, 64.0);
        client.launch(&offers, vec![specimen], 0.0).await?;
        client.until("specimen", TaskState::TaskRunning).await?;
        let container = only(&rig.dir.path().join("a/containers"))?;
        let plan = Plan::load(&container.join("plan.json"))?;
        let Containerizer::Oci(runtime) = plan.containerizer else {
            bail!("the agent does not make containers of an OCI runtime");
        };
        let config = fs::read_to_string(runtime.bundle.join("config.json"))?;

        let directory = rig.dir.path().join("bare");
        let its_sandbox = directory.join("sandbox");
        for name in ["bundle", "rootfs", "upper", "work", "runtime", "sandbox"] {
            fs::create_dir_all(directory.join(name))?;
        }
        // Writable for whomever the payload runs as.
        fs::set_permissions(
            &its_sandbox,
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )?;
        let root = mount_root(&runtime, &directory).await?;
        let (old, new) = (&plan.sandbox, &its_sandbox);
        let config = config.replace(
            old.to_str().context("a path that is text")?,
            new.to_str().context("a path that is text")?,
        );
        let mut config: Value = serde_json::from_str(&config)?;
        config["root"]["path"] = json!(root.0);
        let args = config["process"]["args"]
            .as_array_mut()
            .context("a command line")?;
        let line = args.last_mut().context("a command line")?;
        ensure!(
            line.as_str()
                .is_some_and(|line| line.contains("sleep 1000")),
            "the bundle runs {line}, which is not what was asked for"
        );
        *line = json!(PAYLOAD);

        client.kill("specimen").await?;
        client.until("specimen", TaskState::TaskKilled).await?;
        client.revive().await?;
        Ok(Self {
            directory,
            runtime,
            config,
            sandbox: its_sandbox,
            root,
        })
    }

    /// One run of the runtime.
    async fn launched(&self, n: usize) -> anyhow::Result<Duration> {
        let started = self.sandbox.join("started");
        let _ = fs::remove_file(&started);
        let mut config = self.config.clone();
        let id = format!("mezzo-bench-{}-{n}", std::process::id());
        config["linux"]["cgroupsPath"] = json!(format!("/mezzo-bench/{id}"));
        fs::write(
            self.directory.join("bundle/config.json"),
            serde_json::to_vec(&config)?,
        )?;
        let sent = SystemTime::now();
        // In the foreground, as whoever types it would: it ends when the payload has ended.
        let status = self
            .command()
            .args(["run", "--bundle"])
            .arg(self.directory.join("bundle"))
            .arg(&id)
            .status()
            .await?;
        ensure!(
            status.success(),
            "{} ended with {status}",
            self.runtime.runtime.display()
        );
        let took = since(sent, &started)?;
        let _ = self
            .command()
            .args(["delete", "--force", &id])
            .status()
            .await?;
        Ok(took)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime.runtime);
        command
            .arg("--root")
            .arg(self.directory.join("runtime"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The parent of the groups that the runtime made and removed.
        for mount in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_dir(mount.path().join("mezzo-bench"));
        }
        let _ = fs::remove_dir("/sys/fs/cgroup/mezzo-bench");
        let _ = &self.root;
    }
}

/// Mounts an overlay over what the agent's containers have as their root.
async fn mount_root(container: &OciContainer, directory: &Path) -> anyhow::Result<Mounted> {
    let data = container.mounts.iter().find_map(|mount| match mount {
        Mount::FileSystem { kind, data, .. } if kind == "overlay" => Some(data),
        _ => None,
    });
    let lower = data
        .and_then(|data| data.split(',').find(|part| part.starts_with("lowerdir=")))
        .context("the container's root is no overlay")?;
    let target = directory.join("rootfs");
    let options = format!(
        "{lower},upperdir={},workdir={}",
        directory.join("upper").display(),
        directory.join("work").display()
    );
    let status = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&target)
        .status()
        .await?;
    ensure!(status.success(), "mount ended with {status}");
    Ok(Mounted(target))
}
