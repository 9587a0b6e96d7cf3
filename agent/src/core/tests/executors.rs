//! Executors: who is let in, what is answered, what becomes of deliveries that got lost.

use mezzo_model::ids::{ContainerId, ExecutorId, FrameworkId};
use mezzo_model::{Millis, TaskState};
use mezzo_wire::v1::executor::{Call, call, event};
use mezzo_wire::v1::task_status::Reason;

use super::super::io::{ContainerEnd, Input, Output};
use super::super::testing::{Env, call_of, command_task, custom_task};

fn say_hello(
    env: &mut Env,
    framework: &str,
    executor: &str,
    container: &str,
) -> Result<(), String> {
    env.input(Input::ExecutorHello {
        conn: 1_000,
        framework: FrameworkId::parse(framework).expect("an id"),
        executor: ExecutorId::parse(executor).expect("an id"),
        container: ContainerId::parse(container).expect("an id"),
    });
    match env.next("an answer") {
        Output::AnswerHello { answer, .. } => answer,
        other => panic!("expected an answer, got {other:?}"),
    }
}

#[test]
fn strangers_are_sent_away_in_words() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    let container = launch.place.container.as_str().to_owned();
    for (framework, executor, container, words) in [
        ("fw", "t", "nowhere", "not known"),
        (
            "other",
            "t",
            container.as_str(),
            "not one of framework other",
        ),
        ("fw", "u", container.as_str(), "not that of executor u"),
    ] {
        let refused = say_hello(&mut env, framework, executor, container).expect_err("refused");
        assert!(refused.contains(words), "{refused}");
    }
    env.launched(&launch);
    env.ended(&launch, ContainerEnd::default());
    env.expect_reads_end();
    env.expect_status();
    assert!(
        say_hello(&mut env, "fw", "t", &container).is_err(),
        "it has ended"
    );
    env.finish();
}

#[test]
fn a_second_connection_takes_the_place_of_the_first() {
    let mut env = Env::registered();
    let (launch, old) = env.running("t");
    let new = env.subscribe(&launch, call::Subscribe::default());
    assert_ne!(old, new);
    env.update(old, &launch, "t", TaskState::Failed);
    env.input(Input::ExecutorGone { conn: old });
    env.finish();
    env.update(new, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.finish();
}

#[test]
fn calls_that_break_the_rules_close_the_connection_in_words() {
    type Spoil = fn(&mut Call);
    let rows: [(&str, bool, Spoil); 9] = [
        ("Framework cannot be found", true, |call| {
            call.framework_id.value = "x".to_owned()
        }),
        ("Executor cannot be found", true, |call| {
            call.executor_id.value = "x".to_owned()
        }),
        ("'type' to be present", true, |call| call.r#type = None),
        ("'type' to be present", true, |call| call.r#type = Some(77)),
        ("'subscribe' to be present", false, |call| {
            call.r#type = Some(1)
        }),
        ("'update' to be present", true, |call| call.r#type = Some(2)),
        ("'message' to be present", true, |call| {
            call.r#type = Some(3)
        }),
        ("not subscribed", false, |call| call.r#type = Some(2)),
        ("not subscribed", false, |call| call.r#type = Some(3)),
    ];
    for (words, subscribed, spoil) in rows {
        let mut env = Env::registered();
        env.run(command_task("t"));
        let launch = env.expect_launch();
        env.launched(&launch);
        let conn = if subscribed {
            let conn = env.subscribe(&launch, call::Subscribe::default());
            env.event(event::Type::Launch);
            conn
        } else {
            env.hello(&launch)
        };
        let mut call = call_of(&launch, call::Type::Heartbeat);
        spoil(&mut call);
        env.input(Input::ExecutorCall {
            conn,
            call: Box::new(call),
        });
        let said = env
            .event(event::Type::Error)
            .error
            .expect("an error")
            .message;
        assert!(said.contains(words), "{said}");
        assert!(matches!(env.next("a close"), Output::CloseExecutor { .. }));
        env.finish();
    }
}

#[test]
fn a_launch_that_was_lost_on_its_way_to_our_own_executor_is_said_again() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.input(Input::ExecutorGone { conn });
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.finish();
}

#[test]
fn a_launch_that_arrived_is_not_said_again() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.input(Input::ExecutorGone { conn });
    let update = env.status("t", TaskState::Starting);
    env.subscribe(
        &launch,
        call::Subscribe {
            unacknowledged_tasks: vec![command_task("t")],
            unacknowledged_updates: vec![call::Update { status: update }],
        },
    );
    env.expect_acknowledged_and_sent(TaskState::Starting);
    env.finish();
}

#[test]
fn a_launch_that_a_custom_executor_may_have_lost_is_dropped_and_never_said_twice() {
    let mut env = Env::registered();
    env.run(custom_task("t", "e"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.input(Input::ExecutorGone { conn });
    env.subscribe(&launch, call::Subscribe::default());
    env.expect_reads_end();
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Dropped.number());
    assert_eq!(status.reason, Some(Reason::AgentRestarted as i32));
    env.finish();
}

#[test]
fn a_delivery_is_written_before_a_custom_executor_hears_of_it() {
    let mut env = Env::registered();
    env.run(custom_task("t", "e"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.slow_disk(true);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.finish();
    // The connection breaks before the write is through: nothing was sent, so it is as if it had waited.
    env.input(Input::ExecutorGone { conn });
    env.slow_disk(false);
    env.finish();
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.finish();
}

#[test]
fn an_executor_that_stays_away_is_destroyed() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    env.input(Input::ExecutorGone { conn });
    env.pass(Millis::from_secs(60));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, ContainerEnd::default());
    env.expect_reads_end();
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Gone.number());
    assert_eq!(
        status.reason,
        Some(Reason::ExecutorReregistrationTimeout as i32)
    );
    env.finish();
}

#[test]
fn our_own_executor_that_does_not_leave_after_its_task_is_ended() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    let uuid = env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.acknowledge("t", uuid);
    env.pass(Millis::from_secs(30));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, ContainerEnd::default());
    env.finish();
}
