//! What is to be written, and what waits until it is: write first, promise after.
//!
//! A change of state notes its records here, and every output that may only happen once they are durable: an
//! accept, a kill, an acknowledgement, a reply. One transaction is under way at a time; what gathers meanwhile goes
//! into the next one, so that a slow store is paid for once by many.
//!
//! Invariant: outputs leave in the order in which they were noted, each after the records noted before it. Records
//! of one unit are in one transaction.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mezzo_coordination::{CommitError, Expect, Op, Txn};
use mezzo_model::Millis;

/// The most records in one transaction that is put together of several units.
const MAX_BATCH_RECORDS: usize = 512;
/// The most bytes of values in such a transaction.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The first pause before an unanswered transaction is tried again, and the longest.
const RETRY_FIRST: Millis = Millis(100);
const RETRY_MOST: Millis = Millis(5000);

/// Records that belong together, and what follows them.
#[derive(Debug)]
struct Unit<E> {
    records: BTreeMap<String, Option<Bytes>>,
    effects: Vec<E>,
}

impl<E> Default for Unit<E> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            effects: Vec::new(),
        }
    }
}

impl<E> Unit<E> {
    fn weight(&self) -> usize {
        let values = self
            .records
            .values()
            .flatten()
            .map(Bytes::len)
            .sum::<usize>();
        values + self.records.keys().map(String::len).sum::<usize>()
    }

    fn absorb(&mut self, other: Self) {
        self.records.extend(other.records);
        self.effects.extend(other.effects);
    }
}

/// The journal of one term. `E` is what waits.
#[derive(Debug)]
pub struct Journal<E> {
    open: Unit<E>,
    sealed: VecDeque<Unit<E>>,
    under_way: Option<UnderWay<E>>,
    next_id: u64,
    retry: Option<Retry>,
}

#[derive(Debug)]
struct UnderWay<E> {
    id: u64,
    txn: Txn,
    effects: Vec<E>,
}

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Millis,
    pause: Millis,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Settled<E> {
    /// It is durable: these may happen now.
    Durable(Vec<E>),
    /// It is in doubt and will be tried again.
    InDoubt,
    /// Not ours, or answered before.
    Unknown,
    /// This term can write no more.
    Over(CommitError),
}

impl<E> Default for Journal<E> {
    fn default() -> Self {
        Self {
            open: Unit::default(),
            sealed: VecDeque::new(),
            under_way: None,
            next_id: 1,
            retry: None,
        }
    }
}

impl<E> Journal<E> {
    /// Notes a record that is to be written.
    pub fn put(&mut self, key: String, value: Bytes) {
        self.open.records.insert(key, Some(value));
    }

    /// Notes a record that is to be removed.
    pub fn delete(&mut self, key: String) {
        self.open.records.insert(key, None);
    }

    /// Lets an effect happen after everything noted so far; gives it back if nothing is to be waited for.
    #[must_use]
    pub fn after(&mut self, effect: E) -> Option<E> {
        let open_is_empty = self.open.records.is_empty() && self.open.effects.is_empty();
        if !open_is_empty {
            self.open.effects.push(effect);
        } else if let Some(last) = self.sealed.back_mut() {
            last.effects.push(effect);
        } else if let Some(under_way) = &mut self.under_way {
            under_way.effects.push(effect);
        } else {
            return Some(effect);
        }
        None
    }

    /// Ends a unit: what is noted next may go into another transaction.
    pub fn seal(&mut self) {
        if !self.open.records.is_empty() || !self.open.effects.is_empty() {
            self.sealed.push_back(std::mem::take(&mut self.open));
        }
    }

    /// Ends a unit that holds as much as one transaction should.
    pub fn seal_if_full(&mut self) {
        if self.open.records.len() >= MAX_BATCH_RECORDS {
            self.seal();
        }
    }

