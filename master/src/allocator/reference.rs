//! The allocator once more, for clarity alone: no books, no caches, no order kept; everything is worked out afresh from
//! the facts whenever it is asked for. What the real one does is compared with it (`market`).
//!
//! Its only state beside the facts is how often each was served, which breaks ties.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::constraint::Subject;
use mezzo_model::resources::{Quantities, Resources};
use mezzo_model::{Millis, Role};

use super::{AgentSpec, AllocatorConfig, COOL_DOWN, FrameworkSpec, Grant};
use crate::keys::{AgentKey, FrameworkKey};

#[derive(Default)]
pub(super) struct Reference {
    pub config: AllocatorConfig,
    pub now: Millis,
    pub agents: BTreeMap<AgentKey, (AgentSpec, bool)>,
    pub frameworks: BTreeMap<FrameworkKey, (FrameworkSpec, bool)>,
    pub weights: BTreeMap<Role, u64>,
    /// Who holds what: as it was granted, less what was given back.
    pub held: Vec<Grant>,
    /// Who refused what, until when.
    pub refused: Vec<(Grant, Millis)>,
    /// How often each was served.
    pub served: BTreeMap<String, u64>,
}

/// Something that is ranked: the lowest first.
type Rank = (u64, u64, String);

impl Reference {
    pub fn set_framework(&mut self, key: FrameworkKey, spec: FrameworkSpec) {
        let active = self.frameworks.get(&key).is_some_and(|(_, active)| *active);
        if let Some((old, _)) = self.frameworks.get_mut(&key) {
            old.roles
                .retain(|old| spec.roles.iter().any(|new| new.role == old.role));
        }
        self.forget();
        for (before, after) in self.frameworks.get(&key).into_iter().flat_map(|(old, _)| {
            let of = |role: &Role| spec.roles.iter().find(|new| new.role == *role);
            old.roles
                .iter()
                .filter_map(move |old| Some((old, of(&old.role)?)))
        }) {
            if before.suppressed && !after.suppressed {
                self.refused
                    .retain(|(by, _)| by.framework != key || by.role != before.role);
            }
        }
        self.frameworks.insert(key, (spec, active));
    }

    pub fn set_framework_active(&mut self, key: FrameworkKey, active: bool) {
        if let Some((_, before)) = self.frameworks.get_mut(&key) {
            *before = active;
            if !active {
                self.refused.retain(|(by, _)| by.framework != key);
            }
        }
    }

    pub fn suppress(&mut self, key: FrameworkKey, role: &Role, suppressed: bool) {
        let spec = self
            .frameworks
            .get_mut(&key)
            .and_then(|(spec, _)| spec.roles.iter_mut().find(|spec| spec.role == *role));
        if let Some(spec) = spec {
            spec.suppressed = suppressed;
            if !suppressed {
                self.refused
                    .retain(|(by, _)| by.framework != key || by.role != *role);
            }
        }
    }

    /// The n-th holding gives resources back.
    pub fn release(&mut self, index: usize, part: &Resources, refuse: Option<Millis>) {
        let grant = &mut self.held[index];
        grant.resources.remove(part);
        if let Some(refuse) = refuse {
            let by = Grant {
                resources: part.clone(),
                ..grant.clone()
            };
            self.refused.push((by, self.now + refuse.max(COOL_DOWN)));
        }
        self.held.retain(|grant| !grant.resources.is_empty());
    }

    /// Drops what does not count any more: filters of the past, of roles that were left, and tallies of who is gone.
    pub fn forget(&mut self) {
        let (now, frameworks) = (self.now, &self.frameworks);
        self.refused.retain(|(by, ends)| {
            let is_in = |spec: &FrameworkSpec| spec.roles.iter().any(|role| role.role == by.role);
            *ends > now
                && frameworks
                    .get(&by.framework)
                    .is_some_and(|(spec, _)| is_in(spec))
        });
        let mut known = BTreeSet::new();
        for (framework, role) in self.clients() {
            known.insert(format!("{role}/{framework:?}"));
            for role in lineage(&role) {
                known.insert(format!("{role}/."));
                known.insert(role.to_string());
            }
        }
        self.served.retain(|name, _| known.contains(name));
    }

    /// Whoever is in a role, or holds something there.
    fn clients(&self) -> BTreeSet<(FrameworkKey, Role)> {
        let subscribed = self
            .frameworks
            .iter()
            .flat_map(|(key, (spec, _))| spec.roles.iter().map(|role| (*key, role.role.clone())));
        let holding = self
            .held
            .iter()
            .map(|grant| (grant.framework, grant.role.clone()));
        subscribed.chain(holding).collect()
    }

