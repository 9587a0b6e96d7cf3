//! How many short tasks a second one agent takes.

use std::collections::BTreeSet;
use std::time::Instant;

use mezzo_wire::v1::{self, TaskState};

use super::rig::Rig;
use crate::client::{Client, task};

/// Tasks that are under way at once: enough to keep both sides busy.
const AT_ONCE: usize = 64;

/// Launches `true` until so many have finished.
pub async fn run(count: usize) -> anyhow::Result<()> {
    let rig = Rig::start("process").await?;
    let mut client = rig.client().await?;
    let (mut launched, mut finished) = (0, 0);
    let mut alive = BTreeSet::new();
    let start = Instant::now();
    while finished < count {
        let event = client.event().await?;
        if let Some(offers) = event.offers {
            for offer in offers.offers {
                launched += launch_some(&mut client, &offer, launched, count, &mut alive).await?;
            }
        }
        if let Some(update) = event.update {
            client.acknowledge(&update.status).await?;
            let state = TaskState::try_from(update.status.state)?;
            if crate::client::is_terminal(state as i32)
                && alive.remove(&update.status.task_id.value)
            {
                anyhow::ensure!(
                    state == TaskState::TaskFinished,
                    "{}: {}",
                    state.as_str_name(),
                    update.status.message()
                );
                finished += 1;
            }
        }
    }
    let took = start.elapsed();
    client.teardown().await?;
    let rate = count as f64 / took.as_secs_f64();
    println!("`true` tasks through one agent, process: {rate:.0}/s ({count} in {took:.2?})");
    println!("  Mesos 1.12 on such a machine: 9 to 12/s; goal: >= 300/s");
    println!(
        "  bounded by: processor time of two process starts a task on all cores; on ext4, after many files were"
    );
    println!(
        "  removed, also by its search for inodes that were not freed lately: rest some minutes between two runs"
    );
    Ok(())
}

async fn launch_some(
    client: &mut Client,
    offer: &v1::Offer,
    from: usize,
    count: usize,
    alive: &mut BTreeSet<String>,
) -> anyhow::Result<usize> {
    let cpus = offer
        .resources
        .iter()
        .filter(|resource| resource.name == "cpus");
    let cpus: f64 = cpus
        .filter_map(|resource| Some(resource.scalar.as_ref()?.value))
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few dozen"
    )]
    let room = (cpus / 1.0) as usize;
    let most = room
        .min(AT_ONCE.saturating_sub(alive.len()))
        .min(count - from);
    let tasks: Vec<_> = (from..from + most)
        .map(|n| {
            let id = format!("true-{n}");
            alive.insert(id.clone());
            task(offer, &id, "true", 1.0, 32.0)
        })
        .collect();
    client
        .launch(std::slice::from_ref(offer), tasks, 0.0)
        .await?;
    Ok(most)
}
