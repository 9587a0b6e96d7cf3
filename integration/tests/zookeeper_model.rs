//! The model of ZooKeeper against ZooKeeper: the same random requests of two sessions to both, and every answer
//! compared,
//! every watch, every zxid.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use mezzo_coordination::Target;
use mezzo_coordination::testing::ZooKeeper;
use mezzo_coordination::zk::client::{self, Session};
use mezzo_coordination::zk::{
    Access, Answer, CreateMode, Failure, Request, Stat, WriteOp, Written,
};
use mezzo_integration::sim::zookeeper::{FromClient, ToClient, ZkModel};
use mezzo_model::Millis;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SESSION: Duration = Duration::from_secs(10);

/// What one of two clients does.
#[derive(Clone, Debug)]
enum Step {
    Ask {
        client: usize,
        call: Request,
    },
    /// Ends its session and opens another.
    Reopen {
        client: usize,
    },
}

fn path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c-0000000001"]);
    prop_oneof![
        3 => name().prop_map(|a| format!("/{a}")),
        3 => (name(), name()).prop_map(|(a, b)| format!("/{a}/{b}")),
        1 => (name(), name(), name()).prop_map(|(a, b, c)| format!("/{a}/{b}/{c}")),
    ]
}

fn write_op(check: bool) -> impl Strategy<Value = WriteOp> {
    let version = prop::option::weighted(0.4, 0..3_i32);
    let data = prop::sample::select(vec!["", "x", "yy"]);
    let mode = prop::sample::select(vec![
        CreateMode::Persistent,
        CreateMode::Persistent,
        CreateMode::Ephemeral,
        CreateMode::EphemeralSequential,
    ]);
    let create =
        (path(), prop::bool::ANY, data.clone(), mode).prop_map(|(mut path, seq, data, mode)| {
            if seq && mode == CreateMode::EphemeralSequential {
                path.truncate(path.rfind('/').unwrap_or(0));
                path.push_str("/c-");
            }
            WriteOp::Create {
                path,
                data: data.into(),
                mode,
                access: Access::Readable,
            }
        });
    let set = (path(), data, version.clone()).prop_map(|(path, data, version)| WriteOp::Set {
        path,
        data: data.into(),
        version,
    });
    let delete =
        (path(), version.clone()).prop_map(|(path, version)| WriteOp::Delete { path, version });
    let checked = (path(), version).prop_map(|(path, version)| WriteOp::Check { path, version });
    prop_oneof![
        4 => create,
        2 => set,
        2 => delete,
        u32::from(check) * 2 => checked,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop_oneof![
        6 => write_op(false).prop_map(Request::Write),
        4 => prop::collection::vec(write_op(true), 1..5).prop_map(Request::Multi),
        2 => (path(), prop::bool::ANY).prop_map(|(path, sync)| Request::Get { path, sync }),
        3 => (path(), prop::bool::ANY).prop_map(|(path, watch)| Request::Exists { path, watch }),
        3 => (path(), prop::bool::ANY, prop::bool::ANY)
            .prop_map(|(path, watch, sync)| Request::Children { path, watch, sync }),
    ];
    prop_oneof![
        20 => (0..2_usize, call).prop_map(|(client, call)| Step::Ask { client, call }),
        1 => (0..2_usize).prop_map(|client| Step::Reopen { client }),
    ]
}

/// Puts a request under a root of its own, so that cases do not meet on the real server.
fn rooted(root: &str, mut call: Request) -> Request {
    let fix_op = |op: &mut WriteOp| match op {
        WriteOp::Create { path, .. }
        | WriteOp::Set { path, .. }
        | WriteOp::Delete { path, .. }
        | WriteOp::Check { path, .. } => path.insert_str(0, root),
    };
    match &mut call {
        Request::Write(op) => fix_op(op),
        Request::Multi(ops) => ops.iter_mut().for_each(fix_op),
        Request::Get { path, .. }
        | Request::Exists { path, .. }
        | Request::Children { path, .. } => {
            path.insert_str(0, root);
        }
    }
    call
}

/// An answer in terms that do not depend on what was on the server before: zxids counted from the case's first change,
/// sessions by client, children in order.
fn normal(
    result: Result<Answer, Failure>,
    base: i64,
    owners: &BTreeMap<i64, usize>,
) -> Result<Answer, Failure> {
    let fix = |stat: Stat| Stat {
        czxid: stat.czxid - base,
        mzxid: stat.mzxid - base,
        pzxid: stat.pzxid - base,
        ephemeral_owner: owners
            .get(&stat.ephemeral_owner)
            .map_or(0, |client| *client as i64 + 1),
        ..stat
    };
    result.map(|answer| match answer {
        Answer::Data { data, stat } => Answer::Data {
            data,
            stat: fix(stat),
        },
        Answer::Exists(stat) => Answer::Exists(stat.map(fix)),
        Answer::Children { mut names, stat } => {
            names.sort();
            Answer::Children {
                names,
                stat: fix(stat),
            }
        }
        other => other,
    })
}

type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Both sides of one case.
struct Pair<'a> {
    server: &'a ZooKeeper,
    sessions: Vec<Session>,
    watches: BTreeMap<(usize, u64), Watch>,
    real_owners: BTreeMap<i64, usize>,
    real_base: i64,
    model: ZkModel,
    model_owners: BTreeMap<i64, usize>,
    model_base: i64,
    now: Millis,
    next_conn: u64,
    conns: Vec<u64>,
    xid: u64,
    root: String,
}

