//! What answers show of apps and tasks.

use crate::core::Core;
use crate::core::app_id::AppId;
use crate::core::health::CheckState;
use crate::core::instance::{Instance, InstanceId, Phase};
use crate::core::request::{AppView, TaskCounts, TaskView};

impl Core {
    /// `None` if there is no such app.
    pub(super) fn app_view(&self, id: &AppId, tasks: bool, last_failure: bool) -> Option<AppView> {
        let app = self.apps.get(id)?;
        let spec = app.wanted.clone()?;
        let mut counts = TaskCounts::default();
        for instance in app.instances.iter().filter_map(|id| self.instances.get(id)) {
            self.count(instance, &mut counts);
        }
        Some(AppView {
            spec,
            counts,
            deployments: self.locks.get(id).into_iter().cloned().collect(),
            tasks: if tasks { self.task_views(id) } else { None },
            last_failure: app.last_failure.clone().filter(|_| last_failure),
        })
    }

    fn count(&self, instance: &Instance, counts: &mut TaskCounts) {
        match instance.phase {
            Phase::Provisioned | Phase::Staging | Phase::Starting => counts.staged += 1,
            Phase::Running => {
                counts.running += 1;
                match self.health_word(instance) {
                    Some(true) => counts.healthy += 1,
                    Some(false) => counts.unhealthy += 1,
                    None => {}
                }
            }
            Phase::Scheduled | Phase::Killing | Phase::Unreachable { .. } | Phase::Expunged => {}
        }
    }

    /// The tasks of an app, those that end included; `None` if there is no such app.
    pub(super) fn task_views(&self, id: &AppId) -> Option<Vec<TaskView>> {
        let app = self.apps.get(id)?;
        app.wanted.as_ref()?;
        Some(
            app.instances
                .iter()
                .filter_map(|id| self.task_view(id))
                .collect(),
        )
    }

    /// `None` while the instance has no task.
    pub(super) fn task_view(&self, id: &InstanceId) -> Option<TaskView> {
        let instance = self.instances.get(id).filter(|one| one.has_task())?;
        let mut checks: Vec<CheckState> = self.health.states(id).into_iter().cloned().collect();
        if let Some(alive) = instance.healthy_by_executor {
            checks.push(CheckState {
                alive: Some(alive),
                ..CheckState::default()
            });
        }
        let wanted = self.apps.get(id.app()).and_then(|app| app.wanted.as_ref());
        let service_ports = wanted
            .iter()
            .flat_map(|spec| spec.service_ports())
            .collect();
        Some(TaskView {
            instance: instance.clone(),
            checks,
            service_ports,
        })
    }
}
