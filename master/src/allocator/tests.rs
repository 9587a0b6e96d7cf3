//! Stories of the allocator: who is offered what, and when.

use mezzo_model::attributes::Attributes;
use mezzo_model::constraint::Constraint;

use super::*;

pub(super) fn bag(text: &str) -> Resources {
    Resources::parse(text).expect("reads")
}

pub(super) fn role(text: &str) -> Role {
    Role::parse(text).expect("a role")
}

/// An allocator with agents and frameworks, and a clock.
pub(super) struct World {
    pub allocator: Allocator,
    pub now: Millis,
}

impl World {
    pub fn new() -> Self {
        let allocator = Allocator::new(AllocatorConfig::default(), Rng::new(1));
        Self {
            allocator,
            now: Millis(1_000_000),
        }
    }

    pub fn spec(total: &str, attributes: &str) -> AgentSpec {
        AgentSpec {
            total: bag(total),
            hostname: Arc::from("h"),
            domain: None,
            attributes: Arc::new(Attributes::parse(attributes).expect("reads")),
        }
    }

    pub fn agent(mut self, key: u32, total: &str) -> Self {
        self.allocator
            .add_agent(AgentKey(key), Self::spec(total, ""), []);
        self
    }

    pub fn framework_spec(key: u32, roles: &[&str]) -> FrameworkSpec {
        let roles = roles.iter().map(|text| RoleSpec {
            role: role(text),
            suppressed: false,
            min_allocatable: None,
            constraints: None,
        });
        FrameworkSpec {
            name: Arc::from(format!("f{key}")),
            roles: roles.collect(),
            abilities: Abilities::default(),
        }
    }

    pub fn framework(mut self, key: u32, roles: &[&str]) -> Self {
        self.join(key, roles);
        self
    }

    pub fn join(&mut self, key: u32, roles: &[&str]) {
        self.allocator
            .set_framework(FrameworkKey(key), Self::framework_spec(key, roles));
        self.allocator.set_framework_active(FrameworkKey(key), true);
    }

    /// What is granted now: (framework, agent, resources).
    pub fn grants(&mut self) -> Vec<(u32, u32, String)> {
        let grants = self.allocator.allocate(self.now);
        self.allocator.check().expect("sound books");
        grants
            .into_iter()
            .map(|grant| {
                (
                    grant.framework.0,
                    grant.agent.0,
                    grant.resources.to_string(),
                )
            })
            .collect()
    }

    pub fn give_back(&mut self, framework: u32, agent: u32, resources: &str, refuse: Option<u64>) {
        self.give_back_as("*", framework, agent, resources, refuse);
    }

    pub fn give_back_as(
        &mut self,
        of: &str,
        framework: u32,
        agent: u32,
        resources: &str,
        refuse: Option<u64>,
    ) {
        self.allocator.release(
            self.now,
            AgentKey(agent),
            FrameworkKey(framework),
            &role(of),
            &bag(resources),
            refuse.map(Millis),
        );
    }

    pub fn pass(&mut self, millis: u64) {
        self.now += Millis(millis);
    }
}

fn grant(framework: u32, agent: u32, resources: &str) -> (u32, u32, String) {
    (framework, agent, resources.replace(';', "; "))
}

#[test]
fn an_agent_goes_whole_to_the_first_and_the_next_agent_to_the_other() {
    let mut world = World::new().framework(1, &["*"]).framework(2, &["*"]);
    assert!(world.grants().is_empty());
    world = world.agent(1, "cpus:4;mem:1024");
    assert_eq!(world.grants(), [grant(1, 1, "cpus:4;mem:1024")]);
    world = world.agent(2, "cpus:4;mem:1024");
    assert_eq!(world.grants(), [grant(2, 2, "cpus:4;mem:1024")]);
    assert!(world.grants().is_empty(), "nothing is given twice");
}