impl<'a> Pair<'a> {
    async fn new(server: &'a ZooKeeper, root: &str) -> Self {
        let mut pair = Self {
            server,
            sessions: Vec::new(),
            watches: BTreeMap::new(),
            real_owners: BTreeMap::new(),
            real_base: 0,
            model: ZkModel::new(Millis(1000)),
            model_owners: BTreeMap::new(),
            model_base: 0,
            now: Millis(0),
            next_conn: 0,
            conns: Vec::new(),
            xid: 0,
            root: root.to_owned(),
        };
        for client in 0..2 {
            pair.open(client).await;
        }
        let call = Request::create(root, "", Access::Readable);
        let created = pair.real(0, call.clone()).await;
        assert_eq!(created, pair.modelled(0, call).0);
        let zxid = |answer| match answer {
            Ok(Answer::Data { stat, .. }) => stat.czxid,
            other => panic!("{other:?}"),
        };
        pair.real_base = zxid(pair.real(0, Request::get(root)).await);
        pair.model_base = zxid(pair.modelled(0, Request::get(root)).0);
        pair
    }

    async fn open(&mut self, client: usize) {
        let Target::ZooKeeper(zk) = self.server.target("/any") else {
            unreachable!()
        };
        let session = client::connect(&zk, SESSION).await.unwrap();
        self.real_owners.insert(session.session_id().0, client);
        self.sessions.insert(client, session);
        self.next_conn += 1;
        self.conns.insert(client, self.next_conn);
        let hello = FromClient::Hello {
            session: None,
            timeout: Millis(10_000),
        };
        let mut out = Vec::new();
        self.model.handle(self.now, self.next_conn, hello, &mut out);
        let [(_, ToClient::Welcome { session, .. })] = out[..] else {
            panic!("{out:?}")
        };
        self.model_owners.insert(session, client);
    }

    async fn real(&mut self, client: usize, call: Request) -> Result<Answer, Failure> {
        self.xid += 1;
        let reply = client::send(&self.sessions[client], false, call).await;
        if let Some(watcher) = reply.watch {
            let watch = Box::pin(async move { drop(watcher.changed().await) });
            self.watches.insert((client, self.xid), watch);
        }
        normal(reply.result, self.real_base, &self.real_owners)
    }

    /// The model's answer, and the watches that fired.
    fn modelled(
        &mut self,
        client: usize,
        call: Request,
    ) -> (Result<Answer, Failure>, BTreeSet<(usize, u64)>) {
        let message = FromClient::Request {
            xid: self.xid,
            call,
        };
        let mut out = Vec::new();
        self.model
            .handle(self.now, self.conns[client], message, &mut out);
        let (mut answer, mut fired) = (None, BTreeSet::new());
        for (conn, said) in out {
            let client = self.conns.iter().position(|c| *c == conn).unwrap();
            match said {
                ToClient::Reply { result, .. } => answer = Some(result),
                ToClient::Fired { xid } => drop(fired.insert((client, xid))),
                other => panic!("{other:?}"),
            }
        }
        (
            normal(answer.unwrap(), self.model_base, &self.model_owners),
            fired,
        )
    }

    /// The watches that fired on the real server: what a session was told comes before its next answer.
    async fn really_fired(&mut self) -> BTreeSet<(usize, u64)> {
        for session in &self.sessions {
            let call = Request::Exists {
                path: "/".into(),
                watch: false,
            };
            client::send(session, false, call).await.result.unwrap();
        }
        let mut context = Context::from_waker(Waker::noop());
        let fired: BTreeSet<_> = self
            .watches
            .iter_mut()
            .filter_map(|(key, watch)| watch.as_mut().poll(&mut context).is_ready().then_some(*key))
            .collect();
        self.watches.retain(|key, _| !fired.contains(key));
        fired
    }