    fn rank(&self, name: &str, short: &str, weight: u64, counts: impl Fn(&Grant) -> bool) -> Rank {
        let (mut total, mut held) = (Quantities::new(), Quantities::new());
        for (spec, _) in self.agents.values() {
            total.add_all(&spec.total.quantities());
        }
        for grant in self.held.iter().filter(|grant| counts(grant)) {
            held.add_all(&grant.resources.quantities());
        }
        let part = |(name, amount): (&std::sync::Arc<str>, mezzo_model::resources::Milli)| {
            let whole = total.get(name).0;
            (whole > 0).then(|| (i128::from(amount.0) << 40) / i128::from(whole))
        };
        let dominant = held.iter().filter_map(part).max().unwrap_or(0);
        let share = u64::try_from(dominant * 1000 / i128::from(weight)).unwrap_or(u64::MAX);
        (
            share,
            self.served.get(name).copied().unwrap_or(0),
            short.to_owned(),
        )
    }

    /// Everybody in the order of fairness: dominant shares down the tree of roles.
    fn order(&self) -> Vec<(FrameworkKey, Role)> {
        let mut ranked: Vec<(Vec<Rank>, FrameworkKey, Role)> = Vec::new();
        for (framework, role) in self.clients() {
            let mut path = Vec::new();
            for above in lineage(&role) {
                let weight = self.weights.get(&above).copied().unwrap_or(1000);
                let short = above.components().last().unwrap_or_default();
                let below = |grant: &Grant| grant.role.is_within(&above);
                path.push(self.rank(above.as_str(), short, weight, below));
            }
            let own = |grant: &Grant| grant.role == role;
            path.push(self.rank(&format!("{role}/."), ".", 1000, own));
            let name = format!("f{}", framework.0);
            let mine = |grant: &Grant| grant.role == role && grant.framework == framework;
            path.push(self.rank(&format!("{role}/{framework:?}"), &name, 1000, mine));
            ranked.push((path, framework, role));
        }
        ranked.sort();
        ranked
            .into_iter()
            .map(|(_, framework, role)| (framework, role))
            .collect()
    }

    /// What of these resources a framework may have.
    fn portion(
        &self,
        key: AgentKey,
        framework: FrameworkKey,
        role: &Role,
        free: &Resources,
    ) -> Option<Resources> {
        let (agent, _) = self.agents.get(&key).filter(|(_, active)| *active)?;
        let (of, _) = self
            .frameworks
            .get(&framework)
            .filter(|(_, active)| *active)?;
        let spec = of
            .roles
            .iter()
            .find(|spec| spec.role == *role && !spec.suppressed)?;
        let subject = Subject {
            hostname: &agent.hostname,
            region: agent.domain.as_ref().map(|(region, _)| &**region),
            zone: agent.domain.as_ref().map(|(_, zone)| &**zone),
            attributes: &agent.attributes,
        };
        let is_wanted = spec.constraints.as_ref().is_none_or(|groups| {
            groups
                .iter()
                .any(|group| group.iter().all(|one| one.admits(subject)))
        });
        let is_handled = of.abilities.gpus || agent.total.get("gpus").is_empty();
        let home = self.config.region.as_ref();
        let is_near = of.abilities.regions
            || agent
                .domain
                .as_ref()
                .is_none_or(|(region, _)| home.is_none_or(|home| home == region));
        let offer = free.filter(|resource| {
            resource.allocatable_to(role)
                && (of.abilities.revocable || !resource.revocable)
                && (of.abilities.shared || resource.shared.is_none())
                && (of.abilities.refinement || resource.reservations.len() < 2)
        });
        let least = spec
            .min_allocatable
            .as_ref()
            .unwrap_or(&self.config.min_allocatable);
        let is_enough =
            least.is_empty() || least.iter().any(|least| offer.quantities().contains(least));
        let is_refused = self.refused.iter().any(|(by, _)| {
            (by.agent, by.framework, &by.role) == (key, framework, role)
                && by.resources.contains(&offer)
        });
        let fits = is_wanted && is_handled && is_near && is_enough && !is_refused;
        (fits && !offer.is_empty()).then_some(offer)
    }

    /// Who is to be given something of an agent now.
    pub fn next(&self, agent: AgentKey) -> Option<Grant> {
        let mut free = self.agents.get(&agent)?.0.total.clone();
        for grant in self.held.iter().filter(|grant| grant.agent == agent) {
            free.remove(&grant.resources);
        }
        self.order().into_iter().find_map(|(framework, role)| {
            let resources = self.portion(agent, framework, &role, &free)?;
            Some(Grant {
                framework,
                role,
                agent,
                resources,
            })
        })
    }

    /// Books it.
    pub fn give(&mut self, grant: Grant) {
        let role = &grant.role;
        let own = [format!("{role}/{:?}", grant.framework), format!("{role}/.")];
        for name in own
            .into_iter()
            .chain(lineage(role).iter().map(ToString::to_string))
        {
            *self.served.entry(name).or_default() += 1;
        }
        self.held.push(grant);
    }
}

/// A role and those above it, from the top down.
fn lineage(role: &Role) -> Vec<Role> {
    let mut line: Vec<Role> = std::iter::successors(Some(role.clone()), Role::parent).collect();
    line.reverse();
    line
}
