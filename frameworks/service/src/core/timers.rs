//! What time alone brings about: launches that are overdue, agents that stay away, checks that are due, periodic
//! reconciliation.
//!
//! Invariant: each instance has at most one timer; a timer that fires early or late only looks again.

use mezzo_model::{Millis, Wall};
use mezzo_sdk::scheduler::SchedulerCommand;

use super::Core;
use super::app::UnreachableStrategy;
use super::health::{ProbeResult, Verdict};
use super::instance::{Goal, Instance, InstanceId, KillReason, Phase};
use super::io::{Config, NoteLevel, Output};
use super::version::Version;

/// Records of instances that were given up are dropped this long after their agent was lost, milliseconds: two weeks,
/// beyond the longest failover timeout in use.
const EXPUNGED_KEPT_MS: u64 = 14 * 24 * 3600 * 1000;
/// The most such records.
const MAX_EXPUNGED: usize = 10_000;

/// When an instance is to be looked at again.
fn deadline(instance: &Instance, config: &Config, now: Millis, wall: Wall) -> Option<Millis> {
    match instance.phase {
        Phase::Provisioned if instance.kill.is_none() => {
            Some(instance.phase_since + config.launch_confirm_timeout)
        }
        Phase::Staging | Phase::Starting if instance.kill.is_none() => {
            Some(instance.phase_since + config.launch_timeout)
        }
        Phase::Unreachable { inactive } => match instance.spec.unreachable_strategy {
            UnreachableStrategy::Disabled => None,
            UnreachableStrategy::After {
                inactive_secs,
                expunge_secs,
            } => {
                let span = Millis::from_secs(if inactive {
                    expunge_secs
                } else {
                    inactive_secs
                });
                let since = instance.unreachable_since.map_or(wall.0, |since| since.0);
                Some(now + span.since(Millis(wall.0.saturating_sub(since))))
            }
        },
        Phase::Scheduled
        | Phase::Provisioned
        | Phase::Staging
        | Phase::Starting
        | Phase::Running
        | Phase::Killing
        | Phase::Expunged => None,
    }
}

impl Core {
    /// Sets an instance's timer anew.
    pub(super) fn arm(&mut self, id: &InstanceId) {
        let (now, wall) = (self.now.mono, self.now.wall);
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if let Some(at) = instance.timer.take() {
            self.timers.remove(&(at, id.clone()));
        }
        if let Some(at) = deadline(instance, &self.config, now, wall) {
            instance.timer = Some(at);
            self.timers.insert((at, id.clone()));
        }
    }

    /// Everything that is due.
    pub(super) fn fire_timers(&mut self, out: &mut Vec<Output>) {
        let now = self.now.mono;
        self.take_up(false);
        let ended = self.delays.ended(self.last_look, now);
        self.last_look = now;
        if !ended.is_empty() {
            self.demand.fresh = true;
            self.dirty.extend(ended);
        }
        self.delays.expire(now);
        while let Some((at, id)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.timer = None;
            }
            self.on_instance_timer(&id, out);
        }
        self.ask_for_health(out);
        if self.connected && self.next_reconcile.is_some_and(|at| at <= now) {
            self.reconcile(out);
            self.drop_old_expunged();
        }
    }

    fn on_instance_timer(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        match instance.phase {
            Phase::Provisioned if !instance.launched => {
                // The store has not taken the intent yet; nobody can have confirmed it.
                instance.phase_since = now;
                self.arm(id);
            }
            Phase::Provisioned | Phase::Staging | Phase::Starting => {
                self.note(
                    NoteLevel::Warn,
                    format!("{id} did not come up in time; trying again"),
                    out,
                );
                self.kill_task(id, KillReason::Overdue, out);
            }
            Phase::Unreachable { inactive } => {
                if inactive {
                    instance.goal = Goal::Decommissioned;
                    instance.kill = Some(KillReason::Decommissioned);
                    instance.enter(Phase::Expunged, now);
                } else {
                    instance.enter(Phase::Unreachable { inactive: true }, now);
                }
                self.demand.fresh = true;
                self.put_instance(id);
                self.arm(id);
                self.dirty.insert(id.app().clone());
            }
            Phase::Scheduled | Phase::Running | Phase::Killing | Phase::Expunged => {}
        }
    }

    fn ask_for_health(&mut self, out: &mut Vec<Output>) {
        let (orders, lost) = self.health.due(self.now.mono);
        for (probe, order) in orders {
            out.push(Output::Probe { probe, order });
        }
        for probe in lost {
            self.on_probed(
                probe,
                ProbeResult::Failed("the check brought no answer".to_owned()),
                out,
            );
        }
    }

    /// A probe came back.
    pub(super) fn on_probed(&mut self, probe: u64, result: ProbeResult, out: &mut Vec<Output>) {
        let wall = Version::from(self.now.wall);
        let Some(verdict) = self.health.answered(probe, result, self.now.mono, wall) else {
            return;
        };
        let Verdict {
            instance,
            changed,
            kill,
        } = verdict;
        if changed {
            self.dirty.insert(instance.app().clone());
        }
        if let Some(cause) = kill {
            self.note(
                NoteLevel::Warn,
                format!("{instance} fails its health check ({cause}); ending it"),
                out,
            );
            self.kill_task(&instance, KillReason::Unhealthy, out);
        }
    }

    /// Asks about every task that is believed in.
    pub(super) fn reconcile(&mut self, out: &mut Vec<Output>) {
        self.next_reconcile = Some(self.now.mono + self.config.reconcile_interval);
        let known = self
            .instances
            .values()
            .filter(|one| one.phase != Phase::Scheduled && one.launched);
        let tasks: Vec<_> = known
            .filter_map(|one| Some((one.id.task(one.incarnation)?, one.place.agent.clone())))
            .collect();
        if !tasks.is_empty() {
            out.push(Output::Scheduler(SchedulerCommand::Reconcile(tasks)));
        }
        // What the master knows and was not asked about comes to light by this.
        out.push(Output::Scheduler(SchedulerCommand::Reconcile(Vec::new())));
    }

    fn drop_old_expunged(&mut self) {
        let wall = self.now.wall.0;
        let mut expunged: Vec<(u64, InstanceId)> = self
            .instances
            .values()
            .filter(|one| one.phase == Phase::Expunged)
            .map(|one| {
                (
                    one.unreachable_since.map_or(0, |since| since.0),
                    one.id.clone(),
                )
            })
            .collect();
        expunged.sort();
        let excess = expunged.len().saturating_sub(MAX_EXPUNGED);
        for (place, (since, id)) in expunged.into_iter().enumerate() {
            if place < excess || wall.saturating_sub(since) > EXPUNGED_KEPT_MS {
                self.remove_instance(&id);
            }
        }
    }
}
