//! Runs that wait for an offer.
//!
//! Runs are served in the order in which they were created, wherever they fit: a run that needs more than an offer
//! has does not hold up smaller ones behind it. Runs of equal need are kept together, so that an offer is compared
//! with each *need* once, not with each run.
//!
//! Invariant: a run is in here exactly while its stage is `Queued`.

use std::collections::{BTreeMap, BTreeSet};

use super::job::Need;
use super::run::RunKey;

/// The waiting runs.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    by_need: BTreeMap<Need, BTreeMap<u64, RunKey>>,
    len: usize,
}

impl Queue {
    /// Adds a run at its place.
    pub fn insert(&mut self, need: Need, order: u64, key: RunKey) {
        if self
            .by_need
            .entry(need)
            .or_default()
            .insert(order, key)
            .is_none()
        {
            self.len += 1;
        }
    }

    /// Takes a run out, wherever it is.
    pub fn remove(&mut self, need: Need, order: u64) {
        let Some(same) = self.by_need.get_mut(&need) else {
            return;
        };
        if same.remove(&order).is_some() {
            self.len -= 1;
        }
        if same.is_empty() {
            self.by_need.remove(&need);
        }
    }

    /// How many runs wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The waiting runs with their needs, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&Need, &RunKey)> {
        self.by_need
            .iter()
            .flat_map(|(need, same)| same.values().map(move |key| (need, key)))
    }

    /// Whether another run waits that needs nowhere more than this: where it does not fit, this one does not either.
    pub fn smaller_waits(&self, need: &Need) -> bool {
        self.by_need.iter().any(|(other, same)| {
            let not_more =
                other.cpus <= need.cpus && other.mem <= need.mem && other.disk <= need.disk;
            not_more && (other != need || same.len() > 1)
        })
    }

    /// Takes runs out for one offer, oldest first: `fits` says whether a need fits and, if so, takes it from the offer.
    /// What did not fit once is not asked again, because an offer only shrinks. At most `limit` runs.
    pub fn take(
        &mut self,
        limit: usize,
        mut fits: impl FnMut(&Need, &RunKey) -> bool,
    ) -> Vec<RunKey> {
        let mut heads: BTreeSet<(u64, Need)> = self
            .by_need
            .iter()
            .filter_map(|(need, same)| same.keys().next().map(|order| (*order, *need)))
            .collect();
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((order, need)) = heads.pop_first() else {
                break;
            };
            let Some(key) = self
                .by_need
                .get(&need)
                .and_then(|same| same.get(&order))
                .cloned()
            else {
                continue;
            };
            if !fits(&need, &key) {
                continue;
            }
            self.remove(need, order);
            taken.push(key);
            if let Some(next) = self.by_need.get(&need).and_then(|same| same.keys().next()) {
                heads.insert((*next, need));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use mezzo_model::resources::Milli;
    use mezzo_model::rng::Rng;
    use mezzo_model::time::Wall;

    use super::super::job::JobId;
    use super::super::run::RunId;
    use super::*;

    fn need(cpus: i64) -> Need {
        Need {
            cpus: Milli(cpus),
            mem: Milli(32_000),
            disk: Milli(0),
        }
    }

    fn key(rng: &mut Rng) -> RunKey {
        RunKey {
            job: JobId::parse("j").expect("good"),
            run: RunId::generate(Wall(0), rng),
        }
    }

    #[test]
    fn the_oldest_that_fits_is_served_first() {
        let mut rng = Rng::new(1);
        let mut queue = Queue::default();
        let keys: Vec<RunKey> = (0..6).map(|_| key(&mut rng)).collect();
        for (order, cpus) in [
            (0, 9000),
            (1, 1000),
            (2, 2000),
            (3, 1000),
            (4, 1000),
            (5, 500),
        ] {
            queue.insert(need(cpus), order, keys[order as usize].clone());
        }
        let mut left = 4600;
        let taken = queue.take(10, |need, _| {
            let fits = need.cpus.0 <= left;
            left -= if fits { need.cpus.0 } else { 0 };
            fits
        });
        let expected = [1, 2, 3, 5].map(|index: usize| keys[index].clone());
        assert_eq!(
            taken, expected,
            "9 never fits; after 1 + 2 + 1 there is room for a half only"
        );
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.take(1, |_, _| true), [keys[0].clone()]);
    }

    #[test]
    fn a_need_that_did_not_fit_is_asked_once_for_all_its_runs() {
        let mut rng = Rng::new(1);
        let mut queue = Queue::default();
        for order in 0..1000 {
            queue.insert(need(1000), order, key(&mut rng));
        }
        let mut asked = 0;
        let taken = queue.take(1000, |_, _| {
            asked += 1;
            asked <= 3
        });
        assert_eq!((taken.len(), asked), (3, 4));
        assert!(queue.smaller_waits(&need(1000)) && queue.smaller_waits(&need(2000)));
        assert!(!queue.smaller_waits(&need(999)));
    }
}
