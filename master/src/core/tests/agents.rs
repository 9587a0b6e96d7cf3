//! Agents come, come back, fall silent, return, leave.

use mezzo_model::TaskState;
use mezzo_wire::link::agent_message::Body as FromAgent;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::{link, v1};

use super::super::testing::*;
use super::super::*;

pub(super) fn launched(world: &mut World, scheduler: &Scheduler, agent: &TestAgent, name: &str) {
    let offer = world.offer(scheduler);
    world.launch(
        scheduler,
        &[&offer],
        vec![task(name, &agent.id, "cpus:1;mem:32")],
        1e9,
    );
    assert!(matches!(
        world.orders(agent).as_slice(),
        [Order::RunTask(_)]
    ));
}

/// Lets time pass in which these agents answer their pings.
fn stay(world: &mut World, secs: u64, alive: &[&TestAgent]) {
    for _ in 0..secs {
        world.pass(1000);
        for agent in alive {
            world.pong(agent);
        }
    }
}

#[test]
fn an_agent_is_registered_when_the_registry_holds_it() {
    let mut world = World::new();
    world.auto_commit = false;
    let conn = world.send_hello(&World::hello("h1", "cpus:4;mem:1024"));
    assert_eq!(world.core.gauges().agents_connected, 0);
    world.answer_commit(Ok(()));
    match world.next_order(conn) {
        Order::Welcome(welcome) => {
            assert_eq!(
                (welcome.ping_interval_ms, welcome.silence_ms),
                (15_000, 75_000)
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(
        world
            .registry
            .keys()
            .any(|key| key.starts_with("agents/") && key.ends_with("-S0"))
    );
    world.finish();
}

#[test]
fn a_process_that_did_not_hear_its_welcome_keeps_its_id() {
    let mut world = World::new();
    let first = world.agent("h1", "cpus:4;mem:1024");
    let mut hello = World::hello("h1", "cpus:4;mem:1024");
    hello.connection = 2;
    let again = world.register(hello);
    assert_eq!(first.id, again.id);
    assert!(world.closed.contains(&first.conn));
    let other = world.agent("h2", "cpus:4;mem:1024");
    assert_ne!(other.id, again.id);
    // A connection that is older than the one that stands is refused.
    let late = world.send_hello(&again.hello);
    assert!(
        matches!(world.next_order(late), Order::Refused(refused) if refused.retry == Some(true))
    );
    assert!(world.closed.contains(&late));
    world.finish();
}

#[test]
fn an_agent_that_goes_before_its_admission_is_written_leaves_nothing() {
    let mut world = World::new();
    world.auto_commit = false;
    let conn = world.send_hello(&World::hello("h1", "cpus:4;mem:1024"));
    world.input(Input::AgentGone { conn });
    world.answer_commit(Ok(()));
    assert_eq!(world.registry.len(), 2);
    world.answer_commit(Ok(()));
    assert_eq!(
        world.registry.len(),
        1,
        "only the format is left: {:?}",
        world.registry.keys()
    );
    world.finish();
}

#[test]
fn a_silent_agent_is_unreachable_and_its_tasks_come_back_with_it() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    world.status(&agent, &scheduler, "t1", TaskState::Running);
    world.update(&scheduler);
    world.pass(89_999);
    assert!(world.story(&scheduler).is_empty());
    world.pass(1);
    let events = world.events(&scheduler);
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        ["UPDATE TASK_UNREACHABLE t1", "FAILURE"]
    );
    let status = &events[0].update.as_ref().expect("a status").status;
    assert!(status.unreachable_time.is_some());
    assert_eq!(
        status.reason,
        Some(v1::task_status::Reason::AgentRemoved as i32)
    );
    let record = world
        .registry
        .values()
        .find(|record| record.key.starts_with("agents/"))
        .expect("one");
    assert!(String::from_utf8_lossy(&record.value).contains("unreachable"));
    world.reconcile(&scheduler, &[("t1", None)]);
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_UNREACHABLE t1"]);

    let running = held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    world.reconnect(&mut agent, vec![running], vec![scheduler.info.clone()]);
    let events = world.events(&scheduler);
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        ["UPDATE TASK_RUNNING t1", "OFFERS cpus:3; mem:992"]
    );
    let status = &events[0].update.as_ref().expect("a status").status;
    assert_eq!(
        status.reason,
        Some(v1::task_status::Reason::AgentReregistered as i32)
    );
    assert!(status.uuid.is_none());
    world.finish();
}

