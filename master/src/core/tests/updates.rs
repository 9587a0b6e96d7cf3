//! Statuses, acknowledgements, kills, reconciliation, messages.

use mezzo_model::TaskState;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::{self, Type as CallType};

use super::super::testing::*;

/// A world in which task t1 (1 cpu, 32 MB) of the framework runs on the agent; the rest is refused for long.
fn running() -> (World, Scheduler, TestAgent) {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1e9,
    );
    world.orders(&agent);
    world.status(&agent, &scheduler, "t1", TaskState::Running);
    let status = world.update(&scheduler);
    world.acknowledge(&scheduler, &status);
    world.orders(&agent);
    (world, scheduler, agent)
}

#[test]
fn a_status_is_forwarded_and_its_acknowledgement_goes_back() {
    let (mut world, scheduler, agent) = running();
    world.status(&agent, &scheduler, "t1", TaskState::Finished);
    let events = world.events(&scheduler);
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        ["UPDATE TASK_FINISHED t1", "OFFERS cpus:4; mem:1024"],
        "resources are free before anything is acknowledged"
    );
    // Its id stays in use until then.
    let offer = events[1].offers.as_ref().expect("offers").offers[0].clone();
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1e9,
    );
    assert!(
        world
            .update(&scheduler)
            .message
            .unwrap_or_default()
            .contains("duplicate ID")
    );
    let status = events[0].update.as_ref().expect("a status").status.clone();
    world.acknowledge(&scheduler, &status);
    assert!(
        matches!(world.orders(&agent).as_slice(), [Order::Acknowledge(ack)] if Some(&ack.uuid) == status.uuid.as_ref())
    );
    world.revive(&scheduler);
    world.pass(20);
    let offer = world.offer(&scheduler);
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1e9,
    );
    assert!(
        matches!(world.orders(&agent).as_slice(), [Order::RunTask(_)]),
        "an id that ended may be used again"
    );
    world.finish();
}

#[test]
fn a_status_that_lags_behind_frees_by_the_newest_state() {
    let (mut world, scheduler, agent) = running();
    world.status_ahead(
        &agent,
        &scheduler,
        "t1",
        TaskState::Killing,
        TaskState::Killed,
    );
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_KILLING t1", "OFFERS cpus:4; mem:1024"]
    );
    world.reconcile(&scheduler, &[("t1", None)]);
    assert_eq!(
        world.update(&scheduler).state,
        TaskState::Killing.number(),
        "what was told counts"
    );
    // A repeated older status changes nothing.
    world.status(&agent, &scheduler, "t1", TaskState::Running);
    world.update(&scheduler);
    world.finish();
}

#[test]
fn an_acknowledgement_of_something_else_is_dropped() {
    let (mut world, scheduler, agent) = running();
    let ack = |uuid: &str, task: &str| call::Acknowledge {
        agent_id: agent.id.clone(),
        task_id: task.into(),
        uuid: bytes::Bytes::from(uuid.to_owned()),
    };
    world.call(&scheduler, CallType::Acknowledge, |c| {
        c.acknowledge = Some(ack("0123456789abcdef", "t1"))
    });
    assert!(world.orders(&agent).is_empty());
    let call = Call {
        framework_id: Some(scheduler.id.clone()),
        r#type: Some(CallType::Acknowledge as i32),
        acknowledge: Some(ack("abc", "t1")),
        ..Default::default()
    };
    let refused = world
        .call_raw(scheduler.stream.as_ref(), call)
        .expect_err("three bytes");
    assert_eq!(
        refused.text,
        "Failed to validate scheduler::Call: Not a valid UUID"
    );
    world.finish();
}

#[test]
fn who_is_not_partition_aware_hears_of_lost_tasks_only() {
    let mut world = World::new();
    let mut info = World::info("old");
    info.capabilities.clear();
    let scheduler = world.subscribe(info);
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.offer(&scheduler);
    world.reconcile(&scheduler, &[("t1", None), ("t1", Some(&agent.id))]);
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_LOST t1", "UPDATE TASK_LOST t1"]
    );
    world.finish();
}

#[test]
fn a_kill_is_kept_until_the_task_has_ended() {
    let (mut world, scheduler, mut agent) = running();
    world.kill(&scheduler, "t1");
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::KillTask(_)]
    ));
    world.cut(&agent);
    let running = held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    world.reconnect(&mut agent, vec![running], vec![scheduler.info.clone()]);
    assert!(
        matches!(world.orders(&agent).as_slice(), [Order::KillTask(_)]),
        "said again"
    );
    // One that comes while the agent is away is said when it is back.
    world.cut(&agent);
    world.kill(&scheduler, "t1");
    let running = held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    world.reconnect(&mut agent, vec![running], vec![scheduler.info.clone()]);
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::KillTask(_)]
    ));
    // Of a task that nobody knows the answer is a reconciliation; another agent's name drops it.
    world.kill(&scheduler, "zzz");
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_UNKNOWN zzz"]);
    let kill = call::Kill {
        task_id: "t1".into(),
        agent_id: Some("other".into()),
        kill_policy: None,
    };
    world.call(&scheduler, CallType::Kill, |call| call.kill = Some(kill));
    assert!(world.orders(&agent).is_empty());
    world.finish();
}

