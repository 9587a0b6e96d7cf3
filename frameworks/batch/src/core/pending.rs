//! Changes on their way to the store, and what waits for them.
//!
//! A *unit* is a change that happens together, and its effects: answers, acknowledgements, launches, kills that may
//! only leave once the change is durable. One transaction is under way at a time; what comes up meanwhile is
//! gathered and goes with the next one, so that a busy framework writes few large transactions and an idle one
//! small ones at once.
//!
//! Invariant: effects happen in the order of their units, and only after their unit is in the store.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mezzo_coordination::{Expect, Op, Txn};

use super::io::Effect;

/// Most keys in one transaction; a single unit may have more, up to what the store takes.
pub const MAX_KEYS: usize = 1000;

/// Most bytes of values in one transaction, beyond which no further unit is added.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A change that happens together.
#[derive(Debug, Default)]
pub struct Unit {
    /// Keys and their new values; `None` removes.
    pub ops: Vec<(String, Option<Bytes>)>,
    /// What follows.
    pub effects: Vec<Effect>,
}

/// The units, waiting and under way.
#[derive(Debug)]
pub struct Pending {
    waiting: VecDeque<Unit>,
    under_way: Option<UnderWay>,
    next_id: u64,
    /// How many keys the next transaction may have; halved when the store says that one was too large.
    limit: usize,
}

#[derive(Debug)]
struct UnderWay {
    id: u64,
    units: Vec<Unit>,
    /// Waits for its next try.
    idle: bool,
    tries: u32,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            under_way: None,
            next_id: 0,
            limit: MAX_KEYS,
        }
    }
}

impl Pending {
    /// Adds a unit behind all others.
    pub fn push(&mut self, unit: Unit) {
        self.waiting.push_back(unit);
    }

    /// Adds an effect that has no change of its own, behind everything that was changed so far. `Some` gives it back if
    /// nothing is on its way, so it may happen at once.
    pub fn follow(&mut self, effect: Effect) -> Option<Effect> {
        let last = self
            .waiting
            .back_mut()
            .or_else(|| self.under_way.as_mut()?.units.last_mut());
        match last {
            Some(unit) => {
                unit.effects.push(effect);
                None
            }
            None => Some(effect),
        }
    }

    /// The next transaction to hand to the store, if none is under way.
    pub fn next(&mut self) -> Option<(u64, Txn)> {
        if self.under_way.is_some() {
            return None;
        }
        let mut units: Vec<Unit> = Vec::new();
        let (mut keys, mut bytes) = (0, 0);
        while let Some(unit) = self.waiting.front() {
            if !units.is_empty() && (keys + unit.ops.len() > self.limit || bytes > MAX_BYTES) {
                break;
            }
            keys += unit.ops.len();
            bytes += unit
                .ops
                .iter()
                .filter_map(|(_, value)| value.as_ref())
                .map(Bytes::len)
                .sum::<usize>();
            units.extend(self.waiting.pop_front());
        }
        if units.is_empty() {
            return None;
        }
        self.next_id += 1;
        let txn = txn(&units);
        self.under_way = Some(UnderWay {
            id: self.next_id,
            units,
            idle: false,
            tries: 1,
        });
        Some((self.next_id, txn))
    }

    /// The transaction that is in doubt, to be handed to the store once more.
    pub fn again(&mut self) -> Option<(u64, Txn)> {
        let under_way = self.under_way.as_mut().filter(|under_way| under_way.idle)?;
        self.next_id += 1;
        under_way.id = self.next_id;
        under_way.idle = false;
        under_way.tries = under_way.tries.saturating_add(1);
        Some((under_way.id, txn(&under_way.units)))
    }

    /// The transaction is in the store: its effects. `None` if it is not the one under way.
    pub fn committed(&mut self, id: u64) -> Option<Vec<Effect>> {
        self.under_way
            .as_ref()
            .filter(|under_way| under_way.id == id)?;
        let units = self.under_way.take()?.units;
        self.limit = (self.limit * 2).min(MAX_KEYS);
        Some(units.into_iter().flat_map(|unit| unit.effects).collect())
    }

