//! What the core knows of each app, how it is written down, and how an earlier term's state is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mezzo_model::Millis;
use mezzo_sdk::offers::Constraint;
use mezzo_sdk::scheduler::SchedulerCommand;

use super::Core;
use super::app::AppSpec;
use super::app_id::AppId;
use super::instance::{Goal, Instance, InstanceId, KillReason, Phase};
use super::io::{Config, Output};
use super::placement::{self, reasons::OfferStats};
use super::request::TaskFailure;
use super::version::Version;
use crate::store::{self, Snapshot, keys};

/// One app, or what is left of one that was deleted.
#[derive(Debug, Default)]
pub(super) struct App {
    /// The wanted definition; `None`: it was deleted, and its instances end.
    pub wanted: Option<Arc<AppSpec>>,
    /// The placement rules of the wanted definition.
    pub rules: Vec<Constraint>,
    /// Definitions that are kept, the wanted one among them.
    pub versions: BTreeMap<Version, Arc<AppSpec>>,
    /// Instances, ended ones not among them.
    pub instances: BTreeSet<InstanceId>,
    /// So many new instances wait for an offer. They have no names yet.
    pub fresh: u32,
    /// How many instances wait for an offer, new ones and old.
    pub queued: u32,
    /// Since when instances wait.
    pub queued_since: Version,
    /// What became of offers while they wait.
    pub stats: OfferStats,
    /// The last failure of a task.
    pub last_failure: Option<TaskFailure>,
    /// What the deployment's present step wants of this app is so.
    pub step_done: bool,
    /// A large app is not looked at before this.
    pub next_look: Millis,
}

impl App {
    /// Sets the wanted definition and keeps it.
    pub fn want(&mut self, spec: Option<Arc<AppSpec>>) {
        self.rules = spec
            .as_ref()
            .map(|spec| placement::rules(spec))
            .unwrap_or_default();
        if let Some(spec) = &spec {
            self.versions.insert(spec.version, spec.clone());
        }
        self.wanted = spec;
    }

    /// Whether an instance has the configuration that is wanted.
    pub fn is_current(&self, instance: &Instance) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| {
            wanted.version_info.last_config_change_at
                == instance.spec.version_info.last_config_change_at
        })
    }
}

/// Whether offers are wanted, and what the master was told.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// What was asked last: offers, or none.
    pub asked: Option<bool>,
    /// Something changed since, so that offers which were turned away may suit now.
    pub fresh: bool,
    /// When offers were asked for last.
    pub last_revive: Option<Millis>,
    /// Offers are to be asked for as soon as the interval allows.
    pub pending: bool,
}

impl Demand {
    pub fn next_deadline(&self, config: &Config) -> Option<Millis> {
        self.pending.then(|| self.earliest(config))
    }

    pub fn earliest(&self, config: &Config) -> Millis {
        self.last_revive
            .map_or(Millis::ZERO, |last| last + config.min_revive_interval)
    }
}

/// Numbers for metrics. The first are totals since the term began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct Counters {
    pub tasks_launched: u64,
    pub offers_received: u64,
    pub offers_used: u64,
    pub offers_declined: u64,
    pub revives: u64,
    pub suppresses: u64,
    pub updates: u64,
    pub kills: u64,
    pub deployments_started: u64,
    pub deployments_finished: u64,
    pub apps: u64,
    pub deployments_active: u64,
    pub instances_running: u64,
    pub instances_staged: u64,
    pub instances_waiting: u64,
    pub instances_unreachable: u64,
    pub quarantined_tasks: u64,
}

impl Core {
    /// Takes over what an earlier term left. Nothing is decided here.
    pub(super) fn take_over(&mut self, snapshot: Snapshot) {
        for (id, versions) in snapshot.versions {
            if let Some(last) = versions.keys().next_back() {
                self.last_version = self.last_version.max(*last);
            }
            self.apps.entry(id).or_default().versions = versions;
        }
        for (id, spec) in snapshot.apps {
            self.apps.entry(id).or_default().want(Some(spec));
        }
        for instance in snapshot.instances {
            let app = self.apps.entry(instance.id.app().clone()).or_default();
            app.instances.insert(instance.id.clone());
            self.instances.insert(instance.id.clone(), instance);
        }
        for deployment in snapshot.deployments {
            self.last_version = self.last_version.max(deployment.version);
            for app in deployment.apps() {
                self.locks.insert(app.clone(), deployment.id.clone());
                self.apps.entry(app.clone()).or_default();
            }
            self.deployments.insert(deployment.id.clone(), deployment);
        }
        for failure in snapshot.failures {
            if let Some(app) = self.apps.get_mut(&failure.app) {
                app.last_failure = Some(failure);
            }
        }
    }

