//! What is written, when, and what happens when it cannot be.

use mezzo_coordination::CommitError;
use mezzo_wire::link::master_message::Body as Order;

use super::super::testing::*;
use super::super::*;

#[test]
fn acts_gather_while_a_commit_is_under_way() {
    let mut world = World::new();
    world.auto_commit = false;
    let conns: Vec<ConnId> = (0..600)
        .map(|index| world.send_hello(&World::hello(&format!("h{index}"), "cpus:1;mem:64")))
        .collect();
    assert_eq!(world.commits.len(), 1);
    let mut sizes = Vec::new();
    while let Some((_, txn)) = world.commits.front() {
        sizes.push(txn.ops.len());
        world.answer_commit(Ok(()));
    }
    assert_eq!(sizes, [1, MAX_BATCH, MAX_BATCH, 600 - 1 - 2 * MAX_BATCH]);
    for conn in conns {
        assert!(matches!(world.next_order(conn), Order::Welcome(_)));
    }
    world.finish();
}

#[test]
fn a_commit_whose_fate_is_unknown_is_tried_again() {
    let mut world = World::new();
    world.auto_commit = false;
    let conn = world.send_hello(&World::hello("h1", "cpus:1;mem:64"));
    world.answer_commit(Err(CommitError::Unavailable));
    assert!(world.commits.is_empty(), "not at once");
    world.pass(500);
    world.answer_commit(Ok(()));
    assert!(matches!(world.next_order(conn), Order::Welcome(_)));
    world.finish();
}

#[test]
fn a_fenced_commit_ends_the_term() {
    for error in [CommitError::Fenced, CommitError::Conflict { index: 0 }] {
        let mut world = World::new();
        world.auto_commit = false;
        world.send_hello(&World::hello("h1", "cpus:1;mem:64"));
        world.answer_commit(Err(error));
        let (reason, fatal) = world.stepped_down.clone().expect("stepped down");
        assert!(
            reason.contains("registry was not written") && !fatal,
            "{reason}"
        );
        // Nothing is done any more.
        let mut out = Vec::new();
        world.core.handle(world.now, Input::Tick, &mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn an_act_that_can_never_be_written_hurts_nobody_else() {
    let mut world = World::new();
    world.auto_commit = false;
    let first = world.send_hello(&World::hello("h1", "cpus:1;mem:64"));
    let bad = world.send_hello(&World::hello("h2", "cpus:1;mem:64"));
    let good = world.send_hello(&World::hello("h3", "cpus:1;mem:64"));
    world.answer_commit(Ok(()));
    let too_large = || {
        Err(CommitError::TooLarge {
            words: "too much".into(),
        })
    };
    world.answer_commit(too_large());
    world.answer_commit(too_large());
    world.answer_commit(Ok(()));
    assert!(matches!(world.next_order(first), Order::Welcome(_)));
    assert!(
        matches!(world.next_order(bad), Order::Refused(refused) if refused.reason.contains("too much"))
    );
    assert!(matches!(world.next_order(good), Order::Welcome(_)));
    world.finish();
}

#[test]
fn a_registry_of_a_newer_version_is_refused() {
    let world = World::new();
    let mut registry = world.registry.clone();
    for record in registry.values_mut() {
        record.value = bytes::Bytes::from_static(b"{\"version\":7}");
    }
    let next = World::recovered(|_| {}, registry, 2);
    let (reason, fatal) = next.stepped_down.expect("stepped down");
    assert!(fatal && reason.contains("format 7"), "{reason}");
}

#[test]
fn nothing_is_taken_before_the_registry_is_loaded() {
    let epoch = mezzo_model::Epoch {
        cluster_id: "test".into(),
        counter: 1,
    };
    let mut core = Core::new(Config::new(Default::default(), epoch), 1);
    let mut out = Vec::new();
    let now = Now::default();
    let call = World::subscribe_call(World::info("a"));
    let subscribe = Input::Subscribe {
        conn: ConnId(1),
        principal: None,
        stream_id: None,
        call: call.into(),
    };
    core.handle(now, subscribe, &mut out);
    assert!(
        matches!(&out[0], Output::Refuse { refusal, .. } if refusal.status == 503
            && refusal.text == "Master has not finished recovery")
    );
    assert_eq!(core.next_deadline(), None);
}

#[test]
fn a_late_hello_and_the_loss_of_its_agent_do_not_cross() {
    let mut world = World::new();
    let mut agent = world.agent("h1", "cpus:1;mem:64");
    let mut next = World::recovered(|_| {}, world.registry.clone(), 2);
    next.auto_commit = false;
    next.pass(600_000);
    assert_eq!(next.commits.len(), 1, "the loss is being written");
    agent.hello.connection += 1;
    let conn = next.send_hello(&agent.hello);
    next.answer_commit(Ok(()));
    assert_eq!(next.core.gauges().agents_unreachable, 1);
    next.answer_commit(Ok(()));
    assert!(matches!(next.next_order(conn), Order::Welcome(_)));
    let gauges = next.core.gauges();
    assert_eq!((gauges.agents_connected, gauges.agents_unreachable), (1, 0));
    next.finish();
}

#[test]
fn one_seed_gives_one_history_and_another_term_other_ids() {
    let run = |counter| {
        let mut world = World::recovered(|_| {}, Default::default(), counter);
        let scheduler = world.framework("a");
        let agent = world.agent("h1", "cpus:1;mem:64");
        let offer = world.offer(&scheduler);
        (scheduler.id, agent.id, offer.id, scheduler.stream)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}
