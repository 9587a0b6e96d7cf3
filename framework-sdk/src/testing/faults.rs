//! What goes wrong.

use std::fmt;

use super::world::{Down, Happening, Up, World};
use crate::framework::Scheduler;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The framework's process dies as by `kill -9`, and starts again later with what its store holds.
    KillFramework,
    /// The same, right after a transaction was stored and before the framework learned of it.
    KillFrameworkAfterCommit,
    /// The same, right after it sent an accept.
    KillFrameworkAfterAccept,
    /// The same, when an update has reached it and before it looked at it.
    KillFrameworkBeforeUpdate,
    /// The leading master dies; another is elected later.
    KillMaster,
    /// The leading master dies right after it took an accept: the launch may or may not have gone on.
    KillMasterAfterAccept,
    /// The framework's connection is reset.
    CutFramework,
    /// The framework's connection falls silent in both directions, and nobody is told.
    SilenceFramework,
    /// An agent's link breaks; it comes back soon.
    CutAgent,
    /// An agent is out of reach for a while; tasks run on.
    PartitionAgent,
    /// A machine goes down and comes up again without its tasks.
    RebootAgent,
    /// A machine is lost for good; a new one joins.
    LoseAgent,
    /// The next launch is lost between master and agent, whose link breaks.
    DropLaunch,
    /// Every agent sends its unacknowledged updates again, twice.
    RepeatUpdates,
    /// Every offer is taken back.
    RescindOffers,
    /// The framework's store does not answer for a while; half of what is asked of it happens.
    StoreAway,
    /// Some tasks fail.
    FailTasks,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::KillFramework,
        Self::KillFrameworkAfterCommit,
        Self::KillFrameworkAfterAccept,
        Self::KillFrameworkBeforeUpdate,
        Self::KillMaster,
        Self::KillMasterAfterAccept,
        Self::CutFramework,
        Self::SilenceFramework,
        Self::CutAgent,
        Self::PartitionAgent,
        Self::RebootAgent,
        Self::LoseAgent,
        Self::DropLaunch,
        Self::RepeatUpdates,
        Self::RescindOffers,
        Self::StoreAway,
        Self::FailTasks,
    ];

    /// Whether the fault waits for a moment of its own once its time has come.
    fn waits(self) -> bool {
        matches!(
            self,
            Self::KillFrameworkAfterCommit
                | Self::KillFrameworkAfterAccept
                | Self::KillFrameworkBeforeUpdate
                | Self::KillMasterAfterAccept
                | Self::DropLaunch
        )
    }

    /// The fault in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillFramework => "framework killed",
            Self::KillFrameworkAfterCommit => "framework killed after a commit",
            Self::KillFrameworkAfterAccept => "framework killed after an accept",
            Self::KillFrameworkBeforeUpdate => "framework killed before an update",
            Self::KillMaster => "master killed",
            Self::KillMasterAfterAccept => "master killed after an accept",
            Self::CutFramework => "framework's connection reset",
            Self::SilenceFramework => "framework's connection silent",
            Self::CutAgent => "agent's link broken",
            Self::PartitionAgent => "agent out of reach",
            Self::RebootAgent => "machine rebooted",
            Self::LoseAgent => "machine lost",
            Self::DropLaunch => "launch lost on its way",
            Self::RepeatUpdates => "updates repeated",
            Self::RescindOffers => "offers rescinded",
            Self::StoreAway => "store away",
            Self::FailTasks => "tasks failed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// How long things go wrong, in ms of virtual time.
    pub turbulence_ms: u64,
    /// How many faults there are in that time, at random instants.
    pub faults: u32,
    /// The kinds they are drawn from; one that stands twice is drawn twice as often.
    pub kinds: Vec<Fault>,
    /// How many machines there are.
    pub machines: u32,
    /// How long it may take to settle after the last fault, in ms of virtual time.
    pub settle_within_ms: u64,
}

impl Default for Profile {
    /// Two minutes with forty faults on four machines; tasks fail four times as often as anything else happens, so that
    /// there is always something to launch.
    fn default() -> Self {
        let mut kinds = Fault::ALL.to_vec();
        kinds.extend([Fault::FailTasks; 3]);
        Self {
            turbulence_ms: 120_000,
            faults: 40,
            kinds,
            machines: 4,
            settle_within_ms: 900_000,
        }
    }
}

impl Profile {
    /// Two minutes in which the framework or its master (every third time) is killed so many times a minute, and tasks
    /// fail on the way.
    pub fn kills_per_minute(kills: u32) -> Self {
        let kinds = vec![
            Fault::KillFramework,
            Fault::KillFrameworkAfterAccept,
            Fault::KillMaster,
            Fault::FailTasks,
        ];
        // One fault in four is no kill.
        let faults = kills.saturating_mul(2).saturating_mul(4).div_ceil(3);
        Self {
            faults,
            kinds,
            ..Self::default()
        }
    }
}

