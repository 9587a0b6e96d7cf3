//! Offers: declined, timed out, taken back, suppressed.

use mezzo_wire::v1::scheduler::call::Type as CallType;

use super::super::testing::*;

#[test]
fn a_declined_offer_goes_to_the_other_in_the_same_event() {
    let mut world = World::new();
    let (first, second) = (world.framework("a"), world.framework("b"));
    world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&first);
    world.decline(&first, &offer, 5.0);
    let theirs = world.offer(&second);
    world.decline(&second, &theirs, 0.0);
    assert!(
        world.offers(&first).is_empty(),
        "five seconds have not passed"
    );
    world.pass(999);
    assert!(world.offers(&second).is_empty());
    world.pass(1);
    assert_eq!(world.offers(&second).len(), 1);
    world.finish();
}

#[test]
fn a_loop_of_declines_is_slow() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    world.agent("h1", "cpus:4;mem:1024");
    let mut offers = 0;
    let started = crate::testing::cpu_time();
    for _ in 0..1000 {
        for offer in world.offers(&scheduler) {
            offers += 1;
            world.decline(&scheduler, &offer, 0.0);
        }
        world.pass(10);
    }
    world.events(&scheduler);
    assert!((9..=11).contains(&offers), "{offers} offers in 10 s");
    let spent = (crate::testing::cpu_time() - started).as_secs_f64();
    assert!(spent < 0.1, "{spent} s of 10 s, tests' own work included");
    world.finish();
}

#[test]
fn suppress_and_revive() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    world.suppress(&scheduler);
    world.agent("h1", "cpus:4;mem:1024");
    assert!(world.offers(&scheduler).is_empty());
    world.pass(60_000);
    world.revive(&scheduler);
    world.offer(&scheduler);
    world.finish();

    let mut world = World::new();
    let scheduler = world.framework("a");
    world.agent("h1", "cpus:4;mem:1024");
    let offer = world.offer(&scheduler);
    world.suppress(&scheduler);
    world.decline(&scheduler, &offer, 3600.0);
    world.pass(5_000);
    world.revive(&scheduler);
    world.offer(&scheduler);
    world.finish();
}

#[test]
fn an_offer_that_nobody_else_wants_is_kept_for_five_minutes() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.offer(&scheduler);
    let stay = |world: &mut World, millis: u64| {
        for _ in 0..millis / 10_000 {
            world.pass(10_000);
            world.pong(&agent);
        }
    };
    stay(&mut world, 290_000);
    assert!(world.story(&scheduler).is_empty());
    stay(&mut world, 10_000);
    assert_eq!(world.story(&scheduler), ["RESCIND"]);
    stay(&mut world, 10_000);
    assert_eq!(world.offers(&scheduler).len(), 1, "offered again");
    world.finish();
}

#[test]
fn an_offer_that_somebody_else_wants_is_taken_back_after_thirty_seconds() {
    let mut world = World::new();
    let hoarder = world.framework("a");
    world.agent("h1", "cpus:4;mem:1024");
    world.offer(&hoarder);
    world.pass(20_000);
    let other = world.framework("b");
    world.pass(9_999);
    assert!(world.story(&hoarder).is_empty());
    world.pass(1);
    assert_eq!(world.story(&hoarder), ["RESCIND"]);
    world.offer(&other);
    world.finish();

    // One that is older already goes as soon as somebody appears who wants it.
    let mut world = World::new();
    let hoarder = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.offer(&hoarder);
    world.pass(40_000);
    world.pong(&agent);
    assert!(world.story(&hoarder).is_empty());
    let other = world.framework("b");
    assert_eq!(world.story(&hoarder), ["RESCIND"]);
    world.offer(&other);
    world.finish();
}

#[test]
fn offers_of_an_agent_that_goes_are_taken_back() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    let agent = world.agent("h1", "cpus:4;mem:1024");
    world.offer(&scheduler);
    world.cut(&agent);
    assert_eq!(world.story(&scheduler), ["RESCIND"]);
    world.pass(10_000);
    let mut agent = agent;
    world.reconnect(&mut agent, Vec::new(), Vec::new());
    world.offer(&scheduler);
    world.finish();
}

#[test]
fn calls_that_name_a_foreign_role_are_dropped_whole() {
    let mut world = World::new();
    let scheduler = world.framework("a");
    world.call(&scheduler, CallType::Suppress, |call| {
        let suppress = mezzo_wire::v1::scheduler::call::Suppress {
            roles: vec!["*".into(), "x".into()],
        };
        call.suppress = Some(suppress);
    });
    world.agent("h1", "cpus:4;mem:1024");
    world.offer(&scheduler);
    world.finish();
}
