//! Each reason that can be told, and that what would change it does.

use mezzo_model::constraint::{Constraint, Predicate, Selector};

use super::tests::{World, bag, role};
use super::*;

const ALL: &str = "cpus:4;mem:1024";

impl World {
    pub(super) fn why(&self, framework: u32, agent: u32, of: &str) -> Verdict {
        let (framework, agent) = (FrameworkKey(framework), AgentKey(agent));
        let said = self
            .allocator
            .explain(self.now, framework, &role(of), Some(agent));
        let (told, verdict) = said.agents.into_iter().next().expect("one agent");
        assert_eq!(told, agent);
        verdict
    }

    fn skip(&self, framework: u32, agent: u32, of: &str) -> Skip {
        match self.why(framework, agent, of) {
            Verdict::Skip(skip) => skip,
            offer @ Verdict::Offer { .. } => panic!("{offer:?}"),
        }
    }

    fn settle(&mut self) -> usize {
        self.pass(50);
        self.grants().len()
    }
}

#[test]
fn who_and_what_is_not_there() {
    let mut world = World::new().agent(1, ALL);
    world.settle();
    assert_eq!(world.skip(1, 9, "*"), Skip::UnknownAgent);
    assert_eq!(world.skip(1, 1, "*"), Skip::UnknownFramework);
    world.join(1, &["a"]);
    assert_eq!(world.skip(1, 1, "*"), Skip::NotInRole);
    world.allocator.set_framework_active(FrameworkKey(1), false);
    assert_eq!(world.skip(1, 1, "a"), Skip::FrameworkInactive);
    world.allocator.set_framework_active(FrameworkKey(1), true);
    world.allocator.suppress(FrameworkKey(1), &[role("a")]);
    assert_eq!(world.skip(1, 1, "a"), Skip::Suppressed);
    world.allocator.revive(FrameworkKey(1), &[role("a")]);
    world.allocator.set_agent_active(AgentKey(1), false);
    assert_eq!(world.skip(1, 1, "a"), Skip::AgentInactive);
    assert_eq!(world.settle(), 0);
    world.allocator.set_agent_active(AgentKey(1), true);
    assert!(matches!(world.why(1, 1, "a"), Verdict::Offer { .. }));
    assert_eq!(world.settle(), 1);
}

#[test]
fn agents_of_another_kind() {
    let mut config = AllocatorConfig {
        region: Some(Arc::from("here")),
        ..AllocatorConfig::default()
    };
    config.weights.clear();
    let mut world = World::new();
    world.allocator = Allocator::new(config, Rng::new(1));
    let mut far = World::spec(ALL, "rack:r1");
    far.domain = Some((Arc::from("there"), Arc::from("z")));
    world.allocator.add_agent(AgentKey(1), far, []);
    let gpus = World::spec("cpus:4;mem:1024;gpus:1", "rack:r1");
    world.allocator.add_agent(AgentKey(2), gpus, []);
    let mut spec = World::framework_spec(1, &["*"]);
    spec.roles[0].constraints = Some(vec![vec![Constraint {
        selector: Selector::Attribute("rack".into()),
        predicate: Predicate::Equals("r2".into()),
    }]]);
    world.join(1, &["*"]);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.skip(1, 1, "*"), Skip::Region);
    assert_eq!(world.skip(1, 2, "*"), Skip::Gpus);
    world.allocator.set_framework(FrameworkKey(1), spec.clone());
    assert_eq!(world.skip(1, 1, "*"), Skip::Constraints);
    spec.roles[0].constraints = None;
    spec.abilities.regions = true;
    spec.abilities.gpus = true;
    world.allocator.set_framework(FrameworkKey(1), spec);
    assert_eq!(world.settle(), 2);
}

