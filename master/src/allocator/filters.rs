//! What frameworks do not want to see for a while.
//!
//! A filter stands for one (agent, framework, role) and holds the resources that were refused. It blocks an offer
//! that holds nothing but what was refused; an offer of more passes.

use std::collections::BTreeMap;

use mezzo_model::resources::Resources;
use mezzo_model::{Millis, Role};

use crate::keys::{AgentKey, FrameworkKey};

/// Filters of one (agent, framework, role); more push out the one that would end first.
const MAX_PER_PLACE: usize = 32;

/// Whose filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// On which agent.
    pub agent: AgentKey,
    /// Of which framework.
    pub framework: FrameworkKey,
    /// In which role.
    pub role: Role,
}

#[derive(Debug)]
struct Filter {
    id: u64,
    ends: Millis,
    refused: Resources,
}

type OfFramework = BTreeMap<(Role, AgentKey), Vec<Filter>>;

/// All filters of a master.
#[derive(Debug, Default)]
pub struct Filters {
    frameworks: BTreeMap<FrameworkKey, OfFramework>,
    ends: BTreeMap<(Millis, u64), Place>,
    next: u64,
}

impl Filters {
    /// Installs a filter until `ends`.
    pub fn add(&mut self, place: Place, refused: Resources, ends: Millis) {
        let Self {
            frameworks,
            ends: queue,
            next,
        } = self;
        let of = frameworks.entry(place.framework).or_default();
        let filters = of.entry((place.role.clone(), place.agent)).or_default();
        // What the new one covers for at least as long is not needed any more.
        filters.retain(|old| {
            let covered = old.ends <= ends && refused.contains(&old.refused);
            if covered {
                queue.remove(&(old.ends, old.id));
            }
            !covered
        });
        if filters.len() >= MAX_PER_PLACE
            && let Some((first, _)) = filters
                .iter()
                .enumerate()
                .min_by_key(|(_, filter)| filter.ends)
        {
            let old = filters.swap_remove(first);
            queue.remove(&(old.ends, old.id));
        }
        let id = *next;
        *next += 1;
        queue.insert((ends, id), place);
        filters.push(Filter { id, ends, refused });
    }

    /// Whether an offer of these resources is blocked.
    pub fn block(&self, place: &Place, offer: &Resources) -> bool {
        // Most frameworks have no filter at all.
        let Some(of) = self.frameworks.get(&place.framework) else {
            return false;
        };
        of.get(&(place.role.clone(), place.agent))
            .is_some_and(|filters| filters.iter().any(|filter| filter.refused.contains(offer)))
    }

    /// When the next filter ends.
    pub fn next_end(&self) -> Option<Millis> {
        self.ends.keys().next().map(|(ends, _)| *ends)
    }

    /// Drops the filters that have ended; tells the agents whose resources may be offered again.
    pub fn expire(&mut self, now: Millis, mut freed: impl FnMut(AgentKey)) {
        while let Some((&(ends, id), _)) = self.ends.first_key_value() {
            if ends > now {
                return;
            }
            let Some(place) = self.ends.remove(&(ends, id)) else {
                return;
            };
            freed(place.agent);
            let Some(of) = self.frameworks.get_mut(&place.framework) else {
                continue;
            };
            let key = (place.role, place.agent);
            if let Some(filters) = of.get_mut(&key) {
                filters.retain(|filter| filter.id != id);
                if filters.is_empty() {
                    of.remove(&key);
                }
            }
            if of.is_empty() {
                self.frameworks.remove(&place.framework);
            }
        }
    }

    fn forget(ends: &mut BTreeMap<(Millis, u64), Place>, filters: &[Filter]) {
        for filter in filters {
            ends.remove(&(filter.ends, filter.id));
        }
    }

    /// Drops all filters of a framework.
    pub fn clear_framework(&mut self, framework: FrameworkKey) {
        if let Some(of) = self.frameworks.remove(&framework) {
            for filters in of.values() {
                Self::forget(&mut self.ends, filters);
            }
        }
    }

    /// Drops the filters of a framework in one role.
    pub fn clear_role(&mut self, framework: FrameworkKey, role: &Role) {
        let Some(of) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let ends = &mut self.ends;
        of.retain(|(other, _), filters| {
            if other == role {
                Self::forget(ends, filters);
            }
            other != role
        });
        if of.is_empty() {
            self.frameworks.remove(&framework);
        }
    }

    /// Drops the filters on an agent. O(all filters).
    pub fn clear_agent(&mut self, agent: AgentKey) {
        let ends = &mut self.ends;
        self.frameworks.retain(|_, of| {
            of.retain(|(_, other), filters| {
                if *other == agent {
                    Self::forget(ends, filters);
                }
                *other != agent
            });
            !of.is_empty()
        });
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(text: &str) -> Resources {
        Resources::parse(text).expect("reads")
    }

    fn place(agent: u32, framework: u32) -> Place {
        Place {
            agent: AgentKey(agent),
            framework: FrameworkKey(framework),
            role: Role::star(),
        }
    }

    #[test]
    fn a_filter_blocks_what_was_refused_and_less() {
        let mut filters = Filters::default();
        filters.add(place(1, 1), bag("cpus:2;mem:64"), Millis(1000));
        assert!(filters.block(&place(1, 1), &bag("cpus:2;mem:64")));
        assert!(filters.block(&place(1, 1), &bag("cpus:1")));
        assert!(!filters.block(&place(1, 1), &bag("cpus:2.1;mem:64")));
        assert!(!filters.block(&place(1, 2), &bag("cpus:1")));
        assert!(!filters.block(&place(2, 1), &bag("cpus:1")));
    }

    #[test]
    fn filters_end_and_are_cleared() {
        let mut filters = Filters::default();
        filters.add(place(1, 1), bag("cpus:2"), Millis(1000));
        filters.add(place(2, 1), bag("cpus:2"), Millis(2000));
        filters.add(place(2, 2), bag("cpus:2"), Millis(3000));
        assert_eq!(filters.next_end(), Some(Millis(1000)));
        let mut freed = Vec::new();
        filters.expire(Millis(999), |agent| freed.push(agent));
        assert!(freed.is_empty());
        filters.expire(Millis(1000), |agent| freed.push(agent));
        assert_eq!(freed, [AgentKey(1)]);
        filters.clear_framework(FrameworkKey(1));
        assert_eq!((filters.len(), filters.next_end()), (1, Some(Millis(3000))));
        filters.clear_role(FrameworkKey(2), &Role::parse("other").expect("a role"));
        filters.clear_agent(AgentKey(1));
        assert_eq!(filters.len(), 1);
        filters.clear_agent(AgentKey(2));
        assert!(filters.is_empty() && filters.frameworks.is_empty());
    }

    #[test]
    fn filters_of_one_place_are_bounded() {
        let mut filters = Filters::default();
        for cpus in 1..200 {
            filters.add(place(1, 1), bag(&format!("cpus:{cpus}")), Millis(1000));
        }
        assert_eq!(filters.len(), 1, "each covers the one before");
        for mem in 1..200 {
            filters.add(place(1, 1), bag(&format!("m{mem}:1")), Millis(1000 + mem));
        }
        assert_eq!(filters.len(), MAX_PER_PLACE);
        assert!(filters.block(&place(1, 1), &bag("m199:1")));
    }
}
