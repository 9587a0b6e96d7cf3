//! What every store must do. Each implementation runs all of it.

use bytes::Bytes;
use mezzo_coordination::store::memory::Table;
use mezzo_coordination::store::{KEY_MAX_BYTES, TXN_MAX_OPS, VALUE_MAX_BYTES};
use mezzo_coordination::{CommitError, Expect, LoadError, Record, Store, Term, Txn};
use mezzo_model::rng::Rng;

/// Begins terms on one state.
pub trait Cluster {
    /// The next term; the one before is over.
    async fn next_term(&mut self) -> Term;
}

/// Everything, on a state that is empty.
pub async fn suite(cluster: &mut impl Cluster) {
    let first = cluster.next_term().await;
    assert_eq!(
        first.store().load("").await,
        Ok(vec![]),
        "a new cluster is empty"
    );
    versions_and_expectations(&first.store()).await;
    atomicity(&first.store()).await;
    prefixes_and_odd_keys(&first.store()).await;
    refusals(&first.store()).await;
    order(&first.store()).await;
    large_values(&first.store()).await;
    large_transactions(&first.store()).await;
    many_records(&first.store()).await;
    let before = first.store().load("").await.unwrap();
    let second = cluster.next_term().await;
    terms(&first, &second, &before).await;
    random_transactions(cluster, second).await;
}

fn record(key: &str, value: &'static str, version: u64) -> Record {
    Record {
        key: key.into(),
        value: value.into(),
        version,
    }
}

async fn versions_and_expectations(store: &Store) {
    let put = |expect| Txn::new().put("v/a", "x", expect);
    let conflict = Err(CommitError::Conflict { index: 0 });
    assert_eq!(store.commit(put(Expect::Version(1))).await, conflict);
    assert_eq!(store.commit(put(Expect::Absent)).await, Ok(()));
    assert_eq!(store.commit(put(Expect::Absent)).await, conflict);
    assert_eq!(store.commit(put(Expect::Version(1))).await, Ok(()));
    assert_eq!(store.commit(put(Expect::Version(1))).await, conflict);
    assert_eq!(store.commit(put(Expect::Any)).await, Ok(()));
    assert_eq!(store.load("v/").await, Ok(vec![record("v/a", "x", 3)]));
    let check = |expect| Txn::new().check("v/a", expect);
    assert_eq!(store.commit(check(Expect::Version(3))).await, Ok(()));
    assert_eq!(store.commit(check(Expect::Any)).await, Ok(()));
    assert_eq!(store.commit(check(Expect::Version(2))).await, conflict);
    assert_eq!(store.commit(check(Expect::Absent)).await, conflict);
    assert_eq!(
        store.commit(Txn::new().check("v/b", Expect::Absent)).await,
        Ok(())
    );
    let delete = |expect| Txn::new().delete("v/a", expect);
    assert_eq!(store.commit(delete(Expect::Version(2))).await, conflict);
    assert_eq!(store.commit(delete(Expect::Version(3))).await, Ok(()));
    assert_eq!(store.commit(delete(Expect::Version(3))).await, conflict);
    assert_eq!(
        store.commit(delete(Expect::Any)).await,
        Ok(()),
        "gone is gone"
    );
    assert_eq!(store.commit(put(Expect::Any)).await, Ok(()));
    assert_eq!(
        store.load("v/").await,
        Ok(vec![record("v/a", "x", 1)]),
        "versions begin anew"
    );
    assert_eq!(
        store.commit(Txn::new()).await,
        Ok(()),
        "a question about the term alone"
    );
}

async fn atomicity(store: &Store) {
    let txn = Txn::new()
        .put("at/a", "1", Expect::Absent)
        .delete("v/a", Expect::Any)
        .put("at/b", "1", Expect::Version(7));
    assert_eq!(
        store.commit(txn).await,
        Err(CommitError::Conflict { index: 2 })
    );
    assert_eq!(store.load("at/").await, Ok(vec![]));
    assert_eq!(store.load("v/").await, Ok(vec![record("v/a", "x", 1)]));
    let txn = Txn::new()
        .put("at/a", "1", Expect::Absent)
        .delete("v/a", Expect::Version(1))
        .check("at/b", Expect::Absent)
        .put("other/b", "2", Expect::Any);
    assert_eq!(store.commit(txn).await, Ok(()));
    assert_eq!(
        store.load("").await,
        Ok(vec![record("at/a", "1", 1), record("other/b", "2", 1)])
    );
}

