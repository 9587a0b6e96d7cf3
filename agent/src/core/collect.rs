//! Old sandboxes: removed when they are old enough, or too many.
//!
//! Age is counted by the wall clock, because it must survive the agent; a clock that jumps is seen within the hour.

use mezzo_model::ids::ContainerId;
use mezzo_model::{Millis, Wall};

use super::io::Output;
use super::record::Record;
use super::timers::Timer;
use super::{Core, Cx};

/// The clock is looked at again after this at the latest.
const LOOK_AGAIN: Millis = Millis::from_secs(3_600);

/// Sandboxes that are removed at the same time.
const AT_ONCE: usize = 8;

impl Core {
    /// Sets the time of the next look.
    pub(super) fn plan_collection(&mut self, cx: &mut Cx<'_>) {
        if self.ledger.sandboxes.len() > self.config.sandboxes_max {
            return self.collect(cx);
        }
        let waiting = self
            .ledger
            .sandboxes_by_age
            .iter()
            .find(|(_, container)| !self.collecting.contains(container));
        if let Some((ended, _)) = waiting {
            let due = ended.0.saturating_add(self.config.gc_delay.0);
            let wait = Millis(due.saturating_sub(cx.now.wall.0)).min(LOOK_AGAIN);
            self.timers.set(Timer::Collect, cx.now.mono + wait);
        }
    }

    /// Removes what is old enough or too much, oldest first.
    pub(super) fn collect(&mut self, cx: &mut Cx<'_>) {
        let mut surplus = self
            .ledger
            .sandboxes
            .len()
            .saturating_sub(self.config.sandboxes_max);
        surplus = surplus.saturating_sub(self.collecting.len());
        let delay = self.config.gc_delay.0;
        let old = |ended: Wall| ended.0.saturating_add(delay) <= cx.now.wall.0;
        let mut due = Vec::new();
        for (ended, container) in &self.ledger.sandboxes_by_age {
            if self.collecting.len() + due.len() >= AT_ONCE {
                break;
            }
            if self.collecting.contains(container) {
                continue;
            }
            if surplus == 0 && !old(*ended) {
                break;
            }
            surplus = surplus.saturating_sub(1);
            due.push(container.clone());
        }
        let none_due = due.is_empty();
        for container in due {
            if let Some(sandbox) = self.ledger.sandboxes.get(&container) {
                cx.push(Output::RemoveSandbox {
                    place: sandbox.place(),
                });
                self.collecting.insert(container);
            }
        }
        if none_due && self.ledger.sandboxes.len() <= self.config.sandboxes_max {
            self.plan_collection(cx);
        }
    }

    pub(super) fn on_sandbox_removed(&mut self, cx: &mut Cx<'_>, container: ContainerId) {
        if !self.collecting.remove(&container) {
            return;
        }
        let record = Record::SandboxRemoved { container };
        self.log(cx, vec![record], false, Vec::new());
        self.collect(cx);
    }
}
