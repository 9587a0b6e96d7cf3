//! Elections on a real ZooKeeper.

use std::time::{Duration, Instant};

use mezzo_coordination::testing::{Ensemble, ZooKeeper};
use mezzo_coordination::zk::{Answer, Request, client};
use mezzo_coordination::{Contender, Detector, Expect, Leadership, Target, Txn};
use nix::sys::signal::Signal;

use crate::child::{Child, PATIENCE};
use crate::stores::{join, leading};

const SESSION: Duration = Duration::from_secs(2);

async fn until(contender: &mut Contender, wanted: impl Fn(&Leadership) -> bool) -> Leadership {
    let wait = async {
        let mut leadership = contender.current();
        while !wanted(&leadership) {
            leadership = contender.changed().await;
        }
        leadership
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it comes about")
}

fn standby_of(port: u16) -> impl Fn(&Leadership) -> bool {
    let address = format!("127.0.0.1:{port}");
    move |leadership| match leadership {
        Leadership::Standby {
            leader: Some(leader),
        } => leader.address == address,
        _ => false,
    }
}

async fn children(server: &ZooKeeper, path: &str) -> Vec<String> {
    let Target::ZooKeeper(zk) = server.target("/any") else {
        unreachable!()
    };
    let session = client::connect(&zk, SESSION).await.unwrap();
    let call = Request::Children {
        path: path.into(),
        watch: false,
        sync: true,
    };
    let Ok(Answer::Children { mut names, .. }) = client::send(&session, false, call).await.result
    else {
        panic!("no {path}");
    };
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_resigns_hands_over_within_300_ms() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut first = join(&target, Duration::from_secs(10), 5051);
    let term = leading(&mut first).await;
    assert_eq!(term.epoch.counter, 1);
    let mut second = join(&target, Duration::from_secs(10), 5052);
    until(&mut second, standby_of(5051)).await;
    assert_eq!(
        children(&server, "/mesos").await,
        ["json.info_0000000001", "json.info_0000000002", "mezzo"]
    );
    let resigned = Instant::now();
    first.resign().await;
    let next = leading(&mut second).await;
    let took = resigned.elapsed();
    assert_eq!(
        (next.epoch.counter, &next.epoch.cluster_id),
        (2, &term.epoch.cluster_id)
    );
    assert!(took < Duration::from_millis(300), "{took:?}");
    assert_eq!(
        children(&server, "/mesos").await,
        ["json.info_0000000002", "mezzo"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contender_that_is_dropped_hands_over_at_once() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut first = join(&target, Duration::from_secs(10), 5051);
    leading(&mut first).await;
    let mut second = join(&target, Duration::from_secs(10), 5052);
    until(&mut second, standby_of(5051)).await;
    let dropped = Instant::now();
    drop(first);
    leading(&mut second).await;
    assert!(
        dropped.elapsed() < Duration::from_secs(5),
        "no session had to expire"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_replaced_and_can_write_no_more() {
    let server = ZooKeeper::start().unwrap();
    let mut old = Child::contend(&server.url("/mesos"), SESSION, 5051);
    assert_eq!(old.says("leading"), "1");
    old.tell("a/b before");
    old.says("put a/b");
    let mut new = join(&server.target("/mesos"), SESSION, 5052);
    until(&mut new, standby_of(5051)).await;
    old.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let term = leading(&mut new).await;
    let took = stopped.elapsed();
    assert_eq!(term.epoch.counter, 2);
    assert!(
        took < SESSION + Duration::from_millis(500 + 500),
        "the session, one tick and half a second: {took:?}"
    );
    assert_eq!(
        term.store()
            .commit(Txn::new().put("a/b", "after", Expect::Version(1)))
            .await,
        Ok(())
    );
    // Already told to write, it wakes up in the belief that it leads.
    old.tell("a/b stale");
    old.signal(Signal::SIGCONT);
    let refusal = old.says("refused");
    assert!(
        matches!(refusal.as_str(), "Fenced" | "Unavailable"),
        "{refusal}"
    );
    old.says("standby 127.0.0.1:5052");
    // From here on it knows.
    old.tell("a/b stale");
    assert_eq!(old.says("refused"), "Fenced");
    let records = term.store().load("a/").await.unwrap();
    assert_eq!(
        (records[0].value.as_ref(), records[0].version),
        (b"after".as_slice(), 2)
    );
    // And it takes part in the next election.
    new.resign().await;
    assert_eq!(old.says("leading"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_replaced_when_its_session_ends() {
    let server = ZooKeeper::start().unwrap();
    let old = Child::contend(&server.url("/mesos"), SESSION, 5051);
    assert_eq!(old.says("leading"), "1");
    let mut new = join(&server.target("/mesos"), SESSION, 5052);
    until(&mut new, standby_of(5051)).await;
    let killed = Instant::now();
    old.kill();
    leading(&mut new).await;
    let took = killed.elapsed();
    assert!(
        took < SESSION + Duration::from_millis(500 + 500),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_suspends_the_leader_and_a_server_that_returns_restores_it() {
    let server = ZooKeeper::start().unwrap();
    let mut leader = join(&server.target("/mesos"), Duration::from_secs(4), 5051);
    let term = leading(&mut leader).await;
    server.pause();
    until(&mut leader, |leadership| {
        *leadership == Leadership::Suspended
    })
    .await;
    server.resume();
    let again = until(&mut leader, |leadership| leadership.term().is_some()).await;
    assert_eq!(
        again.term().map(|term| term.epoch.counter),
        Some(term.epoch.counter),
        "the session lived"
    );
    assert_eq!(
        term.store()
            .commit(Txn::new().put("a/b", "c", Expect::Any))
            .await,
        Ok(())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_for_long_ends_the_term_and_a_new_one_begins() {
    let server = ZooKeeper::start().unwrap();
    let mut leader = join(&server.target("/mesos"), SESSION, 5051);
    let term = leading(&mut leader).await;
    server.kill();
    until(&mut leader, |leadership| {
        matches!(leadership, Leadership::Standby { .. })
    })
    .await;
    server.start_again().unwrap();
    let again = leading(&mut leader).await;
    assert!(again.epoch.counter > term.epoch.counter);
    assert_eq!(again.epoch.cluster_id, term.epoch.cluster_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_leaves_one_leader_that_can_write() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut first = join(&target, Duration::from_secs(10), 5051);
    let before = leading(&mut first).await;
    let second = join(&target, Duration::from_secs(10), 5052);
    server.kill();
    server.start_again().unwrap();
    let commit = before
        .store()
        .commit(Txn::new().put("a/b", "c", Expect::Absent));
    assert_eq!(
        tokio::time::timeout(PATIENCE, commit).await.unwrap(),
        Ok(()),
        "the session outlived the server"
    );
    let now = until(&mut first, |leadership| leadership.term().is_some()).await;
    assert_eq!(now.term(), Some(&before));
    assert!(second.current().term().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contender_waits_for_a_server_that_is_not_there_yet() {
    let server = ZooKeeper::start().unwrap();
    server.kill();
    let target = server.target("/mesos");
    let mut contender = join(&target, SESSION, 5051);
    let mut detector = Detector::watch(&target).unwrap();
    server.start_again().unwrap();
    leading(&mut contender).await;
    let leader = tokio::time::timeout(PATIENCE, detector.leader())
        .await
        .unwrap();
    assert_eq!(leader.address, "127.0.0.1:5051");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_that_loses_servers_in_turn_loses_no_commit() {
    let ensemble = Ensemble::start(3).unwrap();
    let target = ensemble.target("/mesos");
    let mut leader = join(&target, Duration::from_secs(10), 5051);
    let term = leading(&mut leader).await;
    let standby = join(&target, Duration::from_secs(10), 5052);
    let store = term.store();
    let mut version = 0;
    for round in 0..3 {
        let mut commits = Vec::new();
        // In turn the leader of the ensemble and others: sessions move, somebody else leads.
        let victim = match round {
            0 => ensemble.leader().unwrap(),
            at => &ensemble.servers()[at],
        };
        for n in 0..200 {
            let expect = if version == 0 {
                Expect::Absent
            } else {
                Expect::Version(version)
            };
            version += 1;
            let txn = Txn::new().put("chain/a", version.to_string(), expect);
            commits.push(store.commit(txn));
            if n == 100 {
                victim.kill();
            }
        }
        for commit in commits {
            let ended = tokio::time::timeout(PATIENCE, commit).await.unwrap();
            assert_eq!(ended, Ok(()), "round {round}");
        }
        victim.start_again().unwrap();
    }
    let records = store.load("chain/").await.unwrap();
    assert_eq!(
        (records[0].value.as_ref(), records[0].version),
        (b"600".as_slice(), 600)
    );
    let now = until(&mut leader, |leadership| leadership.term().is_some()).await;
    assert_eq!(now.term(), Some(&term), "the session outlived them all");
    assert!(standby.current().term().is_none());
}
