//! Walks the books. Tests and the simulator call it after every step; production does not.

use std::collections::BTreeMap;

use mezzo_model::Role;
use mezzo_model::resources::Resources;

use super::framework::Presence;
use super::{Core, Peer};
use crate::keys::{AgentKey, FrameworkKey};

impl Core {
    /// Checks that no resource is given twice, that every index agrees with what it points at, and that the allocator's
    /// books are the core's.
    ///
    /// # Errors
    /// Says which book is wrong.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.allocator.check()?;
        self.check_offer_books()?;
        self.check_frameworks()?;
        for (key, agent) in &self.agents {
            if self.agent_ids.get(&agent.id) != Some(key) {
                return Err(format!("agent {} is not in the index", agent.id));
            }
            let known = [
                self.awaited.contains_key(&agent.id),
                self.unreachable.contains_key(&agent.id),
                self.gone.contains_key(&agent.id),
                self.admissions.contains_key(&agent.id),
            ];
            if known.contains(&true) {
                return Err(format!(
                    "agent {} is registered and something else at once",
                    agent.id
                ));
            }
            self.check_agent(*key)?;
        }
        for (conn, peer) in &self.peers {
            let good = match peer {
                Peer::Scheduler(key) => self
                    .frameworks
                    .get(key)
                    .is_some_and(|framework| framework.conn() == Some(*conn)),
                Peer::Agent(key) => self
                    .agents
                    .get(key)
                    .is_some_and(|agent| agent.conn() == Some(*conn)),
                Peer::Admission(id) => self.admissions.contains_key(id),
                Peer::Waiting(key) => self.agents.get(key).is_some_and(|agent| {
                    agent
                        .waiting
                        .as_ref()
                        .is_some_and(|(waiting, _)| waiting == conn)
                }),
            };
            if !good {
                return Err(format!(
                    "connection {conn:?} leads to {peer:?}, which does not know it"
                ));
            }
        }
        Ok(())
    }

    fn check_offer_books(&self) -> Result<(), String> {
        for (key, offer) in &self.offers {
            let framework = self.frameworks.get(&offer.framework);
            let agent = self.agents.get(&offer.agent);
            let (Some(framework), Some(agent)) = (framework, agent) else {
                return Err(format!(
                    "offer {} is of a framework or an agent that is gone",
                    offer.id
                ));
            };
            if !framework.offers.contains(key) || !agent.offers.contains(key) {
                return Err(format!("offer {} is not in the index", offer.id));
            }
            if !matches!(framework.presence, Presence::Connected { .. }) || !agent.is_active() {
                return Err(format!(
                    "offer {} is outstanding and nobody could use it",
                    offer.id
                ));
            }
            if !framework.profile.roles.contains(&offer.role) || offer.resources.is_empty() {
                return Err(format!(
                    "offer {} is of another role, or of nothing",
                    offer.id
                ));
            }
        }
        let by_framework: usize = self
            .frameworks
            .values()
            .map(|framework| framework.offers.len())
            .sum();
        let by_agent: usize = self.agents.values().map(|agent| agent.offers.len()).sum();
        if by_framework != self.offers.len() || by_agent != self.offers.len() {
            return Err(String::from("an index names offers that are gone"));
        }
        if let Some(ripe) = self.ripe.iter().find(|key| !self.offers.contains_key(key)) {
            return Err(format!("offer {ripe:?} is ripe and gone"));
        }
        Ok(())
    }

    fn check_frameworks(&self) -> Result<(), String> {
        for (key, framework) in &self.frameworks {
            if self.framework_ids.get(&framework.id) != Some(key) {
                return Err(format!("framework {} is not in the index", framework.id));
            }
            if self.past_frameworks.contains(&framework.id) {
                return Err(format!(
                    "framework {} is there and removed at once",
                    framework.id
                ));
            }
            for (task, agent) in &framework.tasks {
                let found = self
                    .agents
                    .get(agent)
                    .and_then(|agent| agent.tasks.get(&(*key, task.clone())))
                    .is_some_and(|task| !task.is_duplicate);
                if !found {
                    return Err(format!(
                        "task {task} of {} is not on its agent",
                        framework.id
                    ));
                }
                if framework.unreachable.contains_key(task) {
                    return Err(format!(
                        "task {task} of {} is live and unreachable",
                        framework.id
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_agent(&self, key: AgentKey) -> Result<(), String> {
        let Some(agent) = self.agents.get(&key) else {
            return Ok(());
        };
        let mut held: BTreeMap<(FrameworkKey, &Role), Resources> = BTreeMap::new();
        let mut used = Resources::new();
        for (framework, role, resources) in agent.in_use() {
            *held.entry((framework, role)).or_default() += resources;
            used += resources;
        }
        let mut offered = Resources::new();
        for offer in agent
            .offers
            .iter()
            .filter_map(|offer| self.offers.get(offer))
        {
            *held.entry((offer.framework, &offer.role)).or_default() += &offer.resources;
            offered += &offer.resources;
        }
        let sum = &used + &offered;
        if !agent.is_overcommitted && !agent.spec.total.contains(&sum) {
            return Err(format!(
                "agent {} has {}; {used} is in use and {offered} is offered",
                agent.id, agent.spec.total
            ));
        }
        held.retain(|_, resources| !resources.is_empty());
        let mut booked = 0;
        for (framework, role, resources) in self.allocator.held_on(key) {
            booked += 1;
            if held.get(&(framework, role)) != Some(resources) {
                return Err(format!(
                    "agent {}: the allocator books {resources} for {framework:?} in {role}, the core {}",
                    agent.id,
                    held.get(&(framework, role))
                        .map(ToString::to_string)
                        .unwrap_or_default()
                ));
            }
        }
        if booked != held.len() {
            return Err(format!(
                "agent {}: the core books more than the allocator",
                agent.id
            ));
        }
        for ((framework, id), task) in &agent.tasks {
            let Some(of) = self.frameworks.get(framework) else {
                return Err(format!(
                    "task {id} on {} is of a framework that is gone",
                    agent.id
                ));
            };
            let indexed = of.tasks.get(id) == Some(&key);
            if indexed == task.is_duplicate {
                return Err(format!(
                    "task {id} on {} is not in its framework's index",
                    agent.id
                ));
            }
        }
        Ok(())
    }
}
