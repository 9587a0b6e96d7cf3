//! Order of calls, calls without a subscription, answers to calls.

use mezzo_model::time::Millis;
use mezzo_wire::v1;
use mezzo_wire::v1::TaskState as State;
use mezzo_wire::v1::scheduler::call;
use mezzo_wire::v1::task_status::Reason;

use super::env::{
    Env, agent, config, launch, offer, offers_event, rescind_event, task, update_event,
};
use crate::scheduler::core::{CallError, DriverOutput, MAX_KILLS};
use crate::scheduler::{AckToken, SchedulerCommand, SchedulerEvent};

fn accept(offers: &[&str], tasks: &[&str]) -> SchedulerCommand {
    SchedulerCommand::Accept {
        offers: offers.iter().copied().map(offer).collect(),
        operations: launch(tasks),
        filters: None,
    }
}

fn kill(id: &str) -> SchedulerCommand {
    SchedulerCommand::Kill {
        task: task(id),
        agent: Some(agent("a1")),
        policy: None,
    }
}

fn with_offers(ids: &[&str]) -> Env {
    let mut env = Env::subscribed();
    env.event(offers_event(ids));
    env.expect_event(|event| matches!(event, SchedulerEvent::Offers(_)));
    env
}

/// An update with a UUID; the token it came with.
fn update(env: &mut Env, id: &str, state: State, uuid: u8) -> AckToken {
    env.event(update_event(id, state, Some([uuid; 16])));
    match env.expect_event(|event| matches!(event, SchedulerEvent::Update { .. })) {
        SchedulerEvent::Update { ack, .. } => ack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_go_out_one_at_a_time_in_the_order_given() {
    let mut env = with_offers(&["o1", "o2"]);
    env.command(accept(&["o1"], &["t1"]));
    let (first, call) = env.expect_call();
    assert_eq!(
        call.accept.expect("an accept").offer_ids,
        [offer("o1").to_wire()]
    );
    assert_eq!(call.framework_id.expect("an id").value, "f1");
    env.command(kill("t1"));
    env.command(SchedulerCommand::Decline {
        offers: vec![offer("o2")],
        filters: None,
    });
    env.command(SchedulerCommand::Message {
        agent: agent("a1"),
        executor: mezzo_model::ids::ExecutorId::parse("e1").expect("a good id"),
        data: b"hi".as_slice().into(),
    });
    env.quiet();
    env.done(first, Ok(()));
    let kill = env.expect_and_answer(call::Type::Kill);
    assert_eq!(
        kill.kill.expect("a kill").agent_id,
        Some(agent("a1").to_wire())
    );
    env.expect_and_answer(call::Type::Decline);
    let message = env.expect_and_answer(call::Type::Message);
    assert_eq!(message.message.expect("a message").data.as_ref(), b"hi");
    env.quiet();
}

#[test]
fn a_launch_without_a_subscription_is_dropped_as_a_master_would_say_it() {
    for (aware, state) in [(true, State::TaskDropped), (false, State::TaskLost)] {
        let mut config = config();
        if !aware {
            config.framework.capabilities.remove(0);
        }
        let mut env = Env::with(config, Some("f1"));
        env.command(accept(&["o1"], &["t1", "t2"]));
        for id in ["t1", "t2"] {
            let status = env.expect_status();
            assert_eq!(status.task_id.value, id);
            assert_eq!(status.state(), state);
            assert_eq!(status.reason(), Reason::MasterDisconnected);
            assert_eq!(status.agent_id, Some(agent("a1").to_wire()));
            assert_eq!(status.timestamp, Some(1_700_000_000.0));
            assert!(!AckToken::of(&status).needed());
        }
        env.quiet();
    }
}

#[test]
fn offers_of_an_old_subscription_are_void() {
    let mut env = with_offers(&["o1", "o2"]);
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.command(accept(&["o1"], &["t1"]));
    assert_eq!(env.expect_status().reason(), Reason::InvalidOffers);
    env.command(SchedulerCommand::Decline {
        offers: vec![offer("o2")],
        filters: None,
    });
    env.quiet();
}

#[test]
fn an_accept_that_was_not_sent_is_dropped_and_one_under_way_is_left_to_reconciliation() {
    let mut env = with_offers(&["o1", "o2"]);
    env.command(accept(&["o1"], &["under-way"]));
    env.expect_call();
    env.command(accept(&["o2"], &["waiting"]));
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    let status = env.expect_status();
    assert_eq!(status.task_id.value, "waiting");
    assert_eq!(status.state(), State::TaskDropped);
    env.quiet();
}

#[test]
fn a_rescinded_offer_cannot_be_used_alone_but_the_master_judges_a_mixture() {
    let mut env = with_offers(&["o1", "o2", "o3"]);
    env.event(rescind_event("o1"));
    env.expect_event(|event| *event == SchedulerEvent::Rescind(offer("o1")));
    env.command(accept(&["o1"], &["t1"]));
    assert_eq!(env.expect_status().reason(), Reason::InvalidOffers);
    env.command(accept(&["o1", "o2"], &["t2"]));
    let call = env.expect_and_answer(call::Type::Accept);
    assert_eq!(call.accept.expect("an accept").offer_ids.len(), 2);
    // Used up: neither a second use nor a late rescind is of interest.
    env.command(accept(&["o2"], &["t3"]));
    assert_eq!(env.expect_status().task_id.value, "t3");
    env.event(rescind_event("o2"));
    env.quiet();
}

#[test]
fn acknowledgements_wait_for_the_next_subscription_and_are_sent_once() {
    let mut env = Env::subscribed();
    let ack = update(&mut env, "t1", State::TaskRunning, 1);
    assert!(ack.needed());
    env.lose();
    env.expect_close();
    env.expect_disconnected();
    env.command(SchedulerCommand::Acknowledge(ack.clone()));
    env.command(SchedulerCommand::Acknowledge(ack));
    env.command(SchedulerCommand::Acknowledge(AckToken::none()));
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    let call = env.expect_and_answer(call::Type::Acknowledge);
    let ack = call.acknowledge.expect("an acknowledgement");
    assert_eq!(
        (ack.task_id.value.as_str(), ack.uuid.as_ref()),
        ("t1", [1; 16].as_slice())
    );
    env.quiet();
}

#[test]
fn an_acknowledgement_whose_fate_is_unknown_is_sent_again() {
    let mut env = Env::subscribed();
    let ack = update(&mut env, "t1", State::TaskRunning, 1);
    env.command(SchedulerCommand::Acknowledge(ack));
    let (id, _) = env.expect_call();
    env.done(id, Err(CallError::Unknown("timed out".into())));
    env.expect_close();
    env.expect_disconnected();
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.expect_and_answer(call::Type::Acknowledge);
    env.quiet();
}

#[test]
fn the_driver_acknowledges_by_itself_when_asked() {
    let mut automatic = config();
    automatic.automatic_acknowledgement = true;
    let mut env = Env::subscribed_with(automatic);
    let token = update(&mut env, "t1", State::TaskRunning, 3);
    assert!(!token.needed());
    env.expect_and_answer(call::Type::Acknowledge);
    env.event(update_event("t2", State::TaskLost, None));
    env.expect_status();
    env.quiet();
}

#[test]
fn a_kill_is_repeated_until_the_task_has_ended() {
    let mut env = Env::with(config(), Some("f1"));
    env.command(kill("t1"));
    env.command(kill("t1"));
    env.quiet();
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.expect_and_answer(call::Type::Kill);
    env.pass(Millis(5_000));
    env.expect_and_answer(call::Type::Reconcile);
    let before = env.now.mono;
    env.pass(Millis(60_000));
    env.expect_and_answer(call::Type::Kill);
    assert!((3_000..=12_000).contains(&env.now.mono.since(before).0));

    // Out of sight is not dead, and a new master is told at once.
    update(&mut env, "t1", State::TaskUnreachable, 1);
    env.leader("m2:5050");
    env.expect_close();
    env.expect_disconnected();
    env.expect_subscribe("m2:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.expect_and_answer(call::Type::Kill);
    update(&mut env, "t1", State::TaskKilled, 2);
    env.pass(Millis(30_000));
    env.expect_and_answer(call::Type::Reconcile);
    env.pass(Millis(30_000));
    env.quiet();
}

#[test]
fn kills_have_a_bound_and_say_so() {
    let mut env = Env::with(config(), Some("f1"));
    for number in 0..MAX_KILLS {
        env.command(kill(&format!("t{number}")));
    }
    env.quiet();
    env.command(kill("t7"));
    env.quiet();
    env.command(kill("one-too-many"));
    env.expect_event(|event| {
        matches!(event, SchedulerEvent::Refused { message, fatal: false }
            if message.contains("one-too-many"))
    });
}

#[test]
fn a_refused_call_is_told_and_the_subscription_stands() {
    let mut env = with_offers(&["o1"]);
    env.command(accept(&["o1"], &["t1"]));
    let (id, _) = env.expect_call();
    env.command(kill("t2"));
    env.done(
        id,
        Err(CallError::Refused(
            "Expecting 'offer_ids' to be good".into(),
        )),
    );
    let status = env.expect_status();
    assert_eq!(status.state(), State::TaskError);
    assert_eq!(status.message(), "Expecting 'offer_ids' to be good");
    env.expect_event(|event| matches!(event, SchedulerEvent::Refused { fatal: false, .. }));
    env.expect_and_answer(call::Type::Kill);
    assert!(env.core.is_subscribed());
}

#[test]
fn a_master_that_lost_its_reign_or_the_subscription_is_left() {
    let mut env = with_offers(&["o1"]);
    env.command(accept(&["o1"], &["t1"]));
    let (id, _) = env.expect_call();
    env.done(
        id,
        Err(CallError::NotLeader {
            leader: Some("m2:5050".into()),
        }),
    );
    env.expect_close();
    env.expect_disconnected();
    assert_eq!(
        env.expect_status().state(),
        State::TaskDropped,
        "it was certainly not launched"
    );
    env.expect_subscribe("m2:5050");
    env.accept_subscription("f1");
    env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
    env.command(SchedulerCommand::Revive { roles: vec![] });
    let (id, _) = env.expect_call();
    env.done(
        id,
        Err(CallError::NotSubscribed(
            "Framework is not subscribed".into(),
        )),
    );
    env.expect_close();
    env.expect_disconnected();
    env.quiet();
    env.pass(Millis(10_000));
    env.expect_subscribe("m1:5050");
}

#[test]
fn a_call_that_is_never_answered_ends_the_connection() {
    let mut env = Env::subscribed();
    env.command(SchedulerCommand::Revive { roles: vec![] });
    env.expect_call();
    env.pass(Millis(20_000));
    env.event(super::env::heartbeat());
    env.pass(Millis(20_000));
    env.expect_close();
    env.expect_disconnected();
    assert!(matches!(env.next(), Some(DriverOutput::Subscribe { .. })));
}

#[test]
fn the_same_wish_twice_in_a_row_is_one_call() {
    let mut env = Env::subscribed();
    env.command(SchedulerCommand::Revive { roles: vec![] });
    let (id, _) = env.expect_call();
    for _ in 0..100 {
        env.command(SchedulerCommand::Suppress { roles: vec![] });
    }
    assert_eq!(env.core.queued_calls(), 1);
    env.done(id, Ok(()));
    env.expect_and_answer(call::Type::Suppress);
    env.quiet();
}

#[test]
fn an_answer_to_another_call_is_not_taken_for_this_one() {
    let mut env = Env::subscribed();
    env.command(SchedulerCommand::Revive { roles: vec![] });
    let (id, _) = env.expect_call();
    env.command(SchedulerCommand::Suppress { roles: vec![] });
    env.done(
        crate::scheduler::core::CallId(id.0 + 7),
        Err(CallError::Unknown("x".into())),
    );
    env.quiet();
    env.done(id, Ok(()));
    env.expect_and_answer(call::Type::Suppress);
}

#[test]
fn a_group_is_dropped_task_by_task() {
    let mut env = Env::with(config(), Some("f1"));
    let mut operations = launch(&["t1"]);
    let tasks = operations[0].launch.take().expect("a launch").task_infos;
    operations[0].launch_group = Some(v1::offer::operation::LaunchGroup {
        task_group: v1::TaskGroupInfo { tasks },
        ..Default::default()
    });
    env.command(SchedulerCommand::Accept {
        offers: vec![offer("o1")],
        operations,
        filters: None,
    });
    assert_eq!(env.expect_status().task_id.value, "t1");
    env.quiet();
}
