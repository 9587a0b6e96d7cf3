//! Making a deployment of what is wished: versions, conflicts, steps, records.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::service_ports;
use crate::core::Core;
use crate::core::app::{AppSpec, VersionInfo};
use crate::core::app_id::AppId;
use crate::core::deployment::{Change, Deployment, Planned, plan_steps};
use crate::core::instance::InstanceId;
use crate::core::io::{NoteLevel, Output};
use crate::core::request::{Answer, Deployed, DeploymentView, Refusal};
use crate::core::version::Version;
use crate::store::{app_record, deployment_record, keys, version_record};

/// What is wished of one app.
pub(super) struct Wish {
    /// Which.
    pub app: AppId,
    /// Its definition; `None`: it is to be deleted.
    pub to: Option<AppSpec>,
    /// How its versions are set.
    pub versions: Versions,
    /// Instances named to end.
    pub sentenced: BTreeSet<InstanceId>,
}

/// How the versions of a wished definition are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// By what changes.
    ByChange,
    /// As after a change of configuration, even if nothing changes.
    Restart,
    /// The configuration is an earlier one, under its earlier version.
    Back,
}

impl Wish {
    /// A definition as it is sent.
    pub fn of(spec: AppSpec) -> Self {
        let app = spec.id.clone();
        Self {
            app,
            to: Some(spec),
            versions: Versions::ByChange,
            sentenced: BTreeSet::new(),
        }
    }

    /// The end of an app.
    pub fn end(app: AppId) -> Self {
        Self {
            app,
            to: None,
            versions: Versions::ByChange,
            sentenced: BTreeSet::new(),
        }
    }
}

/// A wish with its definitions settled.
struct Settled {
    change: Change,
    from: Option<Arc<AppSpec>>,
    to: Option<Arc<AppSpec>>,
    has_outdated: bool,
}

impl Settled {
    fn planned(&self) -> Planned<'_> {
        Planned {
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            has_outdated: self.has_outdated,
            has_sentenced: !self.change.sentenced.is_empty(),
        }
    }

    fn changes_definition(&self) -> bool {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => !Arc::ptr_eq(from, to),
            (None, None) => false,
            _ => true,
        }
    }
}

impl Core {
    /// Turns wishes into a deployment: all of them, or none.
    pub(super) fn deploy(
        &mut self,
        wishes: Vec<Wish>,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Deployed, Refusal> {
        let version = Version::after(Some(self.last_version), self.now.wall);
        let settled = self.settle_wishes(wishes, version, force)?;
        let planned: Vec<Planned<'_>> = settled.iter().map(Settled::planned).collect();
        let steps = plan_steps(&planned);
        let id = self.id_rng.uuid();
        let deployed = Deployed {
            deployment: id.clone(),
            version,
        };
        let affected: Vec<&Settled> = settled
            .iter()
            .filter(|one| {
                one.changes_definition()
                    || steps
                        .iter()
                        .flatten()
                        .any(|action| action.app == one.change.app)
            })
            .collect();
        let conflicts: BTreeSet<String> = affected
            .iter()
            .filter_map(|one| self.locks.get(&one.change.app))
            .cloned()
            .collect();
        if !conflicts.is_empty() && !force {
            return Err(Refusal::Locked(conflicts.into_iter().collect()));
        }
        let most = self.config.max_running_deployments;
        if !steps.is_empty() && self.deployments.len() - conflicts.len() >= most {
            return Err(Refusal::TooManyDeployments(most));
        }
        if affected.is_empty() {
            return Ok(deployed);
        }
        self.last_version = version;
        for conflict in &conflicts {
            let words = format!("deployment {conflict} is overridden by {id}");
            self.note(NoteLevel::Info, words, out);
            self.unlock(conflict);
        }
        let changes: Vec<Change> = affected.iter().map(|one| one.change.clone()).collect();
        let definitions: Vec<(AppId, Option<Arc<AppSpec>>)> = affected
            .iter()
            .filter(|one| one.changes_definition())
            .map(|one| (one.change.app.clone(), one.to.clone()))
            .collect();
        self.adopt(definitions);
        if !steps.is_empty() {
            self.start(
                Deployment {
                    id,
                    version,
                    changes: changes.clone(),
                    steps,
                    step: 0,
                },
                out,
            );
        }
        for change in &changes {
            self.prune_versions(&change.app);
        }
        Ok(deployed)
    }

    /// Sets versions and open ports, and finds what each wish changes.
    fn settle_wishes(
        &self,
        wishes: Vec<Wish>,
        version: Version,
        force: bool,
    ) -> Result<Vec<Settled>, Refusal> {
        let mut taken: BTreeSet<u16> = BTreeSet::new();
        let wanted = self.apps.values().filter_map(|app| app.wanted.as_ref());
        taken.extend(wanted.flat_map(|spec| spec.service_ports()));
        let mut settled = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let app = self.apps.get(&wish.app);
            let from = app.and_then(|app| app.wanted.clone());
            let to = match wish.to {
                None => None,
                Some(mut to) => {
                    let range = self.config.service_ports;
                    service_ports::assign(&mut to, from.as_deref(), &mut taken, range)?;
                    Some(with_versions(to, from.as_ref(), version, wish.versions))
                }
            };
            let config = to.as_ref().map(|to| to.version_info.last_config_change_at);
            // Without force, what a running deployment is about is left to it.
            let look = force || !self.locks.contains_key(&wish.app);
            let has_outdated = look
                && app.is_some_and(|app| {
                    let members = app.instances.iter().filter_map(|id| self.instances.get(id));
                    members
                        .filter(|one| one.is_present())
                        .any(|one| Some(one.spec.version_info.last_config_change_at) != config)
                });
            let change = Change {
                app: wish.app,
                from: from.as_ref().map(|spec| spec.version),
                to: to.as_ref().map(|spec| spec.version),
                sentenced: wish.sentenced,
            };
            settled.push(Settled {
                change,
                from,
                to,
                has_outdated,
            });
        }
        Ok(settled)
    }

