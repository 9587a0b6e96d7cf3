//! A master that talks nonsense.

use mezzo_model::ids::StreamId;
use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::{Event, event};

use super::env::{Env, config, heartbeat, offer, offers_event, subscribed_event, update_event};
use crate::scheduler::core::{CloseReason, ConnectionId, DriverInput, DriverOutput};
use crate::scheduler::{SchedulerCommand, SchedulerEvent};

#[test]
fn absurd_heartbeat_intervals_are_not_believed() {
    for (said, silent_after) in [
        (None, 75_000),
        (Some(f64::NAN), 75_000),
        (Some(-3.0), 75_000),
        (Some(0.0), 75_000),
        (Some(1e300), 3_000_000),
        (Some(1e-9), 75_000),
        (Some(0.001), 500),
        (Some(2.0), 10_000),
    ] {
        let mut quiet = config();
        quiet.implicit_every = None;
        let mut env = Env::with(quiet, Some("f1"));
        env.leader("m1:5050");
        env.expect_subscribe("m1:5050");
        let connection = env.connection;
        let stream = StreamId::parse("s").expect("a good id");
        env.input(DriverInput::Accepted { connection, stream });
        env.event(subscribed_event("f1", said));
        env.expect_event(|event| matches!(event, SchedulerEvent::Subscribed { .. }));
        let start = env.now.mono;
        env.pass(Millis(10_000_000));
        assert_eq!(env.now.mono.since(start), Millis(silent_after), "{said:?}");
        env.expect_close();
        env.expect_disconnected();
    }
}

#[test]
fn a_subscription_without_stream_or_with_a_wrong_id_is_given_up() {
    let mut env = Env::with(config(), Some("f1"));
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.event(subscribed_event("f1", None));
    env.expect_close();
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f2");
    env.expect_close();
    env.expect_event(|event| {
        matches!(event, SchedulerEvent::Refused { message, fatal: false } if message.contains("f2"))
    });
    env.pass(Millis(1_000));
    env.expect_subscribe("m1:5050");
    env.accept_subscription("../../etc");
    env.expect_close();
    env.expect_event(|event| matches!(event, SchedulerEvent::Refused { fatal: false, .. }));
    env.quiet();
    assert!(!env.core.has_ended());
}

#[test]
fn unusable_ids_are_left_out() {
    let mut env = Env::subscribed();
    env.event(offers_event(&["", "a/b", "o1", "o1"]));
    match env.expect_event(|event| matches!(event, SchedulerEvent::Offers(_))) {
        SchedulerEvent::Offers(offers) => assert_eq!(offers.len(), 1),
        other => panic!("{other:?}"),
    }
    env.event(offers_event(&["..", "o1"]));
    env.event(update_event("a/b", v1::TaskState::TaskRunning, None));
    let mut odd = update_event("t1", v1::TaskState::TaskRunning, None);
    odd.update.as_mut().expect("an update").status.state = 99;
    env.event(odd);
    env.event(Event {
        r#type: Some(event::Type::Message as i32),
        ..Default::default()
    });
    env.event(Event {
        r#type: Some(event::Type::Message as i32),
        message: Some(event::Message::default()),
        ..Default::default()
    });
    env.event(Event {
        r#type: Some(event::Type::Update as i32),
        ..Default::default()
    });
    env.event(Event {
        r#type: Some(event::Type::Rescind as i32),
        ..Default::default()
    });
    env.event(Event {
        r#type: Some(4711),
        ..Default::default()
    });
    env.event(subscribed_event("f7", None));
    env.quiet();
    assert!(env.core.is_subscribed());
}

