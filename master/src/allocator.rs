//! Who is offered what: an inner pure core. Facts go in (agents, frameworks, what is held, what is refused), grants
//! come out. It knows no connection, no message and no task.
//!
//! It is driven by events: each fact marks the agents whose resources may now go to somebody, and [`Allocator::allocate`]
//! looks at those agents only. What is given back goes to the other frameworks in the same event; who refused it sees
//! the same again when its filter has ended, at the earliest after [`COOL_DOWN`], or at once if there is more. New
//! demand (a framework appears or revives) looks at every agent with free resources; such sweeps are coalesced.
//!
//! An agent's free resources go whole to the first framework in the order of fairness that may have them.
//!
//! Invariant: per agent, what is given out is at most what there is, unless the agent itself reported more in use.

pub mod filters;
pub mod tree;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use mezzo_model::attributes::Attributes;
use mezzo_model::constraint::{Constraint, Subject};
use mezzo_model::resources::{Milli, Quantities, Resources};
use mezzo_model::rng::Rng;
use mezzo_model::{Millis, Role};

use crate::keys::{AgentKey, FrameworkKey};
use filters::{Filters, Place};
use tree::RoleTree;

/// Whoever refused resources does not see the same again for this long, whatever it asked for (Mesos' allocation
/// interval, the shortest filter there).
pub const COOL_DOWN: Millis = Millis(1000);

/// The longest filter: what is longer is shortened to it.
pub const MAX_FILTER: Millis = Millis::from_secs(365 * 24 * 3600);

/// Sweeps over all agents are at least this far apart.
pub const SWEEP_INTERVAL: Millis = Millis(20);

/// What an allocator is told once.
#[derive(Clone, Debug)]
pub struct AllocatorConfig {
    /// An offer holds at least one of these sets of amounts.
    pub min_allocatable: Vec<Quantities>,
    /// Agents with `gpus` go only to frameworks that know GPUs.
    pub filter_gpus: bool,
    /// The master's region: agents elsewhere go only to frameworks that know regions.
    pub region: Option<Arc<str>>,
    /// Resources that do not count for fairness.
    pub excluded: Vec<Arc<str>>,
    /// In thousandths; what is not listed has 1000.
    pub weights: BTreeMap<Role, u64>,
}

impl Default for AllocatorConfig {
    fn default() -> Self {
        let least = |name: &str, amount| {
            let mut least = Quantities::new();
            least.add(&Arc::from(name), amount);
            least
        };
        Self {
            min_allocatable: vec![least("cpus", Milli(10)), least("mem", Milli::whole(32))],
            filter_gpus: true,
            region: None,
            excluded: Vec::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// What a framework can handle, as far as offers go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Resources that may be taken back.
    pub revocable: bool,
    /// Shared volumes.
    pub shared: bool,
    /// Agents with GPUs.
    pub gpus: bool,
    /// Reservations of several levels.
    pub refinement: bool,
    /// Agents in another region.
    pub regions: bool,
}

/// A framework in one of its roles.
#[derive(Clone, Debug)]
pub struct RoleSpec {
    /// Which role.
    pub role: Role,
    /// It wants no offers.
    pub suppressed: bool,
    /// Instead of the allocator's own; an empty list takes anything.
    pub min_allocatable: Option<Vec<Quantities>>,
    /// Agents that it wants: one group must hold whole. `None` wants all.
    pub constraints: Option<Vec<Vec<Constraint>>>,
}

/// A framework as the allocator sees it.
#[derive(Clone, Debug)]
pub struct FrameworkSpec {
    /// Its id; breaks ties.
    pub name: Arc<str>,
    /// Its roles.
    pub roles: Vec<RoleSpec>,
    /// What it can handle.
    pub abilities: Abilities,
}

/// An agent as the allocator sees it.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// All that it has.
    pub total: Resources,
    /// Its host name.
    pub hostname: Arc<str>,
    /// The region and zone of its fault domain.
    pub domain: Option<(Arc<str>, Arc<str>)>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
}

/// Resources that go to a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// To whom.
    pub framework: FrameworkKey,
    /// In which of its roles.
    pub role: Role,
    /// From where.
    pub agent: AgentKey,
    /// What; the resources themselves carry no allocation.
    pub resources: Resources,
}

