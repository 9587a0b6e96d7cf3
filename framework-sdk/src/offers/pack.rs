//! Many tasks over many offers, in one pass.
//!
//! Demands are served in the order given. For each, the offers are tried in the order that the strategy says; offers of
//! one agent and role count as one, because one accept may use them together. What was placed counts at once for the
//! resources and constraints of what comes after.

use std::collections::BTreeMap;

use mezzo_model::Role;
use mezzo_model::ids::{AgentId, OfferId};
use mezzo_model::resources::{Milli, Resources};
use mezzo_model::rng::Rng;

use super::{Constraint, Fit, HeldOffer, Misfit, Request, Tally, fit};

/// Which agents are tried first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Those with most cpus left: failures and load spread.
    #[default]
    Spread,
    /// Those with fewest cpus left: whole agents stay free for large tasks.
    Fill,
}

/// Equal tasks that are to be placed.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// What each needs.
    pub request: &'a Request,
    /// How many to place.
    pub count: u32,
    /// Offers of which role may be used; `None`: any.
    pub role: Option<&'a Role>,
    /// Where they may go, each with the tally of those placed before.
    pub constraints: Vec<(&'a Constraint, Tally)>,
    /// How many there are to be in all, for GROUP_BY.
    pub wanted: u32,
}

/// One task that found its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Which of the demands it belongs to.
    pub demand: usize,
    /// What it takes.
    pub fit: Fit,
}

/// Everything that goes to one agent in one accept.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentPlacements {
    /// The offers to accept.
    pub offers: Vec<OfferId>,
    /// Whose they are.
    pub agent: AgentId,
    /// The agent's host name.
    pub hostname: String,
    /// The tasks, in order of placement.
    pub placements: Vec<Placement>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packing {
    /// Accepts to make.
    pub accepts: Vec<AgentPlacements>,
    /// Offers that nothing was placed on.
    pub unused: Vec<OfferId>,
    /// For each demand, how many found no place.
    pub unplaced: Vec<u32>,
    /// For each demand with some unplaced, how many agents refused the last of them, and why.
    pub misfits: Vec<BTreeMap<Misfit, u32>>,
}

struct Bin<'a> {
    offers: Vec<&'a HeldOffer>,
    left: Resources,
    cpus: Milli,
    placements: Vec<Placement>,
}

/// Places demands on offers. O(tasks * agents) at worst.
pub fn pack(
    demands: &[Demand<'_>],
    offers: &[HeldOffer],
    strategy: Strategy,
    rng: &mut Rng,
) -> Packing {
    let mut bins = bins(offers);
    let mut packing = Packing::default();
    for (index, demand) in demands.iter().enumerate() {
        let mut tallies: Vec<Tally> = demand
            .constraints
            .iter()
            .map(|(_, tally)| tally.clone())
            .collect();
        let mut unplaced = 0;
        let mut misfits = BTreeMap::new();
        for nth in 0..demand.count {
            misfits.clear();
            if !place_one(
                index,
                demand,
                &mut tallies,
                &mut bins,
                strategy,
                rng,
                &mut misfits,
            ) {
                // Equal tasks: where one has no place, the next has none either.
                unplaced = demand.count - nth;
                break;
            }
        }
        packing.unplaced.push(unplaced);
        packing.misfits.push(if unplaced > 0 {
            misfits
        } else {
            BTreeMap::new()
        });
    }
    for bin in bins {
        let ids = bin.offers.iter().map(|offer| offer.id.clone());
        match bin.offers.first() {
            Some(first) if !bin.placements.is_empty() => packing.accepts.push(AgentPlacements {
                offers: ids.collect(),
                agent: first.agent.clone(),
                hostname: first.hostname.clone(),
                placements: bin.placements,
            }),
            _ => packing.unused.extend(ids),
        }
    }
    packing
}

/// Offers of one agent and role together, in the order of agents.
fn bins(offers: &[HeldOffer]) -> Vec<Bin<'_>> {
    let mut grouped: BTreeMap<(&AgentId, Option<&Role>), Vec<&HeldOffer>> = BTreeMap::new();
    for offer in offers {
        grouped
            .entry((&offer.agent, offer.role.as_ref()))
            .or_default()
            .push(offer);
    }
    let bin = |offers: Vec<_>| {
        let left = total(&offers);
        Bin {
            cpus: left.scalar("cpus"),
            left,
            offers,
            placements: Vec::new(),
        }
    };
    grouped.into_values().map(bin).collect()
}

