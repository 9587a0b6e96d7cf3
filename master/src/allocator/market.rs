//! Random markets: the allocator beside the reference, its explanations beside what it then does, and its laws.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use mezzo_model::attributes::Attributes;
use mezzo_model::constraint::{Constraint, Predicate, Selector};
use proptest::prelude::*;

use super::reference::Reference;
use super::tests::{bag, role};
use super::*;

const ROLES: [&str; 4] = ["*", "a", "a/b", "c"];
const AGENTS: u32 = 5;
const FRAMEWORKS: u32 = 4;

#[derive(Clone, Debug)]
enum Fact {
    AddAgent(u32, u8),
    UpdateAgent(u32, u8),
    RemoveAgent(u32),
    AgentActive(u32, bool),
    /// In which roles, which of them suppressed, of what kind.
    Framework(u32, u8, u8, u8),
    Active(u32, bool),
    RemoveFramework(u32),
    Suppress(u32, u8, bool),
    Weight(u8, u64),
    /// The n-th holding comes back, whole or its memory, and is refused for so long or not at all.
    Release(usize, bool, Option<u64>),
    Pass(u64),
}

fn fact() -> impl Strategy<Value = Fact> {
    let (agent, framework) = (0..AGENTS, 0..FRAMEWORKS);
    // Whole seconds too, so that things end in the moment they are looked at.
    let seconds = || (0..9_u64).prop_map(|seconds| 1000 * seconds);
    let refuse = proptest::option::of(prop_oneof![seconds(), 0..9000_u64]);
    prop_oneof![
        4 => (agent.clone(), any::<u8>()).prop_map(|(key, kind)| Fact::AddAgent(key, kind)),
        1 => (agent.clone(), any::<u8>()).prop_map(|(key, kind)| Fact::UpdateAgent(key, kind)),
        1 => agent.clone().prop_map(Fact::RemoveAgent),
        1 => (agent, any::<bool>()).prop_map(|(key, on)| Fact::AgentActive(key, on)),
        4 => (framework.clone(), 1..16_u8, any::<u8>(), any::<u8>())
            .prop_map(|(key, roles, quiet, kind)| Fact::Framework(key, roles, quiet & quiet >> 4, kind)),
        2 => (framework.clone(), 0..4_u8)
            .prop_map(|(key, on)| Fact::Active(key, on > 0)),
        1 => framework.clone().prop_map(Fact::RemoveFramework),
        3 => (framework, 0..4_u8, any::<bool>())
            .prop_map(|(key, of, on)| Fact::Suppress(key, of, on)),
        1 => (0..4_u8, 1..5000_u64).prop_map(|(of, weight)| Fact::Weight(of, weight)),
        9 => (any::<usize>(), any::<bool>(), refuse)
            .prop_map(|(index, whole, refuse)| Fact::Release(index, whole, refuse)),
        3 => prop_oneof![seconds(), 0..50_u64, 0..8000_u64].prop_map(Fact::Pass),
    ]
}

fn agent_spec(kind: u8) -> AgentSpec {
    let mut text = format!("cpus:{};mem:64;ports:[1-10]", 1 + kind % 4);
    if kind & 4 != 0 {
        text += ";cpus(a):1;mem(a/b):32";
    }
    if kind & 24 == 24 {
        text += ";gpus:1";
    }
    let mut total = bag(&text);
    if kind & 32 != 0 {
        total += bag("cpus:1").map(|resource| resource.revocable = true);
    }
    let rack = if kind & 64 == 0 { "rack:r1" } else { "rack:r2" };
    AgentSpec {
        total,
        hostname: Arc::from("h"),
        domain: (kind > 200).then(|| (Arc::from("far"), Arc::from("z"))),
        attributes: Arc::new(Attributes::parse(rack).expect("reads")),
    }
}

fn framework_spec(key: u32, roles: u8, quiet: u8, kind: u8) -> FrameworkSpec {
    let on_rack_1 = Constraint {
        selector: Selector::Attribute("rack".into()),
        predicate: Predicate::Equals("r1".into()),
    };
    let of = |bit: &usize| RoleSpec {
        role: role(ROLES[*bit]),
        suppressed: quiet >> bit & 1 == 1,
        min_allocatable: match kind & 3 {
            0 => Some(Vec::new()),
            1 => Some(vec![bag("cpus:2").quantities()]),
            _ => None,
        },
        constraints: (kind & 12 == 12).then(|| vec![vec![on_rack_1.clone()]]),
    };
    let roles = (0..4).filter(|bit| roles >> bit & 1 == 1);
    FrameworkSpec {
        name: Arc::from(format!("f{key}")),
        roles: roles.map(|bit| of(&bit)).collect(),
        abilities: Abilities {
            revocable: kind & 16 != 0,
            gpus: kind & 32 != 0,
            regions: kind & 64 != 0,
            ..Abilities::default()
        },
    }
}

/// The allocator and its reference, told the same.
struct Both {
    real: Allocator,
    plain: Reference,
}

