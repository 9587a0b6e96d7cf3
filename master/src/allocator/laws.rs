//! Laws of the allocator, for any history of facts.

use proptest::prelude::*;

use super::tests::{World, bag, role};
use super::*;

const ROLES: [&str; 4] = ["*", "a", "a/b", "c"];

#[derive(Clone, Debug)]
enum Fact {
    AddAgent(u32, u8),
    RemoveAgent(u32),
    Deactivate(u32, bool),
    Framework(u32, u8),
    Active(u32, bool),
    RemoveFramework(u32),
    Suppress(u32, u8),
    Revive(u32, u8),
    /// Gives the n-th holding back, a part or the whole, with or without a filter.
    GiveBack(usize, bool, Option<u64>),
    Pass(u64),
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        3 => (0..5_u32, any::<u8>()).prop_map(|(key, size)| Fact::AddAgent(key, size)),
        1 => (0..5_u32).prop_map(Fact::RemoveAgent),
        1 => (0..5_u32, any::<bool>()).prop_map(|(key, on)| Fact::Deactivate(key, on)),
        3 => (0..4_u32, 1..16_u8).prop_map(|(key, roles)| Fact::Framework(key, roles)),
        2 => (0..4_u32, any::<bool>()).prop_map(|(key, on)| Fact::Active(key, on)),
        1 => (0..4_u32).prop_map(Fact::RemoveFramework),
        1 => (0..4_u32, 0..4_u8).prop_map(|(key, role)| Fact::Suppress(key, role)),
        1 => (0..4_u32, 0..4_u8).prop_map(|(key, role)| Fact::Revive(key, role)),
        6 => (any::<usize>(), any::<bool>(), proptest::option::of(0..10_000_u64))
            .prop_map(|(index, whole, refuse)| Fact::GiveBack(index, whole, refuse)),
        2 => (0..8000_u64).prop_map(Fact::Pass),
    ]
}

/// A world, and who was granted what since.
struct History {
    world: World,
    totals: BTreeMap<u32, Resources>,
    held: Vec<Grant>,
}

impl History {
    fn apply(&mut self, fact: &Fact) {
        let allocator = &mut self.world.allocator;
        match *fact {
            Fact::AddAgent(key, size) => {
                if self.totals.contains_key(&key) {
                    return;
                }
                let text = format!(
                    "cpus:{};mem:{};ports:[1-{}];cpus(a):1",
                    1 + size % 8,
                    64,
                    10
                );
                allocator.add_agent(AgentKey(key), World::spec(&text, ""), []);
                self.totals.insert(key, bag(&text));
            }
            Fact::RemoveAgent(key) => {
                allocator.remove_agent(AgentKey(key));
                self.totals.remove(&key);
                self.held.retain(|grant| grant.agent.0 != key);
            }
            Fact::Deactivate(key, on) => allocator.set_agent_active(AgentKey(key), on),
            Fact::Framework(key, roles) => {
                let roles: Vec<&str> = (0..4)
                    .filter(|bit| roles >> bit & 1 == 1)
                    .map(|bit| ROLES[bit])
                    .collect();
                allocator.set_framework(FrameworkKey(key), World::framework_spec(key, &roles));
            }
            Fact::Active(key, on) => allocator.set_framework_active(FrameworkKey(key), on),
            Fact::RemoveFramework(key) => {
                allocator.remove_framework(FrameworkKey(key));
                self.held.retain(|grant| grant.framework.0 != key);
            }
            Fact::Suppress(key, of) => {
                allocator.suppress(FrameworkKey(key), &[role(ROLES[usize::from(of)])]);
            }
            Fact::Revive(key, of) => {
                allocator.revive(FrameworkKey(key), &[role(ROLES[usize::from(of)])]);
            }
            Fact::GiveBack(index, whole, refuse) => self.give_back(index, whole, refuse),
            Fact::Pass(millis) => self.world.pass(millis),
        }
    }

    fn give_back(&mut self, index: usize, whole: bool, refuse: Option<u64>) {
        if self.held.is_empty() {
            return;
        }
        let index = index % self.held.len();
        let mut grant = self.held.swap_remove(index);
        let part = if whole {
            grant.resources.clone()
        } else {
            grant.resources.get("mem")
        };
        self.world.allocator.release(
            self.world.now,
            grant.agent,
            grant.framework,
            &grant.role,
            &part,
            refuse.map(Millis),
        );
        grant.resources.remove(&part);
        if !grant.resources.is_empty() {
            self.held.push(grant);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_given_twice_and_the_books_are_right(facts in proptest::collection::vec(fact(), 1..60)) {
        let mut history =
            History { world: World::new(), totals: BTreeMap::new(), held: Vec::new() };
        for fact in &facts {
            history.apply(fact);
            let grants = history.world.allocator.allocate(history.world.now);
            for grant in &grants {
                prop_assert!(!grant.resources.is_empty());
                prop_assert!(grant.resources.iter().all(|r| r.allocatable_to(&grant.role)));
                let of = history.world.allocator.frameworks.get(&grant.framework);
                prop_assert!(of.is_some_and(|of| of.active && of.roles.contains_key(&grant.role)));
            }
            history.held.extend(grants);
            prop_assert_eq!(history.world.allocator.check(), Ok(()));
            for (key, total) in &history.totals {
                let mut given = Resources::new();
                for grant in history.held.iter().filter(|grant| grant.agent.0 == *key) {
                    given += &grant.resources;
                }
                prop_assert!(total.contains(&given), "agent {} of {} gave {}", key, total, given);
            }
        }
        // Quiet: everybody revives; then whatever is still free is free for a reason.
        for key in 0..4 {
            let roles: Vec<Role> = ROLES.iter().map(|text| role(text)).collect();
            history.world.allocator.revive(FrameworkKey(key), &roles);
        }
        history.world.pass(10_000);
        history.world.allocator.allocate(history.world.now);
        for agent in history.totals.keys() {
            for framework in 0..4 {
                for text in ROLES {
                    let left = history.world.why(framework, *agent, text);
                    prop_assert!(matches!(left, Verdict::Skip(_)), "{:?} was not given to {}", left, framework);
                }
            }
        }
    }

    #[test]
    fn equal_frameworks_end_up_with_equal_shares(frameworks in 2..6_u32, agents in 1..30_u32) {
        let mut world = World::new();
        for key in 0..frameworks {
            world.join(key, &["*"]);
        }
        world.allocator.allocate(world.now);
        let mut counts = vec![0_u32; frameworks as usize];
        for key in 0..agents {
            world = world.agent(key, "cpus:4;mem:1024");
            for (framework, _, _) in world.grants() {
                counts[framework as usize] += 1;
            }
        }
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", counts);
    }
}
