//! Many tasks in one ACCEPT.

use std::collections::BTreeSet;
use std::time::Instant;

use mezzo_wire::v1::TaskState;

use super::rig::Rig;
use crate::client::{Client, task};

/// Launches so many sleepers at once and waits until all run.
pub async fn run(count: usize) -> anyhow::Result<()> {
    let rig = Rig::start("process").await?;
    let mut client = rig.client().await?;
    let start = Instant::now();
    sleepers(&mut client, count).await?;
    println!(
        "{count} `sleep` tasks in one ACCEPT: all run after {:.2?}",
        start.elapsed()
    );
    println!("  Mesos 1.12 on such a machine: 835 of 1,000 failed");
    println!("  bounded by: processor time of two process starts a task on all cores");
    client.teardown().await?;
    Ok(())
}

/// Launches so many sleepers in one ACCEPT and waits until every one is TASK_RUNNING.
pub async fn sleepers(client: &mut Client, count: usize) -> anyhow::Result<()> {
    let offers = client.offers().await?;
    let Some(offer) = offers.first() else {
        anyhow::bail!("an empty offer event")
    };
    let ids: BTreeSet<String> = (0..count).map(|n| format!("sleep-{n}")).collect();
    let tasks = ids
        .iter()
        .map(|id| task(offer, id, "exec sleep 100000", 0.05, 32.0))
        .collect();
    client.launch(&offers, tasks, 0.0).await?;
    let mut waiting = ids;
    while !waiting.is_empty() {
        let status = client.update().await?;
        let state = TaskState::try_from(status.state)?;
        anyhow::ensure!(
            !crate::client::is_terminal(state as i32),
            "{} is {}: {}",
            status.task_id.value,
            state.as_str_name(),
            status.message()
        );
        if state == TaskState::TaskRunning {
            waiting.remove(&status.task_id.value);
        }
    }
    Ok(())
}