impl<S: Scheduler> World<'_, S> {
    /// A fault comes, or lies in wait for its moment.
    pub(super) fn fault(&mut self, kind: Fault) {
        if kind.waits() {
            self.ambushes.insert(kind);
            return;
        }
        *self.fired.entry(kind).or_insert(0) += 1;
        self.trace.line(self.now, format_args!("FAULT {kind}"));
        match kind {
            Fault::KillFrameworkAfterCommit
            | Fault::KillFrameworkAfterAccept
            | Fault::KillFrameworkBeforeUpdate
            | Fault::KillMasterAfterAccept
            | Fault::DropLaunch => {}
            Fault::KillFramework => self.kill_framework(),
            Fault::KillMaster => self.kill_master(),
            Fault::CutFramework => self.cut_framework(),
            Fault::SilenceFramework => {
                for wire in self.channels.values_mut().filter(|wire| wire.below) {
                    wire.silent = true;
                }
            }
            Fault::CutAgent | Fault::PartitionAgent | Fault::RebootAgent | Fault::LoseAgent => {
                self.agent_fault(kind);
            }
            Fault::RepeatUpdates => {
                for machine in self.machine_numbers() {
                    self.with_machine(machine, |machine, now, out| {
                        machine.send_heads(now, out);
                        machine.send_heads(now, out);
                    });
                }
            }
            Fault::RescindOffers => {
                if let Some(master) = &mut self.master {
                    master.rescind_all();
                }
            }
            Fault::StoreAway => self.store.away_until = self.now + self.rng.between(500, 8_000),
            Fault::FailTasks => {
                for machine in self.machine_numbers() {
                    self.with_machine(machine, |machine, now, out| machine.fail_tasks(now, 3, out));
                }
            }
        }
    }

    fn machine_numbers(&self) -> Vec<u32> {
        self.machines.keys().copied().collect()
    }

    fn agent_fault(&mut self, kind: Fault) {
        let there: Vec<u32> = self
            .machines
            .values()
            .filter(|machine| machine.up && !machine.partitioned)
            .map(|machine| machine.number)
            .collect();
        let Some(number) = self.rng.pick(&there).copied() else {
            return;
        };
        let back = match kind {
            Fault::RebootAgent => self.rng.between(1_000, 20_000),
            // Sometimes shorter and sometimes longer than it takes to be believed unreachable.
            _ => self.rng.between(5_000, 70_000),
        };
        let now = self.now;
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        let link = machine.link;
        match kind {
            Fault::PartitionAgent => {
                machine.partitioned = true;
                self.queue
                    .plan(now + back, Happening::Reachable { machine: number });
            }
            Fault::RebootAgent => {
                machine.reboot(now);
                machine.up = false;
                self.queue
                    .plan(now + back, Happening::MachineUp { machine: number });
            }
            Fault::LoseAgent => {
                machine.lose();
                self.add_machine();
            }
            _ => {}
        }
        if let Some(link) = link {
            let (soonest, latest) = if kind == Fault::PartitionAgent {
                (3_000, 10_000)
            } else {
                (1, 100)
            };
            self.break_link(link, soonest, latest);
        }
    }

    fn cut_framework(&mut self) {
        let open: Vec<u64> = self
            .channels
            .iter()
            .filter(|(_, one)| one.below)
            .map(|(channel, _)| *channel)
            .collect();
        for channel in open {
            self.send_up(channel, Up::Hangup);
            if let Some(wire) = self.channels.get_mut(&channel) {
                // Nothing that is under way arrives but the end itself.
                wire.silent = true;
            }
            self.send_down(channel, Down::Closed);
        }
    }

    /// The process is gone, and what it knew with it.
    pub(super) fn kill_framework(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.trace
            .line(self.now, format_args!("the framework is killed"));
        let dead = process.incarnation;
        self.close_channels(|one| one.process == dead);
        let at = self.now + self.rng.between(50, 3_000);
        self.queue.plan(at, Happening::Start);
    }

    /// The leading master is gone; what it did not send never goes.
    pub(super) fn kill_master(&mut self) {
        let Some(master) = self.master.take() else {
            return;
        };
        self.trace.line(
            self.now,
            format_args!("the master of reign {} is killed", master.reign),
        );
        let open: Vec<u64> = self
            .channels
            .iter()
            .filter(|(_, one)| one.below)
            .map(|(channel, _)| *channel)
            .collect();
        for channel in open {
            if let Some(wire) = self.channels.get_mut(&channel) {
                wire.above = false;
            }
            self.send_down(channel, Down::Closed);
        }
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            self.break_link(link, 1, 100);
        }
        if self.rng.chance(2) {
            self.spread_news();
        }
        let at = self.now + self.rng.between(300, 8_000);
        self.queue.plan(at, Happening::Elect);
    }

    /// Nothing goes wrong any more. What is broken stays so until somebody notices.
    pub(super) fn heal(&mut self) {
        self.trace.line(self.now, format_args!("HEALED"));
        self.healed_at = Some(self.now);
        self.ambushes.clear();
        self.store.away_until = 0;
        for machine in self.machines.values_mut() {
            machine.partitioned = false;
        }
    }
}
