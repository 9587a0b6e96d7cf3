//! When the core wants to be woken, and for what.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::Millis;
use mezzo_model::ids::ContainerId;

use super::record::TaskKey;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Dial the master again.
    Dial,
    /// The master should have welcomed us.
    Greet,
    /// The master should have been heard.
    Silence,
    /// The executor should have subscribed.
    Subscribe(ContainerId),
    /// The executor should have ended.
    End(ContainerId),
    /// The head of the task's stream should have been acknowledged.
    Resend(TaskKey),
    /// Sandboxes may be old enough.
    Collect,
}

/// Deadlines by what they are for; each at most once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Millis, Timer)>,
    times: BTreeMap<Timer, Millis>,
}

impl Timers {
    /// Sets a deadline, in place of an earlier one for the same.
    pub fn set(&mut self, timer: Timer, at: Millis) {
        self.clear(&timer);
        self.by_time.insert((at, timer.clone()));
        self.times.insert(timer, at);
    }

    /// Forgets a deadline.
    pub fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.times.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// When a deadline is, if it is set.
    pub fn at(&self, timer: &Timer) -> Option<Millis> {
        self.times.get(timer).copied()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest deadline that has come.
    pub fn pop(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.times.remove(&timer);
        Some(timer)
    }

    /// What deadlines are set for.
    pub fn iter(&self) -> impl Iterator<Item = &Timer> {
        self.times.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_replaces_the_earlier_one_for_the_same() {
        let mut timers = Timers::default();
        timers.set(Timer::Dial, Millis(10));
        timers.set(Timer::Greet, Millis(20));
        timers.set(Timer::Dial, Millis(30));
        assert_eq!(timers.next(), Some(Millis(20)));
        assert_eq!(timers.pop(Millis(19)), None);
        assert_eq!(timers.pop(Millis(40)), Some(Timer::Greet));
        assert_eq!(timers.pop(Millis(40)), Some(Timer::Dial));
        assert_eq!(timers.pop(Millis(40)), None);
        timers.set(Timer::Dial, Millis(50));
        timers.clear(&Timer::Dial);
        assert_eq!(timers.next(), None);
    }
}
