//! Keeping apps as they are wanted: after each input every app that it touched is compared with what is there.
//!
//! Invariant: what is done follows from what is there alone, so that doing it again changes nothing.

use std::collections::BTreeSet;

use mezzo_model::Millis;
use mezzo_sdk::scheduler::SchedulerCommand;

use super::Core;
use super::app::{AppSpec, Operator};
use super::app_id::AppId;
use super::deployment::ActionKind;
use super::deployment::replace::{OldState, ReplaceView, plan_replace};
use super::deployment::scale::{Present, ScaleView, Worth, plan_scale};
use super::instance::{Instance, InstanceId, Phase};
use super::io::{NoteLevel, Output};
use super::placement::value_at;
use super::state::App;
use super::version::Version;
use crate::store::keys;

/// What is being done with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A deployment's step.
    Step(ActionKind),
    /// A deployment holds it, and its step has not come: nothing new is begun.
    Hold,
    /// Nothing special: kept at its count.
    Steady,
    /// It is deleted: everything ends.
    Stop,
}

/// What one look at an app decided.
struct Decision {
    kill: Vec<InstanceId>,
    fresh: u32,
    done: bool,
}

/// An app with more instances than this is looked at once in [`LARGE_EVERY`] at most: a look costs as much as it has
/// instances, and they may all speak at once.
const LARGE: usize = 256;
/// How long a further look at a large app may wait.
const LARGE_EVERY: Millis = Millis(20);

impl Core {
    /// Looks at every touched app, and lets deployments go on, until nothing changes any more.
    pub(super) fn keep_up(&mut self, out: &mut Vec<Output>) {
        let mut touched = BTreeSet::new();
        loop {
            while let Some(id) = self.dirty.pop_first() {
                if self.can_wait(&id) {
                    continue;
                }
                self.keep_up_app(&id, out);
                if let Some(deployment) = self.locks.get(&id) {
                    touched.insert(deployment.clone());
                }
                self.forget_if_gone(&id);
            }
            let Some(deployment) = touched.pop_first() else {
                break;
            };
            self.advance(&deployment, out);
        }
    }

    /// Puts a large app that was looked at just now off for a moment.
    fn can_wait(&mut self, id: &AppId) -> bool {
        let now = self.now.mono;
        let Some(app) = self.apps.get_mut(id) else {
            return false;
        };
        if app.instances.len() <= LARGE {
            return false;
        }
        if now < app.next_look {
            self.later.insert((app.next_look, id.clone()));
            return true;
        }
        app.next_look = now + LARGE_EVERY;
        false
    }

    /// Takes up what was put off: what is due, or all of it.
    pub(super) fn take_up(&mut self, all: bool) {
        while let Some((at, id)) = self.later.first().cloned() {
            if at > self.now.mono && !all {
                break;
            }
            self.later.pop_first();
            if let Some(app) = self.apps.get_mut(&id) {
                app.next_look = Millis::ZERO;
            }
            self.dirty.insert(id);
        }
    }

    fn mode(&self, id: &AppId) -> Mode {
        let held = self
            .locks
            .get(id)
            .and_then(|lock| self.deployments.get(lock));
        let is_wanted = self.apps.get(id).is_some_and(|app| app.wanted.is_some());
        match held.map(|deployment| deployment.action_on(id)) {
            Some(Some(kind)) => Mode::Step(kind),
            Some(None) => Mode::Hold,
            None if is_wanted => Mode::Steady,
            None => Mode::Stop,
        }
    }

    fn keep_up_app(&mut self, id: &AppId, out: &mut Vec<Output>) {
        let mode = self.mode(id);
        let Some(app) = self.apps.get(id) else { return };
        let members: Vec<&Instance> = app
            .instances
            .iter()
            .filter_map(|id| self.instances.get(id))
            .collect();
        let decision = match (mode, &app.wanted) {
            (Mode::Step(ActionKind::Start), _) => Decision {
                kill: vec![],
                fresh: 0,
                done: true,
            },
            (Mode::Hold, _) => Decision {
                kill: vec![],
                fresh: 0,
                done: false,
            },
            (Mode::Stop | Mode::Step(ActionKind::Stop), _) | (_, None) => stop(&members),
            (Mode::Step(ActionKind::Scale), Some(wanted)) => self.scale(id, wanted, &members, true),
            (Mode::Steady, Some(wanted)) => self.scale(id, wanted, &members, false),
            (Mode::Step(ActionKind::Restart), Some(wanted)) => self.replace(app, wanted, &members),
        };
        for instance in &decision.kill {
            self.decommission(instance, out);
        }
        self.count_queue(id, decision.fresh);
        if let Some(app) = self.apps.get_mut(id) {
            app.step_done = decision.done;
        }
    }

