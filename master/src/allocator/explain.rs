//! Why no offer went out: the allocator's own decision, told instead of carried out.
//!
//! What the next cycle would do is not guessed: it is carried out on a copy, and only if there is something for it to
//! do. Whoever got nothing there is told what the decision of that cycle was.
//!
//! Invariant: [`Verdict::Offer`] is said exactly of what the next calls of [`Allocator::allocate`] grant if nothing
//! else happens until the deadlines that it names.

use mezzo_model::resources::Resources;
use mezzo_model::{Millis, Role};

use super::decide::{Market, takes_part};
use super::{Allocator, Grant, Skip};
use crate::keys::{AgentKey, FrameworkKey};

/// The most agents that are told of at once.
pub const MAX_EXPLAINED: usize = 1000;

/// Why a framework has or has no offer in a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Its place in the order of fairness; `None` if it takes no part.
    pub standing: Option<Standing>,
    /// For each agent that was asked about, in the order of their keys.
    pub agents: Vec<(AgentKey, Verdict)>,
    /// So many agents more than [`MAX_EXPLAINED`] are not told of.
    pub left_out: usize,
}

/// A place in the order of fairness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many are served before it.
    pub ahead: usize,
    /// How many take part, this one included.
    pub of: usize,
}

/// What comes of an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// These resources are about to be offered.
    Offer {
        /// What.
        resources: Resources,
        /// By the cycle of this time.
        due: Millis,
    },
    /// Nothing, for this reason.
    Skip(Skip),
}

impl Allocator {
    /// What a framework would be offered in a role of one agent or of all, or why it would not. A copy of the allocator
    /// is made unless it [is quiet](Self::is_quiet).
    pub fn explain(
        &self,
        now: Millis,
        framework: FrameworkKey,
        role: &Role,
        agent: Option<AgentKey>,
    ) -> Explanation {
        let (after, cycles) = self.rehearse(now);
        let after = after.as_ref().unwrap_or(self);
        let agents: Vec<AgentKey> = match agent {
            Some(agent) => vec![agent],
            None => self.agents.keys().copied().take(MAX_EXPLAINED).collect(),
        };
        let left_out = match agent {
            Some(_) => 0,
            None => self.agents.len() - agents.len(),
        };
        let agents = agents
            .into_iter()
            .map(|agent| (agent, after.verdict(now, &cycles, agent, framework, role)))
            .collect();
        Explanation {
            standing: after.standing(framework, role),
            agents,
            left_out,
        }
    }

    /// Whether there is nothing for a cycle to do.
    pub fn is_quiet(&self, now: Millis) -> bool {
        self.fresh.is_empty()
            && self.dirty.is_empty()
            && self.filters.next_end().is_none_or(|end| end > now)
    }

    /// What is due, carried out on a copy: by when, and what was granted.
    fn rehearse(&self, now: Millis) -> (Option<Self>, Vec<(Millis, Vec<Grant>)>) {
        if self.is_quiet(now) {
            return (None, Vec::new());
        }
        let mut after = self.clone();
        let mut cycles = vec![(now, after.allocate(now))];
        if let Some(due) = after.sweep_due() {
            cycles.push((due, after.allocate(due)));
        }
        (Some(after), cycles)
    }

    /// The decision about one agent, after these cycles.
    fn verdict(
        &self,
        now: Millis,
        cycles: &[(Millis, Vec<Grant>)],
        agent: AgentKey,
        framework: FrameworkKey,
        role: &Role,
    ) -> Verdict {
        let Some(entry) = self.agents.get(&agent) else {
            return Verdict::Skip(Skip::UnknownAgent);
        };
        // What the cycles found free.
        let mut free = entry.free.clone();
        let mut first = None;
        for (due, grants) in cycles {
            for grant in grants.iter().filter(|grant| grant.agent == agent) {
                if grant.framework == framework && grant.role == *role {
                    return Verdict::Offer {
                        resources: grant.resources.clone(),
                        due: *due,
                    };
                }
                free += &grant.resources;
                first.get_or_insert((grant.framework, &grant.role));
            }
        }
        let market = Market {
            config: &self.config,
            frameworks: &self.frameworks,
            filters: self.filters.on(agent),
            agent: entry,
        };
        match (market.decide(framework, role, &free), first) {
            (Err(skip), _) => Verdict::Skip(skip),
            (Ok(_), Some((first, role))) => Verdict::Skip(Skip::Behind {
                framework: first,
                role: role.clone(),
            }),
            // Not so after a cycle, which leaves nothing that somebody may have.
            (Ok(resources), None) => Verdict::Offer {
                resources: resources.into_owned(),
                due: now,
            },
        }
    }

    /// The place of a framework in the order in which the tree is visited.
    fn standing(&self, framework: FrameworkKey, role: &Role) -> Option<Standing> {
        takes_part(&self.frameworks, framework, role).ok()?;
        let order = self.tree.order();
        let ahead = order
            .iter()
            .position(|(other, key)| *key == framework && other == role)?;
        Some(Standing {
            ahead,
            of: order.len(),
        })
    }
}
