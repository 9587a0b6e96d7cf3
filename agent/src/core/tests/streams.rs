//! Status updates: order, repetition, acknowledgement, what is refused.

use mezzo_model::{Millis, TaskState};
use mezzo_wire::link;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1::executor::{call, event};
use mezzo_wire::v1::task_status::Source;

use super::super::io::{Input, Output};
use super::super::ledger::PENDING_MAX;
use super::super::testing::{Env, command_task, framework, key};

/// A task whose STARTING is sent and not acknowledged.
fn starting(env: &mut Env) -> (super::super::io::Launch, u64, [u8; 16]) {
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    let uuid = env.update(conn, &launch, "t", TaskState::Starting);
    env.expect_acknowledged_and_sent(TaskState::Starting);
    (launch, conn, uuid)
}

#[test]
fn updates_go_one_after_another_and_carry_the_latest_state() {
    let mut env = Env::registered();
    let (launch, conn, first) = starting(&mut env);
    let second = env.update(conn, &launch, "t", TaskState::Running);
    env.event(event::Type::Acknowledged);
    env.finish();
    env.acknowledge("t", second);
    env.finish();
    env.acknowledge("t", first);
    let (status, latest) = env.expect_status();
    assert_eq!(
        (status.state, latest),
        (TaskState::Running.number(), TaskState::Running)
    );
    env.acknowledge("t", second);
    env.finish();
}