#[test]
fn what_is_declined_goes_to_the_other_in_the_same_event_and_comes_back_after_the_filter() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["*"])
        .framework(2, &["*"]);
    let all = "cpus:4;mem:1024";
    assert_eq!(world.grants(), [grant(1, 1, all)]);
    world.give_back(1, 1, all, Some(5000));
    assert_eq!(world.grants(), [grant(2, 1, all)]);
    world.give_back(2, 1, all, Some(0));
    assert!(world.grants().is_empty(), "both have refused it");
    assert_eq!(world.allocator.next_deadline(), Some(world.now + COOL_DOWN));
    world.pass(999);
    assert!(world.grants().is_empty());
    world.pass(1);
    assert_eq!(
        world.grants(),
        [grant(2, 1, all)],
        "0 seconds are one second"
    );
    world.give_back(2, 1, all, Some(60_000));
    assert!(world.grants().is_empty());
    world.pass(4000);
    assert_eq!(
        world.grants(),
        [grant(1, 1, all)],
        "five seconds after it declined"
    );
}

#[test]
fn a_set_that_grew_passes_the_filter_at_once() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["*"]);
    assert_eq!(world.grants().len(), 1);
    // It launches with one cpu and leaves the rest for a minute.
    world.give_back(1, 1, "cpus:3;mem:1024", Some(60_000));
    assert!(world.grants().is_empty());
    world.pass(10);
    world.give_back(1, 1, "cpus:1", None);
    assert_eq!(world.grants(), [grant(1, 1, "cpus:4;mem:1024")]);
}

#[test]
fn revive_brings_everything_back_at_once_and_suppress_stops_it() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["*"]);
    assert_eq!(world.grants().len(), 1);
    world.give_back(1, 1, "cpus:4;mem:1024", Some(3_600_000));
    assert!(world.grants().is_empty());
    world.pass(50);
    world.allocator.revive(FrameworkKey(1), &[Role::star()]);
    assert_eq!(world.grants().len(), 1);
    world.allocator.suppress(FrameworkKey(1), &[Role::star()]);
    world.give_back(1, 1, "cpus:4;mem:1024", None);
    assert!(world.grants().is_empty());
    world.pass(50);
    world.allocator.revive(FrameworkKey(1), &[Role::star()]);
    assert_eq!(world.grants().len(), 1);
}

#[test]
fn sweeps_are_coalesced() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["*"]);
    assert_eq!(world.grants().len(), 1);
    world.give_back(1, 1, "cpus:4;mem:1024", Some(3_600_000));
    assert!(world.grants().is_empty());
    world.pass(1);
    world.allocator.revive(FrameworkKey(1), &[Role::star()]);
    assert!(
        world.grants().is_empty(),
        "the last sweep was a millisecond ago"
    );
    let deadline = world.allocator.next_deadline().expect("a sweep is due");
    assert!(deadline <= world.now + SWEEP_INTERVAL);
    world.now = deadline;
    assert_eq!(world.grants().len(), 1);
}

#[test]
fn reserved_resources_go_to_their_role_and_those_below() {
    let mut world = World::new()
        .agent(1, "cpus(eng):2;cpus:1;mem(ops):64;mem:64")
        .framework(1, &["ops"])
        .framework(2, &["eng/web"]);
    let mut grants = world.grants();
    grants.sort();
    assert_eq!(
        grants,
        [
            (1, 1, "mem(reservations: [(STATIC,ops)]):64".to_owned()),
            (
                2,
                1,
                "cpus(reservations: [(STATIC,eng)]):2; cpus:1; mem:64".to_owned()
            ),
        ]
    );
}

#[test]
fn abilities_and_constraints_are_gates() {
    let mut world = World::new().framework(1, &["*"]);
    world.allocator.add_agent(
        AgentKey(1),
        World::spec("cpus:4;mem:64;gpus:1", "rack:r1"),
        [],
    );
    assert!(world.grants().is_empty());
    assert_eq!(world.why(1, 1, "*"), Verdict::Skip(Skip::Gpus));
    let mut spec = World::framework_spec(1, &["*"]);
    spec.abilities.gpus = true;
    let wants = |rack: &str| {
        vec![vec![Constraint {
            selector: mezzo_model::constraint::Selector::Attribute("rack".into()),
            predicate: mezzo_model::constraint::Predicate::Equals(rack.into()),
        }]]
    };
    spec.roles[0].constraints = Some(wants("r2"));
    world.allocator.set_framework(FrameworkKey(1), spec.clone());
    world.pass(50);
    assert!(world.grants().is_empty());
    assert_eq!(world.why(1, 1, "*"), Verdict::Skip(Skip::Constraints));
    spec.roles[0].constraints = Some(wants("r1"));
    world.allocator.set_framework(FrameworkKey(1), spec);
    world.pass(50);
    assert_eq!(world.grants().len(), 1);
}

