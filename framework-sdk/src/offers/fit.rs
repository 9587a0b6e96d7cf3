//! Whether a request fits into resources, and which pieces of them it would take.
//!
//! Pieces reserved for the role (or one above it) are taken before unreserved ones, so that what everybody could use is
//! left over. Revocable and shared resources, and disks that are volumes or have a source, are never taken unasked.

use std::collections::BTreeSet;

use mezzo_model::resources::{Milli, Ranges, Resource, Resources, Value};
use mezzo_model::rng::Rng;

/// One port of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWish {
    /// Exactly this one.
    Fixed(u16),
    /// Whichever is free.
    Any,
}

/// What one task needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Amounts by name, such as `cpus`. Amounts of zero are not taken.
    pub scalars: Vec<(String, Milli)>,
    /// Ports, in the order in which the task wants to be told of them.
    pub ports: Vec<PortWish>,
    /// Whether pieces that are reserved may be taken.
    pub reserved: bool,
    /// Whether pieces that are not reserved may be taken.
    pub unreserved: bool,
}

/// The pieces a request would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The pieces, as they were offered.
    pub resources: Resources,
    /// A number for each port wish, in the same order.
    pub ports: Vec<u16>,
}

/// Why a request does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Misfit {
    /// Too little of something.
    #[error("needs {name}:{wanted}, {name}:{available} is there")]
    Scalar {
        /// Of what.
        name: String,
        /// How much is needed.
        wanted: Milli,
        /// How much may be taken.
        available: Milli,
    },
    /// Too few ports.
    #[error("needs {wanted} ports, {available} are there")]
    Ports {
        /// How many are needed.
        wanted: usize,
        /// How many may be taken.
        available: u64,
    },
    /// A certain port is not there, or is wanted twice.
    #[error("needs port {0}, which is not there")]
    Port(u16),
    /// A constraint does not hold.
    #[error("the constraint {0} does not hold")]
    Constraint(String),
}

impl Request {
    /// A request that may take both reserved and unreserved pieces.
    pub fn new() -> Self {
        Self {
            reserved: true,
            unreserved: true,
            ..Self::default()
        }
    }

    /// Adds an amount.
    #[must_use]
    pub fn scalar(mut self, name: &str, amount: Milli) -> Self {
        self.scalars.push((name.to_owned(), amount));
        self
    }

    /// Adds a port.
    #[must_use]
    pub fn port(mut self, wish: PortWish) -> Self {
        self.ports.push(wish);
        self
    }

    fn may_take(&self, piece: &Resource) -> bool {
        let reserved = !piece.reservations.is_empty();
        let plain = !piece.revocable && piece.shared.is_none() && piece.disk.is_none();
        plain
            && if reserved {
                self.reserved
            } else {
                self.unreserved
            }
    }
}

/// Whether a request fits into resources. The generator decides where the search for free ports begins, so that a port
/// is not given out again right after it was freed. O(wishes + pieces).
///
/// # Errors
/// The first thing that is missing.
pub fn fit(request: &Request, available: &Resources, rng: &mut Rng) -> Result<Fit, Misfit> {
    let mut resources = Resources::new();
    for (name, wanted) in &request.scalars {
        take_scalar(request, available, name, *wanted, &mut resources)?;
    }
    let ports = if request.ports.is_empty() {
        Vec::new()
    } else {
        let ports = pick_ports(request, available, rng)?;
        take_ports(request, available, &ports, &mut resources);
        ports
    };
    Ok(Fit { resources, ports })
}

/// The pieces of a name that may be taken: reserved ones first.
fn pieces<'a>(
    request: &'a Request,
    available: &'a Resources,
    name: &'a str,
) -> impl Iterator<Item = &'a Resource> {
    let usable = move |reserved: bool| {
        available.iter().filter(move |piece| {
            *piece.name == *name
                && piece.reservations.is_empty() != reserved
                && request.may_take(piece)
        })
    };
    usable(true).chain(usable(false))
}

fn take_scalar(
    request: &Request,
    available: &Resources,
    name: &str,
    wanted: Milli,
    taken: &mut Resources,
) -> Result<(), Misfit> {
    let mut missing = wanted;
    for piece in pieces(request, available, name) {
        let amount = piece.as_scalar().unwrap_or(Milli::ZERO).min(missing);
        if amount > Milli::ZERO {
            let mut part = piece.clone();
            part.value = Value::Scalar(amount);
            taken.insert(part);
            missing = missing.minus(amount);
        }
    }
    if missing > Milli::ZERO {
        let available = wanted.minus(missing);
        return Err(Misfit::Scalar {
            name: name.to_owned(),
            wanted,
            available,
        });
    }
    Ok(())
}

