//! What must hold between any two inputs. Tests and simulators ask after each one.

use std::collections::BTreeSet;

use super::Core;
use super::run::{MAX_PAST_ATTEMPTS, Stage};
use super::timers::Timer;

/// Something does not hold that must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

impl Core {
    /// Checks all that must hold between two inputs. The cost is that of looking at every active run.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check_invariants(&self) -> Result<(), Broken> {
        let broken = |words: String| Err(Broken(words));
        let queued: BTreeSet<_> = self.queue.iter().map(|(_, key)| key).collect();
        if queued.len() != self.queue.len() {
            return broken(format!(
                "{} runs in the queue, {} counted",
                queued.len(),
                self.queue.len()
            ));
        }
        let (mut runs, mut tasks, mut waiting) = (0, 0, 0);
        for (id, job) in &self.jobs {
            for run in job.runs.values() {
                runs += 1;
                let key = &run.key;
                if key.job != *id {
                    return broken(format!("run {key} is kept with job {id}"));
                }
                if queued.contains(key) != (run.stage == Stage::Queued) {
                    return broken(format!(
                        "run {key} is {:?} and in the queue or not",
                        run.stage
                    ));
                }
                waiting += usize::from(run.stage == Stage::Queued);
                if matches!(run.stage, Stage::Paused { .. })
                    && !self.timers.is_set(&Timer::Retry(key.clone()))
                {
                    return broken(format!("run {key} is paused for ever"));
                }
                if let Some(attempt) = run.attempt() {
                    tasks += 1;
                    if self.tasks.get(&attempt.task) != Some(key) {
                        return broken(format!(
                            "task {} of run {key} leads elsewhere",
                            attempt.task
                        ));
                    }
                    if self.doomed.contains(&attempt.task) {
                        return broken(format!(
                            "task {} of run {key} is wanted and doomed",
                            attempt.task
                        ));
                    }
                }
                if let Stage::Intended { launch, .. } = &run.stage
                    && !self.launches.contains_key(launch)
                {
                    return broken(format!("run {key} waits for a launch that is gone"));
                }
                if run.past.len() > MAX_PAST_ATTEMPTS {
                    return broken(format!("run {key} keeps {} attempts", run.past.len()));
                }
                if run.spec_version != job.version && !job.older.contains_key(&run.spec_version) {
                    return broken(format!("run {key} follows a spec that is gone"));
                }
            }
            let users: usize = job.older.values().map(|(_, users)| *users).sum();
            let old = job
                .runs
                .values()
                .filter(|run| run.spec_version != job.version)
                .count();
            if users != old {
                return broken(format!(
                    "job {id}: {users} users of old specs counted, {old} are there"
                ));
            }
            if job.history.runs().any(|run| job.runs.contains_key(&run.id)) {
                return broken(format!("job {id}: a run is active and has ended"));
            }
        }
        if runs != self.active_runs || tasks != self.tasks.len() || waiting != self.queue.len() {
            return broken(format!(
                "{runs} runs, {tasks} tasks, {waiting} waiting: counted otherwise"
            ));
        }
        let kept: usize = self
            .jobs
            .values()
            .map(|job| job.history.runs().count())
            .sum();
        if kept != self.kept.len() {
            return broken(format!(
                "{kept} ended runs are kept, {} counted",
                self.kept.len()
            ));
        }
        if self.timers.len() > 3 + 3 * runs {
            return broken(format!("{} timers for {runs} runs", self.timers.len()));
        }
        if !self.launches.is_empty() && (self.pending.is_empty() || !self.session.connected) {
            return broken(String::from(
                "an offer is set aside and nothing will use it",
            ));
        }
        Ok(())
    }
}
