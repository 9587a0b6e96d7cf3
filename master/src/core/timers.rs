//! The timers of a core: one entry for each thing that waits, and one answer to "when next".

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::Millis;

use crate::keys::{AgentKey, FrameworkKey, OfferKey};

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next heartbeat of a scheduler's stream.
    Heartbeat(FrameworkKey),
    /// The end of a framework that does not come back.
    Failover(FrameworkKey),
    /// An offer that was not answered.
    Offer(OfferKey),
    /// The next ping.
    Ping(AgentKey),
    /// The end of the wait for agents of the registry.
    Recovery,
    /// The next agent that may be declared unreachable.
    Removal,
    /// A commit whose fate is unknown.
    Retry,
}

/// Timers by time.
#[derive(Debug, Default)]
pub struct Timers {
    at: BTreeMap<Timer, Millis>,
    queue: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    /// Sets a timer, in place of what was set for the same thing.
    pub fn set(&mut self, timer: Timer, at: Millis) {
        if let Some(old) = self.at.insert(timer, at) {
            self.queue.remove(&(old, timer));
        }
        self.queue.insert((at, timer));
    }

    /// Clears a timer.
    pub fn clear(&mut self, timer: Timer) {
        if let Some(old) = self.at.remove(&timer) {
            self.queue.remove(&(old, timer));
        }
    }

    /// Whether a timer is set.
    pub fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Millis> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.at.remove(&timer);
        Some(timer)
    }
}