    /// Whether something is not durable yet.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some() || !self.sealed.is_empty() || !self.open.records.is_empty()
    }

    /// How many units wait for the transaction that is under way.
    pub fn backlog(&self) -> usize {
        self.sealed.len()
    }

    /// The next transaction to commit, if none is under way, or the one under way if it is to be tried again.
    pub fn next_commit(&mut self, now: Millis) -> Option<(u64, Txn)> {
        self.seal();
        if let Some(under_way) = &mut self.under_way {
            let retry = self.retry.filter(|retry| retry.at <= now)?;
            // Answered or not, the earlier attempt is over; the same records are written again under a new number.
            under_way.id = self.next_id;
            self.next_id += 1;
            self.retry = Some(Retry {
                at: Millis::MAX,
                pause: retry.pause,
            });
            return Some((under_way.id, under_way.txn.clone()));
        }
        let mut batch = self.sealed.pop_front()?;
        let mut weight = batch.weight();
        while let Some(next) = self.sealed.front() {
            let fits = batch.records.len() + next.records.len() <= MAX_BATCH_RECORDS
                && weight + next.weight() <= MAX_BATCH_BYTES;
            if !fits {
                break;
            }
            weight += next.weight();
            if let Some(next) = self.sealed.pop_front() {
                batch.absorb(next);
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let txn = transaction(batch.records);
        self.under_way = Some(UnderWay {
            id,
            txn: txn.clone(),
            effects: batch.effects,
        });
        Some((id, txn))
    }

    /// Takes the outcome of a commit.
    pub fn committed(
        &mut self,
        id: u64,
        result: Result<(), CommitError>,
        now: Millis,
    ) -> Settled<E> {
        if self
            .under_way
            .as_ref()
            .is_none_or(|under_way| under_way.id != id)
        {
            return Settled::Unknown;
        }
        match result {
            Ok(()) => {
                self.retry = None;
                let effects = self
                    .under_way
                    .take()
                    .map(|done| done.effects)
                    .unwrap_or_default();
                Settled::Durable(effects)
            }
            Err(CommitError::Unavailable) => {
                let pause = self
                    .retry
                    .map_or(RETRY_FIRST, |last| (last.pause * 2).min(RETRY_MOST));
                self.retry = Some(Retry {
                    at: now + pause,
                    pause,
                });
                Settled::InDoubt
            }
            Err(over) => Settled::Over(over),
        }
    }

    /// When a transaction is to be tried again.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.retry
            .map(|retry| retry.at)
            .filter(|at| *at < Millis::MAX)
    }
}

/// Writes without looking at versions: every commit of a term is fenced, and within it this core is the only writer, so
/// that writing the same again after a doubt changes nothing.
fn transaction(records: BTreeMap<String, Option<Bytes>>) -> Txn {
    let ops = records.into_iter().map(|(key, value)| match value {
        Some(value) => Op::Put {
            key,
            value,
            expect: Expect::Any,
        },
        None => Op::Delete {
            key,
            expect: Expect::Any,
        },
    });
    Txn { ops: ops.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(journal: &mut Journal<u32>, key: &str) {
        journal.put(key.to_owned(), Bytes::from_static(b"x"));
    }

    fn keys(txn: &Txn) -> Vec<&str> {
        txn.ops.iter().map(Op::key).collect()
    }

    #[test]
    fn effects_wait_for_what_was_noted_before_them() {
        let mut journal = Journal::default();
        assert_eq!(journal.after(0), Some(0), "nothing to wait for");
        put(&mut journal, "a");
        assert_eq!(journal.after(1), None);
        let (first, txn) = journal.next_commit(Millis(0)).expect("a commit");
        assert_eq!(keys(&txn), ["a"]);
        assert_eq!(journal.after(2), None, "waits for the one under way");
        put(&mut journal, "b");
        assert_eq!(journal.after(3), None);
        journal.seal();
        put(&mut journal, "c");
        put(&mut journal, "b");
        assert_eq!(journal.after(4), None);
        assert!(journal.next_commit(Millis(0)).is_none(), "one at a time");
        assert!(
            matches!(journal.committed(first, Ok(()), Millis(0)), Settled::Durable(e) if e == [1, 2])
        );
        let (second, txn) = journal.next_commit(Millis(0)).expect("the rest together");
        assert_eq!(keys(&txn), ["b", "c"]);
        assert!(
            matches!(journal.committed(second, Ok(()), Millis(0)), Settled::Durable(e) if e == [3, 4])
        );
        assert!(!journal.is_busy());
    }

    #[test]
    fn a_doubtful_commit_is_tried_again_and_a_lost_term_ends_it() {
        let mut journal = Journal::default();
        put(&mut journal, "a");
        let _ = journal.after(1);
        let (first, txn) = journal.next_commit(Millis(0)).expect("a commit");
        let doubt = journal.committed(first, Err(CommitError::Unavailable), Millis(0));
        assert!(matches!(doubt, Settled::InDoubt));
        assert_eq!(journal.next_deadline(), Some(RETRY_FIRST));
        assert!(journal.next_commit(Millis(99)).is_none());
        let (second, again) = journal.next_commit(RETRY_FIRST).expect("again");
        assert_eq!(again, txn);
        assert_eq!(journal.next_deadline(), None, "waits for the answer");
        assert!(matches!(
            journal.committed(first, Ok(()), Millis(9)),
            Settled::Unknown
        ));
        let _ = journal.committed(second, Err(CommitError::Unavailable), Millis(200));
        assert_eq!(journal.next_deadline(), Some(Millis(400)));
        let (third, _) = journal.next_commit(Millis(400)).expect("again");
        let over = journal.committed(third, Err(CommitError::Fenced), Millis(400));
        assert!(matches!(over, Settled::Over(CommitError::Fenced)));
    }

    #[test]
    fn large_units_are_not_put_together() {
        let mut journal: Journal<u32> = Journal::default();
        for unit in 0..3 {
            journal.put(format!("k{unit}"), Bytes::from(vec![0; 300 * 1024]));
            journal.seal();
        }
        let (id, txn) = journal.next_commit(Millis(0)).expect("a commit");
        assert_eq!(txn.ops.len(), 1);
        let _ = journal.committed(id, Ok(()), Millis(0));
        assert!(journal.next_commit(Millis(0)).is_some());
    }
}
