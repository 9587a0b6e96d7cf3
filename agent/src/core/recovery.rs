//! The start: from what the log says to what is true.
//!
//! On another boot of the kernel nothing of before lives. On the same one the shell looks which executor processes do;
//! those are adopted, the others are cleaned up after and their tasks end. Only then is a master dialled, so that the
//! first Hello holds the whole truth.

use super::io::Output;
use super::record::{Record, state_of};
use super::state::{After, Executor, Phase, Stage, Stream};
use super::{Core, Cx};

impl Core {
    pub(super) fn on_start(&mut self, cx: &mut Cx<'_>) {
        if self.stage != Stage::New {
            return;
        }
        cx.push(Output::Health(Err(
            "not registered with a master yet".to_owned()
        )));
        let last = self.ledger.boot_id.clone();
        let boot_id = self.config.boot_id.clone();
        let rebooted = last.as_ref().is_some_and(|last| *last != boot_id);
        // What the log held may never have been flushed; with this record it is, before anybody hears of it.
        self.unflushed = true;
        let record = Record::Boot { boot_id };
        self.log(cx, vec![record], true, vec![After::Recovered]);
        self.recover_streams();
        for container in self.ledger.containers.keys() {
            let executor = Executor {
                phase: Phase::Probing,
                ..Executor::new()
            };
            self.executors.insert(container.clone(), executor);
        }
        self.stage = Stage::Probing;
        if rebooted {
            cx.info("the host rebooted since the agent ran last; nothing of before is alive");
            self.end_after_reboot(cx);
        }
        let probes: Vec<_> = self
            .ledger
            .containers
            .values()
            .map(|entry| (entry.record.place(), entry.process))
            .collect();
        self.probing = probes.len();
        if !probes.is_empty() {
            cx.info(format!("looking for {} executors of before", probes.len()));
            cx.push(Output::Probe { containers: probes });
        }
        self.plan_collection(cx);
    }

    /// What the log held is written, so every update in it may be sent.
    fn recover_streams(&mut self) {
        for (task, entry) in &self.ledger.tasks {
            let latest = entry.latest.as_deref().map(state_of);
            let stream = Stream {
                durable: entry.pending.len(),
                state: latest.unwrap_or(mezzo_model::TaskState::Staging),
                ..Stream::default()
            };
            if latest.is_some() {
                self.streams.insert(task.clone(), stream);
            }
        }
    }

    pub(super) fn on_recovered(&mut self, cx: &mut Cx<'_>) {
        self.unflushed = false;
        self.ready(cx);
    }

    /// Once the truth is known and safe, work begins.
    pub(super) fn ready(&mut self, cx: &mut Cx<'_>) {
        if self.stage == Stage::Probing && self.probing == 0 && !self.unflushed {
            self.stage = Stage::Ready;
            self.dial(cx);
        }
    }
}
