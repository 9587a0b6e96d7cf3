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
    /// What is in no file.
    anonymous: u64,
    /// The same, pages that it shares with its parent or children divided by their users.
    anonymous_share: u64,
}

/// Prints the memory of master and agent, idle and with so many tasks, and of the executors.
pub async fn run(count: usize) -> anyhow::Result<()> {
    let rig = Rig::start("process").await?;
    let (master, agent) = (rig.master.pid()?, rig.agent.pid()?);
    let mut client = rig.client().await?;
    let idle = (held(master)?, held(agent)?);
    sleepers(&mut client, count).await?;
    let busy = (held(master)?, held(agent)?);
    let (executors, leashes) = (of_tasks(&rig, false)?, of_tasks(&rig, true)?);
    println!("memory, PSS and anonymous, in MiB (Mesos 1.12: master 7.5, executor 6.5 MB)");
    line("master, idle", idle.0);
    line("agent, idle", idle.1);
    line(&format!("master, {count} tasks"), busy.0);
    line(&format!("agent, {count} tasks"), busy.1);
    line("executor process, mean", mean(&executors));
    line("its leash, mean", mean(&leashes));
    let shares = mean(&executors).anonymous_share + mean(&leashes).anonymous_share;
    println!(
        "  a task in all, pages that both share counted once: anonymous {:.2}",
        mebibytes(shares)
    );
    println!("  goals: <= 12 MiB anonymous idle, <= 2 MiB anonymous a task");
    println!(
        "  bounded by: the allocator's pages, the stacks of threads, and what each task was asked for with"
    );
    client.teardown().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}

fn mean(all: &[Held]) -> Held {
    let count = all.len().max(1) as u64;
    let of = |field: fn(&Held) -> u64| all.iter().map(field).sum::<u64>() / count;
    Held {
        pss: of(|held| held.pss),
        anonymous: of(|held| held.anonymous),
        anonymous_share: of(|held| held.anonymous_share),
    }
}

fn line(who: &str, held: Held) {
    let (pss, anonymous) = (mebibytes(held.pss), mebibytes(held.anonymous));
    println!("  {who:32} PSS {pss:8.2}   anonymous {anonymous:8.2}");
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
        anonymous_share: of("Pss_Anon:")?,
    })
}

/// The processes of the agent's containers that are leashes, or executors.
fn of_tasks(rig: &Rig, leashes: bool) -> anyhow::Result<Vec<Held>> {
    let mut all = Vec::new();
    for pid in processes_of(rig.dir.path()) {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        // A leash is a fork of its executor, with a name of its own.
        if words.nth(1) == Some(b"executor") && (name.trim() == "mezzo-leash") == leashes {
            all.push(held(u32::try_from(pid.as_raw())?)?);
        }
    }
    Ok(all)
}