    /// Makes definitions the wanted ones.
    fn adopt(&mut self, definitions: Vec<(AppId, Option<Arc<AppSpec>>)>) {
        for (app, to) in definitions {
            self.define(&app, to);
        }
    }

    fn define(&mut self, id: &AppId, to: Option<Arc<AppSpec>>) {
        match &to {
            Some(spec) => {
                self.journal
                    .put(keys::version(id, spec.version), version_record(spec));
                self.journal.put(keys::app(id), app_record(spec));
            }
            None => self.journal.delete(keys::app(id)),
        }
        self.delays.reset_if_deleted(id, to.is_none());
        self.apps.entry(id.clone()).or_default().want(to);
        self.demand.fresh = true;
        self.dirty.insert(id.clone());
    }

    fn start(&mut self, deployment: Deployment, out: &mut Vec<Output>) {
        let words: Vec<String> = deployment
            .steps
            .iter()
            .flatten()
            .map(|action| format!("{} {}", action.kind.as_str(), action.app))
            .collect();
        self.note(
            NoteLevel::Info,
            format!("deployment {} begins: {}", deployment.id, words.join(", ")),
            out,
        );
        self.journal.put(
            keys::deployment(&deployment.id),
            deployment_record(&deployment),
        );
        self.counters.deployments_started += 1;
        for app in deployment.apps() {
            self.locks.insert(app.clone(), deployment.id.clone());
            self.dirty.insert(app.clone());
            if let Some(app) = self.apps.get_mut(app) {
                app.step_done = false;
            }
        }
        self.deployments.insert(deployment.id.clone(), deployment);
    }

    pub(super) fn list_deployments(&self) -> Answer {
        let mut views: Vec<DeploymentView> = self
            .deployments
            .values()
            .map(|deployment| DeploymentView {
                id: deployment.id.clone(),
                version: deployment.version,
                apps: deployment.apps().cloned().collect(),
                steps: deployment.steps.clone(),
                current_step: deployment.step + 1,
                current_actions: deployment
                    .steps
                    .get(deployment.step)
                    .into_iter()
                    .flatten()
                    .map(|action| (action.kind, action.app.clone()))
                    .collect(),
            })
            .collect();
        views.sort_by_key(|view| view.version);
        Answer::Deployments(views)
    }

    pub(super) fn delete_deployment(
        &mut self,
        id: &str,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let Some(deployment) = self.deployments.get(id).cloned() else {
            return Err(Refusal::NoDeployment(id.chars().take(80).collect()));
        };
        if force {
            self.note(
                NoteLevel::Info,
                format!("deployment {id} is stopped where it is"),
                out,
            );
            self.unlock(id);
            return Ok(Answer::Accepted);
        }
        let mut wishes = Vec::new();
        for change in &deployment.changes {
            let Some(from) = change.from else {
                wishes.push(Wish::end(change.app.clone()));
                continue;
            };
            let app = self.apps.get(&change.app);
            let earlier = app.and_then(|app| app.versions.get(&from));
            let Some(earlier) = earlier else {
                return Err(Refusal::NoVersion {
                    app: change.app.clone(),
                    version: from,
                });
            };
            let mut wish = Wish::of(AppSpec::clone(earlier));
            wish.versions = Versions::Back;
            wishes.push(wish);
        }
        self.note(NoteLevel::Info, format!("deployment {id} is reverted"), out);
        let deployed = self.deploy(wishes, true, out)?;
        Ok(Answer::Deployed(deployed, None))
    }
}

/// Sets the versions of a definition by what it changes. A definition that changes nothing is the old one.
fn with_versions(
    mut to: AppSpec,
    from: Option<&Arc<AppSpec>>,
    version: Version,
    versions: Versions,
) -> Arc<AppSpec> {
    let fresh = VersionInfo {
        last_scaling_at: version,
        last_config_change_at: version,
    };
    let info = match (from, versions) {
        (None, Versions::ByChange | Versions::Restart) | (Some(_), Versions::Restart) => fresh,
        (_, Versions::Back) => VersionInfo {
            last_scaling_at: version,
            ..to.version_info
        },
        (Some(from), Versions::ByChange) if from.config_differs(&to) => fresh,
        (Some(from), Versions::ByChange) if from.instances != to.instances => VersionInfo {
            last_scaling_at: version,
            ..from.version_info
        },
        (Some(from), Versions::ByChange) => return from.clone(),
    };
    to.version = version;
    to.version_info = info;
    Arc::new(to)
}
