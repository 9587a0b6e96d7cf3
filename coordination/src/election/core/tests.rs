//! The rules against a small ZooKeeper in a test's hands: every answer is given by hand, so that it can be late,
//! repeated, or from another time.

use mezzo_model::{Millis, Now, Wall};

mod lives;

use super::*;
use crate::zk::{CreateMode, Stat, WriteOp, Written, ZkError};

const INFO: &str = r#"{"address":{"hostname":"a","ip":"10.0.0.1","port":5050}}"#;
const OTHER: &str = r#"{"address":{"hostname":"b","ip":"10.0.0.2","port":5050}}"#;
/// The session timeout that every session here is granted: reads go out every second, the lease is four.
const TIMEOUT: Millis = Millis(6000);

struct Env {
    election: Election,
    now: Millis,
    out: Vec<Output>,
    /// Requests that were sent and not yet answered: attempt, request, call.
    asked: Vec<(u64, u64, Request)>,
    told: Vec<Change>,
    zxid: i64,
}

impl Env {
    fn new(candidate: bool) -> Self {
        let config = Config {
            path: "/mesos".into(),
            prefix: "json.info_".into(),
            candidate: candidate.then(|| INFO.into()),
            session_timeout: Millis(10_000),
            cluster_id: "cluster-a".into(),
            seed: 1,
        };
        let mut env = Self {
            election: Election::new(config),
            now: Millis(1000),
            out: Vec::new(),
            asked: Vec::new(),
            told: Vec::new(),
            zxid: 100,
        };
        env.input(Input::Tick);
        assert_eq!(env.opened(), 1);
        env
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.election
            .handle(Now::new(self.now, Wall(0)), input, &mut out);
        for output in out {
            match output {
                Output::Send {
                    attempt,
                    request,
                    call,
                } => self.asked.push((attempt, request, call)),
                Output::Tell(change) => self.told.push(change),
                other => self.out.push(other),
            }
        }
    }

    /// The attempt of the session that was asked to be opened.
    fn opened(&mut self) -> u64 {
        let at = self
            .out
            .iter()
            .position(|o| matches!(o, Output::OpenSession { .. }));
        match self.out.remove(at.expect("a session is opened")) {
            Output::OpenSession { attempt, .. } => attempt,
            _ => unreachable!(),
        }
    }

    fn up(&mut self, attempt: u64) {
        self.input(Input::SessionUp {
            attempt,
            timeout: TIMEOUT,
        });
    }

    /// Takes the oldest open request that matches.
    fn take(&mut self, what: &str) -> (u64, u64, Request) {
        let at = self
            .asked
            .iter()
            .position(|(_, _, call)| call.to_string().starts_with(what));
        let at = at.unwrap_or_else(|| panic!("no `{what}` among {:?}", self.asked));
        self.asked.remove(at)
    }

    fn answer(&mut self, what: &str, result: Result<Answer, Failure>) -> u64 {
        let (attempt, request, _) = self.take(what);
        self.input(Input::Answered {
            attempt,
            request,
            result,
        });
        request
    }

    fn stat(&self) -> Stat {
        Stat {
            pzxid: self.zxid,
            ..Stat::default()
        }
    }