#[test]
fn a_uuid_of_the_wrong_length_is_no_right_to_acknowledge() {
    let mut env = Env::subscribed();
    let mut odd = update_event("t1", v1::TaskState::TaskRunning, None);
    odd.update.as_mut().expect("an update").status.uuid = Some(b"short".as_slice().into());
    env.event(odd);
    match env.expect_event(|event| matches!(event, SchedulerEvent::Update { .. })) {
        SchedulerEvent::Update { ack, .. } => assert!(!ack.needed()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_without_end_before_the_id_is_stored_end_the_connection() {
    let mut env = Env::with(config(), None);
    env.leader("m1:5050");
    env.expect_subscribe("m1:5050");
    env.accept_subscription("f1");
    assert!(matches!(env.next(), Some(DriverOutput::SaveFrameworkId(_))));
    for _ in 0..super::super::MAX_HELD_EVENTS {
        env.event(heartbeat());
    }
    env.quiet();
    env.event(heartbeat());
    env.expect_close();
}

/// Any order of any inputs: no panic, no output after the end, and never two calls under way at once.
#[test]
fn a_storm_of_random_inputs_keeps_the_rules() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut env = Env::with(config(), (seed % 2 == 0).then_some("f1"));
        let mut under_way: Option<(ConnectionId, crate::scheduler::core::CallId)> = None;
        let mut told_subscribed = false;
        for _ in 0..400 {
            let input = random_input(&mut rng, &env, under_way);
            if let DriverInput::CallDone { call, .. } = &input
                && under_way.is_some_and(|(_, id)| id == *call)
            {
                under_way = None;
            }
            env.now.mono += Millis(rng.below(3_000));
            let ended = env.core.has_ended();
            env.input(input);
            while let Some(output) = env.next() {
                assert!(!ended, "seed {seed}: an output after the end: {output:?}");
                match output {
                    DriverOutput::Submit { connection, id, .. } => {
                        assert!(under_way.is_none(), "seed {seed}: two calls at once");
                        assert_eq!(connection, env.connection, "seed {seed}");
                        under_way = Some((connection, id));
                    }
                    DriverOutput::Subscribe { connection, .. } => {
                        assert!(connection > env.connection, "seed {seed}");
                        env.connection = connection;
                        under_way = None;
                    }
                    DriverOutput::Deliver(SchedulerEvent::Subscribed { .. }) => {
                        assert!(!told_subscribed, "seed {seed}: subscribed twice");
                        told_subscribed = true;
                    }
                    DriverOutput::Deliver(SchedulerEvent::Disconnected) => {
                        assert!(told_subscribed, "seed {seed}: disconnected twice");
                        told_subscribed = false;
                    }
                    DriverOutput::Close { .. } => under_way = None,
                    _ => {}
                }
            }
        }
    }
}

fn random_input(
    rng: &mut Rng,
    env: &Env,
    under_way: Option<(ConnectionId, crate::scheduler::core::CallId)>,
) -> DriverInput {
    let connection = ConnectionId(env.connection.0.saturating_sub(rng.below(8) / 7));
    let event = |event: Event| DriverInput::Event {
        connection,
        event: Box::new(event),
    };
    let name = format!("x{}", rng.below(6));
    match rng.below(24) {
        0 => DriverInput::Leader(None),
        1 | 2 => DriverInput::Leader(Some(crate::scheduler::core::Leader {
            address: format!("m{}:5050", rng.below(3)),
            id: String::new(),
        })),
        3 => DriverInput::Closed {
            connection,
            reason: CloseReason::Lost("x".into()),
        },
        4 => DriverInput::Closed {
            connection,
            reason: CloseReason::NotLeader { leader: None },
        },
        5..=7 => DriverInput::Accepted {
            connection,
            stream: StreamId::parse("s").expect("good"),
        },
        8..=10 => event(subscribed_event("f1", Some(1.0))),
        11 => event(offers_event(&[&name])),
        12 => event(update_event(
            &name,
            v1::TaskState::TaskRunning,
            Some([1; 16]),
        )),
        13 => event(update_event(
            &name,
            v1::TaskState::TaskKilled,
            Some([2; 16]),
        )),
        14 => DriverInput::FrameworkIdSaved {
            id: super::env::framework("f1"),
            result: Ok(()),
        },
        15..=17 => match under_way {
            Some((connection, call)) => DriverInput::CallDone {
                connection,
                call,
                result: Ok(()),
            },
            None => DriverInput::Tick,
        },
        18..=22 => DriverInput::Command(random_command(rng, name)),
        _ => DriverInput::Tick,
    }
}

fn random_command(rng: &mut Rng, name: String) -> SchedulerCommand {
    let task = super::env::task(&name);
    match rng.below(5) {
        0 => SchedulerCommand::Kill {
            task,
            agent: None,
            policy: None,
        },
        1 => SchedulerCommand::Accept {
            offers: vec![offer(&name)],
            operations: super::env::launch(&[&name]),
            filters: None,
        },
        2 => SchedulerCommand::Reconcile(vec![(task, None)]),
        3 => SchedulerCommand::Revive { roles: vec![] },
        _ => SchedulerCommand::Suppress { roles: vec![name] },
    }
}

#[test]
fn a_flood_of_offers_ends_the_connection_before_memory_does() {
    let mut env = Env::subscribed();
    let offers = offers_event(&["o"]).offers.expect("offers").offers;
    let mut flood = Event {
        r#type: Some(event::Type::Offers as i32),
        offers: Some(event::Offers {
            offers: vec![offers[0].clone(); 600_000],
        }),
        ..Default::default()
    };
    for round in 0..2 {
        let list = &mut flood.offers.as_mut().expect("offers").offers;
        for (number, offer) in list.iter_mut().enumerate() {
            offer.id.value = format!("o{round}-{number}");
        }
        env.event(flood.clone());
        if round == 0 {
            env.expect_event(|event| matches!(event, SchedulerEvent::Offers(_)));
        }
    }
    env.expect_close();
    env.expect_disconnected();
}