#[test]
fn a_task_that_does_not_come_back_with_its_agent_is_gone() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    world.pass(90_000);
    world.events(&scheduler);
    world.reconnect(&mut agent, Vec::new(), Vec::new());
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_GONE t1", "OFFERS cpus:4; mem:1024"]
    );
    world.reconcile(&scheduler, &[("t1", Some(&agent.id))]);
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_GONE t1"]);
    world.finish();
}

#[test]
fn an_agent_that_answers_is_never_unreachable() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    stay(&mut world, 400, &[&agent]);
    assert!(world.story(&scheduler).is_empty());
    // Leadership was in doubt for ten minutes in which nothing was handed in.
    world.now.mono += Millis(600_000);
    world.input(Input::Resumed);
    world.pass(14_000);
    world.pong(&agent);
    world.pass(70_000);
    assert!(
        world.story(&scheduler).is_empty(),
        "silence of that time means nothing"
    );
    world.finish();
}

#[test]
fn a_return_while_the_registry_is_written_waits_for_it() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    world.auto_commit = false;
    world.cut(&agent);
    world.pass(90_000);
    assert_eq!(world.commits.len(), 1);
    agent.hello.connection += 1;
    agent.hello.tasks = vec![held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    )];
    let conn = world.send_hello(&agent.hello);
    assert!(
        world.story(&scheduler).is_empty(),
        "write first, promise after"
    );
    world.answer_commit(Ok(()));
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_UNREACHABLE t1", "FAILURE"]
    );
    world.answer_commit(Ok(()));
    assert!(matches!(world.next_order(conn), Order::Welcome(_)));
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_RUNNING t1", "OFFERS cpus:3; mem:992"]
    );
    world.finish();
}

#[test]
fn orders_that_the_agent_never_got_are_asked_for() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    world.cut(&agent);
    world.reconnect(&mut agent, Vec::new(), Vec::new());
    match world.orders(&agent).as_slice() {
        [Order::ReconcileTasks(asked)] => assert_eq!(asked.task_ids, ["t1".into()]),
        other => panic!("{other:?}"),
    }
    // The resources stay booked until the agent has said what became of it.
    assert!(world.story(&scheduler).is_empty());
    world.status(&agent, &scheduler, "t1", TaskState::Dropped);
    assert_eq!(
        world.story(&scheduler),
        ["UPDATE TASK_DROPPED t1", "OFFERS cpus:4; mem:1024"]
    );
    world.finish();
}

#[test]
fn a_task_that_the_framework_has_elsewhere_is_ended_there_and_not_told_about() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let here = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &here, "t1");
    let mut hello = World::hello("h2", "cpus:4;mem:1024");
    hello.agent.id = Some(v1::AgentId {
        value: "old-S7".into(),
    });
    hello.tasks = vec![held(
        "t1",
        &scheduler,
        &"old-S7".into(),
        "cpus:1;mem:32",
        TaskState::Running,
    )];
    hello.frameworks = vec![scheduler.info.clone()];
    let there = world.register(hello);
    assert!(matches!(
        world.orders(&there).as_slice(),
        [Order::KillTask(_)]
    ));
    assert_eq!(world.story(&scheduler), ["OFFERS cpus:3; mem:992"]);
    world.status(&there, &scheduler, "t1", TaskState::Killed);
    assert!(matches!(
        world.orders(&there).as_slice(),
        [Order::Acknowledge(_)]
    ));
    assert_eq!(world.story(&scheduler), ["OFFERS cpus:1; mem:32"]);
    world.reconcile(&scheduler, &[]);
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_STAGING t1"]);
    world.finish();
}

