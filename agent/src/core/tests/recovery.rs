//! The agent dies and comes back, on the same boot and on another one.

use mezzo_model::{Millis, TaskState};
use mezzo_wire::v1;
use mezzo_wire::v1::executor::{call, event};
use mezzo_wire::v1::task_status::Reason;

use super::super::io::{Config, ContainerEnd, Input, Launch, Output, PayloadEnd};
use super::super::record::{Process, Record};
use super::super::testing::{Env, command_task, custom_task, scalar};
use super::super::{Core, Ledger};

const ALIVE: Option<Process> = Some(Process { pid: 100, start: 7 });

fn expect_probe(env: &mut Env) {
    match env.next("a probe") {
        Output::Probe { containers } => assert!(!containers.is_empty()),
        other => panic!("expected a probe, got {other:?}"),
    }
}

fn probed(env: &mut Env, launch: &Launch, alive: Option<Process>) {
    let container = launch.place.container.clone();
    env.input(Input::Probed { container, alive });
}

/// Back with a master of epoch 1 that welcomes; gives what Hello said.
fn back(env: &mut Env) -> mezzo_wire::link::Hello {
    env.lead("m1:5050");
    env.connect();
    let hello = env.expect_hello();
    env.welcome(1);
    hello
}

#[test]
fn a_running_task_is_adopted_and_its_updates_flow() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.restart("boot");
    env.lead("m1:5050");
    expect_probe(&mut env);
    env.finish();
    probed(&mut env, &launch, ALIVE);
    env.connect();
    let hello = env.expect_hello();
    assert_eq!(
        hello.tasks.first().map(|task| task.state),
        Some(TaskState::Running.number())
    );
    assert_eq!(hello.agent.id.map(|id| id.value).as_deref(), Some("m-S0"));
    env.welcome(1);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.finish();
}

#[test]
fn an_update_that_the_agent_did_not_live_to_take_is_said_again_by_the_executor() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    back(&mut env);
    let status = env.status("t", TaskState::Failed);
    env.subscribe(
        &launch,
        call::Subscribe {
            unacknowledged_tasks: Vec::new(),
            unacknowledged_updates: vec![call::Update { status }],
        },
    );
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Failed);
    env.finish();
}

#[test]
fn a_task_whose_launch_was_only_intended_is_delivered_after_the_restart() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    back(&mut env);
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.finish();
}

#[test]
fn a_custom_task_that_may_have_been_delivered_is_not_delivered_again() {
    let mut env = Env::registered();
    env.run(custom_task("t", "e"));
    let launch = env.expect_launch();
    env.launched(&launch);
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    let resized = env.next("the limits again");
    assert!(matches!(resized, Output::Resize { .. }), "{resized:?}");
    let hello = back(&mut env);
    assert_eq!(hello.executors.len(), 1);
    env.subscribe(&launch, call::Subscribe::default());
    env.expect_reads_end();
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    assert_eq!(
        env.expect_status().0.reason,
        Some(Reason::AgentRestarted as i32)
    );
    env.finish();
}

#[test]
fn an_executor_that_died_meanwhile_is_cleaned_after_and_its_task_ends() {
    for (payload, state) in [
        (None, TaskState::Failed),
        (
            Some(PayloadEnd {
                message: "Command exited with status 0".to_owned(),
                success: true,
                killed: false,
            }),
            TaskState::Finished,
        ),
    ] {
        let mut env = Env::registered();
        let (launch, _) = env.running("t");
        env.restart("boot");
        expect_probe(&mut env);
        probed(&mut env, &launch, None);
        assert_eq!(env.expect_destroy(), launch.place.container);
        back(&mut env);
        env.ended(
            &launch,
            ContainerEnd {
                payload,
                ..ContainerEnd::default()
            },
        );
        env.expect_reads_end();
        assert_eq!(env.expect_status().0.state, state.number());
        env.finish();
    }
}

#[test]
fn a_container_that_was_never_made_is_dropped() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, None);
    env.expect_destroy();
    back(&mut env);
    env.ended(&launch, ContainerEnd::default());
    env.expect_reads_end();
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Dropped.number());
    assert_eq!(status.reason, Some(Reason::AgentRestarted as i32));
    env.finish();
}

#[test]
fn after_a_reboot_nothing_is_alive_and_nobody_is_asked() {
    let mut env = Env::registered();
    env.running("t");
    env.flush();
    env.restart("another boot");
    env.expect_reads_end();
    let hello = back(&mut env);
    assert_eq!(hello.boot_id, "another boot");
    let (status, _) = env.expect_status();
    assert_eq!(status.state, TaskState::Gone.number());
    assert_eq!(status.reason, Some(Reason::AgentRestarted as i32));
    assert_eq!(env.core.ledger().containers().count(), 0);
    env.finish();
}

#[test]
fn what_a_power_cut_loses_was_never_told() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    env.flush();
    env.slow_disk(true);
    env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.finish();
    env.slow = false;
    env.restart("another boot");
    env.expect_reads_end();
    back(&mut env);
    assert_eq!(env.expect_status().0.state, TaskState::Gone.number());
    env.finish();
}

#[test]
fn a_task_that_a_power_cut_made_unknown_gets_an_answer() {
    let mut env = Env::registered();
    env.running("t");
    env.restart("another boot");
    let hello = back(&mut env);
    assert!(
        hello.tasks.is_empty(),
        "its records were written and never flushed"
    );
    let asked = mezzo_wire::link::ReconcileTasks {
        framework_id: v1::FrameworkId {
            value: "fw".to_owned(),
        },
        task_ids: vec![v1::TaskId {
            value: "t".to_owned(),
        }],
    };
    env.master(
        1,
        mezzo_wire::link::master_message::Body::ReconcileTasks(asked),
    );
    assert_eq!(env.expect_status().0.state, TaskState::Dropped.number());
    env.finish();
}

