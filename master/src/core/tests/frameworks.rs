//! Frameworks come, come back, are superseded, and end.

use mezzo_model::TaskState;
use mezzo_wire::link::master_message::Body as Order;
use mezzo_wire::v1;
use mezzo_wire::v1::framework_info::capability::Type as Capability;
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::{self, Type as CallType};

use super::super::testing::*;
use super::super::*;

#[test]
fn a_framework_subscribes_and_is_offered_everything() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    assert!(scheduler.id.value.ends_with("-0000"), "{}", scheduler.id);
    let agent = world.agent("h1", "cpus:4;mem:1024;ports:[31000-32000]");
    assert!(agent.id.value.ends_with("-S0"));
    let offer = world.offer(&scheduler);
    assert!(offer.id.value.ends_with("-O0"));
    assert_eq!(offer.agent_id, agent.id);
    assert_eq!(
        amounts(&offer.resources),
        "cpus:4; mem:1024; ports:[31000-32000]"
    );
    assert!(
        offer
            .resources
            .iter()
            .all(|resource| resource.role.as_deref() == Some("*"))
    );
    assert!(
        offer.allocation_info.is_none(),
        "who knows no roles is told of none"
    );
    world.finish();
}

#[test]
fn a_framework_of_roles_sees_allocations_and_stacks() {
    let mut world = World::new();
    let mut info = World::info("a");
    info.roles = vec!["eng".into()];
    for kind in [Capability::MultiRole, Capability::ReservationRefinement] {
        info.capabilities.push(v1::framework_info::Capability {
            r#type: Some(kind as i32),
        });
    }
    let scheduler = world.subscribe(info);
    world.agent("h1", "cpus(eng):2;cpus:1;mem:64");
    let offer = world.offer(&scheduler);
    let role =
        |info: &Option<v1::resource::AllocationInfo>| info.clone().and_then(|info| info.role);
    assert_eq!(role(&offer.allocation_info).as_deref(), Some("eng"));
    assert!(
        offer
            .resources
            .iter()
            .all(|r| role(&r.allocation_info).as_deref() == Some("eng"))
    );
    assert!(offer.resources.iter().all(|r| r.role.is_none()));
    assert_eq!(
        offer
            .resources
            .iter()
            .filter(|r| r.reservations.len() == 1)
            .count(),
        1
    );
    world.finish();
}

#[test]
fn the_newest_stream_wins() {
    let mut world = World::new();
    let first = world.framework("a");
    world.agent("h1", "cpus:4;mem:1024");
    let old = world.offer(&first);
    let second = world.subscribe(first.info.clone());
    assert_eq!(second.id, first.id);
    assert_eq!(world.story(&first), ["ERROR Framework failed over"]);
    assert!(world.closed.contains(&first.conn));
    let offer = world.offer(&second);
    assert_ne!(offer.id, old.id, "offered anew, under another id");
    let mut call = Call {
        framework_id: Some(first.id.clone()),
        ..Default::default()
    };
    call.r#type = Some(CallType::Revive as i32);
    let refused = world
        .call_raw(first.stream.as_ref(), call)
        .expect_err("the old stream");
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text
            .contains("didn't match the stream ID currently associated"),
        "{refused}"
    );
    // The shell tells of the old stream's end later; that must not touch the new one.
    world.input(Input::SchedulerGone { conn: first.conn });
    world.revive(&second);
    world.finish();
}

#[test]
fn tasks_outlive_a_disconnected_scheduler_for_its_failover_timeout() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::RunTask(_)]
    ));
    world.disconnect(&scheduler);
    world.pass(3_599_000);
    for _ in 0..3 {
        world.pong(&agent);
    }
    let agent_is_there = world.core.gauges().agents_connected;
    assert_eq!(agent_is_there, 0, "nobody answered its pings for an hour");
    world.finish();
}

#[test]
fn a_framework_that_does_not_come_back_is_removed_with_its_tasks() {
    let mut world = World::new();
    let mut info = World::info("a");
    info.failover_timeout = Some(10.0);
    let scheduler = world.subscribe(info);
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    world.orders(&agent);
    world.disconnect(&scheduler);
    world.pass(9_999);
    assert!(world.orders(&agent).is_empty());
    world.pass(1);
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::ShutdownFramework(_)]
    ));
    let conn = world.send_subscribe(World::subscribe_call(scheduler.info.clone()));
    let event = world.next_event(conn);
    assert_eq!(brief(&event), "ERROR Framework has been removed");
    assert!(world.closed.contains(&conn));
    let other = world.framework("b");
    assert_eq!(amounts(&world.offer(&other).resources), "cpus:4; mem:1024");
    world.finish();
}

#[test]
fn a_failover_timeout_of_nothing_removes_at_once_and_a_return_in_time_cancels_it() {
    let mut world = World::new();
    let mut info = World::info("a");
    info.failover_timeout = None;
    let gone = world.subscribe(info);
    world.disconnect(&gone);
    assert_eq!(world.core.gauges().frameworks_disconnected, 0);

    let mut info = World::info("b");
    info.failover_timeout = Some(10.0);
    let back = world.subscribe(info);
    world.disconnect(&back);
    world.pass(9_000);
    let back = world.subscribe(back.info);
    world.pass(60_000);
    world.revive(&back);
    world.finish();
}

