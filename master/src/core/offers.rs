//! Offers: made from grants, answered, taken back. An offer is in the books from the moment it is sent until it is
//! answered or taken back, and never twice.

use std::collections::BTreeMap;

use mezzo_model::Millis;
use mezzo_model::ids::OfferId;
use mezzo_model::resources::WireFormat;
use mezzo_wire::v1;
use mezzo_wire::v1::scheduler::call;
use mezzo_wire::v1::scheduler::{Event, event};

use super::agent::Agent;
use super::calls::refusal;
use super::framework::Framework;
use super::status;
use super::timers::Timer;
use super::{Core, Cx, OFFER_MAX_AGE, Offer};
use crate::allocator::Grant;
use crate::keys::{AgentKey, FrameworkKey, OfferKey};
use crate::read_model::Change;

/// Whose offer timed out does not see the same again for so long.
const TIMEOUT_REFUSAL: Millis = Millis::from_secs(5);

impl Core {
    /// Turns what the allocator gives out into offers: one event for each framework.
    pub(super) fn make_offers(&mut self, cx: &mut Cx<'_>) {
        let grants = self.allocator.allocate(cx.now.mono);
        if grants.is_empty() {
            return;
        }
        let mut batches: BTreeMap<FrameworkKey, Vec<v1::Offer>> = BTreeMap::new();
        for grant in grants {
            let key = grant.framework;
            if let Some(offer) = self.make_offer(cx, grant) {
                batches.entry(key).or_default().push(offer);
            }
        }
        for (key, offers) in batches {
            if let Some(framework) = self.frameworks.get(&key) {
                let offers = event::Offers { offers };
                let event = Event {
                    offers: Some(offers),
                    ..status::event(event::Type::Offers)
                };
                cx.tell(framework, event);
            }
        }
    }

    fn make_offer(&mut self, cx: &mut Cx<'_>, grant: Grant) -> Option<v1::Offer> {
        let Grant {
            framework: framework_key,
            role,
            agent: agent_key,
            resources,
        } = grant;
        let (Some(framework), Some(agent)) = (
            self.frameworks.get_mut(&framework_key),
            self.agents.get_mut(&agent_key),
        ) else {
            return None;
        };
        let key = OfferKey(self.next_offer);
        self.next_offer += 1;
        let id = OfferId::parse(&format!("{}-O{}", self.issuer, key.0))
            .expect("a UUID and a number are an id");
        let offer = Offer {
            id,
            framework: framework_key,
            agent: agent_key,
            role: role.clone(),
            resources: resources.clone(),
            since: cx.now.mono,
        };
        let wire = wire_offer(&offer, framework, agent);
        let id = offer.id.clone();
        framework.offers.insert(key);
        agent.offers.insert(key);
        self.offers.insert(key, offer);
        self.counters.offers_made += 1;
        self.timers
            .set(Timer::Offer(key), cx.now.mono + self.config.offer_timeout);
        cx.change(Change::Offer {
            key,
            id,
            framework: framework_key,
            agent: agent_key,
            role,
            resources,
        });
        Some(wire)
    }

    /// The offer that an id names, if it is outstanding.
    pub(super) fn offer_named(&self, id: &str) -> Option<(OfferKey, &Offer)> {
        let number = id.strip_prefix(self.issuer.as_str())?.strip_prefix("-O")?;
        let key = OfferKey(number.parse().ok()?);
        let offer = self.offers.get(&key)?;
        // `-O+7` and `-O07` parse, and are no ids of ours.
        (offer.id.as_str() == id).then_some((key, offer))
    }

