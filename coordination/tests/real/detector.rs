//! Detectors on a real ZooKeeper and in a directory.

use std::time::Duration;

use mezzo_coordination::testing::ZooKeeper;
use mezzo_coordination::zk::{Access, CreateMode, Request, WriteOp, client};
use mezzo_coordination::{Candidate, Contender, Detector, Leader, Target};

use crate::child::{PATIENCE, info};
use crate::stores::{join, leading};

/// What a Mesos 1.12 master writes.
const MESOS: &str = r#"{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"}],"hostname":"127.0.0.1","id":"54a72bbc-6b42-4c6d-8287-72fa79cd1d90","ip":16777343,"pid":"master@127.0.0.1:5050","port":5050,"version":"1.12.0"}"#;

async fn until(detector: &mut Detector, wanted: Option<&str>) -> Option<Leader> {
    let wait = async {
        let mut leader = detector.current();
        while leader.as_ref().map(|leader| leader.address.as_str()) != wanted {
            leader = detector.changed().await;
        }
        leader
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never {wanted:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_detectors_follow_the_queue() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut detector = Detector::watch(&target).unwrap();
    let mut first = join(&target, Duration::from_secs(10), 5051);
    let mut found = until(&mut detector, Some("127.0.0.1:5051")).await;
    assert_eq!(found.take().unwrap().info, info(5051));
    let mut second = join(&target, Duration::from_secs(10), 5052);
    leading(&mut first).await;
    // The second is in the queue once it knows whom it waits for.
    let queued = second
        .subscribe()
        .wait_for(|l| {
            matches!(
                l,
                mezzo_coordination::Leadership::Standby { leader: Some(_) }
            )
        })
        .await
        .is_ok();
    assert!(queued);
    first.resign().await;
    until(&mut detector, Some("127.0.0.1:5052")).await;
    leading(&mut second).await;
    second.resign().await;
    until(&mut detector, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_mesos_is_understood_and_rubbish_is_not_believed() {
    let server = ZooKeeper::start().unwrap();
    let Target::ZooKeeper(zk) = server.target("/any") else {
        unreachable!()
    };
    let session = client::connect(&zk, Duration::from_secs(4)).await.unwrap();
    let ask = |call| {
        let reply = client::send(&session, false, call);
        async move { reply.await.result.unwrap() }
    };
    let node = |name: &str, data: Vec<u8>| {
        let path = format!("/mesos/{name}");
        let mode = CreateMode::Ephemeral;
        Request::Write(WriteOp::Create {
            path,
            data: data.into(),
            mode,
            access: Access::Readable,
        })
    };
    ask(Request::create("/mesos", "", Access::Readable)).await;
    ask(Request::create("/mesos/log_replicas", "", Access::Readable)).await;
    ask(node("json.info_0000000005", MESOS.into())).await;
    let mut detector = Detector::watch(&server.target("/mesos")).unwrap();
    let leader = until(&mut detector, Some("127.0.0.1:5050")).await.unwrap();
    assert_eq!(leader.info, MESOS);
    // Lower ones take over whatever they say: an election is not decided by who can be understood.
    for (name, data) in [
        ("json.info_0000000004", b"\xff\x00 not json".to_vec()),
        ("json.info_0000000003", vec![b'x'; 900_000]),
        (
            "json.info_0000000002",
            br#"{"address":{"port":5050}}"#.to_vec(),
        ),
    ] {
        ask(node(name, data)).await;
        until(&mut detector, None).await;
        ask(Request::delete(format!("/mesos/{name}"))).await;
        until(&mut detector, Some("127.0.0.1:5050")).await;
    }
    // Names that are no contenders change nothing.
    ask(node("json.info_1", b"{}".to_vec())).await;
    ask(node("info_0000000000", b"{}".to_vec())).await;
    ask(node("json.info_0000000001", info(5053).into())).await;
    until(&mut detector, Some("127.0.0.1:5053")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frameworks_elect_among_themselves_beside_the_masters() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/marathon");
    let timeout = Duration::from_secs(4);
    let mut framework =
        Contender::join(&target, Candidate::framework(info(8080)), timeout).unwrap();
    let mut master = join(&target, timeout, 5050);
    leading(&mut framework).await;
    leading(&mut master).await;
    let mut detector = Detector::watch_prefix(&target, "leader_").unwrap();
    until(&mut detector, Some("127.0.0.1:8080")).await;
}

#[tokio::test]
async fn a_fixed_leader_is_known_at_once_and_can_not_be_contended_for() {
    let target = Target::parse("master.example:5050").unwrap();
    let detector = Detector::watch(&target).unwrap();
    assert_eq!(detector.current().unwrap().address, "master.example:5050");
    let refused = Contender::join(&target, Candidate::master(info(1)), PATIENCE)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("master.example:5050 names one fixed leader"),
        "{refused}"
    );
}

#[tokio::test]
async fn candidates_that_nobody_could_dial_are_refused() {
    let target = Target::parse("zk://localhost:1/mesos").unwrap();
    let join = |candidate| {
        Contender::join(&target, candidate, PATIENCE)
            .unwrap_err()
            .to_string()
    };
    assert!(join(Candidate::master("{}")).contains("names no address"));
    assert!(join(Candidate::master(vec![b' '; 70_000])).contains("70000 bytes; at most 65536"));
    let odd = Candidate {
        info: info(1).into(),
        prefix: "a/b".into(),
    };
    assert!(join(odd).contains("`a/b` cannot name a contender"));
}
