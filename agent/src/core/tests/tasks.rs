//! Tasks: launch, kill, groups, custom executors, what is refused.

use mezzo_model::{Millis, TaskState};
use mezzo_wire::link;
use mezzo_wire::link::agent_message::Body as Said;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{call, event};
use mezzo_wire::v1::task_status::{Reason, Source};

use super::super::io::{Config, ContainerEnd, Input, Output, PayloadEnd};
use super::super::testing::{Env, command_task, custom_task, executor_id, framework, scalar};

fn expect_end(env: &mut Env, state: TaskState, reason: Reason) -> v1::TaskStatus {
    env.expect_reads_end();
    let (status, latest) = env.expect_status();
    assert_eq!(
        (status.state, latest),
        (state.number(), state),
        "{status:?}"
    );
    assert_eq!(status.reason, Some(reason as i32), "{status:?}");
    assert_eq!(status.source, Some(Source::Agent as i32));
    status
}

#[test]
fn a_task_goes_from_launch_to_its_end() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    assert_eq!(&*launch.user, "nobody");
    assert_eq!(launch.limits.memory_bytes, Some(64 << 20));
    assert_eq!(env.state("t"), Some(TaskState::Running));
    let uuid = env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.acknowledge("t", uuid);
    assert_eq!(env.state("t"), None, "forgotten");
    env.ended(
        &launch,
        ContainerEnd {
            status: Some(0),
            ..ContainerEnd::default()
        },
    );
    assert_eq!(env.core.ledger().containers().count(), 0);
    assert_eq!(env.core.ledger().sandboxes().count(), 1);
    env.finish();
}

#[test]
fn the_intent_is_written_before_the_container_is_made_and_needs_no_flush() {
    let mut env = Env::registered();
    env.slow_disk(true);
    env.run(command_task("t"));
    env.finish();
    assert_eq!(
        env.writes
            .iter()
            .map(|(_, flush)| *flush)
            .collect::<Vec<_>>(),
        [false]
    );
    env.slow_disk(false);
    env.expect_launch();
    env.finish();
}

#[test]
fn an_update_is_safe_before_anybody_hears_of_it() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    env.slow_disk(true);
    env.update(conn, &launch, "t", TaskState::Failed);
    env.expect_reads_end();
    env.finish();
    assert_eq!(
        env.writes.back().map(|(_, flush)| *flush),
        Some(true),
        "a terminal one is flushed"
    );
    assert_eq!(
        env.state("t"),
        Some(TaskState::Running),
        "and not told before"
    );
    env.slow_disk(false);
    env.expect_acknowledged_and_sent(TaskState::Failed);
    env.finish();
}

#[test]
fn a_repeated_order_starts_nothing() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.run(command_task("t"));
    env.launched(&launch);
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.run(command_task("t"));
    env.finish();
}

#[test]
fn a_task_waits_until_its_executor_has_subscribed() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.hello(&launch);
    env.finish();
}

#[test]
fn a_kill_before_the_launch_is_the_end_of_it() {
    let mut env = Env::registered();
    env.slow_disk(true);
    env.run(command_task("t"));
    env.kill("t");
    let container = env
        .core
        .ledger()
        .containers()
        .next()
        .map(|(id, _)| id.clone());
    env.expect_reads_end();
    assert_eq!(Some(env.expect_destroy()), container);
    env.slow_disk(false);
    // No launch follows, only the status.
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Killed.number());
    assert_eq!(status.reason, Some(Reason::TaskKilledDuringLaunch as i32));
    env.finish();
}

#[test]
fn a_kill_before_delivery_ends_the_executor_too() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.kill("t");
    env.expect_reads_end();
    assert_eq!(env.expect_destroy(), launch.place.container);
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Killed.number());
    env.ended(&launch, ContainerEnd::default());
    env.finish();
}

#[test]
fn a_kill_is_told_to_the_executor_and_again_when_it_comes_back() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    env.kill("t");
    env.event(event::Type::Kill);
    env.input(Input::ExecutorGone { conn });
    let listed = call::Subscribe {
        unacknowledged_tasks: vec![command_task("t")],
        unacknowledged_updates: Vec::new(),
    };
    env.subscribe(&launch, listed);
    env.event(event::Type::Kill);
    env.finish();
}

#[test]
fn an_executor_that_does_not_obey_a_kill_is_destroyed() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.kill("t");
    env.event(event::Type::Kill);
    env.pass(Millis::from_secs(13));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(
        &launch,
        ContainerEnd {
            status: Some(9),
            ..ContainerEnd::default()
        },
    );
    expect_end(&mut env, TaskState::Killed, Reason::ExecutorTerminated);
    env.finish();
}

