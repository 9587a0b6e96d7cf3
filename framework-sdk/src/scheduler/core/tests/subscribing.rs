//! Finding the leader, subscribing, losing the subscription.

use mezzo_model::ids::StreamId;
use mezzo_model::time::Millis;
use mezzo_wire::v1::scheduler::call;

use super::env::{Env, config, error_event, framework, heartbeat, offers_event};
use crate::scheduler::core::{CloseReason, DriverInput, DriverOutput, Leader, SaveError};
use crate::scheduler::{SchedulerCommand, SchedulerEvent};

fn subscribed_as(event: &SchedulerEvent) -> Option<(&str, bool)> {
    match event {
        SchedulerEvent::Subscribed {
            framework_id,
            resubscribed,
        } => Some((framework_id.as_str(), *resubscribed)),
        _ => None,
    }
}

#[test]
fn a_new_id_is_durable_before_the_framework_hears_of_it() {
    let mut env = Env::with(config(), None);
    env.quiet();
    env.leader("m1:5050");
    let subscribe = env.expect_subscribe("m1:5050");
    assert_eq!(subscribe.framework_info.id, None);
    env.accept_subscription("f9");
    assert_eq!(
        env.next(),
        Some(DriverOutput::SaveFrameworkId(framework("f9")))
    );
    env.event(offers_event(&["o1"]));
    env.quiet();

    // The store is away for a while.
    let away = SaveError::Unavailable("no quorum".into());
    env.input(DriverInput::FrameworkIdSaved {
        id: framework("f9"),
        result: Err(away),
    });
    env.quiet();
    env.pass(Millis(1_000));
    assert_eq!(
        env.next(),
        Some(DriverOutput::SaveFrameworkId(framework("f9")))
    );
    env.input(DriverInput::FrameworkIdSaved {
        id: framework("f9"),
        result: Ok(()),
    });
    env.expect_event(|event| subscribed_as(event) == Some(("f9", false)));
    env.expect_event(|event| matches!(event, SchedulerEvent::Offers(offers) if offers.len() == 1));
    env.quiet();
}

#[test]
fn an_id_that_was_given_but_not_stored_is_used_again() {
    let mut env = Env::with(config(), None);
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f9");
    assert_eq!(
        env.next(),
        Some(DriverOutput::SaveFrameworkId(framework("f9")))
    );
    env.lose();
    env.expect_close();
    env.pass(Millis(1_000));
    let subscribe = env.expect_subscribe("m1:5050");
    assert_eq!(subscribe.framework_info.id, Some(framework("f9").to_wire()));
    // The store answers only now, in the middle of the second attempt.
    env.input(DriverInput::FrameworkIdSaved {
        id: framework("f9"),
        result: Ok(()),
    });
    env.quiet();
    env.accept_subscription("f9");
    env.expect_event(|event| subscribed_as(event) == Some(("f9", false)));
    env.quiet();
}

#[test]
fn another_id_in_the_store_or_a_lost_right_to_write_ends_the_driver() {
    for error in [
        SaveError::Fenced,
        SaveError::Conflict {
            existing: framework("f0"),
        },
    ] {
        let mut env = Env::with(config(), None);
        env.leader("m1:5050");
        env.expect_subscribe("m1:5050");
        env.accept_subscription("f9");
        env.next();
        let words = error.to_string();
        env.input(DriverInput::FrameworkIdSaved {
            id: framework("f9"),
            result: Err(error),
        });
        env.expect_close();
        env.expect_event(|event| {
            *event
                == SchedulerEvent::Refused {
                    message: words.clone(),
                    fatal: true,
                }
        });
        assert_eq!(env.next(), Some(DriverOutput::Ended));
        env.leader("m2:5050");
        env.quiet();
        assert!(env.core.has_ended());
    }
}

