//! Questions that are asked again, ever more slowly, until somebody answers.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::rng::Rng;
use mezzo_model::time::Millis;

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    tries: u32,
    due: Millis,
}

/// A set of things to repeat, each at its own pace: at once, then after `initial`, doubling to `max`, with jitter.
#[derive(Clone, Debug)]
pub(super) struct Retries<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    due: BTreeSet<(Millis, K)>,
    initial: Millis,
    max: Millis,
}

impl<K: Ord + Clone, V: Clone> Retries<K, V> {
    pub(super) fn new(initial: Millis, max: Millis) -> Self {
        Self {
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            initial,
            max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Adds a thing, due now; what was known under the key is replaced and starts over.
    pub(super) fn insert(&mut self, key: K, value: V, now: Millis) {
        self.remove(&key);
        self.due.insert((now, key.clone()));
        self.entries.insert(
            key,
            Entry {
                value,
                tries: 0,
                due: now,
            },
        );
    }

    pub(super) fn remove(&mut self, key: &K) -> bool {
        match self.entries.remove(key) {
            Some(entry) => self.due.remove(&(entry.due, key.clone())),
            None => false,
        }
    }

    /// Everything is due now, as if never tried: there is somebody new to ask.
    pub(super) fn restart(&mut self, now: Millis) {
        self.due.clear();
        for (key, entry) in &mut self.entries {
            entry.tries = 0;
            entry.due = now;
            self.due.insert((now, key.clone()));
        }
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes what is due, at most `limit`, and plans the next try of each.
    pub(super) fn take_due(&mut self, now: Millis, limit: usize, rng: &mut Rng) -> Vec<(K, V)> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some((due, _)) = self.due.first() else {
                break;
            };
            if *due > now {
                break;
            }
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.due = now + pause(self.initial, self.max, entry.tries, rng);
            entry.tries = entry.tries.saturating_add(1);
            taken.push((key.clone(), entry.value.clone()));
            self.due.insert((entry.due, key));
        }
        taken
    }
}

/// The pause after `tries` earlier pauses: doubling from `initial` to `max`, its upper half random. At least 1 ms.
pub(super) fn pause(initial: Millis, max: Millis, tries: u32, rng: &mut Rng) -> Millis {
    let factor = 1u64.checked_shl(tries.min(40)).unwrap_or(u64::MAX);
    let full = Millis(initial.0.saturating_mul(factor).min(max.0).max(1));
    Millis((full.0 / 2 + rng.jitter(Millis(full.0.div_ceil(2))).0).max(1))
}