    async fn reopen(&mut self, client: usize) -> BTreeSet<(usize, u64)> {
        let mut out = Vec::new();
        self.model.handle(
            self.now,
            self.conns.remove(client),
            FromClient::Close,
            &mut out,
        );
        let closed = self.sessions.remove(client);
        let owner = closed.session_id().0;
        let mut state = closed.state_watcher();
        self.watches.retain(|(of, _), _| *of != client);
        drop(closed);
        // Terminal: the server has confirmed that the session is closed.
        while !state.changed().await.is_terminated() {}
        let other = 1 - client;
        let fired = out
            .into_iter()
            .map(|(conn, said)| match said {
                ToClient::Fired { xid } if conn == self.conns[0] => (other, xid),
                said => panic!("{said:?}"),
            })
            .collect();
        self.real_owners.remove(&owner);
        self.open(client).await;
        fired
    }

    async fn run(&mut self, steps: Vec<Step>) {
        for (at, step) in steps.into_iter().enumerate() {
            let shown = format!("step {at}: {step:?}");
            let expected = match step {
                Step::Reopen { client } => self.reopen(client).await,
                Step::Ask { client, call } => {
                    let call = rooted(&self.root, call);
                    let real = self.real(client, call.clone()).await;
                    let (modelled, fired) = self.modelled(client, call);
                    assert_eq!(modelled, real, "left the model, right ZooKeeper, {shown}");
                    fired
                }
            };
            assert_eq!(
                expected,
                self.really_fired().await,
                "left the model, right ZooKeeper, {shown}"
            );
            self.now += Millis(1);
        }
        self.compare_trees().await;
    }

    /// Every node of the model is on the server, the same in every number; and no other is.
    async fn compare_trees(&mut self) {
        let paths: Vec<String> = self.model.paths(&self.root).map(str::to_owned).collect();
        for path in paths {
            let children = Request::Children {
                path: path.clone(),
                watch: false,
                sync: false,
            };
            for call in [Request::get(&path), children] {
                let real = self.real(0, call.clone()).await;
                let (modelled, _) = self.modelled(0, call);
                assert_eq!(
                    modelled, real,
                    "left the model, right ZooKeeper, {path} in the end"
                );
            }
        }
    }
}

#[test]
fn the_model_answers_as_zookeeper_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = ZooKeeper::start_with_tick(Duration::from_secs(1)).unwrap();
    let mut cases = 0;
    let case = std::cell::RefCell::new(&mut cases);
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            let root = {
                let mut case = case.borrow_mut();
                **case += 1;
                format!("/case-{case}")
            };
            runtime.block_on(async {
                let mut pair = Pair::new(&server, &root).await;
                pair.run(steps).await;
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_session_that_moves_or_ends_is_heard_no_more() {
    let mut model = ZkModel::new(Millis(1000));
    let mut out = Vec::new();
    let hello = |session| FromClient::Hello {
        session,
        timeout: Millis(500),
    };
    model.handle(Millis(0), 1, hello(None), &mut out);
    // At least two ticks.
    assert_eq!(
        out,
        [(
            1,
            ToClient::Welcome {
                session: 1,
                timeout: Millis(2000)
            }
        )]
    );
    out.clear();
    let create = |path: &str| {
        let (path, data) = (path.into(), "".into());
        let op = WriteOp::Create {
            path,
            data,
            mode: CreateMode::Ephemeral,
            access: Access::Private,
        };
        FromClient::Request {
            xid: 7,
            call: Request::Write(op),
        }
    };
    model.handle(Millis(10), 1, create("/e"), &mut out);
    let created = Ok(Answer::Written(Written::Created { path: "/e".into() }));
    assert_eq!(
        out,
        [(
            1,
            ToClient::Reply {
                xid: 7,
                result: created
            }
        )]
    );
    out.clear();
    model.handle(Millis(20), 2, hello(Some(1)), &mut out);
    model.handle(Millis(30), 1, create("/f"), &mut out);
    assert_eq!(out[1..], [(1, ToClient::Expired)], "it has moved");
    out.clear();
    model.broken(2);
    assert_eq!(model.next_deadline(), Some(Millis(3000)));
    model.tick(Millis(2999), &mut out);
    assert!(model.peek("/e").is_some());
    model.elect(Millis(2999));
    model.tick(Millis(3000), &mut out);
    assert!(
        model.peek("/e").is_some(),
        "a new leader gives every session its whole time again"
    );
    model.tick(Millis(5000), &mut out);
    assert!(model.peek("/e").is_none() && model.session_count() == 0);
    model.handle(Millis(5001), 3, hello(Some(1)), &mut out);
    assert_eq!(out, [(3, ToClient::Expired)]);
}