#[test]
fn a_kill_of_what_is_not_here_is_answered_once() {
    let mut env = Env::registered();
    env.kill("ghost");
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Dropped.number());
    env.kill("ghost");
    env.finish();
}

#[test]
fn a_late_kill_of_a_task_that_ended_says_nothing() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    let uuid = env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.kill("t");
    env.acknowledge("t", uuid);
    env.kill("t");
    env.finish();
}

#[test]
fn an_executor_that_ends_leaves_a_terminal_update() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.ended(
        &launch,
        ContainerEnd {
            status: Some(9),
            ..ContainerEnd::default()
        },
    );
    expect_end(&mut env, TaskState::Failed, Reason::ExecutorTerminated);
    env.finish();
}

#[test]
fn out_of_memory_is_called_by_its_name() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    let words = "Memory limit exceeded: Requested: 64MB".to_owned();
    env.ended(
        &launch,
        ContainerEnd {
            out_of_memory: Some(words.clone()),
            ..ContainerEnd::default()
        },
    );
    let status = expect_end(
        &mut env,
        TaskState::Failed,
        Reason::ContainerLimitationMemory,
    );
    assert_eq!(status.message, Some(words));
    env.finish();
}

#[test]
fn what_the_executor_left_in_writing_decides_how_the_task_ended() {
    for (success, killed, state) in [
        (true, false, TaskState::Finished),
        (false, false, TaskState::Failed),
        (false, true, TaskState::Killed),
    ] {
        let mut env = Env::registered();
        let (launch, _) = env.running("t");
        let payload = PayloadEnd {
            message: "Command exited".to_owned(),
            success,
            killed,
        };
        env.ended(
            &launch,
            ContainerEnd {
                payload: Some(payload),
                ..ContainerEnd::default()
            },
        );
        expect_end(&mut env, state, Reason::ExecutorTerminated);
        env.finish();
    }
}

#[test]
fn a_container_that_cannot_be_made_is_a_failed_task() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.input(Input::LaunchFailed {
        container: launch.place.container.clone(),
        message: "no such user 'zoe'".to_owned(),
    });
    let status = expect_end(&mut env, TaskState::Failed, Reason::ContainerLaunchFailed);
    assert!(status.message.is_some_and(|words| words.contains("zoe")));
    env.finish();
}

#[test]
fn an_executor_that_never_subscribes_is_destroyed() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    // Making the container may take as long as it takes.
    env.pass(Millis::from_secs(70));
    env.finish();
    env.launched(&launch);
    env.pass(Millis::from_secs(60));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, ContainerEnd::default());
    expect_end(
        &mut env,
        TaskState::Failed,
        Reason::ExecutorRegistrationTimeout,
    );
    env.finish();
}

#[test]
fn an_agent_without_privilege_refuses_another_user_by_name() {
    let config = Config {
        switch_user: false,
        user: "alice".to_owned(),
        ..Config::new("host", vec![scalar("cpus", 1.0)])
    };
    let mut env = Env::with(config);
    env.register();
    env.run(command_task("t"));
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Failed.number());
    let words = status.message.expect("words");
    assert!(
        words.contains("'alice'") && words.contains("'nobody'"),
        "{words}"
    );
    let mut task = command_task("u");
    if let Some(command) = &mut task.command {
        command.user = Some("alice".to_owned());
    }
    env.run(task);
    assert_eq!(&*env.expect_launch().user, "alice");
    env.finish();
}

#[test]
fn tasks_that_cannot_be_are_refused_in_words() {
    let mut default_executor = custom_task("a", "e");
    if let Some(executor) = &mut default_executor.executor {
        executor.r#type = Some(v1::executor_info::Type::Default as i32);
    }
    let mut no_command = custom_task("b", "e");
    if let Some(executor) = &mut no_command.executor {
        executor.command = None;
    }
    let nothing = v1::TaskInfo {
        command: None,
        ..command_task("c")
    };
    for (task, words) in [
        (default_executor, "type DEFAULT"),
        (no_command, "needs a command"),
        (nothing, "at least one (but not both)"),
    ] {
        let mut env = Env::registered();
        env.run(task);
        let (status, _) = env.expect_status();
        assert_eq!(status.state, TaskState::Failed.number());
        assert!(
            status
                .message
                .as_deref()
                .is_some_and(|said| said.contains(words)),
            "{status:?}"
        );
        env.finish();
    }
}