    /// Takes an offer out of the books. Its resources stay booked with the framework in the allocator.
    pub(super) fn take_offer(&mut self, cx: &mut Cx<'_>, key: OfferKey) -> Option<Offer> {
        let offer = self.offers.remove(&key)?;
        self.ripe.remove(&key);
        self.timers.clear(Timer::Offer(key));
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(&key);
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(&key);
        }
        cx.change(Change::OfferGone(key));
        Some(offer)
    }

    /// Takes an offer out of the books and frees its resources.
    fn return_offer(
        &mut self,
        cx: &mut Cx<'_>,
        key: OfferKey,
        refuse: Option<Millis>,
    ) -> Option<Offer> {
        let offer = self.take_offer(cx, key)?;
        self.allocator.release(
            cx.now.mono,
            offer.agent,
            offer.framework,
            &offer.role,
            &offer.resources,
            refuse,
        );
        Some(offer)
    }

    /// Takes an offer back and says so.
    pub(super) fn rescind(&mut self, cx: &mut Cx<'_>, key: OfferKey, refuse: Option<Millis>) {
        let Some(offer) = self.return_offer(cx, key, refuse) else {
            return;
        };
        self.counters.offers_rescinded += 1;
        if let Some(framework) = self.frameworks.get(&offer.framework) {
            let rescind = event::Rescind {
                offer_id: offer.id.to_wire(),
            };
            let event = Event {
                rescind: Some(rescind),
                ..status::event(event::Type::Rescind)
            };
            cx.tell(framework, event);
        }
    }

    /// Takes all offers of a framework back, saying so or not.
    pub(super) fn drop_offers_of(&mut self, cx: &mut Cx<'_>, key: FrameworkKey, tell: bool) {
        let Some(framework) = self.frameworks.get(&key) else {
            return;
        };
        for offer in framework.offers.iter().copied().collect::<Vec<_>>() {
            if tell {
                self.rescind(cx, offer, None);
            } else {
                self.return_offer(cx, offer, None);
            }
        }
    }

    /// Takes all offers of an agent back and says so.
    pub(super) fn rescind_of_agent(&mut self, cx: &mut Cx<'_>, key: AgentKey) {
        let Some(agent) = self.agents.get(&key) else {
            return;
        };
        for offer in agent.offers.iter().copied().collect::<Vec<_>>() {
            self.rescind(cx, offer, None);
        }
    }

    /// DECLINE. Offers of others and offers that are gone are passed over.
    pub(super) fn on_decline(
        &mut self,
        cx: &mut Cx<'_>,
        key: FrameworkKey,
        decline: &call::Decline,
    ) {
        let refuse = refusal(decline.filters.as_ref());
        for id in &decline.offer_ids {
            let Some((offer, of)) = self
                .offer_named(&id.value)
                .map(|(offer, of)| (offer, of.framework))
            else {
                continue;
            };
            if of == key {
                self.counters.offers_declined += 1;
                self.return_offer(cx, offer, Some(refuse));
            }
        }
    }

    /// An offer was not answered for long: it goes back if somebody else could use it, or if it is so old that its
    /// answer must have been lost.
    pub(super) fn on_offer_timeout(&mut self, cx: &mut Cx<'_>, key: OfferKey) {
        let Some(offer) = self.offers.get(&key) else {
            return;
        };
        let (agent, framework) = (offer.agent, offer.framework);
        let oldest = OFFER_MAX_AGE.max(self.config.offer_timeout);
        let is_old = cx.now.mono.since(offer.since) >= oldest;
        if is_old
            || self
                .allocator
                .wanted_by_another(agent, framework, &offer.resources)
        {
            self.counters.offers_timed_out += 1;
            self.rescind(cx, key, Some(TIMEOUT_REFUSAL));
        } else {
            let at = offer.since + oldest;
            self.ripe.insert(key);
            self.timers.set(Timer::Offer(key), at);
        }
    }

    /// New demand appeared: offers that were kept only because nobody else wanted them are looked at again.
    pub(super) fn rescind_wanted(&mut self, cx: &mut Cx<'_>) {
        for key in self.ripe.iter().copied().collect::<Vec<_>>() {
            let Some(offer) = self.offers.get(&key) else {
                continue;
            };
            let (agent, framework) = (offer.agent, offer.framework);
            if self
                .allocator
                .wanted_by_another(agent, framework, &offer.resources)
            {
                self.counters.offers_timed_out += 1;
                self.rescind(cx, key, Some(TIMEOUT_REFUSAL));
            }
        }
    }
}

/// The offer as its framework understands it.
fn wire_offer(offer: &Offer, framework: &Framework, agent: &Agent) -> v1::Offer {
    let capabilities = &framework.profile.capabilities;
    let format = if capabilities.abilities.refinement {
        WireFormat::Stack
    } else {
        WireFormat::Old
    };
    // Who knows no roles is told of none.
    let resources = if capabilities.multi_role {
        offer.resources.allocated_to(&offer.role).to_wire_as(format)
    } else {
        offer.resources.to_wire_as(format)
    };
    let allocation_info = capabilities
        .multi_role
        .then(|| v1::resource::AllocationInfo {
            role: Some(offer.role.to_string()),
        });
    let executor_ids = agent
        .executors
        .keys()
        .filter(|(of, _)| *of == offer.framework)
        .map(|(_, executor)| executor.to_wire())
        .collect();
    v1::Offer {
        id: offer.id.to_wire(),
        framework_id: framework.id.to_wire(),
        agent_id: agent.id.to_wire(),
        hostname: agent.info.hostname.clone(),
        url: Some(agent_url(&agent.info)),
        domain: agent.info.domain.clone(),
        resources,
        attributes: agent.info.attributes.clone(),
        executor_ids,
        unavailability: None,
        allocation_info,
    }
}

/// Where people find the agent's pages.
fn agent_url(info: &v1::AgentInfo) -> v1::Url {
    v1::Url {
        scheme: String::from("http"),
        address: v1::Address {
            hostname: Some(info.hostname.clone()),
            ip: None,
            port: info.port.unwrap_or(5051),
        },
        path: Some(String::from("/slave(1)")),
        ..Default::default()
    }
}