async fn prefixes_and_odd_keys(store: &Store) {
    let odd = [
        "p",
        "p/a",
        "p/a/b",
        "p/ab",
        "p q/%41",
        "pä/ö\u{1F980}",
        "p.x/..",
        "./.",
        "P/\u{7f}\n",
    ];
    let txn = odd
        .iter()
        .fold(Txn::new(), |txn, key| txn.put(*key, *key, Expect::Absent));
    assert_eq!(store.commit(txn).await, Ok(()));
    let keys = |records: Result<Vec<Record>, LoadError>| -> Vec<String> {
        let records = records.unwrap();
        assert!(
            records
                .iter()
                .all(|record| record.key.as_bytes() == record.value.as_ref())
        );
        records.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(
        keys(store.load("p").await),
        [
            "p",
            "p q/%41",
            "p.x/..",
            "p/a",
            "p/a/b",
            "p/ab",
            "pä/ö\u{1F980}"
        ]
    );
    assert_eq!(keys(store.load("p/").await), ["p/a", "p/a/b", "p/ab"]);
    assert_eq!(keys(store.load("p/a").await), ["p/a", "p/a/b", "p/ab"]);
    assert_eq!(keys(store.load("p/a/").await), ["p/a/b"]);
    assert_eq!(keys(store.load("p q/").await), ["p q/%41"]);
    assert_eq!(keys(store.load("nothing/").await), [""; 0]);
    // After a load of a part, what lies beside it is still known for what it is.
    let again = Txn::new()
        .put("p", "p", Expect::Version(1))
        .put("p/new", "p/new", Expect::Absent);
    assert_eq!(store.commit(again).await, Ok(()));
    assert_eq!(
        store.commit(Txn::new().put("p", "p", Expect::Absent)).await,
        Err(CommitError::Conflict { index: 0 })
    );
    let clear = odd
        .iter()
        .fold(Txn::new().delete("p/new", Expect::Any), |txn, key| {
            txn.delete(*key, Expect::Any)
        });
    assert_eq!(store.commit(clear).await, Ok(()));
    assert_eq!(store.load("p").await, Ok(vec![]));
}

async fn refusals(store: &Store) {
    let refused = |txn: Txn| {
        let commit = store.commit(txn);
        async move { commit.await.unwrap_err() }
    };
    for key in ["", "/a", "a/", "a//b"] {
        let err = refused(
            Txn::new()
                .check("fine", Expect::Any)
                .put(key, "", Expect::Any),
        )
        .await;
        assert!(matches!(err, CommitError::BadKey { index: 1, .. }), "{err}");
    }
    let err = refused(Txn::new().put("k".repeat(KEY_MAX_BYTES + 1), "", Expect::Any)).await;
    assert!(matches!(err, CommitError::BadKey { index: 0, .. }), "{err}");
    let err = refused(
        Txn::new()
            .put("twice/a", "", Expect::Any)
            .check("twice/a", Expect::Any),
    )
    .await;
    assert!(matches!(err, CommitError::BadKey { index: 1, .. }), "{err}");
    assert!(
        err.to_string()
            .contains("`twice/a` stands in two operations"),
        "{err}"
    );
    let err = refused(Txn::new().put("big/a", vec![0; VALUE_MAX_BYTES + 1], Expect::Any)).await;
    assert!(matches!(err, CommitError::TooLarge { .. }), "{err}");
    assert!(
        err.to_string()
            .contains("`big/a` has 16777217 bytes; at most 16777216"),
        "{err}"
    );
    let many = |n: usize, key: &str| {
        (0..n).fold(Txn::new(), |txn, i| {
            txn.check(format!("{key}{i}"), Expect::Any)
        })
    };
    let err = refused(many(TXN_MAX_OPS + 1, "n/")).await;
    assert!(
        err.to_string().contains("2049 operations; at most 2048"),
        "{err}"
    );
    let err = refused(many(1024, &"k".repeat(900))).await;
    assert!(err.to_string().contains("split it"), "{err}");
}

async fn order(store: &Store) {
    // None of them is awaited before the next is handed in.
    let commits: Vec<_> = (1..=300_u64)
        .map(|n| {
            let expect = if n == 1 {
                Expect::Absent
            } else {
                Expect::Version(n - 1)
            };
            let txn = Txn::new().put("o/a", n.to_string(), expect);
            store.commit(txn.put(format!("o/{}", n % 7), n.to_string(), Expect::Any))
        })
        .collect();
    let load = store.load("o/a");
    let after = store.commit(Txn::new().delete("o/a", Expect::Version(300)));
    for commit in commits {
        assert_eq!(commit.await, Ok(()));
    }
    assert_eq!(
        load.await,
        Ok(vec![record("o/a", "300", 300)]),
        "what was handed in before, and no more"
    );
    assert_eq!(after.await, Ok(()));
    // A conflict among many disturbs nobody else.
    let commits: Vec<_> = (0..50)
        .map(|n| {
            let expect = if n == 20 {
                Expect::Version(99)
            } else {
                Expect::Any
            };
            store.commit(Txn::new().put("o/b", n.to_string(), expect))
        })
        .collect();
    for (n, commit) in commits.into_iter().enumerate() {
        let expected = if n == 20 {
            Err(CommitError::Conflict { index: 0 })
        } else {
            Ok(())
        };
        assert_eq!(commit.await, expected, "{n}");
    }
    assert_eq!(store.load("o/b").await, Ok(vec![record("o/b", "49", 49)]));
}

fn blob(seed: u64, bytes: usize) -> Bytes {
    let mut rng = Rng::new(seed);
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    value.truncate(bytes);
    value.into()
}

async fn large_values(store: &Store) {
    let sizes = [
        0,
        1,
        300 * 1024,
        512 * 1024,
        1024 * 1024,
        3 * 1024 * 1024 + 17,
        VALUE_MAX_BYTES,
    ];
    for (n, bytes) in sizes.into_iter().enumerate() {
        let value = blob(n as u64, bytes);
        // Absent, then again over what is there, then by a small one: with and without chunks before and after.
        let key = format!("large/{n}");
        let put = |value: Bytes, expect| store.commit(Txn::new().put(key.as_str(), value, expect));
        assert_eq!(put(value.clone(), Expect::Absent).await, Ok(()), "{bytes}");
        assert_eq!(
            put(value.clone(), Expect::Version(1)).await,
            Ok(()),
            "{bytes}"
        );
        let loaded = store.load(&key).await.unwrap();
        assert_eq!((loaded.len(), loaded[0].version), (1, 2));
        assert!(
            loaded[0].value == value,
            "{bytes} bytes come back as they were"
        );
        if bytes > 1024 * 1024 {
            assert_eq!(put("small".into(), Expect::Version(2)).await, Ok(()));
            assert_eq!(store.load(&key).await.unwrap()[0].value, "small");
        }
    }
    let clear = (0..sizes.len()).fold(Txn::new(), |txn, n| {
        txn.delete(format!("large/{n}"), Expect::Any)
    });
    assert_eq!(store.commit(clear).await, Ok(()));
    assert_eq!(store.load("large/").await, Ok(vec![]));
}

async fn large_transactions(store: &Store) {
    // Together far more than one request of ZooKeeper takes, each small enough for it.
    let values: Vec<Bytes> = (0..40).map(|n| blob(n, 200 * 1024)).collect();
    let put = |expect| {
        values
            .iter()
            .enumerate()
            .fold(Txn::new(), |txn, (n, value)| {
                txn.put(format!("wide/{n:02}"), value.clone(), expect)
            })
    };
    assert_eq!(store.commit(put(Expect::Absent)).await, Ok(()));
    assert_eq!(
        store.commit(put(Expect::Absent)).await,
        Err(CommitError::Conflict { index: 0 })
    );
    assert_eq!(store.commit(put(Expect::Version(1))).await, Ok(()));
    let loaded = store.load("wide/").await.unwrap();
    assert_eq!(loaded.len(), 40);
    assert!(
        loaded
            .iter()
            .zip(&values)
            .all(|(record, value)| record.value == *value && record.version == 2)
    );
    let long = |n: usize| format!("long/{}-{n:03}", "k".repeat(600));
    let txn = (0..700).fold(Txn::new(), |txn, n| txn.put(long(n), "v", Expect::Absent));
    assert_eq!(store.commit(txn).await, Ok(()));
    assert_eq!(store.load("long/").await.unwrap().len(), 700);
    let txn = (0..700).fold(Txn::new(), |txn, n| txn.delete(long(n), Expect::Version(1)));
    assert_eq!(store.commit(txn).await, Ok(()));
}

async fn many_records(store: &Store) {
    let commits: Vec<_> = (0..50)
        .map(|n| {
            let put =
                |txn: Txn, m| txn.put(format!("many/{:05}", n * 100 + m), "value", Expect::Absent);
            store.commit((0..100).fold(Txn::new(), put))
        })
        .collect();
    for commit in commits {
        assert_eq!(commit.await, Ok(()));
    }
    let loaded = store.load("many/").await.unwrap();
    assert_eq!(loaded.len(), 5000);
    assert!(loaded.is_sorted_by(|a, b| a.key < b.key));
}

async fn terms(first: &Term, second: &Term, before: &[Record]) {
    assert_eq!(first.epoch.cluster_id, second.epoch.cluster_id);
    assert!(second.epoch.counter > first.epoch.counter);
    let put = |value: &'static str| Txn::new().put("t/a", value, Expect::Any);
    assert_eq!(
        first.store().commit(put("old")).await,
        Err(CommitError::Fenced)
    );
    assert_eq!(
        first.store().commit(Txn::new()).await,
        Err(CommitError::Fenced)
    );
    assert_eq!(second.store().commit(put("new")).await, Ok(()));
    assert_eq!(
        first.store().commit(put("old")).await,
        Err(CommitError::Fenced)
    );
    assert_eq!(
        second.store().load("t/").await,
        Ok(vec![record("t/a", "new", 1)])
    );
    assert_eq!(
        second
            .store()
            .commit(Txn::new().delete("t/a", Expect::Any))
            .await,
        Ok(())
    );
    let now = second.store().load("").await.unwrap();
    assert!(now == before, "the next term finds everything");
    let clear = |keys: &[Record]| {
        keys.iter().fold(Txn::new(), |txn, record| {
            txn.delete(record.key.as_str(), Expect::Version(record.version))
        })
    };
    for part in now.chunks(1000) {
        assert_eq!(second.store().commit(clear(part)).await, Ok(()));
    }
    assert_eq!(second.store().load("").await, Ok(vec![]));
}

/// Random transactions, many in flight, compared with the plainest store there is; with a new term now and then.
async fn random_transactions(cluster: &mut impl Cluster, first: Term) {
    let mut rng = Rng::new(7);
    let mut table = Table::default();
    let mut term = first;
    for round in 0..60 {
        let mut flights = Vec::new();
        for _ in 0..rng.below(20) {
            let txn = random_txn(&mut rng);
            let expected = table.apply(txn.clone());
            flights.push((term.store().commit(txn.clone()), expected, txn));
        }
        for (commit, expected, txn) in flights {
            assert_eq!(commit.await, expected, "round {round}: {txn:?}");
        }
        let prefix = ["", "a", "a/", "b/x", "c"][rng.below(5) as usize];
        assert_eq!(
            term.store().load(prefix).await,
            Ok(table.load(prefix)),
            "round {round}: {prefix}"
        );
        if rng.chance(12) {
            term = cluster.next_term().await;
        }
    }
}

fn random_txn(rng: &mut Rng) -> Txn {
    let mut keys = ["a", "a/x", "a/y", "b/x", "b/x/y", "c/x", "c/y"];
    rng.shuffle(&mut keys);
    let ops = 1 + rng.below(4) as usize;
    keys[..ops].iter().fold(Txn::new(), |txn, key| {
        let expect = match rng.below(6) {
            0 => Expect::Absent,
            1 => Expect::Version(1 + rng.below(3)),
            _ => Expect::Any,
        };
        let bytes = if rng.chance(15) {
            700 * 1024
        } else {
            rng.below(100) as usize
        };
        match rng.below(5) {
            0 => txn.delete(*key, expect),
            1 => txn.check(*key, expect),
            _ => txn.put(*key, blob(rng.next_u64(), bytes), expect),
        }
    })
}