#[test]
fn a_lost_subscription_is_tried_again_at_once_then_ever_more_slowly() {
    let mut env = Env::subscribed();
    env.pass(Millis(10_000));
    env.expect_and_answer(call::Type::Reconcile);
    env.pass(Millis(10_000));
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.expect_subscribe("m1:5050");
    let mut pauses = Vec::new();
    for _ in 0..12 {
        env.lose();
        env.expect_close();
        env.quiet();
        let before = env.now.mono;
        env.pass(Millis(60_000));
        pauses.push(env.now.mono.since(before).0);
        env.expect_subscribe("m1:5050");
    }
    let (mut full, mut differ) = (250, 0);
    for pause in &pauses {
        assert!((full / 2..=full).contains(pause), "{pauses:?}");
        differ += usize::from(*pause != full);
        full = (full * 2).min(10_000);
    }
    assert!(differ > 6, "the pauses have jitter: {pauses:?}");

    // News of a leader ends the waiting.
    env.lose();
    env.expect_close();
    env.leader("m2:5050");
    env.expect_subscribe("m2:5050");
    env.quiet();
}

#[test]
fn a_master_that_takes_and_drops_subscriptions_is_not_hammered() {
    let mut env = Env::subscribed();
    for _ in 0..5 {
        env.lose();
        env.expect_close();
        env.expect_disconnected();
        env.quiet();
        env.pass(Millis(60_000));
        env.expect_subscribe("m1:5050");
        env.accept_subscription("f1");
        env.expect_event(|event| subscribed_as(event) == Some(("f1", true)));
    }
}

#[test]
fn a_new_leader_is_followed_and_news_of_the_same_one_changes_nothing() {
    let mut env = Env::subscribed();
    env.leader("m1:5050");
    env.input(DriverInput::Leader(None));
    env.quiet();
    env.event(heartbeat());
    assert!(
        env.core.is_subscribed(),
        "a working connection outlives a blind detector"
    );
    env.leader("m1:5050");
    env.quiet();
    env.leader("m2:5050");
    env.expect_close();
    env.expect_disconnected();
    env.expect_subscribe("m2:5050");
    env.quiet();
}

#[test]
fn the_same_address_with_another_reign_is_another_leader() {
    let mut env = Env::with(config(), Some("f1"));
    let leader = |id: &str| {
        DriverInput::Leader(Some(Leader {
            address: "m1:5050".into(),
            id: id.into(),
        }))
    };
    env.input(leader("one"));
    env.expect_subscribe("m1:5050");
    env.input(leader("two"));
    env.expect_close();
    env.expect_subscribe("m1:5050");
    env.quiet();
}

#[test]
fn without_a_leader_nothing_is_tried() {
    let mut env = Env::subscribed();
    env.input(DriverInput::Leader(None));
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.pass(Millis(600_000));
    env.quiet();
}

#[test]
fn five_silent_intervals_make_a_dead_connection() {
    let mut env = Env::subscribed();
    env.pass(Millis(10_000));
    env.expect_and_answer(call::Type::Reconcile);
    env.event(heartbeat());
    let heard = env.now.mono;
    env.pass(Millis(100_000));
    assert_eq!(env.now.mono.since(heard), Millis(75_000));
    env.expect_close();
    env.expect_disconnected();
    env.expect_subscribe("m1:5050");
    env.quiet();
}

#[test]
fn an_attempt_without_an_answer_ends() {
    let mut env = Env::with(config(), None);
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.pass(Millis(15_000));
    env.expect_close();
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.quiet();
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let mut env = Env::with(config(), None);
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    let not_leading = |leader: &str| CloseReason::NotLeader {
        leader: Some(leader.to_owned()),
    };
    for hop in ["m2:5050", "m3:5050", "m2:5050"] {
        env.close(not_leading(hop));
        env.expect_close();
        env.expect_subscribe(hop);
    }
    env.close(not_leading("m3:5050"));
    env.expect_close();
    env.quiet();
    env.pass(Millis(10_000));
    env.expect_subscribe("m1:5050");

    for nonsense in [
        "",
        "m2",
        "m2:0",
        "m2:99999",
        ":5050",
        "m 2:5050",
        "m2:5050/path?x",
    ] {
        env.close(not_leading(nonsense));
        env.expect_close();
        env.quiet();
        env.pass(Millis(20_000));
        env.expect_subscribe("m1:5050");
    }
}