#[test]
fn too_little_is_not_offered_unless_it_is_wanted() {
    let mut world = World::new()
        .agent(1, "cpus:0.009;mem:31")
        .framework(1, &["*"]);
    assert!(world.grants().is_empty());
    assert_eq!(world.why(1, 1, "*"), Verdict::Skip(Skip::TooSmall));
    let mut spec = World::framework_spec(1, &["*"]);
    spec.roles[0].min_allocatable = Some(Vec::new());
    world.allocator.set_framework(FrameworkKey(1), spec);
    world.pass(50);
    assert_eq!(world.grants(), [grant(1, 1, "cpus:0.009;mem:31")]);
}

#[test]
fn who_left_a_role_is_forgotten_there_once_it_holds_nothing() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["a"]);
    assert_eq!(world.grants().len(), 1);
    world
        .allocator
        .set_framework(FrameworkKey(1), World::framework_spec(1, &["b"]));
    world.give_back_as("a", 1, 1, "cpus:1", None);
    world.pass(50);
    assert_eq!(world.grants(), [grant(1, 1, "cpus:1")], "in its new role");
    world.give_back_as("a", 1, 1, "cpus:3;mem:1024", None);
    assert_eq!(world.allocator.tree.held(FrameworkKey(1), &role("a")), None);
    assert_eq!(world.grants().len(), 1);
    world.allocator.remove_framework(FrameworkKey(1));
    assert!(world.grants().is_empty());
    assert_eq!(
        world.allocator.free_on(AgentKey(1)),
        Some(&bag("cpus:4;mem:1024"))
    );
}

#[test]
fn an_agent_that_reports_more_than_it_has_is_not_offered() {
    let mut world = World::new().framework(1, &["*"]);
    let held = (FrameworkKey(1), Role::star(), bag("cpus:6;mem:10"));
    world
        .allocator
        .add_agent(AgentKey(1), World::spec("cpus:4;mem:1024", ""), [held]);
    assert_eq!(world.grants(), [grant(1, 1, "mem:1014")]);
    world.give_back(1, 1, "cpus:3", None);
    assert_eq!(world.grants(), [grant(1, 1, "cpus:1")]);
}

#[test]
fn whether_another_wants_what_somebody_holds() {
    let mut world = World::new()
        .agent(1, "cpus:4;mem:1024")
        .framework(1, &["*"]);
    let all = bag("cpus:4;mem:1024");
    assert_eq!(world.grants().len(), 1);
    let wanted = |world: &mut World| {
        world
            .allocator
            .wanted_by_another(AgentKey(1), FrameworkKey(1), &all)
    };
    assert!(!wanted(&mut world));
    world.allocator.take_demand();
    world.join(2, &["*"]);
    assert!(world.allocator.take_demand());
    assert!(wanted(&mut world));
    world.allocator.suppress(FrameworkKey(2), &[Role::star()]);
    assert!(!wanted(&mut world));
}

/// The cost of a framework that declines everything with 0 seconds, as fast as it is asked.
#[test]
fn a_loop_of_declines_costs_next_to_nothing() {
    let mut world = World::new().framework(1, &["*"]);
    for agent in 0..200 {
        world = world.agent(agent, "cpus:4;mem:1024;ports:[31000-32000]");
    }
    let seconds = 20;
    let end = world.now + Millis::from_secs(seconds);
    let (mut offers, mut calls) = (0, 0_u64);
    let started = crate::testing::cpu_time();
    while world.now < end {
        let grants = world.allocator.allocate(world.now);
        calls += 1;
        offers += grants.len();
        for grant in grants {
            world.allocator.release(
                world.now,
                grant.agent,
                grant.framework,
                &grant.role,
                &grant.resources,
                Some(Millis::ZERO),
            );
        }
        world.now = world
            .allocator
            .next_deadline()
            .unwrap_or(end)
            .max(world.now + Millis(1))
            .min(end);
    }
    let spent = crate::testing::cpu_time() - started;
    assert!(
        offers <= 200 * (seconds as usize + 1),
        "{offers} offers of 200 agents in {seconds} s"
    );
    assert!(calls <= 3 * seconds + 3, "{calls} rounds in {seconds} s");
    let share = spent.as_secs_f64() / seconds as f64;
    assert!(share < 0.01, "{:.3} % of a core", share * 100.0);
}