    /// Counts who waits for offers; more than before makes old refusals worth nothing.
    fn count_queue(&mut self, id: &AppId, fresh: u32) {
        let wall = self.now.wall;
        let Some(app) = self.apps.get_mut(id) else {
            return;
        };
        let instances = &self.instances;
        let members = app.instances.iter().filter_map(|id| instances.get(id));
        let scheduled = members
            .filter(|one| one.phase == Phase::Scheduled && one.is_present())
            .count();
        let queued = fresh + scheduled as u32;
        if queued > app.queued {
            self.demand.fresh = true;
        }
        if queued == 0 {
            self.waiting.remove(id);
            app.stats = Default::default();
        } else if self.waiting.insert(id.clone()) {
            app.queued_since = Version::from(wall);
        }
        app.fresh = fresh;
        app.queued = queued;
    }

    fn scale(
        &self,
        id: &AppId,
        wanted: &AppSpec,
        members: &[&Instance],
        in_deployment: bool,
    ) -> Decision {
        let fields: Vec<&str> = wanted
            .constraints
            .iter()
            .filter(|constraint| constraint.operator == Operator::GroupBy)
            .map(|constraint| constraint.field.as_str())
            .collect();
        let present = members
            .iter()
            .filter(|one| one.is_present())
            .map(|one| Present {
                id: one.id.clone(),
                worth: worth(one.phase),
                since: one.started_at.or(one.staged_at).map_or(u64::MAX, |at| at.0),
                groups: fields
                    .iter()
                    .map(|field| value_at(field, &one.place).map(str::to_owned))
                    .collect(),
                ready: self.is_ready(one),
            });
        let change = self
            .locks
            .get(id)
            .and_then(|lock| self.deployments.get(lock))
            .and_then(|deployment| deployment.change_of(id));
        let view = ScaleView {
            target: wanted.instances,
            present: present.collect(),
            ending: members.iter().filter(|one| one.is_ending()).count() as u32,
            sentenced: change
                .map(|change| change.sentenced.clone())
                .unwrap_or_default(),
            selection: wanted.kill_selection,
            wait_for_ends: in_deployment,
        };
        let step = plan_scale(&view);
        Decision {
            kill: step.kill,
            fresh: step.launch,
            done: step.done,
        }
    }

    fn replace(&self, app: &App, wanted: &AppSpec, members: &[&Instance]) -> Decision {
        let (new, old): (Vec<&Instance>, Vec<&Instance>) =
            members.iter().copied().partition(|one| app.is_current(one));
        let ending = |of: &[&Instance]| of.iter().filter(|one| one.is_ending()).count() as u32;
        let mut present: Vec<&Instance> =
            old.iter().copied().filter(|one| one.is_present()).collect();
        // Of equals the youngest ends first, as in scaling.
        present.sort_by_key(|one| std::cmp::Reverse((one.started_at, one.id.clone())));
        let view = ReplaceView {
            target: wanted.instances,
            old: present
                .iter()
                .map(|one| (one.id.clone(), self.old_state(one)))
                .collect(),
            old_ending: ending(&old),
            new: new
                .iter()
                .filter(|one| one.is_present())
                .map(|one| (one.id.clone(), self.is_ready(one)))
                .collect(),
            new_ending: ending(&new),
        };
        let step = plan_replace(&view, &wanted.upgrade_strategy);
        Decision {
            kill: step.kill,
            fresh: step.launch,
            done: step.done,
        }
    }

    /// What is known of an instance's health: `None` if nothing.
    pub(super) fn health_word(&self, instance: &Instance) -> Option<bool> {
        let checks = &instance.spec.health_checks;
        let by_executor = checks.iter().any(|check| check.protocol.by_executor());
        let own = instance
            .spec
            .is_probed()
            .then(|| self.health.word(&instance.id));
        let theirs = by_executor.then_some(instance.healthy_by_executor);
        match (own, theirs) {
            (Some(Some(false)), _) | (_, Some(Some(false))) => Some(false),
            (Some(None), _) | (_, Some(None)) | (None, None) => None,
            (Some(Some(true)), _) | (_, Some(Some(true))) => Some(true),
        }
    }

