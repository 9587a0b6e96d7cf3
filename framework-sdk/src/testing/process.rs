//! The framework's process: the real driver core and the real machinery, with simulated surroundings.

use std::collections::VecDeque;

use mezzo_coordination::store::memory::Table;
use mezzo_coordination::{CommitError, Txn};
use mezzo_model::ids::FrameworkId;
use mezzo_model::time::{Millis, Now, Wall};

use crate::framework::Scheduler;
use crate::framework::core::{FrameworkCore, FrameworkInput, FrameworkOutput, Stopped};
use crate::scheduler::core::{DriverCore, DriverInput, DriverOutput, SaveError};
use crate::scheduler::{DriverConfig, SchedulerEvent};
use crate::store::{self, Kept};

/// Something a process asks of the world.
#[allow(clippy::large_enum_variant)] // short-lived
#[derive(Debug)]
pub(super) enum Act {
    Driver(DriverOutput),
    Commit { id: u64, txn: Txn },
    Stop(Stopped),
}

/// One incarnation.
#[derive(Debug)]
pub(super) struct Process<S> {
    pub(super) incarnation: u64,
    pub(super) driver: DriverCore,
    pub(super) framework: FrameworkCore<S>,
    /// Events reach the framework in order.
    pub(super) last_delivery: u64,
}

/// Both clocks at a virtual instant.
pub(super) fn at(now_ms: u64) -> Now {
    Now::new(Millis(now_ms), Wall(1_700_000_000_000 + now_ms))
}

impl<S: Scheduler> Process<S> {
    pub(super) fn new(
        incarnation: u64,
        config: DriverConfig,
        kept: Kept,
        scheduler: S,
        seed: u64,
    ) -> Self {
        Self {
            incarnation,
            driver: DriverCore::new(config, kept.framework_id.clone(), seed),
            framework: FrameworkCore::new(scheduler, kept, true, seed),
            last_delivery: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let driver = self.driver.next_deadline();
        driver
            .into_iter()
            .chain(self.framework.next_deadline())
            .min()
            .map(|at| at.0)
    }

    pub(super) fn wake(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.framework_takes(now, FrameworkInput::Tick, acts);
        self.driver_takes(now, DriverInput::Tick, acts);
    }

    pub(super) fn driver_takes(&mut self, now: u64, input: DriverInput, acts: &mut Vec<Act>) {
        let mut out = Vec::new();
        self.driver.handle(at(now), input, &mut out);
        acts.extend(out.into_iter().map(Act::Driver));
    }

    pub(super) fn framework_hears(&mut self, now: u64, event: SchedulerEvent, acts: &mut Vec<Act>) {
        self.framework_takes(now, FrameworkInput::Event(event), acts);
    }

    pub(super) fn framework_takes(&mut self, now: u64, input: FrameworkInput, acts: &mut Vec<Act>) {
        let mut out = Vec::new();
        self.framework.handle(at(now), input, &mut out);
        for output in out {
            match output {
                FrameworkOutput::Command(command) => {
                    self.driver_takes(now, DriverInput::Command(command), acts);
                }
                FrameworkOutput::Commit { id, txn } => acts.push(Act::Commit { id, txn }),
                FrameworkOutput::Stop(why) => acts.push(Act::Stop(why)),
            }
        }
    }
}

/// Work for the store.
#[derive(Debug)]
pub(super) enum StoreWork {
    SaveId(FrameworkId),
    Commit { id: u64, txn: Txn },
}

/// Its answer.
#[derive(Debug)]
pub(super) enum StoreAnswer {
    IdSaved {
        id: FrameworkId,
        result: Result<(), SaveError>,
    },
    Committed {
        id: u64,
        result: Result<(), CommitError>,
    },
}

/// The store, which may be away: then half of what is asked happens, and nobody learns which half.
#[derive(Debug, Default)]
pub(super) struct SimStore {
    pub(super) table: Table,
    pub(super) away_until: u64,
}

impl SimStore {
    pub(super) fn kept(&self) -> Result<Kept, String> {
        store::read(&self.table.load("")).map_err(|error| error.to_string())
    }

    /// Does a piece of work; `doubtful` says whether one that cannot be answered happens all the same.
    pub(super) fn work(&mut self, now: u64, work: StoreWork, doubtful: bool) -> StoreAnswer {
        let away = now < self.away_until;
        let mut apply = |txn: Txn| match (away, doubtful) {
            (false, _) => self.table.apply(txn),
            (true, happens) => {
                if happens {
                    // Its answer would be lost with the rest.
                    drop(self.table.apply(txn));
                }
                Err(CommitError::Unavailable)
            }
        };
        match work {
            StoreWork::SaveId(id) => {
                let answer = apply(store::save_framework_id(&id));
                let existing = self.kept().ok().and_then(|kept| kept.framework_id);
                let result = store::saved(&id, answer, existing);
                StoreAnswer::IdSaved { id, result }
            }
            StoreWork::Commit { id, txn } => StoreAnswer::Committed {
                id,
                result: apply(txn),
            },
        }
    }
}

/// Happenings in the order of time, and of their planning within one millisecond.
#[derive(Debug)]
pub(super) struct Queue<T> {
    planned: std::collections::BTreeMap<u64, VecDeque<T>>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            planned: std::collections::BTreeMap::new(),
        }
    }

    pub(super) fn plan(&mut self, at: u64, happening: T) {
        self.planned.entry(at).or_default().push_back(happening);
    }

    pub(super) fn next(&mut self) -> Option<(u64, T)> {
        let mut first = self.planned.first_entry()?;
        let at = *first.key();
        let happening = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        happening.map(|happening| (at, happening))
    }
}
