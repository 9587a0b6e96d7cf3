//! Where instances go: which offers suit an app, which of those is taken, and why the others are not.
//!
//! Source: Marathon's funnel of reasons; matching itself is the SDK's. Of the offers that suit, the one whose agent has
//! the fewest instances of the app is taken, then the one with the most cpus left: instances spread by themselves.
//!
//! Invariant: pure; what an offer holds is taken at most once.

use std::collections::BTreeMap;

use mezzo_model::ids::AgentId;
use mezzo_model::resources::{Milli, Resources};
use mezzo_model::rng::Rng;
use mezzo_model::{Role, Wall};
use mezzo_sdk::offers::{Constraint, Fit, HeldOffer, Misfit, PortWish, Request, Tally, fit};

use super::app::AppSpec;
use super::instance::Place;

pub mod reasons;
pub mod task;

use reasons::Reason;

/// An agent whose maintenance begins within this span is not used, milliseconds.
const DRAINING_MS: u64 = 120_000;

/// An offer at hand, with what is left of it.
#[derive(Clone, Debug)]
pub struct OpenOffer {
    /// The offer as it came.
    pub held: HeldOffer,
    /// What is left.
    pub left: Resources,
    /// How many instances go there.
    pub launches: usize,
}

impl OpenOffer {
    /// An offer that nothing was taken from.
    pub fn new(held: HeldOffer) -> Self {
        Self {
            left: held.resources.clone(),
            held,
            launches: 0,
        }
    }

    /// Takes a part out.
    pub fn take(&mut self, fit: &Fit) {
        self.left.remove(&fit.resources);
        self.launches += 1;
    }

    /// Where an instance with these ports would be.
    pub fn place(&self, ports: Vec<u16>) -> Place {
        let attributes = self.held.attributes.iter().filter_map(|attribute| {
            let text = self.held.field(&attribute.name)?;
            Some((attribute.name.to_string(), text.into_owned()))
        });
        Place {
            agent: Some(self.held.agent.clone()),
            host: self.held.hostname.clone(),
            ports,
            region: self.held.region.clone(),
            zone: self.held.zone.clone(),
            attributes: attributes.collect(),
        }
    }
}

/// The value of a constraint's field at a place.
pub fn value_at<'a>(field: &str, place: &'a Place) -> Option<&'a str> {
    match field {
        "hostname" | "@hostname" => Some(&place.host),
        "@region" => place.region.as_deref(),
        "@zone" => place.zone.as_deref(),
        name => place.attributes.get(name).map(String::as_str),
    }
}

/// The placement rules of a definition, read. What is stored was checked, so none is left out.
pub fn rules(spec: &AppSpec) -> Vec<Constraint> {
    let read = |constraint: &super::app::Constraint| {
        let operator = constraint.operator.as_str();
        Constraint::parse(&constraint.field, operator, constraint.value.as_deref()).ok()
    };
    spec.constraints.iter().filter_map(read).collect()
}

/// All that is needed to place instances of one app.
#[derive(Debug)]
pub struct Matcher<'a> {
    spec: &'a AppSpec,
    request: Request,
    rules: Vec<(&'a Constraint, Tally)>,
    per_agent: BTreeMap<AgentId, usize>,
}

