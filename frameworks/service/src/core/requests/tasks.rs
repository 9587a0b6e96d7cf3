//! Calls about tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::deploy::Wish;
use crate::core::Core;
use crate::core::app_id::AppId;
use crate::core::instance::{Instance, InstanceId, KillReason, Phase};
use crate::core::io::Output;
use crate::core::request::{Answer, KillOptions, Refusal, TaskView};

impl Core {
    pub(super) fn app_tasks(&self, id: &AppId) -> Result<Answer, Refusal> {
        let tasks = self
            .task_views(id)
            .ok_or_else(|| Refusal::NoApp(id.to_string()))?;
        Ok(Answer::Tasks {
            tasks,
            service_ports: false,
        })
    }

    pub(super) fn all_tasks(&self, running: bool, staging: bool) -> Answer {
        let is_asked = |view: &TaskView| match view.instance.phase {
            Phase::Running => running || !staging,
            Phase::Provisioned | Phase::Staging | Phase::Starting => staging || !running,
            _ => !running && !staging,
        };
        let mut tasks: Vec<TaskView> = self
            .apps
            .keys()
            .filter_map(|id| self.task_views(id))
            .flatten()
            .collect();
        tasks.retain(is_asked);
        Answer::Tasks {
            tasks,
            service_ports: true,
        }
    }

    pub(super) fn kill_app_tasks(
        &mut self,
        id: &AppId,
        host: Option<&str>,
        options: KillOptions,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        if self.task_views(id).is_none() {
            return Err(Refusal::NoApp(id.to_string()));
        }
        let on_host =
            |one: &&Instance| host.is_none_or(|host| host == "*" || one.place.host == host);
        let ids: Vec<InstanceId> = self
            .killable(id)
            .filter(on_host)
            .map(|one| one.id.clone())
            .collect();
        self.kill_tasks(&ids, options, out)
    }

    pub(super) fn kill_app_task(
        &mut self,
        id: &AppId,
        task: &str,
        options: KillOptions,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        if self.task_views(id).is_none() {
            return Err(Refusal::NoApp(id.to_string()));
        }
        let unknown = || Refusal::NoTask(task.chars().take(300).collect());
        let instance = InstanceId::of_task(task).map(|(instance, _)| instance);
        let instance = instance
            .or_else(|| InstanceId::parse(task))
            .ok_or_else(unknown)?;
        if instance.app() != id || !self.killable(id).any(|one| one.id == instance) {
            return Err(unknown());
        }
        match self.kill_tasks(&[instance], options, out)? {
            Answer::Tasks { mut tasks, .. } => match tasks.pop() {
                Some(task) => Ok(Answer::Task(Box::new(task))),
                None => Err(unknown()),
            },
            other => Ok(other),
        }
    }

    /// Ends tasks by their instances; those that are not known are passed over.
    pub(super) fn kill_tasks(
        &mut self,
        ids: &[InstanceId],
        options: KillOptions,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        if options.scale && options.wipe {
            let words = "You cannot use scale and wipe at the same time.".to_owned();
            return Err(Refusal::BadRequest(words));
        }
        let known: BTreeSet<InstanceId> = ids
            .iter()
            .filter(|id| self.killable(id.app()).any(|one| one.id == **id))
            .cloned()
            .collect();
        if options.scale {
            return self.scale_down(&known, options.force, out);
        }
        let tasks = known.iter().filter_map(|id| self.task_view(id)).collect();
        for id in &known {
            if options.wipe {
                self.decommission(id, out);
            } else {
                self.kill_task(id, KillReason::Requested, out);
            }
        }
        Ok(Answer::Tasks {
            tasks,
            service_ports: true,
        })
    }

    /// Ends instances and lowers the wanted numbers by as many.
    fn scale_down(
        &mut self,
        ids: &BTreeSet<InstanceId>,
        force: bool,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Refusal> {
        let mut by_app: BTreeMap<AppId, BTreeSet<InstanceId>> = BTreeMap::new();
        for id in ids {
            by_app
                .entry(id.app().clone())
                .or_default()
                .insert(id.clone());
        }
        let wishes = by_app.into_iter().filter_map(|(id, sentenced)| {
            let mut spec = self.apps.get(&id)?.wanted.as_deref()?.clone();
            spec.instances = spec.instances.saturating_sub(sentenced.len() as u32);
            let mut wish = Wish::of(spec);
            wish.sentenced = sentenced;
            Some(wish)
        });
        let wishes: Vec<Wish> = wishes.collect();
        let deployed = self.deploy(wishes, force, out)?;
        Ok(Answer::Deployed(deployed, None))
    }

    /// The instances of an app that have a task and are to run.
    fn killable(&self, id: &AppId) -> impl Iterator<Item = &Instance> {
        let members = self.apps.get(id).filter(|app| app.wanted.is_some());
        members
            .into_iter()
            .flat_map(|app| &app.instances)
            .filter_map(|id| self.instances.get(id))
            .filter(|one| one.has_task() && !Self::is_sentenced(one))
    }
}