#[test]
fn fatal_words_end_the_driver() {
    for words in ["Framework has been removed", "Framework failed over"] {
        let mut env = Env::subscribed();
        env.event(error_event(words));
        env.expect_close();
        env.expect_event(|event| {
            *event
                == SchedulerEvent::Refused {
                    message: words.to_owned(),
                    fatal: true,
                }
        });
        assert_eq!(env.next(), Some(DriverOutput::Ended));
        env.leader("m2:5050");
        env.command(SchedulerCommand::Revive { roles: vec![] });
        env.pass(Millis(600_000));
        env.quiet();
    }
}

#[test]
fn a_refusal_that_cannot_change_is_fatal_and_another_is_not() {
    let mut env = Env::with(config(), None);
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.close(CloseReason::Refused("who are you".into()));
    env.expect_close();
    env.expect_event(|event| matches!(event, SchedulerEvent::Refused { fatal: false, .. }));
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.close(CloseReason::Unacceptable("no such role".into()));
    env.expect_close();
    env.expect_event(|event| matches!(event, SchedulerEvent::Refused { fatal: true, .. }));
    assert_eq!(env.next(), Some(DriverOutput::Ended));
}

#[test]
fn suppression_is_remembered_over_subscriptions() {
    let mut suppressed = config();
    suppressed.suppressed_roles = vec!["red".into()];
    let mut env = Env::with(suppressed, Some("f1"));
    env.command(SchedulerCommand::Suppress {
        roles: vec!["blue".into(), "foreign".into()],
    });
    env.leader("m1:5050");
    let subscribe = env.expect_subscribe("m1:5050");
    assert_eq!(subscribe.suppressed_roles, ["blue", "red"]);
    // Said while the SUBSCRIBE was under way: made good right after.
    env.command(SchedulerCommand::Revive {
        roles: vec!["red".into()],
    });
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    let revive = env.expect_and_answer(call::Type::Revive);
    assert_eq!(revive.revive.expect("a revive").roles, ["red"]);
    env.command(SchedulerCommand::Suppress { roles: vec![] });
    let suppress = env.expect_and_answer(call::Type::Suppress);
    assert_eq!(
        suppress.suppress.expect("a suppress").roles,
        Vec::<String>::new()
    );
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.pass(Millis(1_000));
    let subscribe = env.expect_subscribe("m1:5050");
    assert_eq!(subscribe.suppressed_roles, ["blue", "red"]);
    env.quiet();
}

#[test]
fn what_an_old_connection_says_is_not_heard() {
    let mut env = Env::subscribed();
    let old = env.connection;
    env.leader("m2:5050");
    env.expect_close();
    env.expect_disconnected();
    env.expect_subscribe("m2:5050");
    let stream = StreamId::parse("stale").expect("a good id");
    env.input(DriverInput::Accepted {
        connection: old,
        stream,
    });
    let error = Box::new(error_event("Framework failed over"));
    env.input(DriverInput::Event {
        connection: old,
        event: error,
    });
    let reason = CloseReason::Lost("late".into());
    env.input(DriverInput::Closed {
        connection: old,
        reason,
    });
    env.quiet();
}

#[test]
fn teardown_ends_the_driver_once_the_master_took_it() {
    let mut env = Env::subscribed();
    env.command(SchedulerCommand::Teardown);
    let (id, call) = env.expect_call();
    assert_eq!(call.r#type(), call::Type::Teardown);
    // Its fate is unknown: it is said again, even when the next master does not know the framework any more.
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.done(id, Ok(()));
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.expect_and_answer(call::Type::Teardown);
    env.expect_close();
    env.expect_disconnected();
    assert_eq!(env.next(), Some(DriverOutput::Ended));

    let mut never = Env::with(config(), None);
    never.command(SchedulerCommand::Teardown);
    assert_eq!(never.next(), Some(DriverOutput::Ended));
}
