//! The store's rules on the model of ZooKeeper, with a connection that breaks wherever it hurts.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mezzo_coordination::store::memory::Table;
use mezzo_coordination::store::zk_core::{StoreCore, StoreInput, StoreOutput};
use mezzo_coordination::store::zk_ops::{Body, Fence, Layout, chunk_paths};
use mezzo_coordination::zk::{Access, Answer, CreateMode, Failure, Request, WriteOp, ZkError};
use mezzo_coordination::{CommitError, Expect, Txn};
use mezzo_integration::sim::zookeeper::{FromClient, ToClient, ZkModel};
use mezzo_model::Millis;
use mezzo_model::rng::Rng;

/// The store's rules against the model, on a connection in a test's hands.
struct Rig {
    model: ZkModel,
    session: i64,
    conn: u64,
    now: Millis,
    core: StoreCore,
    /// Sent, not yet with the server.
    wire: VecDeque<(u64, Request)>,
    /// Answered, not yet with the store.
    back: VecDeque<(u64, Result<Answer, Failure>)>,
    ended: BTreeMap<u64, Result<(), CommitError>>,
    rng: Rng,
    losses: u32,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut model = ZkModel::new(Millis(1000));
        let mut out = Vec::new();
        let hello = FromClient::Hello {
            session: None,
            timeout: Millis(10_000),
        };
        model.handle(Millis(0), 1, hello, &mut out);
        let Some((_, ToClient::Welcome { session, .. })) = out.pop() else {
            panic!("no welcome")
        };
        let layout = Layout::new("/m");
        let contender = "/m/json.info_0000000000".to_owned();
        let mut create = |path: &str, data: &'static str, mode| {
            let op = WriteOp::Create {
                path: path.into(),
                data: data.into(),
                mode,
                access: Access::Private,
            };
            model.handle(
                Millis(0),
                1,
                FromClient::Request {
                    xid: 0,
                    call: Request::Write(op),
                },
                &mut out,
            );
        };
        create("/m", "", CreateMode::Persistent);
        create(&contender, "", CreateMode::Ephemeral);
        for path in [&layout.root, &layout.records] {
            create(path, "", CreateMode::Persistent);
        }
        create(&layout.epoch, "1", CreateMode::Persistent);
        let fence = Fence {
            contender,
            epoch: layout.epoch.clone(),
            counter: 1,
            version: 0,
        };
        Self {
            model,
            session,
            conn: 1,
            now: Millis(0),
            core: StoreCore::new(layout, fence),
            wire: VecDeque::new(),
            back: VecDeque::new(),
            ended: BTreeMap::new(),
            rng: Rng::new(seed),
            losses: 0,
        }
    }

    fn input(&mut self, input: StoreInput) {
        let mut out = Vec::new();
        self.core.handle(input, &mut out);
        for output in out {
            match output {
                StoreOutput::Send { request, call } => self.wire.push_back((request, call)),
                StoreOutput::Committed { id, result } => {
                    assert_eq!(
                        self.ended.insert(id, result),
                        None,
                        "a commit is answered once"
                    );
                }
                StoreOutput::Loaded { .. } | StoreOutput::Note { .. } => {}
            }
        }
    }

    /// One message moves, or the connection breaks and takes with it what was under way, one direction or both.
    fn step(&mut self, may_break: bool) -> bool {
        self.now += Millis(1);
        if may_break && self.rng.chance(40) {
            self.break_connection();
        } else if let (Some((request, call)), true) = (
            self.wire.front().cloned(),
            self.back.is_empty() || self.rng.chance(2),
        ) {
            self.wire.pop_front();
            let mut out = Vec::new();
            let message = FromClient::Request { xid: request, call };
            self.model.handle(self.now, self.conn, message, &mut out);
            for (_, said) in out {
                let ToClient::Reply { xid, result } = said else {
                    panic!("{said:?}")
                };
                self.back.push_back((xid, result));
            }
        } else if let Some((request, result)) = self.back.pop_front() {
            self.input(StoreInput::Answered { request, result });
        } else {
            return false;
        }
        true
    }

    fn break_connection(&mut self) {
        self.losses += 1;
        // A part of what was sent arrives after all; none of the answers does.
        let arrives = self.rng.below(self.wire.len() as u64 + 1);
        let mut lost: Vec<u64> = self.back.drain(..).map(|(request, _)| request).collect();
        let mut out = Vec::new();
        for (at, (request, call)) in std::mem::take(&mut self.wire).into_iter().enumerate() {
            if (at as u64) < arrives {
                let message = FromClient::Request { xid: request, call };
                self.model.handle(self.now, self.conn, message, &mut out);
            }
            lost.push(request);
        }
        self.model.broken(self.conn);
        self.conn += 1;
        let hello = FromClient::Hello {
            session: Some(self.session),
            timeout: Millis(10_000),
        };
        self.model.handle(self.now, self.conn, hello, &mut out);
        // The store is told of each in its turn; what it sends before it knows goes out on the new connection.
        for request in lost {
            self.back
                .push_back((request, Err(Failure::Request(ZkError::ConnectionLoss))));
        }
    }
}

