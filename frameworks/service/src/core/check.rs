//! What must hold after every input; walked by tests and by the simulator.

use std::collections::BTreeSet;

use super::Core;
use super::instance::{Goal, Phase};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

fn must(holds: bool, words: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation(words()))
    }
}

impl Core {
    /// Walks everything. O(everything).
    ///
    /// # Errors
    /// The first invariant that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        if self.deposed || !self.begun {
            return Ok(());
        }
        must(self.dirty.is_empty(), || {
            format!("not looked at: {:?}", self.dirty)
        })?;
        self.check_instances()?;
        self.check_deployments()?;
        for (id, app) in &self.apps {
            must(app.queued >= app.fresh, || {
                format!("{id}: {} wait, {} new", app.queued, app.fresh)
            })?;
            must((app.queued > 0) == self.waiting.contains(id), || {
                format!("{id}: waiting set")
            })?;
            if let Some(wanted) = &app.wanted {
                must(app.versions.contains_key(&wanted.version), || {
                    format!("{id}: version lost")
                })?;
                must(wanted.id == *id, || {
                    format!("{id}: defined as {}", wanted.id)
                })?;
            }
        }
        Ok(())
    }

    fn check_instances(&self) -> Result<(), Violation> {
        let mut tasks = BTreeSet::new();
        for (id, instance) in &self.instances {
            let app = self.apps.get(id.app());
            must(app.is_some_and(|app| app.instances.contains(id)), || {
                format!("{id}: of no app")
            })?;
            if let Some(task) = instance.task() {
                must(tasks.insert(task.clone()), || {
                    format!("{task} stands for two instances")
                })?;
            }
            must(instance.incarnation > 0, || format!("{id}: incarnation 0"))?;
            must(
                instance.phase != Phase::Scheduled || instance.goal == Goal::Running,
                || format!("{id}: waits for an offer and is to end"),
            )?;
            must(
                instance.goal == Goal::Running || instance.kill.is_some(),
                || format!("{id}: is to end and is not killed"),
            )?;
            let kept = self
                .apps
                .get(id.app())
                .is_some_and(|app| app.versions.contains_key(&instance.spec.version));
            must(kept, || format!("{id}: its definition was dropped"))?;
        }
        for (id, app) in &self.apps {
            for member in &app.instances {
                must(self.instances.contains_key(member), || {
                    format!("{id}: {member} is gone")
                })?;
            }
        }
        Ok(())
    }

    fn check_deployments(&self) -> Result<(), Violation> {
        for (app, lock) in &self.locks {
            let holds = self
                .deployments
                .get(lock)
                .is_some_and(|d| d.change_of(app).is_some());
            must(holds, || {
                format!("{app}: held by {lock}, which is not there")
            })?;
        }
        for (id, deployment) in &self.deployments {
            for app in deployment.apps() {
                let held = self.locks.get(app).is_some_and(|lock| lock == id);
                must(held, || format!("{app}: in {id} and not held by it"))?;
            }
            must(deployment.step < deployment.steps.len(), || {
                format!("{id}: past its last step")
            })?;
        }
        Ok(())
    }
}
