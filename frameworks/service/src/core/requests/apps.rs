//! Calls about apps.

use super::deploy::{Versions, Wish};
use crate::core::Core;
use crate::core::app::document::Problems;
use crate::core::app::{AppSpec, AppUpdate, Refused, validate};
use crate::core::app_id::AppId;
use crate::core::io::Output;
use crate::core::request::{Answer, AppFilter, AppView, LabelTest, Refusal};
use crate::core::version::Version;

impl Core {
    pub(super) fn list_apps(
        &self,
        filter: &AppFilter,
        tasks: bool,
        last_failure: bool,
    ) -> Vec<AppView> {
        let wanted = self
            .apps
            .iter()
            .filter_map(|(id, app)| Some((id, app.wanted.as_ref()?)));
        wanted
            .filter(|(_, spec)| matches(filter, spec))
            .filter_map(|(id, _)| self.app_view(id, tasks, last_failure))
            .collect()
    }

    pub(super) fn get_app(&self, id: &AppId) -> Result<Answer, Refusal> {
        let view = self.app_view(id, true, true);
        view.map(|view| Answer::App(Box::new(view)))
            .ok_or_else(|| Refusal::NoApp(id.to_string()))
    }

    pub(super) fn apps_below(&self, path: &str) -> Result<Answer, Refusal> {
        let below = self.apps.keys().filter(|id| id.is_below(path));
        let views: Vec<AppView> = below
            .filter_map(|id| self.app_view(id, true, true))
            .collect();
        if views.is_empty() && path != "/" {
            return Err(Refusal::NoGroup(path.to_owned()));
        }
        Ok(Answer::AppsBelow(views))
    }

    pub(super) fn create_app(
        &mut self,
        update: &AppUpdate,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let id = self.id_of(update, "")?;
        if self.wanted(&id).is_some() {
            return Err(Refusal::Exists(id));
        }
        let spec = self.drafted(update, "", &id, None)?;
        let deployed = self.deploy(vec![Wish::of(spec)], force, out)?;
        let view = self
            .app_view(&id, false, false)
            .ok_or(Refusal::NoApp(id.to_string()))?;
        Ok(Answer::Created(Box::new(view), deployed))
    }

    pub(super) fn put_app(
        &mut self,
        id: AppId,
        update: &AppUpdate,
        partial: bool,
        create: bool,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let is_new = self.wanted(&id).is_none();
        if is_new && !create {
            return Err(Refusal::NoApp(id.to_string()));
        }
        let spec = self.updated(update, "", &id, partial)?;
        let deployed = self.deploy(vec![Wish::of(spec)], force, out)?;
        Ok(Answer::Deployed(deployed, is_new.then_some(id)))
    }

    pub(super) fn put_apps(
        &mut self,
        updates: &[AppUpdate],
        partial: bool,
        create: bool,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let mut wishes: Vec<Wish> = Vec::with_capacity(updates.len());
        for (index, update) in updates.iter().enumerate() {
            let path = format!("/({index})");
            let id = self.id_of(update, &path)?;
            if self.wanted(&id).is_none() && !create {
                return Err(Refusal::NoApp(id.to_string()));
            }
            if wishes.iter().any(|wish| wish.app == id) {
                return Err(Refusal::rule(
                    &format!("{path}/id"),
                    format!("{id} stands here twice"),
                ));
            }
            if let Some(other) = wishes.iter().find(|wish| related(&wish.app, &id)) {
                return Err(group_conflict(&format!("{path}/id"), &id, &other.app));
            }
            wishes.push(Wish::of(self.updated(update, &path, &id, partial)?));
        }
        let deployed = self.deploy(wishes, force, out)?;
        Ok(Answer::Deployed(deployed, None))
    }

    pub(super) fn delete_app(
        &mut self,
        id: AppId,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        if self.wanted(&id).is_none() {
            return Err(Refusal::NoApp(id.to_string()));
        }
        let deployed = self.deploy(vec![Wish::end(id)], force, out)?;
        Ok(Answer::Deployed(deployed, None))
    }

    pub(super) fn restart_app(
        &mut self,
        id: &AppId,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let spec = self
            .wanted(id)
            .cloned()
            .ok_or_else(|| Refusal::NoApp(id.to_string()))?;
        let mut wish = Wish::of(spec);
        wish.versions = Versions::Restart;
        let deployed = self.deploy(vec![wish], force, out)?;
        Ok(Answer::Deployed(deployed, None))
    }