#[test]
fn after_a_reboot_old_news_does_not_follow_an_end_that_was_acknowledged() {
    let mut env = Env::registered();
    env.run(command_task("t"));
    let launch = env.expect_launch();
    env.launched(&launch);
    let conn = env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Launch);
    let first = env.update(conn, &launch, "t", TaskState::Running);
    env.expect_acknowledged_and_sent(TaskState::Running);
    let end = env.update(conn, &launch, "t", TaskState::Finished);
    env.expect_reads_end();
    env.event(event::Type::Acknowledged);
    // Both acknowledgements are written and never flushed.
    env.acknowledge("t", first);
    env.expect_status();
    env.acknowledge("t", end);
    assert_eq!(env.state("t"), None);
    env.restart("another boot");
    back(&mut env);
    let (status, _) = env.expect_status();
    assert_eq!(
        status.uuid.as_deref(),
        Some(end.as_slice()),
        "the same end again, not RUNNING"
    );
    env.acknowledge("t", end);
    env.finish();
}

#[test]
fn what_the_log_held_is_flushed_before_a_master_hears_of_it() {
    let mut env = Env::registered();
    env.running("t");
    env.slow_disk(true);
    env.restart("boot");
    env.lead("m1:5050");
    let containers = match env.next("a probe") {
        Output::Probe { containers } => containers,
        other => panic!("expected a probe, got {other:?}"),
    };
    for (place, _) in containers {
        env.input(Input::Probed {
            container: place.container,
            alive: ALIVE,
        });
    }
    env.finish();
    env.slow_disk(false);
    env.expect_dial();
    env.finish();
}

#[test]
fn a_kill_outlives_the_agent() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("t");
    env.input(Input::ExecutorGone { conn });
    env.kill("t");
    env.finish();
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    back(&mut env);
    env.subscribe(&launch, call::Subscribe::default());
    env.event(event::Type::Kill);
    env.finish();
}

#[test]
fn an_agent_told_to_end_what_it_finds_adopts_nothing() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.restart("boot");
    let ledger = Ledger::replay(env.records.iter().cloned());
    let config = Config {
        end_recovered: true,
        ..Config::new("host", vec![scalar("cpus", 1.0)])
    };
    env.core = Core::recover(config, 9, ledger);
    assert!(matches!(env.next("the old probe"), Output::Probe { .. }));
    env.input(Input::Start);
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.finish();
}

#[test]
fn an_adopted_executor_that_never_comes_back_is_destroyed() {
    let mut env = Env::registered();
    let (launch, _) = env.running("t");
    env.restart("boot");
    expect_probe(&mut env);
    probed(&mut env, &launch, ALIVE);
    back(&mut env);
    env.pass(Millis::from_secs(60));
    assert_eq!(env.expect_destroy(), launch.place.container);
    env.ended(&launch, ContainerEnd::default());
    env.expect_reads_end();
    assert_eq!(env.expect_status().0.state, TaskState::Gone.number());
    env.finish();
}

#[test]
fn a_snapshot_says_the_same_as_the_records_it_stands_for() {
    let mut env = Env::registered();
    let (launch, conn) = env.running("a");
    env.run(custom_task("b", "e"));
    let custom = env.expect_launch();
    env.launched(&custom);
    let other = env.subscribe(&custom, call::Subscribe::default());
    env.event(event::Type::Launch);
    env.update(other, &custom, "b", TaskState::Running);
    env.expect_acknowledged_and_sent(TaskState::Running);
    env.run(custom_task("c", "e"));
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    env.event(event::Type::Launch);
    env.update(other, &custom, "c", TaskState::Finished);
    env.expect_reads_end();
    assert!(matches!(env.next("new limits"), Output::Resize { .. }));
    env.expect_acknowledged_and_sent(TaskState::Finished);
    env.kill("a");
    env.event(event::Type::Kill);
    let end = env.update(conn, &launch, "a", TaskState::Killed);
    env.expect_reads_end();
    env.expect_acknowledged_and_sent(TaskState::Killed);
    env.acknowledge("a", end);
    env.ended(&launch, ContainerEnd::default());
    let snapshot = env.core.ledger().to_records();
    assert_eq!(Ledger::replay(snapshot.clone()).to_records(), snapshot);
    let replayed = Ledger::replay(env.records.iter().cloned());
    assert_eq!(replayed.to_records(), snapshot);
    assert!(
        snapshot
            .iter()
            .any(|record| matches!(record, Record::Completed(_)))
    );
    assert!(
        snapshot
            .iter()
            .any(|record| matches!(record, Record::Sandbox(_)))
    );
    env.finish();
}

#[test]
fn records_that_fit_nothing_change_nothing() {
    let unknown: v1::TaskStatus = Env::new().status("x", TaskState::Running);
    let key = super::super::testing::key("x");
    let mut ledger = Ledger::default();
    for record in [
        Record::Update {
            task: key.clone(),
            status: unknown.into(),
        },
        Record::Acknowledged {
            task: key.clone(),
            uuid: [1; 16],
        },
        Record::Delivered { task: key.clone() },
        Record::Kill {
            task: key.clone(),
            policy: None,
        },
        Record::FrameworkRemoved { id: key.0 },
    ] {
        ledger.apply(&record);
    }
    assert!(ledger.to_records().is_empty());
}