    fn list(&self, names: &[&str]) -> Result<Answer, Failure> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(Answer::Children {
            names,
            stat: self.stat(),
        })
    }

    fn data(&self, data: &str) -> Result<Answer, Failure> {
        Ok(Answer::Data {
            data: data.to_owned().into(),
            stat: Stat::default(),
        })
    }

    fn created(path: &str) -> Result<Answer, Failure> {
        Ok(Answer::Written(Written::Created { path: path.into() }))
    }

    fn lost() -> Result<Answer, Failure> {
        Err(Failure::Request(ZkError::ConnectionLoss))
    }

    /// Answers all preparations and gives the contender its node.
    fn join(&mut self, attempt: u64, name: &str) {
        self.up(attempt);
        self.prepare();
        self.answer(
            "create /mesos/json.info_",
            Self::created(&format!("/mesos/{name}")),
        );
    }

    fn prepare(&mut self) {
        for what in [
            "create /mesos",
            "create /mesos/mezzo",
            "create /mesos/mezzo/store",
        ] {
            self.answer(what, Self::created(what));
        }
        self.answer(
            "create /mesos/mezzo/format",
            Err(Failure::Request(ZkError::NodeExists)),
        );
        self.answer(
            "create /mesos/mezzo/cluster",
            Err(Failure::Request(ZkError::NodeExists)),
        );
        self.answer(
            "create /mesos/mezzo/epoch",
            Err(Failure::Request(ZkError::NodeExists)),
        );
        self.answer("get /mesos/mezzo/format", self.data("1"));
        self.answer("get /mesos/mezzo/cluster", self.data("cluster-z"));
    }

    /// The list shows this contender at the head, and the epoch is raised.
    fn lead(&mut self, names: &[&str], counter: u64) {
        self.answer("list /mesos", self.list(names));
        self.answer(
            "get /mesos/mezzo/epoch",
            self.data(&(counter - 1).to_string()),
        );
        let written = vec![
            Written::Checked,
            Written::Checked,
            Written::Set { version: 9 },
        ];
        self.answer("multi", Ok(Answer::Multi(written)));
    }

    fn leader(counter: u64) -> Change {
        let epoch = Epoch {
            cluster_id: "cluster-z".into(),
            counter,
        };
        let fence = Fence {
            contender: "/mesos/json.info_0000000003".into(),
            epoch: "/mesos/mezzo/epoch".into(),
            counter,
            version: 9,
        };
        Change::Leading(Grant { epoch, fence })
    }

    fn pass(&mut self, span: u64) {
        self.now += Millis(span);
        self.input(Input::Tick);
    }

    fn standby() -> Change {
        Change::Standby { leader: None }
    }

    fn standby_of(info: &'static str, address: &str) -> Change {
        Change::Standby {
            leader: Some(Leader {
                address: address.into(),
                info: info.into(),
            }),
        }
    }

    /// A leader whose every request so far was answered.
    fn leading() -> Self {
        let mut env = Self::new(true);
        env.join(1, "json.info_0000000003");
        env.lead(&["json.info_0000000003", "mezzo"], 5);
        assert_eq!(env.told, [Self::leader(5)]);
        env.answer("list /mesos", env.list(&["json.info_0000000003", "mezzo"]));
        env.told.clear();
        env
    }
}

#[test]
fn the_lowest_leads_with_a_fence_of_its_own() {
    let mut env = Env::new(true);
    env.up(1);
    env.prepare();
    let (attempt, request, call) = env.take("create /mesos/json.info_");
    let Request::Write(WriteOp::Create { data, mode, .. }) = call else {
        panic!("{call}")
    };
    assert_eq!(
        (data.as_ref(), mode),
        (INFO.as_bytes(), CreateMode::EphemeralSequential)
    );
    let result = Env::created("/mesos/json.info_0000000003");
    env.input(Input::Answered {
        attempt,
        request,
        result,
    });
    env.answer(
        "list /mesos",
        env.list(&["json.info_0000000004", "json.info_0000000003"]),
    );
    env.answer("get /mesos/mezzo/epoch", env.data("7"));
    let (_, _, call) = env.asked.pop().unwrap();
    let Request::Multi(ops) = call else {
        panic!("{call}")
    };
    let texts: Vec<String> = ops.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "check /mesos/json.info_0000000003",
            "check /mesos/mezzo/format",
            "set /mesos/mezzo/epoch"
        ]
    );
    assert!(env.told.is_empty(), "not before the epoch is raised");
}

#[test]
fn a_standby_knows_the_leader_and_takes_over() {
    let mut env = Env::new(true);
    env.join(1, "json.info_0000000003");
    let list = env.answer(
        "list /mesos",
        env.list(&["json.info_0000000003", "json.info_0000000001"]),
    );
    env.answer("get /mesos/json.info_0000000001", env.data(OTHER));
    assert_eq!(env.told, [Env::standby_of(OTHER, "10.0.0.2:5050")]);
    assert!(
        env.asked.is_empty(),
        "a standby does not ask again and again"
    );
    env.zxid += 1;
    env.input(Input::Fired {
        attempt: 1,
        request: list,
    });
    env.lead(&["json.info_0000000003"], 8);
    assert_eq!(env.told[1..], [Env::leader(8)]);
}