impl Both {
    fn new() -> Self {
        let config = AllocatorConfig {
            region: Some(Arc::from("near")),
            ..AllocatorConfig::default()
        };
        let plain = Reference {
            config: config.clone(),
            now: Millis(1_000_000),
            ..Reference::default()
        };
        Self {
            real: Allocator::new(config, mezzo_model::rng::Rng::new(1)),
            plain,
        }
    }

    fn apply(&mut self, fact: &Fact) {
        let (real, plain) = (&mut self.real, &mut self.plain);
        match *fact {
            Fact::AddAgent(key, kind) => {
                let (key, spec) = (AgentKey(key), agent_spec(kind));
                if let Entry::Vacant(place) = plain.agents.entry(key) {
                    place.insert((spec.clone(), true));
                    real.add_agent(key, spec, []);
                }
            }
            Fact::UpdateAgent(key, kind) => self.update_agent(AgentKey(key), agent_spec(kind)),
            Fact::RemoveAgent(key) => {
                real.remove_agent(AgentKey(key));
                plain.agents.remove(&AgentKey(key));
                plain.held.retain(|grant| grant.agent.0 != key);
                plain.refused.retain(|(by, _)| by.agent.0 != key);
            }
            Fact::AgentActive(key, on) => {
                real.set_agent_active(AgentKey(key), on);
                if let Some((_, active)) = plain.agents.get_mut(&AgentKey(key)) {
                    *active = on;
                }
            }
            Fact::Framework(key, roles, quiet, kind) => {
                let spec = framework_spec(key, roles, quiet, kind);
                let key = FrameworkKey(key);
                if !plain.frameworks.contains_key(&key) {
                    real.set_framework(key, spec.clone());
                    plain.set_framework(key, spec.clone());
                    real.set_framework_active(key, true);
                    plain.set_framework_active(key, true);
                }
                real.set_framework(key, spec.clone());
                plain.set_framework(key, spec);
            }
            Fact::Active(key, on) => {
                real.set_framework_active(FrameworkKey(key), on);
                plain.set_framework_active(FrameworkKey(key), on);
            }
            Fact::RemoveFramework(key) => {
                real.remove_framework(FrameworkKey(key));
                plain.frameworks.remove(&FrameworkKey(key));
                plain.held.retain(|grant| grant.framework.0 != key);
            }
            Fact::Suppress(key, of, on) => {
                let (key, of) = (FrameworkKey(key), role(ROLES[usize::from(of)]));
                plain.suppress(key, &of, on);
                if on {
                    real.suppress(key, &[of]);
                } else {
                    real.revive(key, &[of]);
                }
            }
            Fact::Weight(of, weight) => {
                let of = role(ROLES[usize::from(of)]);
                real.set_weight(of.clone(), weight);
                plain.weights.insert(of, weight);
            }
            Fact::Release(index, whole, refuse) => self.release(index, whole, refuse.map(Millis)),
            Fact::Pass(millis) => plain.now += Millis(millis),
        }
        self.plain.forget();
    }

    fn update_agent(&mut self, key: AgentKey, spec: AgentSpec) {
        let held = |grant: &Grant| grant.agent == key;
        // What is held stays within what there is.
        if self.plain.held.iter().any(held) {
            return;
        }
        if let Some((before, _)) = self.plain.agents.get_mut(&key) {
            if before.attributes != spec.attributes {
                self.plain.refused.retain(|(by, _)| by.agent != key);
            }
            *before = spec.clone();
            self.real.update_agent(key, spec);
        }
    }

    fn release(&mut self, index: usize, whole: bool, refuse: Option<Millis>) {
        if self.plain.held.is_empty() {
            return;
        }
        let index = index % self.plain.held.len();
        let grant = self.plain.held[index].clone();
        let part = if whole {
            grant.resources.clone()
        } else {
            grant.resources.get("mem")
        };
        if !part.is_empty() {
            self.plain.release(index, &part, refuse);
            let (now, role) = (self.plain.now, &grant.role);
            self.real
                .release(now, grant.agent, grant.framework, role, &part, refuse);
        }
    }

    /// One cycle of both. The order of agents is free, so the reference follows it; new demand may wait for
    /// [`SWEEP_INTERVAL`], so what is left over is compared when none waits. No other difference is allowed.
    fn cycle(&mut self) -> Result<Vec<Grant>, TestCaseError> {
        let grants = self.real.allocate(self.plain.now);
        prop_assert_eq!(self.real.check(), Ok(()));
        for grant in &grants {
            let plain = self.plain.next(grant.agent);
            prop_assert_eq!(plain.as_ref(), Some(grant));
            self.plain.give(grant.clone());
        }
        if self.real.sweep_due().is_none() {
            for key in 0..AGENTS {
                prop_assert_eq!(self.plain.next(AgentKey(key)), None);
            }
        }
        prop_assert!(
            self.real.allocate(self.plain.now).is_empty(),
            "nothing changed"
        );
        Ok(grants)
    }