    /// Nobody knows whether the transaction is in the store: it is kept for another try, which changes nothing if
    /// it is. Gives the number of tries so far; `None` if it is not the one under way.
    pub fn in_doubt(&mut self, id: u64) -> Option<u32> {
        let under_way = self
            .under_way
            .as_mut()
            .filter(|under_way| under_way.id == id)?;
        under_way.idle = true;
        Some(under_way.tries)
    }

    /// The transaction was too large: its units wait again, for smaller ones. `false` if it had one unit only.
    pub fn too_large(&mut self, id: u64) -> bool {
        let Some(under_way) = self.under_way.take_if(|under_way| under_way.id == id) else {
            return true;
        };
        let many = under_way.units.len() > 1;
        self.limit = (under_way
            .units
            .iter()
            .map(|unit| unit.ops.len())
            .sum::<usize>()
            / 2)
        .max(1);
        for unit in under_way.units.into_iter().rev() {
            self.waiting.push_front(unit);
        }
        many
    }

    /// Whether everything is in the store.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }
}

/// Of several changes of a key the last one counts.
fn txn(units: &[Unit]) -> Txn {
    let mut last: BTreeMap<&str, &Option<Bytes>> = BTreeMap::new();
    for (key, value) in units.iter().flat_map(|unit| &unit.ops) {
        last.insert(key, value);
    }
    let ops = last
        .into_iter()
        .map(|(key, value)| match value {
            Some(value) => Op::Put {
                key: key.to_owned(),
                value: value.clone(),
                expect: Expect::Any,
            },
            None => Op::Delete {
                key: key.to_owned(),
                expect: Expect::Any,
            },
        })
        .collect();
    Txn { ops }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(key: &str, value: &str) -> Unit {
        Unit {
            ops: vec![(
                key.to_owned(),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )],
            effects: vec![],
        }
    }

    #[test]
    fn what_comes_up_during_a_commit_goes_together_with_the_next() {
        let mut pending = Pending::default();
        pending.push(unit("a", "1"));
        let (first, txn) = pending.next().expect("one");
        assert_eq!(txn.ops.len(), 1);
        for value in ["2", "3"] {
            pending.push(unit("a", value));
            pending.push(unit("b", value));
        }
        assert!(pending.next().is_none(), "one at a time");
        assert!(pending.committed(first).is_some());
        let (second, txn) = pending.next().expect("the rest");
        let three = Bytes::from_static(b"3");
        assert!(
            txn.ops
                .iter()
                .all(|op| matches!(op, Op::Put { value, .. } if *value == three))
        );
        assert_eq!(txn.ops.len(), 2);
        assert!(
            pending.committed(first).is_none(),
            "an old answer says nothing"
        );
        assert_eq!(pending.in_doubt(second), Some(1));
        assert!(
            pending.next().is_none() && pending.again().is_some(),
            "only when asked to try again"
        );
        pending.in_doubt(second + 1);
        let (third, again) = pending.again().expect("once more");
        assert_eq!((again, third > second), (txn, true));
        assert!(pending.committed(third).is_some() && pending.is_empty());
    }

    #[test]
    fn too_large_a_transaction_is_cut() {
        let mut pending = Pending::default();
        for index in 0..4 {
            pending.push(unit(&format!("k{index}"), "v"));
        }
        let (id, txn) = pending.next().expect("all four");
        assert_eq!(txn.ops.len(), 4);
        assert!(pending.too_large(id));
        let (id, txn) = pending.next().expect("two");
        assert_eq!(txn.ops.len(), 2);
        assert!(pending.too_large(id));
        let (id, txn) = pending.next().expect("one");
        assert_eq!(txn.ops.len(), 1);
        assert!(!pending.too_large(id), "a single unit cannot be cut");
    }
}
