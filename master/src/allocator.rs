//! Who is offered what: an inner pure core. Facts go in (agents, frameworks, what is held, what is refused), grants
//! come out. It knows no connection, no message and no task.
//!
//! It is driven by events: each fact marks the agents whose resources may now go to somebody, and
//! [`Allocator::allocate`] looks at those agents only. What is given back goes to the other frameworks in the
//! same event; who refused it sees the same again when its filter has ended, at the earliest after
//! [`COOL_DOWN`], or at once if there is more. New demand (a framework appears or revives) is carried to every
//! agent with free resources, asking those who are new; such sweeps are coalesced.
//!
//! `decide` is the one judge, `allocate` the cycle, `explain` its answers to those who ask why, `tree` fairness,
//! `filters` what was refused.
//!
//! An agent's free resources go whole to the first framework in the order of fairness that may have them.
//!
//! Invariant: per agent, what is given out is at most what there is, unless the agent itself reported more in use.

mod allocate;
mod decide;
mod explain;
pub mod filters;
mod spec;
pub mod tree;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod market;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_model::resources::{Milli, Quantities, Resources};
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Role};

use crate::keys::{AgentKey, FrameworkKey};
use allocate::Look;
use filters::{Filters, Place};
use tree::RoleTree;

pub use explain::{Explanation, MAX_EXPLAINED, Standing, Verdict};
pub use spec::{Abilities, AgentSpec, AllocatorConfig, FrameworkSpec, Grant, RoleSpec, Skip};

/// Whoever refused resources does not see the same again for this long, whatever it asked for (Mesos' allocation
/// interval, the shortest filter there).
pub const COOL_DOWN: Millis = Millis(1000);

/// The longest filter: what is longer is shortened to it.
pub const MAX_FILTER: Millis = Millis::from_secs(365 * 24 * 3600);

/// Sweeps over all agents are at least this far apart.
pub const SWEEP_INTERVAL: Millis = Millis(20);

#[derive(Clone, Debug)]
struct FrameworkEntry {
    name: Arc<str>,
    active: bool,
    abilities: Abilities,
    roles: BTreeMap<Role, RoleSpec>,
}

#[derive(Clone, Debug)]
struct AgentEntry {
    active: bool,
    spec: AgentSpec,
    has_gpus: bool,
    /// By whom what is held; entries are never empty.
    held: BTreeMap<(FrameworkKey, Role), Resources>,
    /// The sum of `held`.
    given: Resources,
    /// `total - given`.
    free: Resources,
}

impl AgentEntry {
    fn recount(&mut self) {
        self.free = self.spec.total.clone();
        self.free.remove(&self.given);
    }

    /// Books free resources as held.
    fn give(&mut self, framework: FrameworkKey, role: &Role, resources: &Resources) {
        *self.held.entry((framework, role.clone())).or_default() += resources;
        self.given += resources;
        self.free.remove(resources);
    }
}

/// The allocator.
#[derive(Clone, Debug)]
pub struct Allocator {
    config: AllocatorConfig,
    frameworks: BTreeMap<FrameworkKey, FrameworkEntry>,
    agents: BTreeMap<AgentKey, AgentEntry>,
    total: Quantities,
    tree: RoleTree,
    filters: Filters,
    rng: Rng,
    /// Agents that must be looked at, and whom to ask there.
    dirty: BTreeMap<AgentKey, Look>,
    /// New demand: whom to ask at all agents.
    fresh: Look,
    last_sweep: Option<Millis>,
    /// Somebody may want what others hold in old offers.
    demand: bool,
}

impl Allocator {
    /// An allocator of no agents and no frameworks.
    pub fn new(config: AllocatorConfig, rng: Rng) -> Self {
        let mut tree = RoleTree::new(config.excluded.iter().cloned());
        for (role, weight) in &config.weights {
            tree.set_weight(role.clone(), *weight);
        }
        Self {
            config,
            frameworks: BTreeMap::new(),
            agents: BTreeMap::new(),
            total: Quantities::new(),
            tree,
            filters: Filters::default(),
            rng,
            dirty: BTreeMap::new(),
            fresh: Look::default(),
            last_sweep: None,
            demand: false,
        }
    }

    // ---- frameworks ----------------------------------------------------------------------------------------------

    /// Takes a framework in, or replaces what is known of it; filters of roles that are not suppressed any more are
    /// dropped. A new framework is not active.
    pub fn set_framework(&mut self, key: FrameworkKey, spec: FrameworkSpec) {
        let roles: BTreeMap<Role, RoleSpec> = spec
            .roles
            .into_iter()
            .map(|role| (role.role.clone(), role))
            .collect();
        let before = self.frameworks.remove(&key);
        let active = before.as_ref().is_some_and(|entry| entry.active);
        let old = before.map(|entry| entry.roles).unwrap_or_default();
        for role in old.keys().filter(|role| !roles.contains_key(role)) {
            self.tree.set_active(key, role, false);
            self.filters.clear_role(key, role);
            self.drop_idle_client(key, role);
        }
        for (role, now) in &roles {
            self.tree.add_client(key, role, &spec.name);
            let revived = old
                .get(role)
                .is_some_and(|before| before.suppressed && !now.suppressed);
            if revived {
                self.filters.clear_role(key, role);
            }
            self.tree.set_active(key, role, active && !now.suppressed);
        }
        let abilities = spec.abilities;
        self.frameworks.insert(
            key,
            FrameworkEntry {
                name: spec.name,
                active,
                abilities,
                roles,
            },
        );
        self.ask_everywhere(key);
    }

