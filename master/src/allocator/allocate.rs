//! The cycle: which agents are looked at, who is asked, and who is given what.
//!
//! An agent whose free resources nobody could have stays so until something happens that may change it: the agent
//! itself changed, a filter on it ended, or a framework has new demand. So a look at an agent asks either everybody
//! ([`Look::All`]) or only those for whom something changed ([`Look::Only`]); the answer is the same.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use mezzo_model::resources::Resources;
use mezzo_model::{Millis, Role};

use super::decide::Market;
use super::{Allocator, Grant, SWEEP_INTERVAL};
use crate::keys::{AgentKey, FrameworkKey};

/// More than so many are not told apart: everybody is asked.
const FEW: usize = 8;

/// Who may have to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Everybody.
    All,
    /// These; the others were asked before and nothing has changed for them.
    Only(BTreeSet<(FrameworkKey, Role)>),
}

impl Default for Look {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Look {
    /// Nobody.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(clients) if clients.is_empty())
    }

    /// One more.
    pub fn add(&mut self, framework: FrameworkKey, role: &Role) {
        if let Self::Only(clients) = self {
            clients.insert((framework, role.clone()));
            if clients.len() > FEW {
                *self = Self::All;
            }
        }
    }

    /// All of both.
    fn merge(&mut self, other: &Self) {
        match other {
            Self::All => *self = Self::All,
            Self::Only(clients) => {
                for (framework, role) in clients {
                    self.add(*framework, role);
                }
            }
        }
    }

    /// Those that are told apart.
    fn few(&self) -> Option<&BTreeSet<(FrameworkKey, Role)>> {
        match self {
            Self::All => None,
            Self::Only(clients) => Some(clients),
        }
    }
}

impl Allocator {
    /// When [`Allocator::allocate`] should be called even if nothing happens until then.
    pub fn next_deadline(&self) -> Option<Millis> {
        [self.sweep_due(), self.filters.next_end()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When new demand is carried to all agents.
    pub(super) fn sweep_due(&self) -> Option<Millis> {
        let due = |last| last + SWEEP_INTERVAL;
        (!self.fresh.is_empty()).then(|| self.last_sweep.map_or(Millis::ZERO, due))
    }

    /// Gives free resources out, looking at what changed since the last call.
    pub fn allocate(&mut self, now: Millis) -> Vec<Grant> {
        self.wake_refusers(now);
        let looks = self.take_looks(now);
        let mut grants = Vec::new();
        if self.tree.active() == 0 {
            return grants;
        }
        for (agent, look) in looks {
            self.allocate_agent(agent, &look, &mut grants);
        }
        grants
    }

    /// Filters that ended: who refused is asked again, nobody else.
    fn wake_refusers(&mut self, now: Millis) {
        let Self {
            filters,
            dirty,
            demand,
            ..
        } = self;
        filters.expire(now, |place| {
            dirty
                .entry(place.agent)
                .or_default()
                .add(place.framework, &place.role);
            *demand = true;
        });
    }

    /// The agents to look at, in order. A sweep takes them as they fall, so that no agent is always the first.
    fn take_looks(&mut self, now: Millis) -> Vec<(AgentKey, Look)> {
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.sweep_due().is_none_or(|due| due > now) {
            for look in dirty.values_mut() {
                look.merge(&self.fresh);
            }
            return dirty.into_iter().collect();
        }
        self.last_sweep = Some(now);
        let fresh = std::mem::take(&mut self.fresh);
        let mut looks: Vec<(AgentKey, Look)> = self
            .agents
            .iter()
            .filter(|(_, entry)| entry.active && !entry.free.is_empty())
            .map(|(key, _)| {
                let mut look = dirty.remove(key).unwrap_or_default();
                look.merge(&fresh);
                (*key, look)
            })
            .collect();
        self.rng.shuffle(&mut looks);
        looks
    }

    fn allocate_agent(&mut self, agent: AgentKey, look: &Look, grants: &mut Vec<Grant>) {
        while let Some(grant) = self.next_grant(agent, look) {
            let Grant {
                framework,
                role,
                resources,
                ..
            } = &grant;
            if let Some(entry) = self.agents.get_mut(&agent) {
                entry.give(*framework, role, resources);
            }
            self.tree
                .give(*framework, role, &resources.quantities(), true);
            grants.push(grant);
        }
    }

    /// Who of those to be asked comes first and may have something of what is free.
    fn next_grant(&mut self, agent: AgentKey, look: &Look) -> Option<Grant> {
        let entry = self.agents.get(&agent)?;
        if !entry.active || entry.free.is_empty() {
            return None;
        }
        let market = Market {
            config: &self.config,
            frameworks: &self.frameworks,
            filters: self.filters.on(agent),
            agent: entry,
        };
        self.tree.visit(look.few(), |role, framework| {
            match market.decide(framework, role, &entry.free) {
                Ok(resources) => ControlFlow::Break(Grant {
                    framework,
                    role: role.clone(),
                    agent,
                    resources: resources.into_owned(),
                }),
                Err(_) => ControlFlow::Continue(()),
            }
        })
    }

    /// Whether somebody but `holder` would be given these resources of an agent if they were free.
    pub fn wanted_by_another(
        &mut self,
        key: AgentKey,
        holder: FrameworkKey,
        resources: &Resources,
    ) -> bool {
        let Some(agent) = self.agents.get(&key) else {
            return false;
        };
        let market = Market {
            config: &self.config,
            frameworks: &self.frameworks,
            filters: self.filters.on(key),
            agent,
        };
        self.tree
            .visit(None, |role, framework| {
                let wants =
                    framework != holder && market.decide(framework, role, resources).is_ok();
                if wants {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .is_some()
    }

    /// Whether new demand appeared since the last call.
    pub fn take_demand(&mut self) -> bool {
        std::mem::take(&mut self.demand)
    }
}
