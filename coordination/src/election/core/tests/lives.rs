//! Sessions that come and go, resignations, refusals, and those who only watch.

use super::*;

#[test]
fn sessions_are_opened_for_ever_with_back_off() {
    let mut env = Env::new(true);
    let mut attempt = 1;
    let mut waits = Vec::new();
    for _ in 0..20 {
        env.input(Input::SessionGone {
            attempt,
            words: "timeout".into(),
        });
        let due = env.election.next_deadline().unwrap();
        waits.push(due.since(env.now).0);
        env.pass(due.since(env.now).0 - 1);
        env.input(Input::Tick);
        env.pass(1);
        attempt = env.opened();
    }
    assert!(waits[0] >= 100 && waits[0] <= 125, "{waits:?}");
    assert!(waits[19] >= 5000 && waits[19] <= 6250, "{waits:?}");
    assert!(waits.is_sorted_by(|a, b| *a <= b * 2), "{waits:?}");
    env.join(attempt, "json.info_0000000003");
    env.lead(&["json.info_0000000003"], 5);
    assert_eq!(env.told, [Env::leader(5)]);
    // All went well, so the next trouble begins with a short wait.
    env.input(Input::SessionGone {
        attempt,
        words: "expired".into(),
    });
    assert!(env.election.next_deadline().unwrap().since(env.now) <= Millis(125));
}

#[test]
fn resigning_deletes_the_node_and_then_ends_the_session() {
    let mut env = Env::leading();
    env.input(Input::Resign);
    assert_eq!(env.told, [Env::standby()], "told before anything is asked");
    assert!(env.out.is_empty());
    env.answer(
        "delete /mesos/json.info_0000000003",
        Ok(Answer::Written(Written::Deleted)),
    );
    assert_eq!(
        env.out,
        [Output::CloseSession { attempt: 1 }, Output::Resigned]
    );
    assert_eq!(env.election.next_deadline(), None);
}

#[test]
fn resigning_without_an_answer_ends_all_the_same() {
    let mut env = Env::leading();
    env.input(Input::Resign);
    env.pass(LEAVE_MAX.0 - 1);
    assert!(env.out.is_empty());
    env.pass(1);
    assert_eq!(
        env.out,
        [Output::CloseSession { attempt: 1 }, Output::Resigned]
    );
}

#[test]
fn resigning_works_in_every_stage() {
    let mut env = Env::new(true);
    env.input(Input::Resign);
    assert_eq!(
        env.out,
        [Output::CloseSession { attempt: 1 }, Output::Resigned]
    );
    let mut env = Env::new(true);
    env.up(1);
    env.input(Input::Resign);
    assert_eq!(
        env.out,
        [Output::CloseSession { attempt: 1 }, Output::Resigned]
    );
    let mut env = Env::new(true);
    env.input(Input::SessionGone {
        attempt: 1,
        words: "x".into(),
    });
    env.out.clear();
    env.input(Input::Resign);
    assert_eq!(env.out, [Output::Resigned]);
    env.pass(100_000);
    assert_eq!(env.out, [Output::Resigned], "and nothing is opened again");
    let mut env = Env::leading();
    env.input(Input::Resign);
    env.out.clear();
    env.input(Input::SessionGone {
        attempt: 1,
        words: "expired".into(),
    });
    assert_eq!(env.out, [Output::Resigned]);
}

#[test]
fn a_newer_format_is_refused_in_words() {
    let mut env = Env::new(true);
    env.up(1);
    for what in [
        "create /mesos",
        "create /mesos/mezzo",
        "create /mesos/mezzo/store",
    ] {
        env.answer(what, Env::created(what));
    }
    for what in ["format", "cluster", "epoch"] {
        let what = format!("create /mesos/mezzo/{what}");
        env.answer(&what, Err(Failure::Request(ZkError::NodeExists)));
    }
    env.answer("get /mesos/mezzo/format", env.data("2"));
    let [Change::Refused { words }] = &env.told[..] else {
        panic!("{:?}", env.told)
    };
    assert!(
        words.contains("format 2") && words.contains("reads up to 1"),
        "{words}"
    );
    assert_eq!(env.out[0], Output::CloseSession { attempt: 1 });
    assert_eq!(env.election.next_deadline(), None);
    env.input(Input::Resign);
    assert_eq!(env.out.last(), Some(&Output::Resigned));
}

#[test]
fn a_detector_follows_the_leader_and_keeps_it_through_an_outage() {
    let mut env = Env::new(false);
    env.up(1);
    let no_node = || Err(Failure::Request(ZkError::NoNode));
    env.answer("list /mesos", no_node());
    let exists = env.answer("exists /mesos", Ok(Answer::Exists(None)));
    env.input(Input::Fired {
        attempt: 1,
        request: exists,
    });
    let list = env.answer("list /mesos", env.list(&["json.info_0000000001"]));
    env.answer("get /mesos/json.info_0000000001", env.data("not json"));
    assert!(env.told.is_empty());
    let note = env.out.pop();
    let Some(Output::Note { warn: true, text }) = note else {
        panic!("{note:?}")
    };
    assert!(
        text.contains("json.info_0000000001 leads, but cannot be understood"),
        "{text}"
    );
    env.zxid += 1;
    env.input(Input::Fired {
        attempt: 1,
        request: list,
    });
    env.answer("list /mesos", env.list(&["json.info_0000000002"]));
    env.answer("get /mesos/json.info_0000000002", env.data(OTHER));
    assert_eq!(env.told, [Env::standby_of(OTHER, "10.0.0.2:5050")]);
    env.told.clear();
    env.input(Input::SessionGone {
        attempt: 1,
        words: "expired".into(),
    });
    assert!(
        env.told.is_empty(),
        "the leader may be well without ZooKeeper"
    );
    env.pass(200);
    assert_eq!(env.opened(), 2);
    env.up(2);
    env.answer("list /mesos", env.list(&[]));
    assert_eq!(env.told, [Env::standby()]);
}

#[test]
fn a_connection_that_is_down_gathers_no_requests() {
    let mut env = Env::leading();
    for _ in 0..600 {
        env.pass(1000);
    }
    assert!(env.asked.len() <= READS_MAX, "{}", env.asked.len());
    assert_eq!(env.told, [Change::Suspended]);
    // All are lost at once when it comes back; one read is enough to go on.
    while !env.asked.is_empty() {
        env.answer("list", Env::lost());
    }
    env.pass(100);
    env.answer("list /mesos", env.list(&["json.info_0000000003"]));
    assert_eq!(env.told[1..], [Env::leader(5)]);
}