    /// Starts or ends offers to a framework; filters are dropped at the end.
    pub fn set_framework_active(&mut self, key: FrameworkKey, active: bool) {
        let Some(entry) = self.frameworks.get_mut(&key) else {
            return;
        };
        if entry.active == active {
            return;
        }
        entry.active = active;
        for (role, spec) in &entry.roles {
            self.tree.set_active(key, role, active && !spec.suppressed);
        }
        if active {
            self.ask_everywhere(key);
        } else {
            self.filters.clear_framework(key);
        }
    }

    /// Forgets a framework and frees all that it holds.
    pub fn remove_framework(&mut self, key: FrameworkKey) {
        self.set_framework_active(key, false);
        let mut held: BTreeSet<Role> = BTreeSet::new();
        for (agent, entry) in &mut self.agents {
            let places: Vec<(FrameworkKey, Role)> = entry
                .held
                .keys()
                .filter(|(framework, _)| *framework == key)
                .cloned()
                .collect();
            for place in places {
                if let Some(resources) = entry.held.remove(&place) {
                    entry.given.remove(&resources);
                    held.insert(place.1);
                    entry.recount();
                    self.dirty.insert(*agent, Look::All);
                }
            }
        }
        if let Some(entry) = self.frameworks.remove(&key) {
            held.extend(entry.roles.into_keys());
        }
        for role in held {
            self.tree.remove_client(key, &role);
        }
    }

    /// Stops offers for roles of a framework.
    pub fn suppress(&mut self, key: FrameworkKey, roles: &[Role]) {
        let Some(entry) = self.frameworks.get_mut(&key) else {
            return;
        };
        for role in roles {
            if let Some(spec) = entry.roles.get_mut(role) {
                spec.suppressed = true;
                self.tree.set_active(key, role, false);
            }
        }
    }

    /// Starts offers for roles of a framework and drops its filters there.
    pub fn revive(&mut self, key: FrameworkKey, roles: &[Role]) {
        let Some(entry) = self.frameworks.get_mut(&key) else {
            return;
        };
        for role in roles {
            if let Some(spec) = entry.roles.get_mut(role) {
                spec.suppressed = false;
                self.tree.set_active(key, role, entry.active);
                self.filters.clear_role(key, role);
                if entry.active {
                    self.fresh.add(key, role);
                    self.demand = true;
                }
            }
        }
    }

    /// Changes the weight of a role, in thousandths.
    pub fn set_weight(&mut self, role: Role, weight: u64) {
        self.tree.set_weight(role, weight);
    }

    // ---- agents --------------------------------------------------------------------------------------------------

    /// Takes an agent in with what is in use there already. The frameworks in `held` must be known.
    pub fn add_agent(
        &mut self,
        key: AgentKey,
        spec: AgentSpec,
        held: impl IntoIterator<Item = (FrameworkKey, Role, Resources)>,
    ) {
        self.total.add_all(&spec.total.quantities());
        self.tree.set_total(self.total.clone());
        let has_gpus = spec.total.scalar("gpus") > Milli::ZERO;
        let entry = AgentEntry {
            active: true,
            free: spec.total.clone(),
            spec,
            has_gpus,
            held: BTreeMap::new(),
            given: Resources::new(),
        };
        self.agents.insert(key, entry);
        for (framework, role, resources) in held {
            self.hold(key, framework, &role, &resources);
        }
        self.dirty.insert(key, Look::All);
        self.demand = true;
    }

    /// Changes what an agent is and has; filters on it are dropped if its attributes changed.
    pub fn update_agent(&mut self, key: AgentKey, spec: AgentSpec) {
        let Some(entry) = self.agents.get_mut(&key) else {
            return;
        };
        self.total.remove_all(&entry.spec.total.quantities());
        self.total.add_all(&spec.total.quantities());
        let other_attributes = entry.spec.attributes != spec.attributes;
        entry.has_gpus = spec.total.scalar("gpus") > Milli::ZERO;
        entry.spec = spec;
        entry.recount();
        self.tree.set_total(self.total.clone());
        if other_attributes {
            self.filters.clear_agent(key);
        }
        self.dirty.insert(key, Look::All);
    }

    /// Starts or ends offers of an agent.
    pub fn set_agent_active(&mut self, key: AgentKey, active: bool) {
        if let Some(entry) = self.agents.get_mut(&key) {
            entry.active = active;
            if active {
                self.dirty.insert(key, Look::All);
            }
        }
    }

