//! What happens next: events in virtual time.
//!
//! Two events of one millisecond happen in the order in which they were planned, so a run is one sequence and nothing
//! else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use mezzo_model::time::Millis;

/// A queue of events, the earliest first.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Planned<E>>>,
    sequence: u64,
    now: Millis,
}

#[derive(Debug)]
struct Planned<E> {
    at: Millis,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
            now: Millis(0),
        }
    }
}

impl<E> Queue<E> {
    /// The virtual time: that of the event that happened last.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Plans an event; one in the past happens now.
    pub fn at(&mut self, at: Millis, event: E) {
        let at = at.max(self.now);
        self.sequence += 1;
        self.heap.push(Reverse(Planned {
            at,
            sequence: self.sequence,
            event,
        }));
    }

    /// Plans an event in so many milliseconds.
    pub fn after(&mut self, delay: u64, event: E) {
        self.at(Millis(self.now.0.saturating_add(delay)), event);
    }

    /// The next event, if it is due until `end`; the time moves to it.
    pub fn next(&mut self, end: Millis) -> Option<E> {
        if self.heap.peek()?.0.at > end {
            self.now = end;
            return None;
        }
        let Reverse(planned) = self.heap.pop()?;
        self.now = planned.at;
        Some(planned.event)
    }

    /// Events planned and not yet happened.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing will happen any more.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
