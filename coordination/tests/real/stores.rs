//! The conformance suite on each store, and what is special about each.

use std::path::PathBuf;
use std::time::Duration;

use mezzo_coordination::store::memory::Memory;
use mezzo_coordination::testing::ZooKeeper;
use mezzo_coordination::zk::{Access, Answer, Request, WriteOp, ZkError, client};
use mezzo_coordination::{
    Candidate, CommitError, Contender, Expect, Leadership, LoadError, Target, Term, Txn,
};

use crate::child::{PATIENCE, info};
use crate::conformance::{Cluster, suite};

/// Waits for the leadership of a contender, with a bound only for failure.
pub async fn leading(contender: &mut Contender) -> Term {
    tokio::time::timeout(PATIENCE, contender.leading())
        .await
        .expect("it leads in the end")
}

pub fn join(target: &Target, session_timeout: Duration, port: u16) -> Contender {
    Contender::join(target, Candidate::master(info(port)), session_timeout).unwrap()
}

/// Terms by real elections: whoever leads resigns, and the next begins.
struct Elected {
    target: Target,
    leader: Option<Contender>,
}

impl Cluster for Elected {
    async fn next_term(&mut self) -> Term {
        if let Some(leader) = self.leader.take() {
            leader.resign().await;
        }
        let leader = self
            .leader
            .insert(join(&self.target, Duration::from_secs(10), 5050));
        leading(leader).await
    }
}

impl Cluster for Memory {
    async fn next_term(&mut self) -> Term {
        self.begin_term()
    }
}