/// Why a framework is not offered an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The agent or the framework takes no part now.
    Inactive,
    /// The framework's constraints exclude the agent.
    Constraints,
    /// Nothing is free, or nothing that the role may use and the framework can handle.
    Nothing,
    /// Too little is free.
    TooSmall,
    /// The agent has GPUs and the framework does not know them.
    Gpus,
    /// The agent is in another region and the framework does not know regions.
    Region,
    /// The framework refused this not long ago.
    Filtered,
}

#[derive(Debug)]
struct FrameworkEntry {
    name: Arc<str>,
    active: bool,
    abilities: Abilities,
    roles: BTreeMap<Role, RoleSpec>,
}

#[derive(Debug)]
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
}

/// The allocator.
#[derive(Debug)]
pub struct Allocator {
    config: AllocatorConfig,
    frameworks: BTreeMap<FrameworkKey, FrameworkEntry>,
    agents: BTreeMap<AgentKey, AgentEntry>,
    total: Quantities,
    tree: RoleTree,
    filters: Filters,
    rng: Rng,
    /// Agents that must be looked at.
    dirty: BTreeSet<AgentKey>,
    /// All agents must be looked at.
    sweep_wanted: bool,
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
            dirty: BTreeSet::new(),
            sweep_wanted: false,
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
        if active {
            self.want_sweep();
        }
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
            self.want_sweep();
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
                    self.dirty.insert(*agent);
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
        let mut changed = false;
        for role in roles {
            if let Some(spec) = entry.roles.get_mut(role) {
                spec.suppressed = false;
                self.tree.set_active(key, role, entry.active);
                self.filters.clear_role(key, role);
                changed = true;
            }
        }
        if changed {
            self.want_sweep();
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
        self.dirty.insert(key);
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
        self.dirty.insert(key);
    }