#[test]
fn a_lease_counts_from_the_sending_of_the_read_that_was_answered() {
    let mut env = Env::leading();
    env.pass(1000);
    let early = env.take("list /mesos");
    env.pass(1000);
    let late = env.take("list /mesos");
    // The second read is never answered; the first is, long after it was sent.
    env.now += Millis(1900);
    let names = env.list(&["json.info_0000000003"]);
    env.input(Input::Answered {
        attempt: 1,
        request: early.1,
        result: names.clone(),
    });
    assert!(env.told.is_empty(), "sent 2.9 s ago, a lease is 4 s");
    env.pass(1100);
    assert_eq!(
        env.told,
        [Change::Suspended],
        "4 s after its sending, not after its answer"
    );
    env.told.clear();
    env.input(Input::Answered {
        attempt: 1,
        request: late.1,
        result: names,
    });
    assert_eq!(
        env.told,
        [Env::leader(5)],
        "sent 3 s ago: the same term goes on"
    );
    assert_eq!(env.election.next_deadline(), Some(late_lease(&env)));
}

fn late_lease(env: &Env) -> Millis {
    // The later read was sent 3 s ago, so that its lease ends in one.
    env.now + Millis(1000)
}

#[test]
fn an_answer_that_comes_after_its_lease_proves_nothing() {
    let mut env = Env::leading();
    env.pass(1000);
    let read = env.take("list /mesos");
    env.pass(4500);
    assert_eq!(env.told, [Change::Suspended]);
    env.told.clear();
    let result = env.list(&["json.info_0000000003"]);
    env.input(Input::Answered {
        attempt: 1,
        request: read.1,
        result,
    });
    assert!(env.told.is_empty());
}

#[test]
fn a_repeated_answer_changes_nothing() {
    let mut env = Env::leading();
    env.pass(1000);
    let read = env.take("list /mesos");
    let result = env.list(&["json.info_0000000003"]);
    env.input(Input::Answered {
        attempt: 1,
        request: read.1,
        result: result.clone(),
    });
    env.pass(3999);
    // The same answer once more, and one that says the opposite.
    env.input(Input::Answered {
        attempt: 1,
        request: read.1,
        result,
    });
    let gone = env.list(&[]);
    env.input(Input::Answered {
        attempt: 1,
        request: read.1,
        result: gone,
    });
    assert!(env.told.is_empty());
    env.pass(1);
    assert_eq!(env.told, [Change::Suspended]);
}

#[test]
fn an_answer_older_than_one_seen_is_dropped() {
    let mut env = Env::leading();
    env.zxid += 5;
    env.pass(1000);
    env.answer("list /mesos", env.list(&["json.info_0000000003"]));
    env.zxid -= 1;
    env.pass(1000);
    // A server that lags does not know our node yet. We know better.
    env.answer("list /mesos", env.list(&["json.info_0000000001"]));
    assert!(env.told.is_empty());
    env.pass(3000);
    assert_eq!(env.told, [Change::Suspended], "nor does it renew the lease");
}

