//! What is said of an offer that did not go out.

use super::super::testing::*;
use super::super::*;

fn question(world: &World, scheduler: &Scheduler, agent: Option<&str>) -> Result<Answer, Refusal> {
    let question = Question {
        framework: scheduler.id.value.clone(),
        role: "*".into(),
        agent: agent.map(str::to_owned),
    };
    world
        .core
        .explain(world.now, &question)
        .expect("no cycle is due")
}

fn ask(world: &World, scheduler: &Scheduler) -> AgentAnswer {
    let answer = question(world, scheduler, None).expect("known");
    assert_eq!((answer.agents.len(), answer.left_out), (1, 0));
    answer.agents.into_iter().next().expect("one agent")
}

#[test]
fn who_has_what_and_until_when() {
    let mut world = World::new();
    let (first, second) = (world.framework("a"), world.framework("b"));
    let agent = world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&first);
    // The second one's arrival is carried to all agents.
    world.pass(20);
    let said = ask(&world, &first);
    assert_eq!(
        (said.reason, said.offer_ids),
        ("OFFERED", vec![offer.id.value.clone()])
    );

    let said = ask(&world, &second);
    assert_eq!(
        (said.reason, said.hostname.as_str()),
        ("NOTHING_FREE", "h1")
    );
    let holder = Holder {
        framework_id: first.id.value.clone(),
        role: "*".into(),
        resources: "cpus:4; mem:1024".into(),
        offered: Some("cpus:4; mem:1024".into()),
    };
    assert_eq!(said.holders, [holder]);

    world.decline(&first, &offer, 5.0);
    world.pass(1500);
    let said = ask(&world, &first);
    // The other one has it; when it declines, the filter is what is left.
    assert_eq!(said.reason, "NOTHING_FREE");
    let theirs = world.offer(&second);
    world.decline(&second, &theirs, 60.0);
    let said = ask(&world, &first);
    assert_eq!(said.reason, "FILTERED");
    assert_eq!(said.remaining_secs.as_deref(), Some("3.500"));
    assert!(said.change.contains("REVIVE"));

    world.suppress(&first);
    assert_eq!(ask(&world, &first).reason, "SUPPRESSED");
    world.disconnect(&second);
    assert_eq!(ask(&world, &second).reason, "FRAMEWORK_INACTIVE");
    let id = agent.id.value.as_str();
    let one = question(&world, &first, Some(id)).map(|answer| answer.agents.len());
    assert_eq!(one, Ok(1));
    let none = question(&world, &first, Some("nobody")).map_err(|refusal| refusal.status);
    assert_eq!(none.map(|answer| answer.agents), Err(404));
    world.finish();
}

#[test]
fn a_question_waits_for_the_cycle_that_is_due() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.decline(&scheduler, &offer, 60.0);
    world.revive(&scheduler);
    world.suppress(&scheduler);
    world.revive(&scheduler);
    let question = Question {
        framework: scheduler.id.value.clone(),
        role: "*".into(),
        agent: None,
    };
    assert_eq!(world.core.explain(world.now, &question), None);
    let due = world.core.next_deadline().expect("a sweep waits");
    assert!(due <= world.now.mono + crate::allocator::SWEEP_INTERVAL);
    world.pass(20);
    assert_eq!(ask(&world, &scheduler).reason, "OFFERED");
    world.offer(&scheduler);
    let bad = Question {
        role: "a//b".into(),
        ..question
    };
    let refused = world
        .core
        .explain(world.now, &bad)
        .expect("no cycle is due");
    assert_eq!(refused.map_err(|refusal| refusal.status), Err(400));
    world.finish();
}
