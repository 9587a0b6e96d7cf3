//! Offers at hand, read once into lean types.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::Role;
use mezzo_model::attributes::{AttributeError, AttributeValue, Attributes};
use mezzo_model::ids::{AgentId, IdError, OfferId};
use mezzo_model::resources::{InvalidResource, Resources};
use mezzo_model::role::RoleError;
use mezzo_model::time::Wall;
use mezzo_wire::v1;

/// Why an offer cannot be used. Give it back.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// An id in it is no id.
    #[error("the offer's id is not usable: {0}")]
    Id(#[from] IdError),
    /// A resource in it makes no sense.
    #[error("the offer's resources are not usable: {0}")]
    Resources(#[from] InvalidResource),
    /// An attribute in it makes no sense.
    #[error("the offer's attributes are not usable: {0}")]
    Attributes(#[from] AttributeError),
    /// The role it is allocated to is no role.
    #[error("the offer's role is not usable: {0}")]
    Role(#[from] RoleError),
}

/// One offer, with what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOffer {
    /// Its name.
    pub id: OfferId,
    /// Whose resources it holds.
    pub agent: AgentId,
    /// The agent's host name.
    pub hostname: String,
    /// The role it is allocated to; `None` for a framework without `MULTI_ROLE`.
    pub role: Option<Role>,
    /// What it holds.
    pub resources: Resources,
    /// What the agent says about itself.
    pub attributes: Attributes,
    /// The region of the agent's fault domain.
    pub region: Option<String>,
    /// The zone of the agent's fault domain.
    pub zone: Option<String>,
    /// When maintenance of the agent is planned to begin.
    pub unavailable_from: Option<Wall>,
}

impl HeldOffer {
    /// Reads an offer.
    ///
    /// # Errors
    /// Names the part that makes no sense; such an offer should be declined.
    pub fn read(offer: &v1::Offer) -> Result<Self, OfferError> {
        let role = offer
            .allocation_info
            .as_ref()
            .and_then(|info| info.role.as_deref());
        let domain = offer
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        Ok(Self {
            id: OfferId::from_wire(&offer.id)?,
            agent: AgentId::from_wire(&offer.agent_id)?,
            hostname: offer.hostname.clone(),
            role: role.map(Role::parse).transpose()?,
            resources: Resources::try_from_wire(&offer.resources)?,
            attributes: Attributes::from_wire(&offer.attributes)?,
            region: domain.map(|domain| domain.region.name.clone()),
            zone: domain.map(|domain| domain.zone.name.clone()),
            unavailable_from: offer
                .unavailability
                .as_ref()
                .map(|planned| Wall::from_nanos(planned.start.nanoseconds)),
        })
    }

    /// What the agent says under a field of a constraint: `hostname` or `@hostname`, `@region`, `@zone`, else the
    /// attribute of that name as text. `None` if it says nothing.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "hostname" | "@hostname" => Some(Cow::Borrowed(self.hostname.as_str())),
            "@region" => self.region.as_deref().map(Cow::Borrowed),
            "@zone" => self.zone.as_deref().map(Cow::Borrowed),
            _ => self.attributes.get(name).map(|value| match value {
                AttributeValue::Text(text) => Cow::Borrowed(&**text),
                AttributeValue::Scalar(number) => Cow::Owned(number.to_string()),
                AttributeValue::Ranges(ranges) => {
                    // Compact, as people write it in a constraint: `[1-2,5-9]`.
                    Cow::Owned(ranges.to_string().replace(", ", ","))
                }
            }),
        }
    }
}

/// The offers a framework holds, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct OfferPool {
    offers: BTreeMap<OfferId, HeldOffer>,
    by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
}