#[test]
fn an_agent_that_says_goodbye_is_removed() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    launched(&mut world, &scheduler, &agent, "t1");
    world.agent_says(agent.conn, FromAgent::Goodbye(link::Goodbye::default()));
    assert_eq!(world.story(&scheduler), ["UPDATE TASK_GONE t1", "FAILURE"]);
    assert!(world.closed.contains(&agent.conn));
    assert!(!world.registry.keys().any(|key| key.starts_with("agents/")));
    world.finish();
}

#[test]
fn after_an_election_agents_are_awaited_and_then_lost() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut first = world.agent("h1", "cpus:4;mem:1024");
    world.agent("h2", "cpus:4;mem:1024");
    world.events(&scheduler);
    let registry = world.registry.clone();
    let mut next = World::recovered(|_| {}, registry, 2);
    let back = next.subscribe(scheduler.info.clone());
    assert_eq!(next.core.gauges().agents_awaited, 2);
    let running = held(
        "t1",
        &scheduler,
        &first.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    next.reconnect(&mut first, vec![running], vec![scheduler.info.clone()]);
    assert_eq!(next.story(&back), ["OFFERS cpus:3; mem:992"]);
    stay(&mut next, 599, &[&first]);
    let kinds = next.story(&back);
    assert!(
        kinds.iter().all(|kind| !kind.contains("FAILURE")),
        "{kinds:?}"
    );
    stay(&mut next, 1, &[&first]);
    assert!(next.story(&back).contains(&"FAILURE".to_owned()));
    assert_eq!(next.core.gauges().agents_unreachable, 1);
    next.finish();
}

#[test]
fn declaring_agents_unreachable_is_limited_in_rate() {
    let limit = RateLimit {
        permits: 2,
        per: Millis::from_secs(60),
    };
    let mut world = World::with(|config| config.agent_removal_rate_limit = Some(limit));
    let agents: Vec<TestAgent> = (0..6)
        .map(|index| world.agent(&format!("h{index}"), "cpus:1;mem:64"))
        .collect();
    world.pass(90_000);
    assert_eq!(world.core.gauges().agents_unreachable, 2);
    // One that speaks while it waits is spared.
    world.pong(&agents[5]);
    world.pass(59_999);
    assert_eq!(world.core.gauges().agents_unreachable, 2);
    world.pass(1);
    assert_eq!(world.core.gauges().agents_unreachable, 4);
    world.pong(&agents[5]);
    world.pass(60_000);
    assert_eq!(world.core.gauges().agents_unreachable, 5);
    world.finish();
}

#[test]
fn what_an_agent_has_may_change() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.offer(&scheduler);
    let report = |resources: &str| {
        FromAgent::Report(link::AgentReport {
            total: bag(resources).to_wire(),
            attributes: Vec::new(),
        })
    };
    world.agent_says(agent.conn, report("cpus:4;mem:1024;disk:100"));
    assert!(
        world.story(&scheduler).is_empty(),
        "a disk alone is too little for an offer"
    );
    world.agent_says(agent.conn, report("cpus:2;mem:1024"));
    assert_eq!(
        world.story(&scheduler),
        ["RESCIND", "OFFERS cpus:2; mem:1024"]
    );
    let mut absurd = bag("cpus:1").to_wire();
    absurd[0].scalar = Some(v1::value::Scalar { value: 1e300 });
    let absurd = link::AgentReport {
        total: absurd,
        attributes: Vec::new(),
    };
    world.agent_says(agent.conn, FromAgent::Report(absurd));
    assert!(
        world
            .notes
            .iter()
            .any(|note| note.contains("reported what is not valid"))
    );
    world.finish();
}