    /// Runs, and its checks say that it serves.
    fn is_ready(&self, instance: &Instance) -> bool {
        instance.phase == Phase::Running
            && instance.kill.is_none()
            && (instance.spec.health_checks.is_empty() || self.health_word(instance) == Some(true))
    }

    fn old_state(&self, instance: &Instance) -> OldState {
        if instance.phase != Phase::Running || instance.kill.is_some() {
            return OldState::Down;
        }
        match self.health_word(instance) {
            Some(true) => OldState::Healthy,
            Some(false) => OldState::Down,
            // Checks of our own will speak soon; without them running is all that can be known.
            None if instance.spec.is_probed() => OldState::InDoubt,
            None => OldState::Healthy,
        }
    }

    /// Goes on to the next step if the present one is done, and ends the deployment after the last.
    fn advance(&mut self, id: &str, out: &mut Vec<Output>) {
        let Some(deployment) = self.deployments.get_mut(id) else {
            return;
        };
        let is_done = deployment.steps.get(deployment.step).is_none_or(|step| {
            step.iter().all(|action| match self.apps.get(&action.app) {
                Some(app) => app.step_done,
                None => action.kind == ActionKind::Stop,
            })
        });
        if !is_done {
            return;
        }
        deployment.step += 1;
        let apps: Vec<AppId> = deployment.apps().cloned().collect();
        let is_over = deployment.step >= deployment.steps.len();
        for app in &apps {
            if let Some(app) = self.apps.get_mut(app) {
                app.step_done = false;
            }
        }
        self.dirty.extend(apps.iter().cloned());
        if is_over {
            self.finish(id, &apps, out);
        }
    }

    fn finish(&mut self, id: &str, apps: &[AppId], out: &mut Vec<Output>) {
        self.unlock(id);
        self.counters.deployments_finished += 1;
        self.note(NoteLevel::Info, format!("deployment {id} is done"), out);
        for app in apps {
            self.prune_versions(app);
        }
    }

    /// Forgets a deployment, finished or not.
    pub(super) fn unlock(&mut self, id: &str) {
        if let Some(deployment) = self.deployments.remove(id) {
            self.journal.delete(keys::deployment(id));
            for app in deployment.apps() {
                if self.locks.get(app).is_some_and(|lock| lock == id) {
                    self.locks.remove(app);
                }
                self.dirty.insert(app.clone());
            }
        }
    }

    /// Tells the master whether offers are wanted, when that changed or when old refusals are worth nothing.
    pub(super) fn ask_for_offers(&mut self, out: &mut Vec<Output>) {
        if !self.connected {
            // The next subscription asks anew.
            self.demand.pending = false;
            return;
        }
        let roles = vec![self.config.role.clone()];
        if self.launchable().is_empty() {
            self.demand.pending = false;
            if self.demand.asked != Some(false) {
                self.demand.asked = Some(false);
                self.counters.suppresses += 1;
                out.push(Output::Scheduler(SchedulerCommand::Suppress { roles }));
            }
            return;
        }
        if self.demand.asked == Some(true) && !self.demand.fresh {
            return;
        }
        if self.demand.earliest(&self.config) > self.now.mono {
            self.demand.pending = true;
            return;
        }
        self.demand.pending = false;
        self.demand.fresh = false;
        self.demand.asked = Some(true);
        self.demand.last_revive = Some(self.now.mono);
        self.counters.revives += 1;
        out.push(Output::Scheduler(SchedulerCommand::Revive { roles }));
    }
}

fn stop(members: &[&Instance]) -> Decision {
    let alive =
        |one: &&&Instance| one.is_present() || matches!(one.phase, Phase::Unreachable { .. });
    let kill: Vec<InstanceId> = members
        .iter()
        .filter(alive)
        .map(|one| one.id.clone())
        .collect();
    let done = kill.is_empty() && members.iter().all(|one| !one.is_ending());
    Decision {
        kill,
        fresh: 0,
        done,
    }
}

fn worth(phase: Phase) -> Worth {
    match phase {
        Phase::Scheduled => Worth::Waiting,
        Phase::Unreachable { .. } | Phase::Expunged => Worth::Unreachable,
        Phase::Provisioned | Phase::Staging => Worth::Staging,
        Phase::Starting => Worth::Starting,
        Phase::Running | Phase::Killing => Worth::Running,
    }
}
