//! What frameworks do not want to see for a while.
//!
//! A filter stands for one (agent, framework, role) and holds the resources that were refused. It blocks an offer
//! that holds nothing but what was refused; an offer of more passes.

use std::collections::{BTreeMap, BTreeSet};

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

#[derive(Clone, Debug)]
struct Filter {
    id: u64,
    ends: Millis,
    refused: Resources,
}

/// The filters on one agent.
type OfAgent = BTreeMap<(FrameworkKey, Role), Vec<Filter>>;

/// All filters of a master.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    agents: BTreeMap<AgentKey, OfAgent>,
    /// The same places, by framework: what goes when a framework revives or leaves.
    frameworks: BTreeMap<FrameworkKey, BTreeSet<(Role, AgentKey)>>,
    ends: BTreeMap<(Millis, u64), Place>,
    next: u64,
}

/// The filters on one agent, found once for all frameworks that are asked about.
#[derive(Clone, Copy, Debug)]
pub struct OnAgent<'a>(Option<&'a OfAgent>);

impl OnAgent<'_> {
    /// Until when an offer of these resources is blocked; `None` if it is not.
    pub fn block(&self, framework: FrameworkKey, role: &Role, offer: &Resources) -> Option<Millis> {
        // Most agents have no filter at all.
        self.0?
            .get(&(framework, role.clone()))?
            .iter()
            .filter(|filter| filter.refused.contains(offer))
            .map(|filter| filter.ends)
            .max()
    }
}

impl Filters {
    /// Installs a filter until `ends`.
    pub fn add(&mut self, place: Place, refused: Resources, ends: Millis) {
        let Self {
            agents,
            frameworks,
            ends: queue,
            next,
        } = self;
        let filters = agents
            .entry(place.agent)
            .or_default()
            .entry((place.framework, place.role.clone()))
            .or_default();
        if filters.is_empty() {
            frameworks
                .entry(place.framework)
                .or_default()
                .insert((place.role.clone(), place.agent));
        }
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

    /// The filters on one agent.
    pub fn on(&self, agent: AgentKey) -> OnAgent<'_> {
        OnAgent(self.agents.get(&agent))
    }

    /// When the next filter ends.
    pub fn next_end(&self) -> Option<Millis> {
        self.ends.keys().next().map(|(ends, _)| *ends)
    }

    /// Drops the filters that have ended; tells where somebody may be offered something again.
    pub fn expire(&mut self, now: Millis, mut ended: impl FnMut(Place)) {
        while let Some((&(ends, id), _)) = self.ends.first_key_value() {
            if ends > now {
                return;
            }
            let Some(place) = self.ends.remove(&(ends, id)) else {
                return;
            };
            let client = (place.framework, place.role.clone());
            let left = self
                .agents
                .get_mut(&place.agent)
                .and_then(|of| of.get_mut(&client))
                .map(|filters| {
                    filters.retain(|filter| filter.id != id);
                    filters.len()
                });
            if left == Some(0) {
                self.forget(&place);
            }
            ended(place);
        }
    }

    /// Takes a place out of both books, with its filters.
    fn forget(&mut self, place: &Place) {
        if let Some(of) = self.agents.get_mut(&place.agent) {
            let gone = of.remove(&(place.framework, place.role.clone()));
            for filter in gone.into_iter().flatten() {
                self.ends.remove(&(filter.ends, filter.id));
            }
            if of.is_empty() {
                self.agents.remove(&place.agent);
            }
        }
        if let Some(places) = self.frameworks.get_mut(&place.framework) {
            places.remove(&(place.role.clone(), place.agent));
            if places.is_empty() {
                self.frameworks.remove(&place.framework);
            }
        }
    }

    /// Drops all filters of a framework.
    pub fn clear_framework(&mut self, framework: FrameworkKey) {
        self.clear(framework, |_| true);
    }

    /// Drops the filters of a framework in one role.
    pub fn clear_role(&mut self, framework: FrameworkKey, role: &Role) {
        self.clear(framework, |other| other == role);
    }

    fn clear(&mut self, framework: FrameworkKey, of: impl Fn(&Role) -> bool) {
        let places: Vec<Place> = self
            .frameworks
            .get(&framework)
            .into_iter()
            .flatten()
            .filter(|(role, _)| of(role))
            .map(|(role, agent)| Place {
                agent: *agent,
                framework,
                role: role.clone(),
            })
            .collect();
        for place in &places {
            self.forget(place);
        }
    }

    /// Drops the filters on an agent.
    pub fn clear_agent(&mut self, agent: AgentKey) {
        let places: Vec<Place> = self
            .agents
            .get(&agent)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|(framework, role)| Place {
                agent,
                framework: *framework,
                role: role.clone(),
            })
            .collect();
        for place in &places {
            self.forget(place);
        }
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

    fn blocked(filters: &Filters, place: &Place, offer: &str) -> Option<u64> {
        let on = filters.on(place.agent);
        on.block(place.framework, &place.role, &bag(offer))
            .map(|until| until.0)
    }

    #[test]
    fn a_filter_blocks_what_was_refused_and_less() {
        let mut filters = Filters::default();
        filters.add(place(1, 1), bag("cpus:2;mem:64"), Millis(1000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:2;mem:64"), Some(1000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:1"), Some(1000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:2.1;mem:64"), None);
        assert_eq!(blocked(&filters, &place(1, 2), "cpus:1"), None);
        assert_eq!(blocked(&filters, &place(2, 1), "cpus:1"), None);
    }

    #[test]
    fn filters_end_and_are_cleared() {
        let mut filters = Filters::default();
        filters.add(place(1, 1), bag("cpus:2"), Millis(1000));
        filters.add(place(2, 1), bag("cpus:2"), Millis(2000));
        filters.add(place(2, 2), bag("cpus:2"), Millis(3000));
        assert_eq!(filters.next_end(), Some(Millis(1000)));
        let mut freed = Vec::new();
        filters.expire(Millis(999), |place| freed.push(place.agent));
        assert!(freed.is_empty());
        filters.expire(Millis(1000), |place| freed.push(place.agent));
        assert_eq!(freed, [AgentKey(1)]);
        filters.clear_framework(FrameworkKey(1));
        assert_eq!((filters.len(), filters.next_end()), (1, Some(Millis(3000))));
        filters.clear_role(FrameworkKey(2), &Role::parse("other").expect("a role"));
        filters.clear_agent(AgentKey(1));
        assert_eq!(filters.len(), 1);
        filters.clear_agent(AgentKey(2));
        assert!(filters.is_empty() && filters.frameworks.is_empty() && filters.agents.is_empty());
    }

    #[test]
    fn the_last_filter_that_blocks_says_until_when() {
        let mut filters = Filters::default();
        filters.add(place(1, 1), bag("cpus:2"), Millis(3000));
        filters.add(place(1, 1), bag("cpus:4"), Millis(1000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:1"), Some(3000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:3"), Some(1000));
        assert_eq!(blocked(&filters, &place(1, 1), "cpus:5"), None);
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
        assert_eq!(blocked(&filters, &place(1, 1), "m199:1"), Some(1199));
    }
}
