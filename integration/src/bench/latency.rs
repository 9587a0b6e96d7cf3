//! How long a person waits for a task to run.

use std::time::Instant;

use mezzo_wire::v1::TaskState;

use super::rig::Rig;
use super::stats::Samples;
use crate::client::task;

/// One task after another: ACCEPT sent until TASK_RUNNING received.
pub async fn run(count: usize) -> anyhow::Result<()> {
    let rig = Rig::start("process").await?;
    let mut client = rig.client().await?;
    let (mut running, mut spawn) = (Samples::default(), Samples::default());
    for n in 0..count {
        let offers = client.offers().await?;
        let Some(offer) = offers.first() else {
            continue;
        };
        let id = format!("latency-{n}");
        let sleeper = task(offer, &id, "exec sleep 0.01", 0.1, 32.0);
        let sent = Instant::now();
        client.launch(&offers, vec![sleeper], 0.0).await?;
        running.push(
            client
                .until(&id, TaskState::TaskRunning)
                .await?
                .duration_since(sent),
        );
        client.until(&id, TaskState::TaskFinished).await?;
        client.revive().await?;

        let start = Instant::now();
        tokio::process::Command::new("true").status().await?;
        spawn.push(start.elapsed());
    }
    client.teardown().await?;
    println!("ACCEPT sent -> TASK_RUNNING received, process: {running}");
    println!("  Mesos 1.12 on such a machine: median 135 ms; goal: median <= 10 ms");
    println!("  bounded by: two process starts (executor, payload); one here takes {spawn}");
    Ok(())
}