fn random_txn(rng: &mut Rng) -> Txn {
    let mut keys = ["a", "a/x", "a/y", "b/x", "b/y", "c/x"];
    rng.shuffle(&mut keys);
    let ops = 1 + rng.below(3) as usize;
    keys[..ops].iter().fold(Txn::new(), |txn, key| {
        let expect = match rng.below(6) {
            0 => Expect::Absent,
            1 => Expect::Version(1 + rng.below(3)),
            _ => Expect::Any,
        };
        let bytes = if rng.chance(25) {
            600 * 1024
        } else {
            rng.below(40) as usize
        };
        match rng.below(6) {
            0 => txn.delete(*key, expect),
            1 => txn.check(*key, expect),
            _ => txn.put(*key, vec![rng.below(256) as u8; bytes], expect),
        }
    })
}

#[test]
fn a_breaking_connection_loses_doubles_and_reorders_no_commit() {
    let mut losses = 0;
    for seed in 0..400 {
        let mut rig = Rig::new(seed);
        let mut rng = Rng::new(seed).split("transactions");
        let mut table = Table::default();
        let mut expected = BTreeMap::new();
        for id in 0..60 {
            let txn = random_txn(&mut rng);
            expected.insert(id, table.apply(txn.clone()));
            rig.input(StoreInput::Commit { id, txn });
            for _ in 0..rng.below(12) {
                rig.step(true);
            }
        }
        while rig.step(false) {}
        assert_eq!(rig.ended, expected, "seed {seed}");
        losses += rig.losses;
        compare(&rig.model, &table, seed);
    }
    assert!(losses > 1000, "only {losses} connections broke");
}

/// What lies on the server, read as a new term would read it, is what the plain table holds; and nothing else
/// lies there.
fn compare(model: &ZkModel, table: &Table, seed: u64) {
    use mezzo_coordination::store::path::{decode, encode};
    let under = "/m/mezzo/store/";
    let records = table.load("");
    let mut nodes = BTreeSet::new();
    for path in model.paths(under) {
        let Some((dir, name)) = path.strip_prefix(under).unwrap().split_once('/') else {
            continue;
        };
        // Chunks of a commit whose connection broke may be left for the next term to sweep.
        if !name.contains("%-") {
            nodes.insert(decode(dir, name).unwrap());
        }
    }
    let keys: BTreeSet<String> = records.iter().map(|record| record.key.clone()).collect();
    assert_eq!(nodes, keys, "seed {seed}");
    for record in records {
        let (dir, name) = encode(&record.key);
        let node = format!("{under}{dir}/{name}");
        let value = match Body::decode(model.peek(&node).unwrap()).unwrap() {
            Body::Inline(value) => value.to_vec(),
            Body::Chunks(chunks) => {
                let parts = chunk_paths(&node, &chunks).into_iter().map(|path| {
                    model
                        .peek(&path)
                        .unwrap_or_else(|| panic!("seed {seed}: no {path}"))
                        .to_vec()
                });
                parts.collect::<Vec<_>>().concat()
            }
        };
        assert!(
            value == record.value,
            "seed {seed}: {} holds another value",
            record.key
        );
    }
}