fn pick_ports(request: &Request, available: &Resources, rng: &mut Rng) -> Result<Vec<u16>, Misfit> {
    let mut free = Ranges::new();
    for piece in pieces(request, available, "ports") {
        if let Value::Ranges(ranges) = &piece.value {
            free.add(ranges);
        }
    }
    // Zero is no port, and beyond 65535 there is none.
    free.remove(&Ranges::single(0, 0));
    free.remove(&Ranges::single(u64::from(u16::MAX) + 1, u64::MAX));
    let (wanted, offered) = (request.ports.len(), free.count());
    let mut fixed = BTreeSet::new();
    for wish in &request.ports {
        if let PortWish::Fixed(port) = wish
            && (!free.has(u64::from(*port)) || !fixed.insert(*port))
        {
            return Err(Misfit::Port(*port));
        }
    }
    for port in &fixed {
        free.remove(&Ranges::single(u64::from(*port), u64::from(*port)));
    }
    let dynamic = (wanted - fixed.len()) as u64;
    let left = free.count();
    if left < dynamic {
        return Err(Misfit::Ports {
            wanted,
            available: offered,
        });
    }
    let start = rng.below(left);
    // The numbers from `start` on, then from the beginning; at most 65,535 of them.
    let mut any = free
        .numbers()
        .skip(start as usize)
        .chain(free.numbers().take(start as usize));
    let picked = request.ports.iter().filter_map(|wish| match wish {
        PortWish::Fixed(port) => Some(*port),
        PortWish::Any => any.next().and_then(|port| u16::try_from(port).ok()),
    });
    Ok(picked.collect())
}

fn take_ports(request: &Request, available: &Resources, ports: &[u16], taken: &mut Resources) {
    let mut missing = Ranges::new();
    for port in ports {
        missing.add(&Ranges::single(u64::from(*port), u64::from(*port)));
    }
    for piece in pieces(request, available, "ports") {
        let Value::Ranges(offered) = &piece.value else {
            continue;
        };
        let mut not_here = missing.clone();
        not_here.remove(offered);
        let mut here = missing.clone();
        here.remove(&not_here);
        if !here.is_empty() {
            let mut part = piece.clone();
            part.value = Value::Ranges(here);
            taken.insert(part);
        }
        missing = not_here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag(text: &str) -> Resources {
        Resources::parse(text).expect("good resources")
    }

    fn needs(cpus: i64, ports: &[PortWish]) -> Request {
        let request = Request::new().scalar("cpus", Milli(cpus));
        ports
            .iter()
            .fold(request, |request, wish| request.port(*wish))
    }

    fn rng() -> Rng {
        Rng::new(3)
    }

    #[test]
    fn what_is_taken_is_what_was_asked_and_was_there() {
        let offered = bag("cpus(eng):1;cpus:3;mem:512;ports:[31000-31009]");
        let request = needs(
            1_500,
            &[PortWish::Fixed(31005), PortWish::Any, PortWish::Any],
        );
        for seed in 0..100 {
            let found = fit(&request, &offered, &mut Rng::new(seed)).expect("fits");
            assert!(offered.contains(&found.resources));
            assert_eq!(found.resources.scalar("cpus"), Milli(1_500));
            assert_eq!(
                found.resources.reserved().scalar("cpus"),
                Milli(1_000),
                "reserved first"
            );
            assert_eq!(found.ports[0], 31005);
            let different: BTreeSet<u16> = found.ports.iter().copied().collect();
            assert_eq!(different.len(), 3);
            assert_eq!(found.resources.ranges("ports").count(), 3);
        }
    }

    #[test]
    fn what_may_not_be_taken_is_not() {
        let offered = bag("cpus(eng):1;cpus:3");
        let mut request = needs(2_000, &[]);
        request.reserved = false;
        let found = fit(&request, &offered, &mut rng()).expect("fits");
        assert!(found.resources.reserved().is_empty());
        request.reserved = true;
        request.unreserved = false;
        let misfit = fit(&request, &offered, &mut rng()).expect_err("too little");
        assert_eq!(misfit.to_string(), "needs cpus:2, cpus:1 is there");
        let revocable = offered.map(|piece| piece.revocable = true);
        assert!(fit(&needs(1, &[]), &revocable, &mut rng()).is_err());
    }

    #[test]
    fn ports_that_are_not_there() {
        let offered = bag("cpus:3;ports:[0-2,70000-70010]");
        let any = PortWish::Any;
        let misfit = |ports: &[PortWish]| fit(&needs(1, ports), &offered, &mut rng()).err();
        assert_eq!(misfit(&[any, any]), None);
        assert_eq!(
            misfit(&[any, any, any]),
            Some(Misfit::Ports {
                wanted: 3,
                available: 2
            })
        );
        assert_eq!(misfit(&[PortWish::Fixed(9)]), Some(Misfit::Port(9)));
        assert_eq!(misfit(&[PortWish::Fixed(0)]), Some(Misfit::Port(0)));
        let twice = [PortWish::Fixed(1), PortWish::Fixed(1)];
        assert_eq!(misfit(&twice), Some(Misfit::Port(1)));
    }

    #[test]
    fn ports_are_split_over_pieces() {
        let offered = bag("cpus:1;ports(eng):[100-100];ports:[101-101]");
        let request = needs(1, &[PortWish::Any, PortWish::Any]);
        let found = fit(&request, &offered, &mut rng()).expect("fits");
        assert!(offered.contains(&found.resources));
        assert_eq!(found.resources.ranges("ports").count(), 2);
    }
}