#[test]
fn nothing_that_it_may_have() {
    let mut world = World::new().agent(1, ALL).framework(1, &["*"]);
    assert_eq!(world.settle(), 1);
    world.join(2, &["*"]);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.skip(2, 1, "*"), Skip::NothingFree);
    world = world.agent(2, "cpus(eng):4;mem(eng):64");
    assert_eq!(world.settle(), 0);
    assert_eq!(world.skip(2, 2, "*"), Skip::Reserved);
    let total = bag(ALL).map(|resource| resource.revocable = true);
    let revocable = AgentSpec {
        total,
        ..World::spec("", "")
    };
    world.allocator.add_agent(AgentKey(3), revocable, []);
    assert_eq!(world.settle(), 0);
    assert_eq!(world.skip(2, 3, "*"), Skip::Unable);
    world = world.agent(4, "cpus:0.001;mem:31;ports:[1-9]");
    assert_eq!(world.settle(), 0);
    assert_eq!(world.skip(2, 4, "*"), Skip::TooSmall);
    let mut spec = World::framework_spec(2, &["*", "eng"]);
    spec.abilities.revocable = true;
    for role in &mut spec.roles {
        role.min_allocatable = Some(Vec::new());
    }
    world.allocator.set_framework(FrameworkKey(2), spec);
    assert_eq!(world.settle(), 3);
}

#[test]
fn what_it_refused_and_until_when() {
    let mut world = World::new().agent(1, ALL).framework(1, &["*"]);
    assert_eq!(world.settle(), 1);
    world.give_back(1, 1, ALL, Some(7000));
    let until = world.now + Millis(7000);
    assert_eq!(world.skip(1, 1, "*"), Skip::Filtered { until });
    world.pass(6999);
    assert_eq!(world.skip(1, 1, "*"), Skip::Filtered { until });
    assert!(world.grants().is_empty());
    world.pass(1);
    let due = world.now;
    let resources = bag(ALL);
    assert_eq!(world.why(1, 1, "*"), Verdict::Offer { resources, due });
    assert_eq!(world.grants().len(), 1);
}

#[test]
fn who_is_served_before_it() {
    let mut world = World::new().agent(1, ALL).framework(1, &["*"]);
    assert_eq!(world.settle(), 1);
    world.join(2, &["*"]);
    world = world.agent(2, ALL);
    let role = Role::star();
    let framework = FrameworkKey(2);
    assert_eq!(world.skip(1, 2, "*"), Skip::Behind { framework, role });
    let standing = |world: &World, key| {
        let said = world
            .allocator
            .explain(world.now, FrameworkKey(key), &Role::star(), None);
        assert_eq!(said.agents.len(), 2);
        said.standing.map(|standing| (standing.ahead, standing.of))
    };
    assert_eq!(world.settle(), 1);
    world.give_back(2, 2, ALL, Some(5000));
    assert_eq!(world.settle(), 1);
    assert_eq!(standing(&world, 2), Some((0, 2)));
    assert_eq!(standing(&world, 1), Some((1, 2)));
    assert_eq!(standing(&world, 3), None);
}

#[test]
fn a_sweep_that_waits_is_told_with_its_time() {
    let mut world = World::new().agent(1, ALL).framework(1, &["*"]);
    assert_eq!(world.settle(), 1);
    world.give_back(1, 1, ALL, Some(5000));
    assert!(world.grants().is_empty());
    world.allocator.revive(FrameworkKey(1), &[Role::star()]);
    let due = world.allocator.next_deadline().expect("a sweep waits");
    let resources = bag(ALL);
    assert_eq!(world.why(1, 1, "*"), Verdict::Offer { resources, due });
    world.now = due;
    assert_eq!(world.grants().len(), 1);
}

#[test]
fn each_reason_has_its_own_name_and_a_remedy() {
    let until = Millis(1);
    let (framework, role) = (FrameworkKey(1), Role::star());
    let all = [
        Skip::UnknownAgent,
        Skip::UnknownFramework,
        Skip::NotInRole,
        Skip::FrameworkInactive,
        Skip::Suppressed,
        Skip::AgentInactive,
        Skip::Constraints,
        Skip::Gpus,
        Skip::Region,
        Skip::NothingFree,
        Skip::Reserved,
        Skip::Unable,
        Skip::TooSmall,
        Skip::Filtered { until },
        Skip::Behind { framework, role },
    ];
    let names: BTreeSet<&str> = all.iter().map(Skip::name).collect();
    assert_eq!(names.len(), all.len());
    let texts: BTreeSet<&str> = all
        .iter()
        .flat_map(|skip| [skip.text(), skip.remedy()])
        .collect();
    assert!(texts.len() > all.len() && texts.iter().all(|text| !text.is_empty()));
}
