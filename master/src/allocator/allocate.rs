//! Giving free resources out: which agents are looked at, and who may have what of them.

use std::ops::ControlFlow;

use mezzo_model::constraint::Subject;
use mezzo_model::resources::Resources;
use mezzo_model::{Millis, Role};

use super::filters::{Filters, Place};
use super::{AgentEntry, Allocator, AllocatorConfig, FrameworkEntry, Grant, SWEEP_INTERVAL, Skip};
use crate::keys::{AgentKey, FrameworkKey};

impl Allocator {
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