    /// The first input of a term: everything is looked at once, timers start, kills are said again.
    pub(super) fn begin(&mut self, out: &mut Vec<Output>) {
        self.begun = true;
        self.dirty.extend(self.apps.keys().cloned());
        let ids: Vec<InstanceId> = self.instances.keys().cloned().collect();
        for id in ids {
            let Some(instance) = self.instances.get_mut(&id) else {
                continue;
            };
            instance.phase_since = self.now.mono;
            if instance.phase == Phase::Running && instance.goal == Goal::Running {
                let (host, ports) = (instance.place.host.clone(), instance.place.ports.clone());
                let spec = instance.spec.clone();
                self.health.watch(&id, &spec, &host, &ports, self.now.mono);
            }
            if self
                .instances
                .get(&id)
                .is_some_and(|one| one.kill.is_some() && one.has_task())
            {
                self.send_kill(&id, out);
            }
            self.arm(&id);
        }
    }

    /// Notes an instance's record. Many instances that change at once go into several transactions: each record is true
    /// by itself.
    pub(super) fn put_instance(&mut self, id: &InstanceId) {
        if let Some(instance) = self.instances.get(id) {
            self.journal.seal_if_full();
            self.journal
                .put(keys::instance(id), store::instance_record(instance));
        }
    }

    /// Forgets an instance.
    pub(super) fn remove_instance(&mut self, id: &InstanceId) {
        self.health.unwatch(id);
        if self.instances.remove(id).is_some() {
            self.journal.seal_if_full();
            self.journal.delete(keys::instance(id));
        }
        if let Some(app) = self.apps.get_mut(id.app()) {
            app.instances.remove(id);
        }
        self.dirty.insert(id.app().clone());
    }

    /// Drops definitions that nobody needs: neither wanted, nor run, nor to be gone back to, nor among the newest.
    pub(super) fn prune_versions(&mut self, id: &AppId) {
        let Some(app) = self.apps.get(id) else { return };
        let mut needed: BTreeSet<Version> =
            app.wanted.iter().map(|wanted| wanted.version).collect();
        needed.extend(
            app.instances
                .iter()
                .filter_map(|id| self.instances.get(id))
                .map(|one| one.spec.version),
        );
        if let Some(change) = self
            .locks
            .get(id)
            .and_then(|lock| self.deployments.get(lock))
            .and_then(|deployment| deployment.change_of(id))
        {
            needed.extend(change.from.into_iter().chain(change.to));
        }
        let keep = if app.wanted.is_some() {
            self.config.max_versions
        } else {
            0
        };
        let excess = app.versions.len().saturating_sub(keep);
        let old: Vec<Version> = app
            .versions
            .keys()
            .copied()
            .filter(|version| !needed.contains(version))
            .take(excess)
            .collect();
        for version in old {
            self.journal.delete(keys::version(id, version));
            if let Some(app) = self.apps.get_mut(id) {
                app.versions.remove(&version);
            }
        }
    }

    /// Forgets a deleted app of which nothing is left.
    pub(super) fn forget_if_gone(&mut self, id: &AppId) {
        let is_gone = self.apps.get(id).is_some_and(|app| {
            app.wanted.is_none() && app.instances.is_empty() && !self.locks.contains_key(id)
        });
        if is_gone {
            self.prune_versions(id);
            self.journal.delete(keys::failure(id));
            self.apps.remove(id);
            self.waiting.remove(id);
            self.delays.reset(id);
        }
    }

    /// Tells the driver to end an instance's task, once that is durable.
    pub(super) fn send_kill(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else {
            return;
        };
        let Some(task) = instance.id.task(instance.incarnation) else {
            return;
        };
        self.counters.kills += 1;
        let agent = instance.place.agent.clone();
        let command = SchedulerCommand::Kill {
            task,
            agent,
            policy: None,
        };
        self.after(Output::Scheduler(command), out);
    }

    /// Whether an instance is ended for a reason that ends it for good.
    pub(super) fn is_sentenced(instance: &Instance) -> bool {
        instance.kill == Some(KillReason::Decommissioned) || instance.goal == Goal::Decommissioned
    }

    pub(super) fn counted(&self) -> Counters {
        let mut counters = self.counters;
        counters.apps = self
            .apps
            .values()
            .filter(|app| app.wanted.is_some())
            .count() as u64;
        counters.deployments_active = self.deployments.len() as u64;
        counters.instances_waiting = self.apps.values().map(|app| u64::from(app.queued)).sum();
        counters.quarantined_tasks = self.quarantine.len() as u64;
        for instance in self.instances.values() {
            match instance.phase {
                Phase::Running => counters.instances_running += 1,
                Phase::Provisioned | Phase::Staging | Phase::Starting => {
                    counters.instances_staged += 1;
                }
                Phase::Unreachable { .. } => counters.instances_unreachable += 1,
                Phase::Scheduled | Phase::Killing | Phase::Expunged => {}
            }
        }
        counters
    }
}