impl OfferPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an offer in; one of the same id is replaced.
    pub fn hold(&mut self, offer: HeldOffer) {
        self.take(&offer.id);
        self.by_agent
            .entry(offer.agent.clone())
            .or_default()
            .insert(offer.id.clone());
        self.offers.insert(offer.id.clone(), offer);
    }

    /// Takes an offer out: it was rescinded, or is about to be used.
    pub fn take(&mut self, id: &OfferId) -> Option<HeldOffer> {
        let offer = self.offers.remove(id)?;
        if let Some(of_agent) = self.by_agent.get_mut(&offer.agent) {
            of_agent.remove(id);
            if of_agent.is_empty() {
                self.by_agent.remove(&offer.agent);
            }
        }
        Some(offer)
    }

    /// Takes every offer of an agent out, so that they can be used together.
    pub fn take_agent(&mut self, agent: &AgentId) -> Vec<HeldOffer> {
        let ids = self.by_agent.remove(agent).unwrap_or_default();
        ids.iter().filter_map(|id| self.offers.remove(id)).collect()
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> Vec<HeldOffer> {
        self.by_agent.clear();
        std::mem::take(&mut self.offers).into_values().collect()
    }

    /// Forgets everything: the subscription ended.
    pub fn clear(&mut self) {
        self.offers.clear();
        self.by_agent.clear();
    }

    /// The offer of that id.
    pub fn get(&self, id: &OfferId) -> Option<&HeldOffer> {
        self.offers.get(id)
    }

    /// All offers.
    pub fn iter(&self) -> impl Iterator<Item = &HeldOffer> {
        self.offers.values()
    }

    /// How many offers are held.
    pub fn len(&self) -> usize {
        self.offers.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, agent: &str) -> HeldOffer {
        HeldOffer::read(&v1::Offer {
            id: v1::OfferId { value: id.into() },
            agent_id: v1::AgentId {
                value: agent.into(),
            },
            hostname: "h1".into(),
            attributes: Attributes::parse("rack:r1;level:2.5;slots:[1-2,5-9]")
                .expect("good attributes")
                .to_wire(),
            resources: Resources::parse("cpus:4;mem:1024")
                .expect("good resources")
                .to_wire(),
            ..Default::default()
        })
        .expect("a good offer")
    }

    #[test]
    fn offers_are_held_and_taken_by_id_and_by_agent() {
        let mut pool = OfferPool::new();
        for (id, agent) in [("o1", "a1"), ("o2", "a1"), ("o3", "a2")] {
            pool.hold(offer(id, agent));
        }
        pool.hold(offer("o2", "a2"));
        assert_eq!(pool.len(), 3);
        let a1 = AgentId::parse("a1").expect("good");
        assert_eq!(pool.take_agent(&a1).len(), 1);
        assert!(pool.take_agent(&a1).is_empty());
        let o3 = OfferId::parse("o3").expect("good");
        assert!(pool.get(&o3).is_some() && pool.take(&o3).is_some() && pool.take(&o3).is_none());
        assert_eq!(pool.iter().count(), 1);
        assert_eq!(pool.take_all().len(), 1);
        assert!(pool.is_empty());
    }

    #[test]
    fn fields_are_read_as_text() {
        let offer = offer("o1", "a1");
        for (field, text) in [
            ("hostname", Some("h1")),
            ("@hostname", Some("h1")),
            ("rack", Some("r1")),
            ("level", Some("2.5")),
            ("slots", Some("[1-2,5-9]")),
            ("@zone", None),
            ("gpu", None),
        ] {
            assert_eq!(offer.field(field).as_deref(), text, "{field}");
        }
    }

    #[test]
    fn an_offer_that_makes_no_sense_is_refused_in_words() {
        let mut wire = v1::Offer {
            id: v1::OfferId {
                value: "a/b".into(),
            },
            ..Default::default()
        };
        let words = HeldOffer::read(&wire).expect_err("a bad id").to_string();
        assert!(words.contains("id is not usable"), "{words}");
        wire.id.value = "o1".into();
        wire.agent_id.value = "a1".into();
        wire.resources = vec![v1::Resource {
            name: "cpus".into(),
            scalar: Some(v1::value::Scalar { value: f64::NAN }),
            ..Default::default()
        }];
        assert!(HeldOffer::read(&wire).is_err());
    }
}