fn total(offers: &[&HeldOffer]) -> Resources {
    let mut total = Resources::new();
    for offer in offers {
        total += &offer.resources;
    }
    total
}

/// Places one task of a demand; false, with the reasons, if no agent takes it.
fn place_one(
    index: usize,
    demand: &Demand<'_>,
    tallies: &mut [Tally],
    bins: &mut [Bin<'_>],
    strategy: Strategy,
    rng: &mut Rng,
    misfits: &mut BTreeMap<Misfit, u32>,
) -> bool {
    let mut order: Vec<usize> = (0..bins.len()).collect();
    match strategy {
        Strategy::Spread => order.sort_by_key(|bin| std::cmp::Reverse(bins[*bin].cpus)),
        Strategy::Fill => order.sort_by_key(|bin| bins[*bin].cpus),
    }
    for at in order {
        let bin = &mut bins[at];
        let Some(offer) = bin.offers.first() else {
            continue;
        };
        let of_role = demand
            .role
            .is_none_or(|role| offer.role.as_ref().is_none_or(|own| own == role));
        if !of_role {
            continue;
        }
        let refused = demand
            .constraints
            .iter()
            .zip(tallies.iter())
            .find(|((constraint, _), tally)| !constraint.admits_offer(offer, tally, demand.wanted));
        let found = match refused {
            Some(((constraint, _), _)) => Err(Misfit::Constraint(constraint.to_string())),
            None => fit(demand.request, &bin.left, rng),
        };
        match found {
            Ok(found) => {
                bin.left.remove(&found.resources);
                bin.cpus = bin.left.scalar("cpus");
                for ((constraint, _), tally) in demand.constraints.iter().zip(tallies.iter_mut()) {
                    tally.add(offer.field(&constraint.field).as_deref());
                }
                bin.placements.push(Placement {
                    demand: index,
                    fit: found,
                });
                return true;
            }
            Err(misfit) => *misfits.entry(misfit).or_insert(0) += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use mezzo_wire::v1;

    fn offer(id: &str, agent: &str, resources: &str) -> HeldOffer {
        HeldOffer::read(&v1::Offer {
            id: v1::OfferId { value: id.into() },
            agent_id: v1::AgentId {
                value: agent.into(),
            },
            hostname: format!("{agent}.example"),
            resources: Resources::parse(resources)
                .expect("good resources")
                .to_wire(),
            ..Default::default()
        })
        .expect("a good offer")
    }

    fn demand(request: &Request, count: u32) -> Demand<'_> {
        Demand {
            request,
            count,
            role: None,
            constraints: Vec::new(),
            wanted: count,
        }
    }

    fn placed(packing: &Packing) -> Vec<(String, usize)> {
        let line = |one: &AgentPlacements| (one.agent.to_string(), one.placements.len());
        packing.accepts.iter().map(line).collect()
    }

    #[test]
    fn tasks_spread_or_fill() {
        let offers = [
            offer("o1", "a1", "cpus:4"),
            offer("o2", "a2", "cpus:4"),
            offer("o3", "a3", "cpus:1"),
        ];
        let request = Request::new().scalar("cpus", Milli(1_000));
        let spread = pack(
            &[demand(&request, 4)],
            &offers,
            Strategy::Spread,
            &mut Rng::new(1),
        );
        assert_eq!(placed(&spread), [("a1".into(), 2), ("a2".into(), 2)]);
        assert_eq!(spread.unused.len(), 1);
        let fill = pack(
            &[demand(&request, 4)],
            &offers,
            Strategy::Fill,
            &mut Rng::new(1),
        );
        assert_eq!(placed(&fill), [("a1".into(), 3), ("a3".into(), 1)]);
    }

    #[test]
    fn offers_of_one_agent_are_used_together() {
        let offers = [
            offer("o1", "a1", "cpus:1;mem:10"),
            offer("o2", "a1", "cpus:1;mem:10"),
        ];
        let request = Request::new().scalar("cpus", Milli(2_000));
        let packing = pack(
            &[demand(&request, 2)],
            &offers,
            Strategy::Spread,
            &mut Rng::new(1),
        );
        assert_eq!(packing.accepts[0].offers.len(), 2);
        assert_eq!(packing.unplaced, [1]);
        let why: Vec<String> = packing.misfits[0].keys().map(ToString::to_string).collect();
        assert_eq!(why, ["needs cpus:2, cpus:0 is there"]);
    }

    #[test]
    fn constraints_count_what_was_just_placed() {
        let offers = [offer("o1", "a1", "cpus:9"), offer("o2", "a2", "cpus:9")];
        let unique = Constraint::parse("hostname", "UNIQUE", None).expect("good");
        let request = Request::new().scalar("cpus", Milli(100));
        let mut wish = demand(&request, 3);
        wish.constraints = vec![(&unique, Tally::of([Some("a1.example")]))];
        let packing = pack(&[wish], &offers, Strategy::Spread, &mut Rng::new(1));
        assert_eq!(placed(&packing), [("a2".into(), 1)]);
        assert_eq!(packing.unplaced, [2]);
        assert_eq!(packing.misfits[0].values().sum::<u32>(), 2);
    }

    #[test]
    fn nothing_is_given_twice_whatever_is_asked() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let offers: Vec<HeldOffer> = (0..rng.between(1, 6))
                .map(|n| {
                    let (agent, cpus) = (rng.below(4), rng.between(1, 8));
                    let ports = 31_000 + n * 100;
                    let text = format!(
                        "cpus:{cpus};mem:{};ports:[{ports}-{}]",
                        cpus * 64,
                        ports + 3
                    );
                    offer(&format!("o{n}"), &format!("a{agent}"), &text)
                })
                .collect();
            let requests: Vec<Request> = (0..rng.between(1, 5))
                .map(|_| {
                    let cpus = Milli(rng.between(1, 3_000) as i64);
                    let request = Request::new()
                        .scalar("cpus", cpus)
                        .scalar("mem", Milli(64_000));
                    (0..rng.below(3)).fold(request, |request, _| {
                        request.port(super::super::PortWish::Any)
                    })
                })
                .collect();
            let demands: Vec<Demand<'_>> = requests
                .iter()
                .map(|request| demand(request, 1 + (seed % 4) as u32))
                .collect();
            let packing = pack(&demands, &offers, Strategy::Spread, &mut rng);
            let mut used = 0;
            for accept in &packing.accepts {
                let theirs: Vec<&HeldOffer> = offers
                    .iter()
                    .filter(|offer| accept.offers.contains(&offer.id))
                    .collect();
                let mut left = total(&theirs);
                for placement in &accept.placements {
                    let resources = &placement.fit.resources;
                    left = left.checked_sub(resources).expect("given once only");
                    let asked = &requests[placement.demand];
                    assert_eq!(resources.scalar("cpus"), asked.scalars[0].1);
                    assert_eq!(placement.fit.ports.len(), asked.ports.len());
                    used += 1;
                }
            }
            let wanted: u32 = demands.iter().map(|demand| demand.count).sum();
            assert_eq!(wanted - packing.unplaced.iter().sum::<u32>(), used);
            let mentioned: usize = packing
                .accepts
                .iter()
                .map(|accept| accept.offers.len())
                .sum();
            assert_eq!(mentioned + packing.unused.len(), offers.len());
        }
    }
}