#[test]
fn reconciliation_answers_by_what_is_known_of_task_and_agent() {
    let (mut world, scheduler, agent) = running();
    let lost = world.agent("h2", "cpus:1;mem:64");
    let offer = world.offer(&scheduler);
    world.decline(&scheduler, &offer, 1e9);
    for _ in 0..10 {
        world.pass(10_000);
        world.pong(&agent);
    }
    assert_eq!(
        world.story(&scheduler),
        ["FAILURE"],
        "the silent agent is unreachable"
    );
    let unknown = v1::AgentId {
        value: "nobody".into(),
    };
    world.reconcile(
        &scheduler,
        &[
            ("t1", None),
            ("t1", Some(&unknown)),
            ("x1", Some(&agent.id)),
            ("x2", Some(&lost.id)),
            ("x3", Some(&unknown)),
            ("x4", None),
        ],
    );
    let answers = world.updates(&scheduler);
    let states: Vec<&str> = answers
        .iter()
        .map(|status| {
            TaskState::from_number(status.state)
                .expect("known")
                .as_str()
        })
        .collect();
    assert_eq!(
        states,
        [
            "TASK_RUNNING",
            "TASK_RUNNING",
            "TASK_GONE",
            "TASK_UNREACHABLE",
            "TASK_UNKNOWN",
            "TASK_UNKNOWN"
        ]
    );
    assert!(answers[3].unreachable_time.is_some());
    assert_eq!(
        answers[2].message.as_deref(),
        Some("Reconciliation: Task is unknown to the agent")
    );
    assert_eq!(
        answers[5].message.as_deref(),
        Some("Reconciliation: Task is unknown")
    );
    assert!(
        answers
            .iter()
            .all(|status| status.uuid.is_none() && status.executor_id.is_none())
    );
    world.reconcile(&scheduler, &[]);
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_RUNNING t1"]);
    world.finish();
}

#[test]
fn an_awaited_agent_may_bring_anything_so_nothing_is_said() {
    let (world, scheduler, agent) = running();
    let mut next = World::recovered(|_| {}, world.registry.clone(), 2);
    let back = next.subscribe(scheduler.info.clone());
    let unknown = v1::AgentId {
        value: "nobody".into(),
    };
    next.reconcile(&back, &[("t1", Some(&agent.id)), ("t1", None)]);
    assert!(next.updates(&back).is_empty());
    next.reconcile(&back, &[("t1", Some(&unknown))]);
    assert_eq!(next.story(&back), ["UPDATE TASK_UNKNOWN t1"]);
    next.finish();
}

#[test]
fn messages_pass_both_ways_and_are_dropped_when_nobody_is_there() {
    let (mut world, scheduler, agent) = running();
    let message = |executor: &str, agent: &v1::AgentId| call::Message {
        agent_id: agent.clone(),
        executor_id: executor.into(),
        data: bytes::Bytes::from_static(b"hi"),
    };
    // The executor of a command task is named like the task.
    world.call(&scheduler, CallType::Message, |c| {
        c.message = Some(message("t1", &agent.id))
    });
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::FrameworkMessage(_)]
    ));
    world.call(&scheduler, CallType::Message, |c| {
        c.message = Some(message("zzz", &agent.id))
    });
    let nobody = v1::AgentId {
        value: "nobody".into(),
    };
    world.call(&scheduler, CallType::Message, |c| {
        c.message = Some(message("t1", &nobody))
    });
    assert!(world.orders(&agent).is_empty());
    let shutdown = call::Shutdown {
        executor_id: "t1".into(),
        agent_id: agent.id.clone(),
    };
    world.call(&scheduler, CallType::Shutdown, |c| {
        c.shutdown = Some(shutdown)
    });
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::ShutdownExecutor(_)]
    ));
    let back = mezzo_wire::link::ExecutorMessage {
        framework_id: scheduler.id.clone(),
        executor_id: "t1".into(),
        data: bytes::Bytes::from_static(b"ho"),
    };
    world.agent_says(agent.conn, FromAgent::ExecutorMessage(back));
    assert_eq!(world.story(&scheduler), ["MESSAGE"]);
    world.finish();
}

#[test]
fn a_status_for_an_absent_scheduler_waits_with_the_agent() {
    let (mut world, scheduler, agent) = running();
    world.disconnect(&scheduler);
    world.status(&agent, &scheduler, "t1", TaskState::Finished);
    assert!(world.orders(&agent).is_empty(), "nobody acknowledged it");
    let back = world.subscribe(scheduler.info.clone());
    assert!(
        matches!(world.orders(&agent).as_slice(), [Order::UpdateFramework(_)]),
        "asked to send it again"
    );
    world.status(&agent, &back, "t1", TaskState::Finished);
    let events = world.events(&back);
    let status = events
        .iter()
        .find_map(|e| e.update.clone())
        .expect("a status")
        .status;
    world.acknowledge(&back, &status);
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::Acknowledge(_)]
    ));
    world.finish();
}

#[test]
fn operations_are_unknown() {
    let (mut world, scheduler, agent) = running();
    let operation = |agent: Option<v1::AgentId>| call::reconcile_operations::Operation {
        operation_id: v1::OperationId { value: "o".into() },
        agent_id: agent,
        resource_provider_id: None,
    };
    let operations = vec![operation(None), operation(Some(agent.id.clone()))];
    let reconcile = call::ReconcileOperations { operations };
    world.call(&scheduler, CallType::ReconcileOperations, |c| {
        c.reconcile_operations = Some(reconcile)
    });
    let words: Vec<String> = world
        .events(&scheduler)
        .into_iter()
        .map(|event| {
            event
                .update_operation_status
                .expect("a status")
                .status
                .message
                .unwrap_or_default()
        })
        .collect();
    assert_eq!(
        words,
        [
            "Reconciliation: Operation is unknown and no 'agent_id' was provided",
            "Reconciliation: Operation is unknown"
        ]
    );
    world.finish();
}
