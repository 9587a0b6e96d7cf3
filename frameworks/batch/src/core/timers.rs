//! What is to happen later: at most one time for each thing, so that nothing piles up.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::ids::TaskId;
use mezzo_model::time::Millis;

use super::run::RunKey;

/// A thing that is to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Hand the transaction to the store once more.
    Commit,
    /// Ask for offers, now that enough time has passed since the last time.
    Revive,
    /// Ask about attempts of which nothing was heard.
    Reconcile,
    /// The next attempt of a run is due.
    Retry(RunKey),
    /// A task has run for as long as its job allows.
    Overdue(TaskId),
    /// A task's agent was out of reach for as long as we wait.
    Unreachable(TaskId),
}

/// The times, by thing and by time.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Millis, Timer)>,
    by_thing: BTreeMap<Timer, Millis>,
}

impl Timers {
    /// Sets the time of a thing, instead of any that it had.
    pub fn set(&mut self, timer: Timer, at: Millis) {
        self.cancel(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_thing.insert(timer, at);
    }

    /// Sets the time of a thing unless it has one.
    pub fn set_if_unset(&mut self, timer: Timer, at: Millis) {
        if !self.by_thing.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Takes the time of a thing away.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.by_thing.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// When the first thing is due.
    pub fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the first thing that is due out.
    pub fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_thing.remove(&timer);
        Some(timer)
    }

    /// Whether a thing has a time.
    pub fn is_set(&self, timer: &Timer) -> bool {
        self.by_thing.contains_key(timer)
    }

    /// How many things have a time.
    pub fn len(&self) -> usize {
        self.by_thing.len()
    }
}