#[tokio::test]
async fn memory_conforms() {
    suite(&mut Memory::new("cluster")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::Embedded(dir.path().to_owned());
    suite(&mut Elected {
        target,
        leader: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_conforms() {
    let server = ZooKeeper::start().unwrap();
    suite(&mut Elected {
        target: server.target("/deep/er/mesos"),
        leader: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_with_credentials_keeps_others_out() {
    let server = ZooKeeper::start().unwrap();
    let url = |who: &str| Target::parse(&format!("zk://{who}@{}/mesos", server.address())).unwrap();
    let mut leader = join(&url("me:secret"), Duration::from_secs(4), 5050);
    let term = leading(&mut leader).await;
    assert_eq!(
        term.store()
            .commit(Txn::new().put("a/b", "c", Expect::Any))
            .await,
        Ok(())
    );
    // A detector needs no credentials: the leader's description is for everybody.
    let mut detector = mezzo_coordination::Detector::watch(&server.target("/mesos")).unwrap();
    let found = tokio::time::timeout(PATIENCE, detector.leader())
        .await
        .unwrap();
    assert_eq!(found.address, "127.0.0.1:5050");
    // The state is for its owner alone.
    let Target::ZooKeeper(open) = server.target("/mesos") else {
        unreachable!()
    };
    let client = client::connect(&open, Duration::from_secs(4))
        .await
        .unwrap();
    for path in ["/mesos/mezzo/epoch", "/mesos/mezzo/store/a/b"] {
        let reply = client::send(&client, false, Request::get(path));
        let failure = reply.await.result.unwrap_err();
        assert_eq!(*failure.error(), ZkError::NoAuth, "{path}");
    }
    // Somebody with other credentials contends in vain, and says so for as long as it takes.
    let mut other = join(&url("you:other"), Duration::from_secs(4), 5051);
    let refused = tokio::time::timeout(Duration::from_secs(3), other.leading()).await;
    assert!(refused.is_err(), "other credentials never lead");
    other.resign().await;
    leader.resign().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_formats_are_refused_in_words() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut leader = join(&target, Duration::from_secs(4), 5050);
    leading(&mut leader).await;
    leader.resign().await;
    let Target::ZooKeeper(zk) = &target else {
        unreachable!()
    };
    let client = client::connect(zk, Duration::from_secs(4)).await.unwrap();
    let set = WriteOp::Set {
        path: "/mesos/mezzo/format".into(),
        data: "2".into(),
        version: None,
    };
    let reply = client::send(&client, false, Request::Write(set));
    reply.await.result.unwrap();
    let mut contender = join(&target, Duration::from_secs(4), 5050);
    let words = refused(&mut contender).await;
    assert!(
        words.contains("written in format 2; this version reads up to 1"),
        "{words}"
    );

    let dir = tempfile::tempdir().unwrap();
    let target = Target::Embedded(dir.path().to_owned());
    let mut leader = join(&target, Duration::from_secs(4), 5050);
    leading(&mut leader).await;
    leader.resign().await;
    write_format(dir.path().join("store.redb"), "7");
    let mut contender = join(&target, Duration::from_secs(4), 5050);
    let words = refused(&mut contender).await;
    assert!(
        words.contains("written in format 7; this version reads up to 1"),
        "{words}"
    );
    contender.resign().await;
}

/// The names of all nodes in a directory of the store.
async fn nodes(session: &zookeeper_client::Client, dir: &str) -> Vec<String> {
    let call = Request::Children {
        path: format!("/mesos/mezzo/store/{dir}"),
        watch: false,
        sync: true,
    };
    match client::send(session, false, call).await.result {
        Ok(Answer::Children { names, .. }) => names,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_large_values_are_removed_with_them() {
    let server = ZooKeeper::start().unwrap();
    let target = server.target("/mesos");
    let mut leader = join(&target, Duration::from_secs(10), 5050);
    let store = leading(&mut leader).await.store();
    let session = session(&server).await;
    let big = |byte| Txn::new().put("big/a", vec![byte; 2 * 1024 * 1024 + 1], Expect::Any);
    assert_eq!(store.commit(big(1)).await, Ok(()));
    assert_eq!(nodes(&session, "big").await.len(), 1 + 5);
    assert_eq!(store.commit(big(2)).await, Ok(()));
    // A load comes after the removal that the commit caused.
    store.load("").await.unwrap();
    assert_eq!(
        nodes(&session, "big").await.len(),
        1 + 5,
        "those of the first value are gone"
    );
    // What a leader left that died between the chunks and the record is swept by the next term, and nothing else is.
    for orphan in [
        "a%-0000000000000000-00000000-0000",
        "b%-0000000000000000-00000007-0001",
    ] {
        let call = Request::create(
            format!("/mesos/mezzo/store/big/{orphan}"),
            "x",
            Access::Private,
        );
        client::send(&session, false, call).await.result.unwrap();
    }
    leader.resign().await;
    let mut leader = join(&target, Duration::from_secs(10), 5050);
    let store = leading(&mut leader).await.store();
    assert_eq!(store.load("big/a").await.unwrap()[0].value[0], 2);
    assert_eq!(store.load("").await.unwrap().len(), 1);
    store.load("").await.unwrap();
    assert_eq!(nodes(&session, "big").await.len(), 1 + 5);
    assert_eq!(
        store
            .commit(Txn::new().delete("big/a", Expect::Version(2)))
            .await,
        Ok(())
    );
    store.load("").await.unwrap();
    assert_eq!(nodes(&session, "big").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_by_hand_is_noticed() {
    let server = ZooKeeper::start().unwrap();
    let mut leader = join(&server.target("/mesos"), Duration::from_secs(10), 5050);
    let store = leading(&mut leader).await.store();
    let txn = ["d/a", "d/b", "d/c"]
        .iter()
        .fold(Txn::new(), |txn, key| txn.put(*key, "1", Expect::Absent));
    assert_eq!(store.commit(txn).await, Ok(()));
    let session = session(&server).await;
    let node = |key: &str| format!("/mesos/mezzo/store/{key}");
    let hand = |call| {
        let reply = client::send(&session, false, call);
        async move { reply.await.result.unwrap() }
    };
    let set = |key: &str, data: &'static str| {
        Request::Write(WriteOp::Set {
            path: node(key),
            data: data.into(),
            version: None,
        })
    };
    hand(set("d/a", "\u{1}hand")).await;
    hand(Request::delete(node("d/b"))).await;
    // An expectation that the store had reason to believe is refused all the same; without one, the put happens.
    let conflict = Err(CommitError::Conflict { index: 0 });
    assert_eq!(
        store
            .commit(Txn::new().put("d/a", "2", Expect::Version(1)))
            .await,
        conflict
    );
    assert_eq!(
        store
            .commit(Txn::new().put("d/b", "2", Expect::Version(1)))
            .await,
        conflict
    );
    assert_eq!(
        store.commit(Txn::new().put("d/a", "3", Expect::Any)).await,
        Ok(())
    );
    assert_eq!(
        store.commit(Txn::new().put("d/b", "3", Expect::Any)).await,
        Ok(())
    );
    hand(Request::delete(node("d/c"))).await;
    assert_eq!(
        store.commit(Txn::new().delete("d/c", Expect::Any)).await,
        Ok(())
    );
    hand(Request::create(node("new"), "", Access::Private)).await;
    hand(Request::create(node("new/x"), "\u{1}hand", Access::Private)).await;
    assert_eq!(
        store
            .commit(Txn::new().put("new/x", "4", Expect::Absent))
            .await,
        conflict
    );
    assert_eq!(
        store
            .commit(Txn::new().put("new/y", "4", Expect::Absent))
            .await,
        Ok(())
    );
    // A directory that vanished is made again.
    for path in ["d/a", "d/b", "d"] {
        hand(Request::delete(node(path))).await;
    }
    assert_eq!(
        store.commit(Txn::new().put("d/a", "5", Expect::Any)).await,
        Ok(())
    );
    let records = store.load("d/").await.unwrap();
    assert_eq!(
        (
            records[0].key.as_str(),
            records[0].value.as_ref(),
            records[0].version
        ),
        ("d/a", b"5".as_slice(), 1)
    );
    // What nobody can read is named, not passed over.
    hand(set("d/a", "rubbish")).await;
    let err = store.load("").await.unwrap_err();
    assert!(
        matches!(&err, LoadError::Corrupt { key, .. } if key == "d/a"),
        "{err}"
    );
    // Without its contender's node the term is over, whoever removed it.
    hand(Request::delete("/mesos/json.info_0000000001")).await;
    assert_eq!(
        store.commit(Txn::new().put("d/z", "6", Expect::Any)).await,
        Err(CommitError::Fenced)
    );
    let again = leader
        .subscribe()
        .wait_for(|l| l.term().is_some_and(|term| term.epoch.counter == 2))
        .await
        .is_ok();
    assert!(again, "and a new one begins");
}

async fn session(server: &ZooKeeper) -> zookeeper_client::Client {
    let Target::ZooKeeper(zk) = server.target("/any") else {
        unreachable!()
    };
    client::connect(&zk, Duration::from_secs(10)).await.unwrap()
}

fn write_format(path: PathBuf, format: &str) {
    let db = redb::Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &str>::new("meta");
    txn.open_table(meta)
        .unwrap()
        .insert("format", format)
        .unwrap();
    txn.commit().unwrap();
}

async fn refused(contender: &mut Contender) -> String {
    let wait = async {
        loop {
            if let Leadership::Refused { words } = contender.changed().await {
                return words;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("a refusal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_loses_and_doubles_no_commit() {
    let server = ZooKeeper::start().unwrap();
    let mut leader = join(&server.target("/mesos"), Duration::from_secs(10), 5050);
    let term = leading(&mut leader).await;
    let store = term.store();
    let mut commits = Vec::new();
    for n in 1..=400_u64 {
        // Each depends on the one before: one that is lost or doubled breaks the chain.
        let expect = if n == 1 {
            Expect::Absent
        } else {
            Expect::Version(n - 1)
        };
        commits.push(store.commit(Txn::new().put("chain/a", n.to_string(), expect)));
        if n == 200 {
            // The first is there, so others are on their way.
            assert_eq!(commits.remove(0).await, Ok(()));
            server.kill();
        }
    }
    server.start_again().unwrap();
    for commit in commits {
        assert_eq!(
            tokio::time::timeout(PATIENCE, commit).await.unwrap(),
            Ok(())
        );
    }
    let records = store.load("chain/").await.unwrap();
    assert_eq!(
        (records[0].value.as_ref(), records[0].version),
        (b"400".as_slice(), 400)
    );
    // Handed in before the resignation: it happens, or it is told that it did not.
    let last = store.commit(Txn::new().put("chain/b", "x", Expect::Absent));
    leader.resign().await;
    assert_ne!(last.await, Err(CommitError::Unavailable));
    assert_eq!(store.commit(Txn::new()).await, Err(CommitError::Fenced));
    assert_eq!(store.load("").await, Err(LoadError::Fenced));
}
