//! What the daemons and the executors hold.

use std::fs;

use anyhow::Context;

use super::hold::sleepers;
use super::rig::Rig;
use crate::real::processes_of;

/// Kilobytes of one process.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Its share of everything, shared pages divided by their users.
    pss: u64,
    /// What is its own and in no file.
    anonymous: u64,
}

/// Prints the memory of master and agent, idle and with so many tasks, and of the executors.
pub async fn run(count: usize) -> anyhow::Result<()> {
    let rig = Rig::start("process").await?;
    let (master, agent) = (rig.master.pid()?, rig.agent.pid()?);
    let mut client = rig.client().await?;
    let idle = (held(master)?, held(agent)?);
    sleepers(&mut client, count).await?;
    let busy = (held(master)?, held(agent)?);
    let mut executors = executors(&rig)?;
    executors.sort_by_key(|held| held.anonymous);
    let median = executors
        .get(executors.len() / 2)
        .copied()
        .unwrap_or_default();
    println!("memory, PSS and anonymous, in MiB (Mesos 1.12: master 7.5, executor 6.5 MB)");
    line("master, idle", idle.0);
    line("agent, idle", idle.1);
    line(&format!("master, {count} tasks"), busy.0);
    line(&format!("agent, {count} tasks"), busy.1);
    line(&format!("executor, median of {}", executors.len()), median);
    println!("  goals: <= 12 MiB anonymous idle, <= 2 MiB anonymous an executor");
    client.teardown().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn line(who: &str, held: Held) {
    let (pss, anonymous) = (held.pss as f64 / 1024.0, held.anonymous as f64 / 1024.0);
    println!("  {who:28} PSS {pss:8.2}   anonymous {anonymous:8.2}");
}

fn held(pid: u32) -> anyhow::Result<Held> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |name: &str| -> anyhow::Result<u64> {
        let line = rollup
            .lines()
            .find(|line| line.starts_with(name))
            .context("a line of it")?;
        Ok(line
            .split_whitespace()
            .nth(1)
            .context("a number")?
            .parse()?)
    };
    Ok(Held {
        pss: of("Pss:")?,
        anonymous: of("Anonymous:")?,
    })
}

fn executors(rig: &Rig) -> anyhow::Result<Vec<Held>> {
    let mut all = Vec::new();
    for pid in processes_of(rig.dir.path()) {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        if words.nth(1) == Some(b"executor") {
            all.push(held(u32::try_from(pid.as_raw())?)?);
        }
    }
    Ok(all)
}
