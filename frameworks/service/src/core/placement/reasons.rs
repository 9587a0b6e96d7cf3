//! Why offers were turned away: counted for each waiting app, in the order in which Marathon's funnel asks.

use std::collections::{BTreeMap, VecDeque};

use mezzo_model::resources::Resources;

use crate::core::version::Version;

/// The most agents whose last refusal is remembered for one app.
const MAX_AGENTS: usize = 10_000;
/// The most unused offers that are kept whole for one app.
const MAX_LAST_OFFERS: usize = 25;

/// Why an offer did not suit an app: the first of these that held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is for another role.
    UnfulfilledRole,
    /// A placement rule forbids the agent.
    UnfulfilledConstraint,
    /// A reservation that is needed is not in it.
    NoCorrespondingReservationFound,
    /// The agent is about to be maintained.
    AgentMaintenance,
    /// Too few processors.
    InsufficientCpus,
    /// Too little memory.
    InsufficientMemory,
    /// Too little disk.
    InsufficientDisk,
    /// Too few GPUs.
    InsufficientGpus,
    /// Ports are missing.
    InsufficientPorts,
    /// It holds GPUs, and the app needs none.
    DeclinedScarceResources,
}

impl Reason {
    /// All reasons in the order of the funnel, with their names in documents.
    pub const FUNNEL: [(Self, &'static str); 10] = [
        (Self::UnfulfilledRole, "UnfulfilledRole"),
        (Self::UnfulfilledConstraint, "UnfulfilledConstraint"),
        (
            Self::NoCorrespondingReservationFound,
            "NoCorrespondingReservationFound",
        ),
        (Self::AgentMaintenance, "AgentMaintenance"),
        (Self::InsufficientCpus, "InsufficientCpus"),
        (Self::InsufficientMemory, "InsufficientMemory"),
        (Self::InsufficientDisk, "InsufficientDisk"),
        (Self::InsufficientGpus, "InsufficientGpus"),
        (Self::InsufficientPorts, "InsufficientPorts"),
        (Self::DeclinedScarceResources, "DeclinedScarceResources"),
    ];

    /// The name in documents.
    pub fn as_str(self) -> &'static str {
        Self::FUNNEL
            .iter()
            .find(|(reason, _)| *reason == self)
            .map_or("", |(_, name)| name)
    }
}

/// An offer that was turned away, as far as people want to see it.
#[derive(Clone, Debug)]
pub struct UnusedOffer {
    /// Its id.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// Its host.
    pub host: String,
    /// What was in it.
    pub resources: Resources,
    /// The agent's attributes.
    pub attributes: BTreeMap<String, String>,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Version,
}

/// What became of offers while an app waited.
#[derive(Clone, Debug, Default)]
pub struct OfferStats {
    /// Offers that were looked at.
    pub processed: u64,
    /// Those that did not suit.
    pub unused: u64,
    /// When one did not suit last.
    pub last_unused_at: Option<Version>,
    /// When one was used last.
    pub last_used_at: Option<Version>,
    /// Refusals since the app waits.
    pub since_launch: BTreeMap<Reason, u64>,
    /// The last refusal of each agent.
    pub by_agent: BTreeMap<String, Reason>,
    /// The last offers that did not suit, oldest first.
    pub last_offers: VecDeque<UnusedOffer>,
}

impl OfferStats {
    /// An offer was used.
    pub fn used(&mut self, agent: &str, at: Version) {
        self.processed += 1;
        self.last_used_at = Some(at);
        self.by_agent.remove(agent);
    }

    /// An offer did not suit.
    pub fn refused(&mut self, offer: UnusedOffer) {
        self.processed += 1;
        self.unused += 1;
        self.last_unused_at = Some(offer.at);
        *self.since_launch.entry(offer.reason).or_default() += 1;
        if self.by_agent.len() < MAX_AGENTS || self.by_agent.contains_key(&offer.agent) {
            self.by_agent.insert(offer.agent.clone(), offer.reason);
        }
        if self.last_offers.len() >= MAX_LAST_OFFERS {
            self.last_offers.pop_front();
        }
        self.last_offers.push_back(offer);
    }

    /// The last refusals by reason, one for each agent.
    pub fn last_refusals(&self) -> BTreeMap<Reason, u64> {
        let mut counts = BTreeMap::new();
        for reason in self.by_agent.values() {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }
}
