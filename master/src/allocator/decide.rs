//! The one decision: what of an agent's free resources a framework may have in a role, or the first reason why not.
//!
//! The cycle gives by it and [`super::Allocator::explain`] answers by it; nothing else judges.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mezzo_model::Role;
use mezzo_model::constraint::Subject;
use mezzo_model::resources::{Quantities, Resource, Resources};

use super::filters::OnAgent;
use super::{Abilities, AgentEntry, AllocatorConfig, FrameworkEntry, RoleSpec, Skip};
use crate::keys::FrameworkKey;

/// What a decision about one agent looks at.
pub(super) struct Market<'a> {
    pub config: &'a AllocatorConfig,
    pub frameworks: &'a BTreeMap<FrameworkKey, FrameworkEntry>,
    pub filters: OnAgent<'a>,
    pub agent: &'a AgentEntry,
}

impl Market<'_> {
    /// What of `free` a framework may have in a role, or why nothing: the first reason in this order.
    pub fn decide<'f>(
        &self,
        framework: FrameworkKey,
        role: &Role,
        free: &'f Resources,
    ) -> Result<Cow<'f, Resources>, Skip> {
        let (of, spec) = takes_part(self.frameworks, framework, role)?;
        if !self.agent.active {
            return Err(Skip::AgentInactive);
        }
        self.admit(of, spec)?;
        if free.is_empty() {
            return Err(Skip::NothingFree);
        }
        let offer = part(free, |resource| resource.allocatable_to(role));
        if offer.is_empty() {
            return Err(Skip::Reserved);
        }
        let offer = match offer {
            Cow::Borrowed(offer) => part(offer, |resource| of.abilities.handle(resource)),
            Cow::Owned(mut offer) => {
                offer.retain(|resource| of.abilities.handle(resource));
                Cow::Owned(offer)
            }
        };
        if offer.is_empty() {
            return Err(Skip::Unable);
        }
        let least = spec.least(self.config);
        if !least.is_empty() && !least.iter().any(|least| holds(&offer, least)) {
            return Err(Skip::TooSmall);
        }
        match self.filters.block(framework, role, &offer) {
            Some(until) => Err(Skip::Filtered { until }),
            None => Ok(offer),
        }
    }

    /// Whether the agent is of a kind that the framework wants and can handle.
    fn admit(&self, of: &FrameworkEntry, spec: &RoleSpec) -> Result<(), Skip> {
        let agent = &self.agent.spec;
        if let Some(groups) = &spec.constraints {
            let subject = Subject {
                hostname: &agent.hostname,
                region: agent.domain.as_ref().map(|(region, _)| &**region),
                zone: agent.domain.as_ref().map(|(_, zone)| &**zone),
                attributes: &agent.attributes,
            };
            let admitted = groups
                .iter()
                .any(|group| group.iter().all(|constraint| constraint.admits(subject)));
            if !admitted {
                return Err(Skip::Constraints);
            }
        }
        if self.agent.has_gpus && self.config.filter_gpus && !of.abilities.gpus {
            return Err(Skip::Gpus);
        }
        match (&self.config.region, &agent.domain) {
            (Some(ours), Some((theirs, _))) if ours != theirs && !of.abilities.regions => {
                Err(Skip::Region)
            }
            _ => Ok(()),
        }
    }
}

/// The framework and its role, if it is to be served there.
pub(super) fn takes_part<'a>(
    frameworks: &'a BTreeMap<FrameworkKey, FrameworkEntry>,
    framework: FrameworkKey,
    role: &Role,
) -> Result<(&'a FrameworkEntry, &'a RoleSpec), Skip> {
    let of = frameworks.get(&framework).ok_or(Skip::UnknownFramework)?;
    let spec = of.roles.get(role).ok_or(Skip::NotInRole)?;
    if !of.active {
        return Err(Skip::FrameworkInactive);
    }
    if spec.suppressed {
        return Err(Skip::Suppressed);
    }
    Ok((of, spec))
}

impl RoleSpec {
    /// An offer holds at least one of these; of an empty list, anything.
    pub(super) fn least<'a>(&'a self, config: &'a AllocatorConfig) -> &'a [Quantities] {
        self.min_allocatable
            .as_deref()
            .unwrap_or(&config.min_allocatable)
    }
}

impl Abilities {
    fn handle(self, resource: &Resource) -> bool {
        (self.revocable || !resource.revocable)
            && (self.shared || resource.shared.is_none())
            && (self.refinement || resource.reservations.len() < 2)
    }
}

/// The resources to keep; nothing is copied if that is all of them.
fn part(all: &Resources, keep: impl Fn(&Resource) -> bool) -> Cow<'_, Resources> {
    if all.iter().all(&keep) {
        Cow::Borrowed(all)
    } else {
        Cow::Owned(all.filter(keep))
    }
}

fn holds(offer: &Resources, least: &Quantities) -> bool {
    least
        .iter()
        .all(|(name, amount)| offer.scalar(name) >= amount)
}