#[test]
fn teardown_ends_the_stream_and_shuts_the_framework_down() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.launch(
        &scheduler,
        &[&offer],
        vec![task("t1", &agent.id, "cpus:1;mem:32")],
        1.0,
    );
    world.orders(&agent);
    world.call(&scheduler, CallType::Teardown, |_| {});
    assert!(
        world.events(&scheduler).is_empty(),
        "no error and no rescind"
    );
    assert!(world.closed.contains(&scheduler.conn));
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::ShutdownFramework(_)]
    ));
    // A status of it that was on its way is acknowledged by the master, so that the agent can forget.
    world.status(&agent, &scheduler, "t1", TaskState::Killed);
    assert!(matches!(
        world.orders(&agent).as_slice(),
        [Order::Acknowledge(_)]
    ));
    world.finish();
}

#[test]
fn what_cannot_change_does_not_change() {
    let mut world = World::new();
    let mut scheduler = world.framework("a");
    let mut changed = scheduler.info.clone();
    changed.user = "root".into();
    let refused = |world: &mut World, scheduler: &Scheduler, info: v1::FrameworkInfo| {
        let update = call::UpdateFramework {
            framework_info: info,
            ..Default::default()
        };
        let call = Call {
            framework_id: Some(scheduler.id.clone()),
            r#type: Some(CallType::UpdateFramework as i32),
            update_framework: Some(update),
            ..Default::default()
        };
        world.call_raw(scheduler.stream.as_ref(), call)
    };
    assert_eq!(
        refused(&mut world, &scheduler, changed.clone())
            .expect_err("user")
            .text,
        "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported; attempted to update \
         from 'nobody' to 'root'"
    );
    let mut principal = scheduler.info.clone();
    principal.principal = Some("eve".into());
    assert!(refused(&mut world, &scheduler, principal.clone()).is_err());
    let mut name = scheduler.info.clone();
    name.name = "another".into();
    assert_eq!(refused(&mut world, &scheduler, name), Ok(()));

    // At a subscription user and checkpoint are kept silently, and another principal is refused.
    world.disconnect(&scheduler);
    scheduler = world.subscribe(changed);
    let framework = world.core.frameworks.values().next().expect("one");
    assert_eq!(framework.info.user, "nobody");
    let conn = world.send_subscribe(World::subscribe_call(principal));
    assert!(brief(&world.next_event(conn)).contains("'FrameworkInfo.principal' is unsupported"));
    world.revive(&scheduler);
    world.finish();
}

#[test]
fn a_new_master_learns_a_framework_from_an_agent_and_takes_it_back() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    world.events(&scheduler);
    let registry = world.registry.clone();

    let mut next = World::recovered(|_| {}, registry, 2);
    let running = held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    next.reconnect(&mut agent, vec![running], vec![scheduler.info.clone()]);
    let back = next.subscribe(scheduler.info.clone());
    assert_eq!(back.id, scheduler.id);
    // The agent sends what is not acknowledged, and the rest of it is offered.
    assert!(matches!(
        next.orders(&agent).as_slice(),
        [Order::UpdateFramework(_)]
    ));
    assert_eq!(amounts(&next.offer(&back).resources), "cpus:3; mem:992");
    next.reconcile(&back, &[]);
    assert_eq!(next.update(&back).state, TaskState::Running.number());
    next.finish();
}

#[test]
fn a_framework_that_only_agents_know_ends_when_nobody_comes_for_it() {
    let mut world = World::new();
    let mut info = World::info("a");
    info.failover_timeout = Some(0.0);
    let scheduler = world.subscribe(info);
    let mut agent = world.agent("h1", "cpus:4;mem:1024");
    world.events(&scheduler);
    let mut next = World::recovered(|_| {}, world.registry.clone(), 2);
    let running = held(
        "t1",
        &scheduler,
        &agent.id,
        "cpus:1;mem:32",
        TaskState::Running,
    );
    next.reconnect(&mut agent, vec![running], vec![scheduler.info.clone()]);
    for _ in 0..11 {
        next.pass(54_000);
        next.pong(&agent);
    }
    assert!(next.orders(&agent).is_empty());
    next.pass(7_000);
    assert!(matches!(
        next.orders(&agent).as_slice(),
        [Order::ShutdownFramework(_)]
    ));
    next.finish();
}

#[test]
fn heartbeats_come_at_once_and_every_fifteen_seconds() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    world.pass(14_999);
    assert!(world.core.next_deadline().is_some());
    world.pass(1);
    assert_eq!(brief(&world.next_event(scheduler.conn)), "HEARTBEAT");
    world.pass(15_000);
    assert_eq!(brief(&world.next_event(scheduler.conn)), "HEARTBEAT");
    world.finish();
}
