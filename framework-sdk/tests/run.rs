//! A whole framework over gRPC with its state in an embedded store: it dies and comes back.

#[allow(dead_code)]
#[path = "../examples/copies.rs"]
mod copies;
#[allow(dead_code)]
#[path = "grpc/master.rs"]
mod master;

use std::time::Duration;

use copies::Copies;
use master::{Master, offer, subscribed, update};
use mezzo_coordination::Target;
use mezzo_sdk::framework::{RunConfig, run};
use mezzo_sdk::scheduler::DriverConfig;
use mezzo_wire::v1::TaskState;
use mezzo_wire::v1::scheduler::{Call, call};

const DEADLINE: Duration = Duration::from_secs(20);

fn config(master: &Master, dir: &tempfile::TempDir) -> RunConfig {
    let mut driver = DriverConfig::named("copies");
    driver.implicit_every = None;
    let masters = Target::parse(master.address()).expect("an address");
    let mut config = RunConfig::new(driver, masters);
    let state = format!("file://{}", dir.path().display());
    config.state = Some(Target::parse(&state).expect("a directory"));
    config
}

fn launched(call: &Call) -> Vec<String> {
    let accept = call.accept.as_ref().expect("an accept");
    let launches = accept
        .operations
        .iter()
        .flat_map(|operation| &operation.launch);
    launches
        .flat_map(|launch| &launch.task_infos)
        .map(|task| task.task_id.value.clone())
        .collect()
}

fn asked_about(call: &Call) -> Vec<String> {
    let tasks = &call.reconcile.as_ref().expect("a reconcile").tasks;
    let mut ids: Vec<String> = tasks
        .iter()
        .map(|task| task.task_id.value.clone())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_framework_that_dies_comes_back_with_its_id_and_its_tasks() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut master = Master::start().await;
    let first = tokio::spawn(run(
        Copies::<true>::new(2, "sleep 1000"),
        config(&master, &dir),
    ));
    let stream = master.subscription().await.accept("s1").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    // It wants offers; nothing runs yet.
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Revive);
    seen.answer(Ok(()));
    stream.send(Ok(offer("o1"))).await.expect("a reader");
    let seen = master.call().await;
    let mut tasks = launched(&seen.call);
    tasks.sort();
    assert_eq!(tasks.len(), 2);
    // It dies before it learns what became of its launch.
    first.abort();
    assert!(first.await.expect_err("aborted").is_cancelled());
    drop(seen);
    tokio::time::timeout(DEADLINE, stream.closed())
        .await
        .expect("it hung up");

    let second = tokio::spawn(run(
        Copies::<true>::new(2, "sleep 1000"),
        config(&master, &dir),
    ));
    let asked = master.subscription().await;
    assert_eq!(
        asked.call.framework_id.as_ref().map(|id| id.value.as_str()),
        Some("f1")
    );
    let stream = asked.accept("s2").await;
    stream.send(Ok(subscribed("f1"))).await.expect("a reader");
    // Both count as there until the master says otherwise: no offers are wanted, and it asks.
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Suppress);
    seen.answer(Ok(()));
    let seen = master.call().await;
    let asked = asked_about(&seen.call);
    assert_eq!(asked, tasks);
    seen.answer(Ok(()));
    stream
        .send(Ok(update(&tasks[0], TaskState::TaskRunning)))
        .await
        .expect("a reader");
    let seen = master.call().await;
    assert_eq!(seen.call.r#type(), call::Type::Acknowledge);
    seen.answer(Ok(()));
    stream
        .send(Ok(update(&tasks[1], TaskState::TaskGone)))
        .await
        .expect("a reader");
    // What has ended is forgotten in the store before the acknowledgement.
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let seen = master.call().await;
        kinds.push(seen.call.r#type());
        seen.answer(Ok(()));
    }
    assert_eq!(kinds, [call::Type::Revive, call::Type::Acknowledge]);
    stream.send(Ok(offer("o2"))).await.expect("a reader");
    let seen = master.call().await;
    assert_eq!(launched(&seen.call).len(), 1);
    seen.answer(Ok(()));
    second.abort();
    assert!(second.await.expect_err("aborted").is_cancelled());
}
