//! The framework's process in the world: it starts, wakes, hears, asks, and stores.

use super::*;

impl<S: Scheduler> World<'_, S> {
    pub(in crate::testing) fn is_current(&self, process: u64) -> bool {
        self.process
            .as_ref()
            .is_some_and(|one| one.incarnation == process)
    }

    pub(in crate::testing) fn leader(&self) -> Option<Leader> {
        self.master.as_ref().map(|master| Leader {
            address: format!("m{}:5050", master.reign % 3),
            id: format!("reign-{}", master.reign),
        })
    }

    pub(in crate::testing) fn start_framework(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.incarnations += 1;
        let kept = match self.store.kept() {
            Ok(kept) => kept,
            Err(words) => return self.violate(words),
        };
        self.trace.line(
            self.now,
            format_args!(
                "framework starts (process {}, {} launches kept)",
                self.incarnations,
                kept.launches.len()
            ),
        );
        let scheduler = (self.make)();
        let seed = self.rng.next_u64();
        let process = Process::new(
            self.incarnations,
            self.config.clone(),
            kept,
            scheduler,
            seed,
        );
        self.process = Some(process);
        let leader = self.leader();
        self.driver_takes(DriverInput::Leader(leader));
    }

    pub(in crate::testing) fn driver_takes(&mut self, input: DriverInput) {
        self.with_process(|process, now, acts| process.driver_takes(now, input, acts));
    }

    pub(in crate::testing) fn with_process(
        &mut self,
        f: impl FnOnce(&mut Process<S>, u64, &mut Vec<Act>),
    ) {
        let Some(process) = &mut self.process else {
            return;
        };
        let incarnation = process.incarnation;
        let mut acts = Vec::new();
        f(process, self.now, &mut acts);
        for act in acts {
            // It may have been killed by an ambush on the way.
            if self.is_current(incarnation) {
                self.carry_out(incarnation, act);
            }
        }
    }

    pub(in crate::testing) fn carry_out(&mut self, process: u64, act: Act) {
        match act {
            Act::Driver(DriverOutput::Subscribe {
                connection,
                address,
                call,
            }) => {
                self.open_channel(process, connection, &address, call);
            }
            Act::Driver(DriverOutput::Submit {
                connection,
                id,
                call,
                ..
            }) => {
                self.submit(process, connection, id, call);
            }
            Act::Driver(DriverOutput::Close { connection }) => {
                self.close_channels(|one| one.process == process && one.connection == connection);
            }
            Act::Driver(DriverOutput::SaveFrameworkId(id)) => {
                let at = self.now + self.rng.between(1, 5);
                let work = StoreWork::SaveId(id);
                self.queue.plan(at, Happening::Store { process, work });
            }
            Act::Driver(DriverOutput::Deliver(event)) => {
                let delay = self.rng.below(3);
                let Some(own) = &mut self.process else { return };
                own.last_delivery = own.last_delivery.max(self.now + delay);
                let at = own.last_delivery;
                self.queue.plan(at, Happening::Deliver { process, event });
            }
            Act::Driver(DriverOutput::Note { text, .. }) => {
                self.trace.line(self.now, format_args!("driver: {text}"));
            }
            Act::Driver(DriverOutput::Ended) => self.violate("the driver ended".to_owned()),
            Act::Commit { id, txn } => {
                let at = self.now + self.rng.between(1, 5);
                let work = StoreWork::Commit { id, txn };
                self.queue.plan(at, Happening::Store { process, work });
            }
            Act::Stop(why) => self.violate(format!("the framework stopped: {why}")),
        }
    }

    pub(in crate::testing) fn on_deliver(&mut self, process: u64, event: SchedulerEvent) {
        if !self.is_current(process) {
            return;
        }
        if matches!(event, SchedulerEvent::Update { .. })
            && self.springs(Fault::KillFrameworkBeforeUpdate)
        {
            self.kill_framework();
            return;
        }
        if let SchedulerEvent::Update { status, .. } = &event {
            self.trace.line(
                self.now,
                format_args!(
                    "framework hears {} {}",
                    status.task_id.value,
                    status.state().as_str_name()
                ),
            );
        }
        self.with_process(|process, now, acts| process.framework_hears(now, event, acts));
    }

    pub(in crate::testing) fn on_store(&mut self, process: u64, work: StoreWork) {
        let doubtful = self.rng.chance(2);
        // Of a process that died meanwhile the work may have arrived or not; of one that has a successor it is fenced.
        let alive = self.is_current(process);
        if !alive && (!doubtful || self.process.is_some()) {
            return;
        }
        let answer = self.store.work(self.now, work, doubtful);
        if !alive {
            return;
        }
        if matches!(answer, StoreAnswer::Committed { .. })
            && self.springs(Fault::KillFrameworkAfterCommit)
        {
            self.kill_framework();
            return;
        }
        let at = self.now + self.rng.between(1, 5);
        self.queue.plan(at, Happening::Stored { process, answer });
    }

    pub(in crate::testing) fn on_stored(&mut self, process: u64, answer: StoreAnswer) {
        if !self.is_current(process) {
            return;
        }
        match answer {
            StoreAnswer::IdSaved { id, result } => {
                self.driver_takes(DriverInput::FrameworkIdSaved { id, result });
            }
            StoreAnswer::Committed { id, result } => {
                let input = FrameworkInput::Committed { id, result };
                self.with_process(|process, now, acts| process.framework_takes(now, input, acts));
            }
        }
    }
}