#[test]
fn leadership_names_the_session() {
    let mut env = Env::leading();
    env.input(Input::SessionGone {
        attempt: 1,
        words: "expired".into(),
    });
    assert_eq!(env.told, [Env::standby()]);
    env.told.clear();
    env.pass(200);
    assert_eq!(env.opened(), 2);
    // What the old session still says is not heard.
    let names = env.list(&["json.info_0000000003"]);
    for request in 0..40 {
        env.input(Input::Answered {
            attempt: 1,
            request,
            result: names.clone(),
        });
        env.input(Input::Fired {
            attempt: 1,
            request,
        });
    }
    env.input(Input::SessionUp {
        attempt: 1,
        timeout: TIMEOUT,
    });
    env.input(Input::SessionGone {
        attempt: 1,
        words: "again".into(),
    });
    env.up(2);
    env.prepare();
    // Our own node of the old session is known for ours, and is put away; it does not make us the leader.
    env.answer(
        "create /mesos/json.info_",
        Env::created("/mesos/json.info_0000000006"),
    );
    env.answer(
        "list /mesos",
        env.list(&["json.info_0000000003", "json.info_0000000006"]),
    );
    env.answer("get /mesos/json.info_0000000003", env.data(INFO));
    assert_eq!(env.told, [Env::standby_of(INFO, "10.0.0.1:5050")]);
    env.answer(
        "delete /mesos/json.info_0000000003",
        Ok(Answer::Written(Written::Deleted)),
    );
    assert!(
        !env.told
            .iter()
            .any(|change| matches!(change, Change::Leading(_)))
    );
}

#[test]
fn a_session_whose_node_is_in_doubt_is_given_up() {
    let mut env = Env::new(true);
    env.up(1);
    env.prepare();
    env.answer("create /mesos/json.info_", Env::lost());
    assert!(env.out.contains(&Output::CloseSession { attempt: 1 }));
    env.pass(500);
    assert_eq!(env.opened(), 2);
    env.join(2, "json.info_0000000007");
    env.answer("list /mesos", env.list(&["json.info_0000000007"]));
    env.take("get /mesos/mezzo/epoch");
}

#[test]
fn a_raise_that_is_in_doubt_or_overtaken_is_tried_again() {
    let mut env = Env::new(true);
    env.join(1, "json.info_0000000003");
    env.answer("list /mesos", env.list(&["json.info_0000000003"]));
    env.answer("get /mesos/mezzo/epoch", env.data("4"));
    env.answer("multi", Env::lost());
    assert!(env.told.is_empty());
    env.input(Input::Reconnected { attempt: 1 });
    // It had happened: the next counter is one more. Nobody minds a number that nobody used.
    env.answer("get /mesos/mezzo/epoch", env.data("5"));
    let overtaken = Failure::Op {
        index: 2,
        error: ZkError::BadVersion,
    };
    env.answer("multi", Err(overtaken));
    env.answer("get /mesos/mezzo/epoch", env.data("6"));
    let written = vec![
        Written::Checked,
        Written::Checked,
        Written::Set { version: 9 },
    ];
    env.answer("multi", Ok(Answer::Multi(written)));
    assert_eq!(env.told, [Env::leader(7)]);
}

#[test]
fn a_raise_that_took_longer_than_a_lease_is_confirmed_first() {
    let mut env = Env::new(true);
    env.join(1, "json.info_0000000003");
    env.answer("list /mesos", env.list(&["json.info_0000000003"]));
    env.answer("get /mesos/mezzo/epoch", env.data("4"));
    env.now += Millis(4000);
    let written = vec![
        Written::Checked,
        Written::Checked,
        Written::Set { version: 9 },
    ];
    env.answer("multi", Ok(Answer::Multi(written)));
    assert_eq!(env.told, [Change::Suspended]);
    env.answer("list /mesos", env.list(&["json.info_0000000003"]));
    assert_eq!(env.told, [Change::Suspended, Env::leader(5)]);
}

#[test]
fn a_node_that_somebody_deleted_is_a_place_lost_and_taken_anew() {
    let mut env = Env::leading();
    env.zxid += 1;
    env.pass(1000);
    env.answer("list /mesos", env.list(&["json.info_0000000004"]));
    assert_eq!(env.told, [Env::standby()]);
    env.pass(100);
    env.answer(
        "create /mesos/json.info_",
        Env::created("/mesos/json.info_0000000009"),
    );
    env.answer(
        "list /mesos",
        env.list(&["json.info_0000000004", "json.info_0000000009"]),
    );
    env.answer("get /mesos/json.info_0000000004", env.data(OTHER));
    assert_eq!(env.told[1..], [Env::standby_of(OTHER, "10.0.0.2:5050")]);
}