    pub(super) fn versions(&self, id: &AppId) -> Result<Answer, Refusal> {
        let app = self.apps.get(id).filter(|app| app.wanted.is_some());
        let app = app.ok_or_else(|| Refusal::NoApp(id.to_string()))?;
        Ok(Answer::Versions(
            app.versions.keys().rev().copied().collect(),
        ))
    }

    pub(super) fn version(&self, id: &AppId, version: Version) -> Result<Answer, Refusal> {
        let app = self.apps.get(id).filter(|app| app.wanted.is_some());
        let app = app.ok_or_else(|| Refusal::NoApp(id.to_string()))?;
        let spec = app.versions.get(&version).cloned();
        let spec = spec.ok_or_else(|| Refusal::NoVersion {
            app: id.clone(),
            version,
        })?;
        Ok(Answer::Definition(spec))
    }

    fn wanted(&self, id: &AppId) -> Option<&AppSpec> {
        self.apps.get(id)?.wanted.as_deref()
    }

    fn id_of(&self, update: &AppUpdate, path: &str) -> Result<AppId, Refusal> {
        let Some(id) = &update.id else {
            let mut problems = Problems::default();
            problems.shape(format!("{path}/id"), "error.path.missing");
            problems.verdict()?;
            return Err(Refusal::rule(&format!("{path}/id"), "is needed"));
        };
        AppId::parse(id).map_err(|wrong| Refusal::rule(&format!("{path}/id"), wrong.to_string()))
    }

    /// The definition that a document asks for: an earlier one, or the document laid over what is there.
    fn updated(
        &self,
        update: &AppUpdate,
        path: &str,
        id: &AppId,
        partial: bool,
    ) -> Result<AppSpec, Refusal> {
        if update.has_stray_version {
            let words = "The 'version' field may only be combined with the 'id' field.";
            return Err(Refused::Conflict(words.to_owned()).into());
        }
        if let Some(version) = update.rollback {
            let app = self.apps.get(id).filter(|app| app.wanted.is_some());
            let app = app.ok_or_else(|| Refusal::NoApp(id.to_string()))?;
            let earlier = app.versions.get(&version);
            let earlier = earlier.ok_or_else(|| Refusal::NoVersion {
                app: id.clone(),
                version,
            })?;
            return Ok(AppSpec::clone(earlier));
        }
        let base = if partial {
            self.wanted(id).cloned()
        } else {
            None
        };
        self.drafted(update, path, id, base.as_ref())
    }

    /// A document laid over a definition, judged.
    fn drafted(
        &self,
        update: &AppUpdate,
        path: &str,
        id: &AppId,
        base: Option<&AppSpec>,
    ) -> Result<AppSpec, Refusal> {
        let spec = update.apply(base, id.clone(), &self.config.role);
        let mut problems = Problems::default();
        validate::check(&spec, path, &self.config.role, &mut problems);
        problems.verdict()?;
        if self.wanted(id).is_none() {
            let known = self.apps.iter().filter(|(_, app)| app.wanted.is_some());
            if let Some((other, _)) = known.clone().find(|(other, _)| related(other, id)) {
                return Err(group_conflict(&format!("{path}/id"), id, other));
            }
            if known.count() >= self.config.max_apps {
                let words = format!(
                    "there are {} apps, the most that are allowed",
                    self.config.max_apps
                );
                return Err(Refusal::rule(&format!("{path}/id"), words));
            }
        }
        Ok(spec)
    }
}

/// Whether one path lies below the other: then one would be both an app and a group.
fn related(one: &AppId, other: &AppId) -> bool {
    one.is_below(other.as_str()) || other.is_below(one.as_str())
}

fn group_conflict(path: &str, id: &AppId, other: &AppId) -> Refusal {
    Refusal::rule(
        path,
        format!("Groups and Applications may not have the same identifier: {id} and {other}"),
    )
}

fn matches(filter: &AppFilter, spec: &AppSpec) -> bool {
    let part_of = |part: &Option<String>, whole: Option<&str>| match (part, whole) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(part), Some(whole)) => whole.to_lowercase().contains(part.as_str()),
    };
    part_of(&filter.cmd, spec.cmd.as_deref())
        && part_of(&filter.id, Some(spec.id.as_str()))
        && filter.labels.iter().all(|test| match test {
            LabelTest::Exists(key) => spec.labels.contains_key(key),
            LabelTest::In(key, values) => spec
                .labels
                .get(key)
                .is_some_and(|value| values.contains(value)),
            LabelTest::NotIn(key, values) => spec
                .labels
                .get(key)
                .is_some_and(|value| !values.contains(value)),
        })
}