#[test]
fn tasks_of_one_custom_executor_share_its_container() {
    let mut env = Env::registered();
    env.run(custom_task("a", "e"));
    let launch = env.expect_launch();
    assert!(launch.custom);
    env.run(custom_task("b", "e"));
    match env.next("new limits") {
        Output::Resize { limits, .. } => assert_eq!(limits.cpu_milli, 1_000),
        other => panic!("expected new limits, got {other:?}"),
    }
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.event(event::Type::Launch);
    let uuid = env.update(conn, &launch, "a", TaskState::Finished);
    env.expect_reads_end();
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.acknowledge("a", uuid);
    env.ended(
        &launch,
        ContainerEnd {
            status: Some(256),
            ..ContainerEnd::default()
        },
    );
    match env.said() {
        Said::ExecutorExited(exited) => assert_eq!(exited.status, 256),
        other => panic!("expected the executor's end, got {other:?}"),
    }
    expect_end(&mut env, TaskState::Failed, Reason::ExecutorTerminated);
    env.finish();
}

#[test]
fn a_group_starts_together_or_not_at_all() {
    let group = |ids: [&str; 2]| {
        let executor = custom_task("x", "e").executor.expect("an executor");
        let tasks = ids.iter().map(|id| command_task(id)).collect();
        Order::RunTaskGroup(link::RunTaskGroup {
            framework: framework(),
            executor,
            group: v1::TaskGroupInfo { tasks },
        })
    };
    let mut env = Env::registered();
    env.master(1, group(["a", "b"]));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.master(1, group(["c", "d"]));
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    env.kill("d");
    for _ in 0..2 {
        env.expect_reads_end();
        assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    }
    for id in ["c", "d"] {
        let (status, _) = env.expect_status();
        assert_eq!(
            (status.task_id.value.as_str(), status.state),
            (id, TaskState::Killed.number())
        );
    }
    env.subscribe(&launch, call::Subscribe::default());
    let event = env.event(event::Type::LaunchGroup);
    let tasks = event.launch_group.expect("a group").task_group.tasks;
    assert_eq!(tasks.len(), 2);
    env.finish();
}

#[test]
fn messages_go_both_ways_while_somebody_hears() {
    let mut env = Env::registered();
    env.run(custom_task("a", "e"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let message = Order::FrameworkMessage(link::FrameworkMessage {
        framework_id: launch.place.framework.to_wire(),
        executor_id: executor_id("e").to_wire(),
        data: vec![1, 2].into(),
    });
    env.master(1, message.clone());
    env.finish();
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.master(1, message);
    let event = env.event(event::Type::Message);
    assert_eq!(event.message.expect("a message").data.as_ref(), [1, 2]);
    let mut call = super::super::testing::call_of(&launch, call::Type::Message);
    call.message = Some(call::Message {
        data: vec![3].into(),
    });
    env.input(Input::ExecutorCall {
        conn,
        call: Box::new(call),
    });
    match env.said() {
        Said::ExecutorMessage(message) => assert_eq!(message.data.as_ref(), [3]),
        other => panic!("expected a message, got {other:?}"),
    }
    env.finish();
}

#[test]
fn an_executor_is_shut_down_with_grace_and_then_destroyed() {
    let mut env = Env::registered();
    env.run(custom_task("a", "e"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.master(
        1,
        Order::ShutdownExecutor(link::ShutdownExecutor {
            framework_id: launch.place.framework.to_wire(),
            executor_id: launch.place.executor.to_wire(),
        }),
    );
    env.event(event::Type::Shutdown);
    env.run(custom_task("late", "e"));
    let (status, _) = env.expect_status();
    assert_eq!(
        status.state,
        TaskState::Dropped.number(),
        "the executor is ending"
    );
    let uuid = status.uuid.as_deref().and_then(|id| id.try_into().ok());
    env.acknowledge("late", uuid.expect("16 bytes"));
    env.pass(Millis::from_secs(10));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, ContainerEnd::default());
    let said = env.said();
    assert!(matches!(said, Said::ExecutorExited(_)), "{said:?}");
    expect_end(&mut env, TaskState::Failed, Reason::ExecutorTerminated);
    env.finish();
}

#[test]
fn a_framework_that_is_gone_ends_without_a_word() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.master(
        1,
        Order::ShutdownFramework(link::ShutdownFramework {
            framework_id: launch.place.framework.to_wire(),
        }),
    );
    env.event(event::Type::Shutdown);
    env.ended(&launch, ContainerEnd::default());
    env.expect_reads_end();
    assert_eq!(env.core.ledger().tasks().count(), 0);
    assert!(env.core.hello().frameworks.is_empty());
    env.finish();
}