    /// Starts or ends offers of an agent.
    pub fn set_agent_active(&mut self, key: AgentKey, active: bool) {
        if let Some(entry) = self.agents.get_mut(&key) {
            entry.active = active;
            if active {
                self.dirty.insert(key);
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
            self.dirty.insert(key);
            if let Some(refuse) = refuse {
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

    fn want_sweep(&mut self) {
        self.sweep_wanted = true;
        self.demand = true;
    }

    // ---- allocation ----------------------------------------------------------------------------------------------

    /// When [`Allocator::allocate`] should be called even if nothing happens until then.
    pub fn next_deadline(&self) -> Option<Millis> {
        let sweep = self.sweep_wanted.then(|| {
            self.last_sweep
                .map_or(Millis::ZERO, |last| last + SWEEP_INTERVAL)
        });
        [sweep, self.filters.next_end()].into_iter().flatten().min()
    }

    /// Gives free resources out, looking at what changed since the last call.
    pub fn allocate(&mut self, now: Millis) -> Vec<Grant> {
        let Self {
            filters,
            dirty,
            demand,
            ..
        } = self;
        filters.expire(now, |agent| {
            dirty.insert(agent);
            *demand = true;
        });
        let due = self
            .last_sweep
            .is_none_or(|last| now.since(last) >= SWEEP_INTERVAL);
        let agents: Vec<AgentKey> = if self.sweep_wanted && due {
            self.sweep_wanted = false;
            self.last_sweep = Some(now);
            self.dirty.clear();
            let mut all: Vec<AgentKey> = self
                .agents
                .iter()
                .filter(|(_, entry)| entry.active && !entry.free.is_empty())
                .map(|(key, _)| *key)
                .collect();
            self.rng.shuffle(&mut all);
            all
        } else {
            std::mem::take(&mut self.dirty).into_iter().collect()
        };
        let mut grants = Vec::new();
        if self.tree.active() == 0 {
            return grants;
        }
        for agent in agents {
            self.allocate_agent(agent, &mut grants);
        }
        grants
    }

    fn allocate_agent(&mut self, key: AgentKey, grants: &mut Vec<Grant>) {
        loop {
            let Some(entry) = self.agents.get(&key) else {
                return;
            };
            if !entry.active || entry.free.is_empty() {
                return;
            }
            let Self {
                tree,
                frameworks,
                filters,
                config,
                ..
            } = self;
            let found = tree.visit(|role, framework| {
                let Some(of) = frameworks.get(&framework) else {
                    return ControlFlow::Continue(());
                };
                match fit(
                    config,
                    filters,
                    (key, entry),
                    &entry.free,
                    (framework, of),
                    role,
                ) {
                    Ok(resources) => ControlFlow::Break((framework, role.clone(), resources)),
                    Err(_) => ControlFlow::Continue(()),
                }
            });
            let Some((framework, role, resources)) = found else {
                return;
            };
            let quantities = resources.quantities();
            if let Some(entry) = self.agents.get_mut(&key) {
                *entry.held.entry((framework, role.clone())).or_default() += &resources;
                entry.given += &resources;
                entry.free.remove(&resources);
            }
            self.tree.give(framework, &role, &quantities, true);
            grants.push(Grant {
                framework,
                role,
                agent: key,
                resources,
            });
        }
    }

    /// Whether somebody but `holder` would be given these resources of an agent if they were free.
    pub fn wanted_by_another(
        &mut self,
        key: AgentKey,
        holder: FrameworkKey,
        resources: &Resources,
    ) -> bool {
        let Some(entry) = self.agents.get(&key) else {
            return false;
        };
        let Self {
            tree,
            frameworks,
            filters,
            config,
            ..
        } = self;
        tree.visit(|role, framework| {
            let Some(of) = frameworks.get(&framework).filter(|_| framework != holder) else {
                return ControlFlow::Continue(());
            };
            match fit(
                config,
                filters,
                (key, entry),
                resources,
                (framework, of),
                role,
            ) {
                Ok(_) => ControlFlow::Break(()),
                Err(_) => ControlFlow::Continue(()),
            }
        })
        .is_some()
    }

    /// Whether new demand appeared since the last call.
    pub fn take_demand(&mut self) -> bool {
        std::mem::take(&mut self.demand)
    }

    /// What a framework would be offered of an agent now, or why it would not.
    ///
    /// # Errors
    /// The first reason in the order in which they are looked at.
    pub fn explain(
        &self,
        key: AgentKey,
        framework: FrameworkKey,
        role: &Role,
    ) -> Result<Resources, Skip> {
        let entry = self
            .agents
            .get(&key)
            .filter(|entry| entry.active)
            .ok_or(Skip::Inactive)?;
        let of = self.frameworks.get(&framework).ok_or(Skip::Inactive)?;
        if !of.active || of.roles.get(role).is_none_or(|spec| spec.suppressed) {
            return Err(Skip::Inactive);
        }
        fit(
            &self.config,
            &self.filters,
            (key, entry),
            &entry.free,
            (framework, of),
            role,
        )
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

/// What of `free` a framework may have in a role, or why nothing.
fn fit(
    config: &AllocatorConfig,
    filters: &Filters,
    (agent, entry): (AgentKey, &AgentEntry),
    free: &Resources,
    (framework, of): (FrameworkKey, &FrameworkEntry),
    role: &Role,
) -> Result<Resources, Skip> {
    let spec = of.roles.get(role).ok_or(Skip::Inactive)?;
    if let Some(groups) = &spec.constraints {
        let subject = Subject {
            hostname: &entry.spec.hostname,
            region: entry.spec.domain.as_ref().map(|(region, _)| &**region),
            zone: entry.spec.domain.as_ref().map(|(_, zone)| &**zone),
            attributes: &entry.spec.attributes,
        };
        let admitted = groups
            .iter()
            .any(|group| group.iter().all(|constraint| constraint.admits(subject)));
        if !admitted {
            return Err(Skip::Constraints);
        }
    }
    if entry.has_gpus && config.filter_gpus && !of.abilities.gpus {
        return Err(Skip::Gpus);
    }
    if let (Some(ours), Some((theirs, _))) = (&config.region, &entry.spec.domain)
        && ours != theirs
        && !of.abilities.regions
    {
        return Err(Skip::Region);
    }
    let offer = free.filter(|resource| {
        resource.allocatable_to(role)
            && (of.abilities.revocable || !resource.revocable)
            && (of.abilities.shared || resource.shared.is_none())
            && (of.abilities.refinement || resource.reservations.len() < 2)
    });
    if offer.is_empty() {
        return Err(Skip::Nothing);
    }
    let least = spec
        .min_allocatable
        .as_ref()
        .unwrap_or(&config.min_allocatable);
    if !least.is_empty() {
        let quantities = offer.quantities();
        if !least.iter().any(|least| quantities.contains(least)) {
            return Err(Skip::TooSmall);
        }
    }
    if filters.block(
        &Place {
            agent,
            framework,
            role: role.clone(),
        },
        &offer,
    ) {
        return Err(Skip::Filtered);
    }
    Ok(offer)
}