#[test]
fn an_unacknowledged_update_is_sent_again_ever_more_rarely() {
    let mut env = Env::registered();
    let (_, _, uuid) = starting(&mut env);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let before = env.now.mono;
        loop {
            env.pass(Millis(500));
            // The master is heard from, so the connection stays.
            env.master(1, Order::Ping(link::Ping { sequence: 0 }));
            match env.said() {
                mezzo_wire::link::agent_message::Body::Pong(_) => {}
                mezzo_wire::link::agent_message::Body::Update(update) => {
                    assert_eq!(update.status.uuid.as_deref(), Some(uuid.as_slice()));
                    env.said();
                    break;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        waits.push(env.now.mono.since(before).0 / 1_000);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    env.acknowledge("t", uuid);
    env.finish();
}

#[test]
fn heads_are_sent_at_once_when_the_framework_comes_back_or_a_master_welcomes() {
    let mut env = Env::registered();
    let (_, _, uuid) = starting(&mut env);
    let update = link::UpdateFramework {
        framework: framework(),
    };
    env.master(1, Order::UpdateFramework(update));
    assert_eq!(env.expect_status().0.uuid.as_deref(), Some(uuid.as_slice()));
    env.lead("m2:5050");
    assert!(matches!(env.next("a hang-up"), Output::HangUp { .. }));
    env.pass(Millis::from_secs(20));
    env.connect();
    let hello = env.expect_hello();
    let task = hello.tasks.first().expect("the task");
    assert_eq!(task.state, TaskState::Starting.number());
    assert_eq!(task.status_update_uuid.as_deref(), Some(uuid.as_slice()));
    assert_eq!(hello.frameworks.len(), 1);
    env.welcome(2);
    assert_eq!(env.expect_status().0.uuid.as_deref(), Some(uuid.as_slice()));
    env.finish();
}

#[test]
fn a_repeated_update_is_acknowledged_and_not_sent_twice() {
    let mut env = Env::registered();
    let (launch, conn, uuid) = starting(&mut env);
    let mut status = env.status("t", TaskState::Starting);
    status.uuid = Some(uuid.to_vec().into());
    env.send_update(conn, &launch, status.clone());
    env.event(event::Type::Acknowledged);
    env.finish();
    env.acknowledge("t", uuid);
    env.send_update(conn, &launch, status);
    env.event(event::Type::Acknowledged);
    env.finish();
}

#[test]
fn nothing_follows_the_end() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    let end = env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    for state in [TaskState::Running, TaskState::Failed] {
        env.update(conn, &launch, "t", state);
        env.event(event::Type::Acknowledged);
    }
    env.acknowledge("t", end);
    env.update(conn, &launch, "t", TaskState::Running);
    env.event(event::Type::Acknowledged);
    env.finish();
}

#[test]
fn an_end_behind_an_unacknowledged_update_frees_the_resources_soon() {
    let mut env = Env::registered();
    let (launch, conn, first) = starting(&mut env);
    env.update(conn, &launch, "t", TaskState::Failed);
    env.expect_reads_end();
    env.event(event::Type::Acknowledged);
    env.finish();
    env.pass(Millis::from_secs(1));
    let (status, latest) = env.expect_status();
    assert_eq!(
        status.uuid.as_deref(),
        Some(first.as_slice()),
        "still the head"
    );
    assert_eq!(latest, TaskState::Failed);
    env.acknowledge("t", first);
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Failed.number());
    env.finish();
}

#[test]
fn an_executor_that_never_stops_reporting_does_not_fill_the_memory() {
    let mut env = Env::registered();
    let (launch, conn, _) = starting(&mut env);
    for _ in 0..PENDING_MAX + 50 {
        env.update(conn, &launch, "t", TaskState::Running);
        env.event(event::Type::Acknowledged);
    }
    let entry = env.core.ledger().tasks().next().expect("the task").1;
    assert_eq!(entry.pending.len(), PENDING_MAX);
    env.finish();
}

#[test]
fn updates_that_break_the_rules_close_the_connection_in_words() {
    type Spoil = fn(&mut mezzo_wire::v1::TaskStatus);
    let rows: [(&str, Spoil); 7] = [
        ("Not a valid UUID", |status| status.uuid = None),
        ("Not a valid UUID", |status| {
            status.uuid = Some(vec![1; 15].into())
        }),
        ("SOURCE_EXECUTOR", |status| {
            status.source = Some(Source::Master as i32)
        }),
        ("SOURCE_EXECUTOR", |status| status.source = None),
        ("TASK_STAGING", |status| {
            status.state = TaskState::Staging.number()
        }),
        ("not a known one", |status| status.state = 99),
        ("does not match ExecutorID", |status| {
            status.executor_id = Some(mezzo_wire::v1::ExecutorId {
                value: "other".to_owned(),
            });
        }),
    ];
    for (words, spoil) in rows {
        let mut env = Env::registered();
        let (launch, conn, _) = starting(&mut env);
        let mut status = env.status("t", TaskState::Running);
        spoil(&mut status);
        env.send_update(conn, &launch, status);
        let event = env.event(event::Type::Error);
        let said = event.error.expect("an error").message;
        assert!(said.contains(words), "{said}");
        assert!(matches!(env.next("a close"), Output::CloseExecutor { .. }));
        assert_eq!(env.core.task_state(&key("t")), Some(TaskState::Starting));
        // It may come back and do better.
        env.subscribe(&launch, call::Subscribe::default());
        env.finish();
    }
}

#[test]
fn tasks_that_a_master_believes_in_and_are_not_here_get_a_definite_answer() {
    let mut env = Env::registered();
    let (_, _, head) = starting(&mut env);
    let ids = ["t", "ghost"].map(|id| mezzo_wire::v1::TaskId {
        value: id.to_owned(),
    });
    let asked = Order::ReconcileTasks(link::ReconcileTasks {
        framework_id: mezzo_wire::v1::FrameworkId {
            value: "fw".to_owned(),
        },
        task_ids: ids.to_vec(),
    });
    env.master(1, asked.clone());
    assert_eq!(env.expect_status().0.uuid.as_deref(), Some(head.as_slice()));
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Dropped.number());
    let uuid = status.uuid.expect("a uuid");
    env.master(1, asked);
    env.expect_status();
    let (again, _) = env.expect_status();
    assert_eq!(
        again.uuid,
        Some(uuid.clone()),
        "the same answer, not another one"
    );
    env.acknowledge("ghost", uuid.as_ref().try_into().expect("16 bytes"));
    assert_eq!(env.state("ghost"), None);
    env.finish();
}

#[test]
fn a_framework_that_knows_no_partitions_is_told_lost() {
    let mut env = Env::registered();
    let plain = mezzo_wire::v1::FrameworkInfo {
        capabilities: Vec::new(),
        ..framework()
    };
    let task = mezzo_wire::v1::TaskInfo {
        command: None,
        ..command_task("x")
    };
    env.input(Input::EndAll);
    assert_eq!(env.next("the end"), Output::Stop { error: None });
    let mut env = Env::registered();
    env.master(
        1,
        Order::RunTask(link::RunTask {
            framework: plain.clone(),
            task,
        }),
    );
    env.expect_status();
    let asked = link::ReconcileTasks {
        framework_id: mezzo_wire::v1::FrameworkId {
            value: "fw".to_owned(),
        },
        task_ids: vec![mezzo_wire::v1::TaskId {
            value: "ghost".to_owned(),
        }],
    };
    env.master(1, Order::ReconcileTasks(asked));
    assert_eq!(env.expect_status().0.state, TaskState::Lost.number());
    env.finish();
}
