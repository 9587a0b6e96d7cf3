//! How long the market is closed when the leader ends.

use std::time::{Duration, Instant};

use anyhow::bail;
use mezzo_coordination::zk::client::connect;
use mezzo_coordination::{Detector, Target};
use nix::sys::signal::Signal;

use super::rig::binary;
use super::stats::Samples;
use crate::client::{Client, framework};
use crate::real::{Cluster, Plan};

/// Prints it for a killed leader at two session timeouts, and for one that is told to stop.
pub async fn run(count: usize) -> anyhow::Result<()> {
    println!("end of the leading master -> first offer from the next (Mesos 1.12: 10.8 s at 10 s)");
    for seconds in [4, 1] {
        let (granted, samples) = measure(seconds, Signal::SIGKILL, count).await?;
        println!(
            "  kill -9, session timeout {seconds} s asked for, {granted:?} negotiated: {samples}"
        );
    }
    println!("  goal: <= the session timeout + one tick + 0.5 s");
    println!(
        "  bounded by: the session timeout and ZooKeeper's tick of 500 ms, after which it looks for the dead"
    );
    let (_, samples) = measure(4, Signal::SIGTERM, count).await?;
    println!("  SIGTERM, which resigns: {samples} (goal: <= 300 ms; Mesos 1.12: 10.3 to 11.5 s)");
    Ok(())
}

/// Ends the leader so many times; also gives the timeout that ZooKeeper grants to who asks for as much.
async fn measure(
    seconds: u64,
    signal: Signal,
    count: usize,
) -> anyhow::Result<(Duration, Samples)> {
    let plan = Plan {
        masters: 3,
        agents: 1,
        session: format!("{seconds}secs"),
        ..Plan::default()
    };
    let mut cluster = Cluster::start(&binary()?, &plan).await?;
    let target = Target::parse(&format!("zk://{}/mezzo", cluster.zookeeper.address()))?;
    let Target::ZooKeeper(zk) = &target else {
        bail!("{target} is not ZooKeeper's")
    };
    let granted = connect(zk, Duration::from_secs(seconds))
        .await?
        .session_timeout();
    let mut samples = Samples::default();
    let mut known = None;
    for _ in 0..count {
        let leader = cluster.leading_master().await?;
        let address = cluster.masters[leader].addr.to_string();
        let mut info = framework("failover-bench", "bench");
        info.id.clone_from(&known);
        let client = Client::subscribe(&address, info.clone()).await?;
        known = Some(client.framework_id.clone());
        info.id.clone_from(&known);
        let mut detector = Detector::watch(&target)?;
        let start = Instant::now();
        cluster.masters[leader].signal(signal)?;
        loop {
            let next = detector.leader().await;
            if next.address == address {
                detector.changed().await;
                continue;
            }
            if let Ok(mut client) = Client::subscribe(&next.address, info.clone()).await {
                client.offers().await?;
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        samples.push(start.elapsed());
        let _ = cluster.masters[leader].kill();
        cluster.masters[leader].restart()?;
        cluster.masters[leader].healthy().await?;
    }
    Ok((granted, samples))
}