impl<'a> Matcher<'a> {
    /// A matcher for an app of which these instances are placed, in the order of their placement.
    pub fn new<'p>(
        spec: &'a AppSpec,
        rules: &'a [Constraint],
        placed: impl Iterator<Item = &'p Place> + Clone,
    ) -> Self {
        let tally = |rule: &'a Constraint| {
            (
                rule,
                Tally::of(placed.clone().map(|place| value_at(&rule.field, place))),
            )
        };
        let mut per_agent = BTreeMap::new();
        for agent in placed.clone().filter_map(|place| place.agent.clone()) {
            *per_agent.entry(agent).or_default() += 1;
        }
        Self {
            spec,
            request: request(spec),
            rules: rules.iter().map(tally).collect(),
            per_agent,
        }
    }

    /// What would be taken of an offer.
    ///
    /// # Errors
    /// The first reason of the funnel that speaks against it.
    pub fn judge(
        &self,
        offer: &OpenOffer,
        role: &Role,
        wall: Wall,
        rng: &mut Rng,
    ) -> Result<Fit, Reason> {
        if offer.held.role.as_ref().is_some_and(|own| own != role) {
            return Err(Reason::UnfulfilledRole);
        }
        let wanted = self.spec.instances;
        if !self
            .rules
            .iter()
            .all(|(rule, tally)| rule.admits_offer(&offer.held, tally, wanted))
        {
            return Err(Reason::UnfulfilledConstraint);
        }
        if offer
            .held
            .unavailable_from
            .is_some_and(|from| from.0 < wall.0.saturating_add(DRAINING_MS))
        {
            return Err(Reason::AgentMaintenance);
        }
        let found = fit(&self.request, &offer.left, rng).map_err(|misfit| reason(&misfit))?;
        if offer.left.scalar("gpus") > Milli::ZERO {
            return Err(Reason::DeclinedScarceResources);
        }
        Ok(found)
    }

    /// How good an offer is among those that suit: the smaller, the better.
    pub fn rank(&self, offer: &OpenOffer) -> (usize, i64) {
        let here = self.per_agent.get(&offer.held.agent).copied().unwrap_or(0);
        (here, -offer.left.scalar("cpus").0)
    }

    /// An instance was placed.
    pub fn placed(&mut self, place: &Place) {
        for (rule, tally) in &mut self.rules {
            tally.add(value_at(&rule.field, place));
        }
        if let Some(agent) = &place.agent {
            *self.per_agent.entry(agent.clone()).or_default() += 1;
        }
    }
}

/// One app's turn over all open offers: which were used, which refused and why.
#[derive(Debug)]
pub struct Round {
    used: Vec<bool>,
    refused: BTreeMap<usize, Reason>,
}

impl Round {
    /// A turn over so many offers.
    pub fn new(offers: usize) -> Self {
        Self {
            used: vec![false; offers],
            refused: BTreeMap::new(),
        }
    }

    /// The best offer that suits, with what is to be taken of it; at most `most` instances go to one offer.
    pub fn choose(
        &mut self,
        matcher: &Matcher<'_>,
        open: &[OpenOffer],
        most: usize,
        role: &Role,
        wall: Wall,
        rng: &mut Rng,
    ) -> Option<(usize, Fit)> {
        let mut order: Vec<usize> = (0..open.len())
            .filter(|place| open[*place].launches < most)
            // Resources only shrink, so what did not suit for lack of them never will.
            .filter(|place| {
                let refusal = self.refused.get(place);
                refusal.is_none_or(|reason| *reason == Reason::UnfulfilledConstraint)
            })
            .collect();
        order.sort_by_key(|place| (matcher.rank(&open[*place]), *place));
        for place in order {
            match matcher.judge(&open[place], role, wall, rng) {
                Ok(fit) => {
                    self.used[place] = true;
                    return Some((place, fit));
                }
                Err(reason) => {
                    self.refused.insert(place, reason);
                }
            }
        }
        None
    }

    /// Whether an instance went to the offer.
    pub fn was_used(&self, place: usize) -> bool {
        self.used.get(place).copied().unwrap_or(false)
    }

    /// Why the offer was not used, if it was looked at.
    pub fn refusal(&self, place: usize) -> Option<Reason> {
        self.refused.get(&place).copied()
    }
}

fn request(spec: &AppSpec) -> Request {
    let accepts = |role: &str| match &spec.accepted_resource_roles {
        None => true,
        Some(roles) => roles.iter().any(|accepted| accepted == role),
    };
    let mut request = Request::new()
        .scalar("cpus", spec.cpus)
        .scalar("mem", spec.mem)
        .scalar("disk", spec.disk);
    request.unreserved = accepts("*");
    request.reserved = spec.role != "*" && accepts(&spec.role);
    for definition in &spec.port_definitions {
        let is_fixed = spec.require_ports && definition.port != 0;
        request = request.port(if is_fixed {
            PortWish::Fixed(definition.port)
        } else {
            PortWish::Any
        });
    }
    request
}

fn reason(misfit: &Misfit) -> Reason {
    match misfit {
        Misfit::Scalar { name, .. } => match name.as_str() {
            "cpus" => Reason::InsufficientCpus,
            "mem" => Reason::InsufficientMemory,
            _ => Reason::InsufficientDisk,
        },
        Misfit::Ports { .. } | Misfit::Port(_) => Reason::InsufficientPorts,
        Misfit::Constraint(_) => Reason::UnfulfilledConstraint,
    }
}

#[cfg(test)]
mod tests;
