//! What must hold, whatever happens: the judge of a simulation.
//!
//! It sees what payloads did on the machines, what the stores took, and what the frameworks were told. It is told facts
//! and never asked for anything, so it cannot help the product.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::Epoch;
use mezzo_model::ids::TaskId;
use mezzo_wire::v1::TaskStatus;

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Where each payload was started, for good.
    started: BTreeMap<TaskId, String>,
    alive: BTreeSet<TaskId>,
    /// The one terminal word on a task that its framework acknowledged.
    terminal: BTreeMap<TaskId, Terminal>,
    /// The highest epoch that each store has taken a write of.
    stores: BTreeMap<String, Epoch>,
    /// The highest epoch that each agent has accepted, over all its lives.
    agents: BTreeMap<String, Epoch>,
    /// Offers that an accept has launched something with.
    used_offers: BTreeSet<String>,
    broken: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Terminal {
    state: i32,
    uuid: Vec<u8>,
}

impl Oracle {
    /// What was broken first, if anything was.
    ///
    /// # Errors
    /// In words.
    pub fn verdict(&self) -> Result<(), String> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Payloads that live anywhere.
    pub fn alive(&self) -> &BTreeSet<TaskId> {
        &self.alive
    }

    /// How many payloads were ever started.
    pub fn started(&self) -> usize {
        self.started.len()
    }

    /// Whether this task's payload was ever started.
    pub fn was_started(&self, task: &TaskId) -> bool {
        self.started.contains_key(task)
    }

    /// A payload began: no task is ever started twice.
    pub fn payload_began(&mut self, agent: &str, task: &TaskId) {
        if let Some(before) = self.started.insert(task.clone(), agent.to_owned()) {
            self.fail(format!(
                "task {task} was started on {before} and again on {agent}"
            ));
        }
        self.alive.insert(task.clone());
    }

    /// A payload is gone.
    pub fn payload_over(&mut self, task: &TaskId) {
        self.alive.remove(task);
    }

    /// A framework has acknowledged an update: it is bound to it. One terminal word for each task, and nothing after
    /// it.
    pub fn acknowledged(&mut self, task: &TaskId, status: &TaskStatus, is_terminal: bool) {
        let Some(uuid) = status.uuid.as_ref() else {
            return;
        };
        let word = Terminal {
            state: status.state,
            uuid: uuid.to_vec(),
        };
        match (self.terminal.get(task), is_terminal) {
            (None, true) => drop(self.terminal.insert(task.clone(), word)),
            (Some(before), true) if *before != word => {
                self.fail(format!(
                    "task {task} ended twice: {before:?}, then {word:?}"
                ));
            }
            (Some(before), false) => {
                self.fail(format!(
                    "task {task} ended with {before:?}, and then came {word:?}"
                ));
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// A store took a write of this term: epochs never go back.
    pub fn store_took(&mut self, store: &str, epoch: &Epoch) {
        match self.stores.get(store) {
            Some(highest) if highest.cluster_id != epoch.cluster_id => {
                self.fail(format!(
                    "{store} took a write of another cluster: {epoch:?}"
                ));
            }
            Some(highest) if highest.counter > epoch.counter => {
                let highest = highest.counter;
                let lower = epoch.counter;
                self.fail(format!(
                    "{store} took a write of epoch {lower} after one of {highest}"
                ));
            }
            _ => drop(self.stores.insert(store.to_owned(), epoch.clone())),
        }
    }

    /// An agent stands at this epoch: it never goes back, not even over a crash.
    pub fn agent_stands_at(&mut self, agent: &str, epoch: &Epoch) {
        match self.agents.get(agent) {
            Some(highest) if highest.counter > epoch.counter => {
                let (highest, lower) = (highest.counter, epoch.counter);
                self.fail(format!("{agent} went back from epoch {highest} to {lower}"));
            }
            Some(highest) if highest.counter == epoch.counter => {}
            _ => drop(self.agents.insert(agent.to_owned(), epoch.clone())),
        }
    }

    /// An accept launched something with this offer: no offer does that twice.
    pub fn offer_used(&mut self, offer: &str) {
        if !self.used_offers.insert(offer.to_owned()) {
            self.fail(format!("offer {offer} was used twice"));
        }
    }

    /// Something else is broken.
    pub fn fail(&mut self, words: String) {
        self.broken.get_or_insert(words);
    }
}