    /// What is explained beside what the cycles that are due then do.
    fn explained(&mut self) -> Result<(), TestCaseError> {
        let mut told = Vec::new();
        for (framework, text) in (0..FRAMEWORKS).flat_map(|key| ROLES.map(|text| (key, text))) {
            let (framework, role) = (FrameworkKey(framework), role(text));
            let said = self.real.explain(self.plain.now, framework, &role, None);
            prop_assert_eq!(said.agents.len(), self.plain.agents.len());
            for (agent, verdict) in said.agents {
                let one = self
                    .real
                    .explain(self.plain.now, framework, &role, Some(agent));
                prop_assert_eq!(&one.agents, &[(agent, verdict.clone())]);
                if let Verdict::Offer { resources, due } = verdict {
                    let role = role.clone();
                    told.push((
                        due,
                        Grant {
                            framework,
                            role,
                            agent,
                            resources,
                        },
                    ));
                }
            }
        }
        let mut done = Vec::new();
        let mut due = Some(self.plain.now);
        while let Some(now) = due {
            self.plain.now = self.plain.now.max(now);
            self.plain.forget();
            done.extend(self.cycle()?.into_iter().map(|grant| (now, grant)));
            due = self.real.sweep_due();
        }
        let key = |(due, grant): &(Millis, Grant)| {
            (*due, grant.agent, grant.framework, grant.role.clone())
        };
        told.sort_by_key(key);
        done.sort_by_key(key);
        prop_assert_eq!(told, done);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_does_what_the_reference_does(facts in proptest::collection::vec(fact(), 1..80)) {
        let mut both = Both::new();
        for fact in &facts {
            both.apply(fact);
            both.cycle()?;
        }
    }

    #[test]
    fn what_is_explained_comes_true(
        facts in proptest::collection::vec((fact(), any::<bool>()), 1..50),
    ) {
        let mut both = Both::new();
        for (fact, ask) in &facts {
            both.apply(fact);
            if *ask {
                both.explained()?;
            }
        }
    }

    /// Weighted max-min: nobody was served while another one, that wanted the same, had the lower weighted share.
    #[test]
    fn who_takes_all_ends_up_with_a_share_by_weight(
        weights in proptest::collection::vec(100..5000_u64, 2..6),
        agents in 1..40_u32,
    ) {
        let mut real = Allocator::new(AllocatorConfig::default(), mezzo_model::rng::Rng::new(1));
        for (key, weight) in (0..).zip(&weights) {
            let of = format!("r{key}");
            real.set_weight(role(&of), *weight);
            real.set_framework(FrameworkKey(key), super::tests::World::framework_spec(key, &[&of]));
            real.set_framework_active(FrameworkKey(key), true);
        }
        for key in 0..agents {
            real.add_agent(AgentKey(key), agent_spec(3), []);
        }
        let mut counts = vec![0_u64; weights.len()];
        for grant in real.allocate(Millis(1)) {
            counts[grant.framework.0 as usize] += 1;
        }
        prop_assert_eq!(counts.iter().sum::<u64>(), u64::from(agents));
        for (one, weight) in counts.iter().zip(&weights).filter(|(one, _)| **one > 0) {
            for (other, their_weight) in counts.iter().zip(&weights) {
                // Shares are whole parts of 2^40, so weighted ones may be equal where these are not quite.
                prop_assert!((one - 1) * their_weight <= other * weight + 1, "{:?} {:?}", counts, weights);
            }
        }
    }

    /// However low their shares and however short their filters, those who only decline cannot keep the others waiting.
    #[test]
    fn decliners_starve_nobody(
        decliners in 1..20_u32,
        agents in 1..6_u32,
        refusals in proptest::collection::vec(0..6000_u64, 1..50),
    ) {
        let hungry = FrameworkKey(1000);
        let mut real = Allocator::new(AllocatorConfig::default(), mezzo_model::rng::Rng::new(1));
        let spec = |key| super::tests::World::framework_spec(key, &["*"]);
        for key in (0..decliners).chain([hungry.0]) {
            real.set_framework(FrameworkKey(key), spec(key));
            real.set_framework_active(FrameworkKey(key), true);
        }
        // It already has most of the cluster.
        let much = (hungry, Role::star(), bag("cpus:1000;mem:64000"));
        real.add_agent(AgentKey(1000), super::tests::World::spec("cpus:1000;mem:64000", ""), [much]);
        for key in 0..agents {
            real.add_agent(AgentKey(key), agent_spec(3), []);
        }
        let now = Millis(1);
        let (mut declined, mut fed) = (0, 0);
        let mut refuse = refusals.iter().cycle();
        let mut grants = real.allocate(now);
        while !grants.is_empty() {
            for grant in &grants {
                if grant.framework == hungry {
                    fed += 1;
                } else {
                    declined += 1;
                    let refuse = refuse.next().map(|millis| Millis(*millis));
                    real.release(now, grant.agent, grant.framework, &grant.role, &grant.resources, refuse);
                }
            }
            grants = real.allocate(now);
        }
        prop_assert_eq!(fed, agents, "each agent, in the same moment");
        prop_assert!(declined <= agents * decliners, "{} offers were declined first", declined);
    }
}