    /// Forgets an agent and all that is held there.
    pub fn remove_agent(&mut self, key: AgentKey) {
        let Some(entry) = self.agents.remove(&key) else {
            return;
        };
        for ((framework, role), resources) in &entry.held {
            self.tree.take(*framework, role, &resources.quantities());
            self.drop_idle_client(*framework, role);
        }
        self.total.remove_all(&entry.spec.total.quantities());
        self.tree.set_total(self.total.clone());
        self.filters.clear_agent(key);
        self.dirty.remove(&key);
    }

    /// Books resources that a framework uses and that were not granted here (an agent reported them).
    pub fn hold(
        &mut self,
        key: AgentKey,
        framework: FrameworkKey,
        role: &Role,
        resources: &Resources,
    ) {
        let Some(name) = self
            .frameworks
            .get(&framework)
            .map(|entry| entry.name.clone())
        else {
            return;
        };
        let Some(entry) = self.agents.get_mut(&key) else {
            return;
        };
        if resources.is_empty() {
            return;
        }
        *entry.held.entry((framework, role.clone())).or_default() += resources;
        entry.given += resources;
        entry.recount();
        self.tree.add_client(framework, role, &name);
        self.tree
            .give(framework, role, &resources.quantities(), false);
    }

    /// Books that a framework gave resources back; with a filter it will not see the same again for so long.
    pub fn release(
        &mut self,
        now: Millis,
        key: AgentKey,
        framework: FrameworkKey,
        role: &Role,
        resources: &Resources,
        refuse: Option<Millis>,
    ) {
        if resources.is_empty() {
            return;
        }
        if let Some(entry) = self.agents.get_mut(&key) {
            let place = (framework, role.clone());
            if let Some(held) = entry.held.get_mut(&place) {
                held.remove(resources);
                if held.is_empty() {
                    entry.held.remove(&place);
                }
                entry.given.remove(resources);
                entry.recount();
                self.tree.take(framework, role, &resources.quantities());
                self.drop_idle_client(framework, role);
            }
            self.dirty.insert(key, Look::All);
            let subscribed = self
                .frameworks
                .get(&framework)
                .is_some_and(|entry| entry.roles.contains_key(role));
            if let Some(refuse) = refuse.filter(|_| subscribed) {
                let ends = now + refuse.max(COOL_DOWN).min(MAX_FILTER);
                let place = Place {
                    agent: key,
                    framework,
                    role: role.clone(),
                };
                self.filters.add(place, resources.clone(), ends);
            }
        }
    }

    /// A framework that left a role, or is gone, is forgotten there once it holds nothing.
    fn drop_idle_client(&mut self, key: FrameworkKey, role: &Role) {
        let subscribed = self
            .frameworks
            .get(&key)
            .is_some_and(|entry| entry.roles.contains_key(role));
        if !subscribed && self.tree.held(key, role).is_some_and(Quantities::is_empty) {
            self.tree.remove_client(key, role);
        }
    }

    /// A framework is to be asked about every agent, in each role in which it wants offers.
    fn ask_everywhere(&mut self, key: FrameworkKey) {
        let Some(entry) = self.frameworks.get(&key).filter(|entry| entry.active) else {
            return;
        };
        for (role, spec) in &entry.roles {
            if !spec.suppressed {
                self.fresh.add(key, role);
                self.demand = true;
            }
        }
    }

    // ---- what tests and invariants look at -----------------------------------------------------------------------

    /// By whom what is held on an agent.
    pub fn held_on(
        &self,
        key: AgentKey,
    ) -> impl Iterator<Item = (FrameworkKey, &Role, &Resources)> {
        self.agents.get(&key).into_iter().flat_map(|entry| {
            entry
                .held
                .iter()
                .map(|((framework, role), held)| (*framework, role, held))
        })
    }

    /// What is free on an agent.
    pub fn free_on(&self, key: AgentKey) -> Option<&Resources> {
        self.agents.get(&key).map(|entry| &entry.free)
    }

    /// How many filters there are.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }

    /// Walks the books of every agent and of the tree.
    ///
    /// # Errors
    /// Says which book is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.tree.check()?;
        let mut total = Quantities::new();
        let mut by_client: BTreeMap<(FrameworkKey, &Role), Quantities> = BTreeMap::new();
        for (key, entry) in &self.agents {
            total.add_all(&entry.spec.total.quantities());
            let mut given = Resources::new();
            for ((framework, role), held) in &entry.held {
                if held.is_empty() {
                    return Err(format!("agent {key:?}: an empty holding is kept"));
                }
                given += held;
                by_client
                    .entry((*framework, role))
                    .or_default()
                    .add_all(&held.quantities());
            }
            if given != entry.given {
                return Err(format!(
                    "agent {key:?}: given {given}, booked {}",
                    entry.given
                ));
            }
            let mut free = entry.spec.total.clone();
            free.remove(&given);
            if free != entry.free {
                return Err(format!("agent {key:?}: free {free}, booked {}", entry.free));
            }
        }
        if total != self.total || total != *self.tree.total() {
            return Err(format!("the cluster has {total}, booked {}", self.total));
        }
        for ((framework, role), held) in by_client {
            if self.tree.held(framework, role) != Some(&held) {
                return Err(format!(
                    "framework {framework:?} in {role}: holds {held}, not so in the tree"
                ));
            }
        }
        Ok(())
    }
}
