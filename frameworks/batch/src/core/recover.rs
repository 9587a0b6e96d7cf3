//! A core from what is stored.
//!
//! Queued and paused runs are queued again. Attempts that may be under way count as launched: once subscribed the
//! cluster is asked about each, and an attempt that was recorded and never sent turns out to be unknown to it.

use std::collections::BTreeMap;

use mezzo_coordination::Record;
use mezzo_model::time::Wall;

use super::history::History;
use super::job::JobId;
use super::pending::Unit;
use super::run::{Run, RunId, RunKey, Stage};
use super::{Config, Core, Job};
use crate::store::load::{self, LoadError, StoredJob, StoredRun};

impl Core {
    /// A core with everything that is stored. The seed must be new: ids are drawn from it.
    ///
    /// # Errors
    /// If a later version wrote the store, or a record cannot be read.
    pub fn load(config: Config, seed: u64, records: &[Record]) -> Result<Self, LoadError> {
        let stored = load::read(records)?;
        let mut core = Self::new(config, seed);
        for (id, job) in stored.jobs {
            core.take_in(id, job)?;
        }
        let (key, value) = load::format_record();
        let mut ops = vec![(key, Some(value))];
        ops.extend(stored.orphans.into_iter().map(|key| (key, None)));
        core.pending.push(Unit {
            ops,
            effects: Vec::new(),
        });
        Ok(core)
    }

    fn take_in(&mut self, id: JobId, stored: StoredJob) -> Result<(), LoadError> {
        let StoredJob {
            spec,
            version,
            created,
            counts,
            specs,
            runs,
        } = stored;
        let mut job = Job {
            spec,
            version,
            created_at: created,
            older: specs
                .into_iter()
                .map(|(version, spec)| (version, (spec, 0)))
                .collect(),
            runs: BTreeMap::new(),
            history: History::default(),
        };
        let mut ended = Vec::new();
        for (run_id, run) in runs {
            match run {
                StoredRun::Ended(run) => ended.push(run),
                StoredRun::Active {
                    created,
                    attempts,
                    past,
                    active,
                } => {
                    let key = RunKey {
                        job: id.clone(),
                        run: run_id,
                    };
                    let spec = if active.spec == job.version {
                        job.spec.clone()
                    } else if let Some((spec, users)) = job.older.get_mut(&active.spec) {
                        *users += 1;
                        spec.clone()
                    } else {
                        let words = format!(
                            "it follows version {} of its job, which is gone",
                            active.spec
                        );
                        return Err(LoadError::Corrupt {
                            key: key.to_string(),
                            words,
                        });
                    };
                    let stage = match active.task {
                        Some(task) => Stage::Launched(task.into_attempt()),
                        None => Stage::Queued,
                    };
                    let run = Run {
                        key,
                        spec,
                        spec_version: active.spec,
                        created_at: created,
                        order: active.order,
                        instance: active.instance,
                        attempts,
                        failures: active.failures,
                        hasty: active.hasty,
                        stage,
                        past,
                    };
                    self.take_in_run(&mut job.runs, run);
                }
            }
        }
        // Descriptions that nobody follows any more were left by a crash in the middle.
        for (version, _) in job.older.extract_if(.., |_, (_, users)| *users == 0) {
            let ops = vec![(crate::store::spec_key(&id, version), None)];
            self.pending.push(Unit {
                ops,
                effects: Vec::new(),
            });
        }
        ended.sort_by_key(|run| run.number);
        for run in ended {
            self.kept.insert(&id, &run);
            job.history.keep(run);
        }
        if let Some(counts) = counts {
            let at = |at: Option<u64>| at.map(Wall);
            job.history.set_counts(
                counts.success,
                counts.failure,
                at(counts.last_success),
                at(counts.last_failure),
            );
        }
        self.jobs.insert(id, job);
        Ok(())
    }

    fn take_in_run(&mut self, runs: &mut BTreeMap<RunId, Run>, run: Run) {
        self.active_runs += 1;
        self.next_order = self.next_order.max(run.order);
        match run.attempt() {
            Some(attempt) => {
                self.tasks.insert(attempt.task.clone(), run.key.clone());
            }
            None => self
                .queue
                .insert(run.spec.run.need, run.order, run.key.clone()),
        }
        runs.insert(run.key.run.clone(), run);
    }
}
