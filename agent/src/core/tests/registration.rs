//! Registration: epochs, ids, refusals, silence.

use mezzo_model::Millis;
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::master_message::Body as Order;

use super::super::io::{Input, Output};
use super::super::record::Record;
use super::super::testing::{Env, command_task, framework};

fn expect_hang_up(env: &mut Env) {
    match env.next("a hang-up") {
        Output::HangUp { .. } => {}
        other => panic!("expected a hang-up, got {other:?}"),
    }
}

#[test]
fn the_first_dial_is_at_once_and_the_id_is_flushed_before_an_order_is_obeyed() {
    let mut env = Env::new();
    env.input(Input::Start);
    env.lead("m1:5050");
    env.connect();
    let hello = env.expect_hello();
    assert_eq!((hello.link_version, hello.connection), (1, 1));
    assert_eq!(hello.agent.id, None);
    assert_eq!(hello.boot_id, "boot");

    env.slow_disk(true);
    env.welcome(3);
    env.master(
        3,
        Order::RunTask(link::RunTask {
            framework: framework(),
            task: command_task("t"),
        }),
    );
    assert!(!env.core.is_up());
    env.finish();
    let first = env.writes.front().copied().expect("a write");
    assert!(first.1, "the epoch is flushed");
    env.slow_disk(false);
    assert!(env.core.is_up());
    assert_eq!(
        env.core.ledger().agent().map(|id| id.as_str()),
        Some("m-S0")
    );
    assert_eq!(
        env.core.ledger().epoch().map(|epoch| epoch.counter),
        Some(3)
    );
}

#[test]
fn a_lower_epoch_is_refused_and_a_higher_one_is_logged_first() {
    let mut env = Env::registered();
    env.slow_disk(true);
    env.master(5, Order::Ping(link::Ping { sequence: 9 }));
    env.finish();
    env.slow_disk(false);
    assert_eq!(env.said(), Said::Pong(link::Pong { sequence: 9 }));
    assert!(
        env.records
            .iter()
            .any(|record| matches!(record, Record::Epoch(epoch) if epoch.counter == 5))
    );

    env.run(command_task("t"));
    match env.said() {
        Said::EpochRefused(refused) => assert_eq!(refused.highest.counter, 5),
        other => panic!("expected a refusal, got {other:?}"),
    }
    expect_hang_up(&mut env);
    assert_eq!(
        env.core.ledger().tasks().count(),
        0,
        "the order was not obeyed"
    );
    env.finish();
}

#[test]
fn another_cluster_is_refused_with_how_to_join_it() {
    let mut env = Env::registered();
    let mut out = Vec::new();
    let message = link::MasterMessage {
        epoch: link::Epoch {
            cluster_id: "other".to_owned(),
            counter: 99,
        },
        body: Some(Order::Ping(link::Ping { sequence: 1 })),
    };
    let link = env.core.link.last;
    env.core.handle(
        env.now,
        Input::FromMaster {
            link,
            message: Box::new(message),
        },
        &mut out,
    );
    let words = out.iter().find_map(|output| match output {
        Output::Health(Err(words)) => Some(words.clone()),
        _ => None,
    });
    assert!(words.expect("unhealthy").contains("empty --work_dir"));
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::HangUp { .. }))
    );
    assert_eq!(
        env.core.ledger().epoch().map(|epoch| epoch.counter),
        Some(1)
    );
}

#[test]
fn a_broken_connection_is_dialled_at_once_and_a_failed_dial_waits_longer_each_time() {
    let mut env = Env::registered();
    let link = env.core.link.last;
    env.input(Input::LinkDown {
        link,
        reason: "reset".to_owned(),
        leader: None,
    });
    let mut link = env.expect_dial();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let before = env.now.mono;
        env.input(Input::LinkDown {
            link,
            reason: "refused".to_owned(),
            leader: None,
        });
        env.finish();
        let at = env.core.next_deadline().expect("another try");
        env.pass(at.since(before));
        link = env.expect_dial();
        waits.push(env.now.mono.since(before));
    }
    assert!(
        waits.iter().all(|wait| *wait <= Millis::from_secs(60)),
        "{waits:?}"
    );
    assert!(
        waits[8..].iter().any(|wait| *wait > Millis::from_secs(5)),
        "{waits:?}"
    );
}

#[test]
fn the_word_of_a_standby_about_the_leader_is_followed_but_not_for_ever() {
    let mut env = Env::new();
    env.input(Input::Start);
    env.lead("m1:5050");
    for _ in 0..3 {
        let link = env.expect_dial();
        env.input(Input::LinkDown {
            link,
            reason: "not the leader".to_owned(),
            leader: Some("m2:5050".into()),
        });
    }
    let link = env.expect_dial();
    env.input(Input::LinkDown {
        link,
        reason: "not the leader".to_owned(),
        leader: Some("m1:5050".into()),
    });
    env.finish();
    assert!(
        env.core.next_deadline().is_some(),
        "it waits before it tries again"
    );
}

#[test]
fn a_new_leader_is_dialled_at_once_and_nothing_more_is_read_from_the_old_one() {
    let mut env = Env::registered();
    let old = env.core.link.last;
    env.lead("m2:5050");
    expect_hang_up(&mut env);
    let new = env.connect();
    assert!(new > old);
    let hello = env.expect_hello();
    assert_eq!(hello.agent.id.map(|id| id.value).as_deref(), Some("m-S0"));
    assert_eq!(hello.highest_epoch.map(|epoch| epoch.counter), Some(1));
    let message = link::MasterMessage {
        epoch: link::Epoch {
            cluster_id: "c".to_owned(),
            counter: 1,
        },
        body: Some(Order::RunTask(link::RunTask {
            framework: framework(),
            task: command_task("t"),
        })),
    };
    env.input(Input::FromMaster {
        link: old,
        message: Box::new(message),
    });
    assert_eq!(env.core.ledger().tasks().count(), 0);
    env.finish();
}

#[test]
fn silence_of_the_master_makes_the_agent_dial_anew() {
    let mut env = Env::new();
    env.silence_ms = 75_000;
    env.register();
    env.pass(Millis::from_secs(60));
    env.master(1, Order::Ping(link::Ping { sequence: 1 }));
    env.said();
    env.pass(Millis::from_secs(74));
    env.finish();
    env.pass(Millis::from_secs(2));
    expect_hang_up(&mut env);
    env.expect_dial();
    env.finish();
}

#[test]
fn no_welcome_in_time_is_a_failure() {
    let mut env = Env::new();
    env.input(Input::Start);
    env.lead("m1:5050");
    env.connect();
    env.expect_hello();
    env.pass(Millis::from_secs(30));
    expect_hang_up(&mut env);
    env.pass(Millis::from_secs(1));
    env.expect_dial();
    env.finish();
}

#[test]
fn a_refusal_without_retry_ends_the_tries_until_another_leads() {
    let mut env = Env::new();
    env.input(Input::Start);
    env.lead("m1:5050");
    env.connect();
    env.expect_hello();
    let refused = link::Refused {
        reason: "too old".to_owned(),
        retry: None,
    };
    env.master(1, Order::Refused(refused));
    expect_hang_up(&mut env);
    env.pass(Millis::from_secs(3_600));
    env.finish();
    env.lead("m2:5050");
    env.expect_dial();
    env.finish();
}

#[test]
fn an_order_before_the_welcome_is_not_obeyed() {
    let mut env = Env::new();
    env.input(Input::Start);
    env.lead("m1:5050");
    env.connect();
    env.expect_hello();
    env.run(command_task("t"));
    expect_hang_up(&mut env);
    assert_eq!(env.core.ledger().tasks().count(), 0);
}

#[test]
fn a_removed_agent_ends_its_tasks_and_forgets_its_id() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    let shutdown = link::Shutdown {
        message: Some("marked gone".to_owned()),
    };
    env.master(1, Order::Shutdown(shutdown));
    env.event(mezzo_wire::v1::executor::event::Type::Shutdown);
    env.ended(&launch, super::super::io::ContainerEnd::default());
    env.expect_reads_end();
    env.expect_status();
    expect_hang_up(&mut env);
    match env.next("the end") {
        Output::Stop { error } => assert!(error.expect("words").contains("marked gone")),
        other => panic!("expected the end, got {other:?}"),
    }
    assert_eq!(env.core.ledger().agent(), None);
    assert_eq!(env.flushed, env.records.len());
    env.finish();
}

#[test]
fn asked_to_end_all_the_agent_keeps_its_id() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.input(Input::EndAll);
    env.event(mezzo_wire::v1::executor::event::Type::Shutdown);
    env.pass(Millis::from_secs(10));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, super::super::io::ContainerEnd::default());
    env.expect_reads_end();
    env.expect_status();
    assert_eq!(env.next("the end"), Output::Stop { error: None });
    assert!(env.core.ledger().agent().is_some());
    env.finish();
}
