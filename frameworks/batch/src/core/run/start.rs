//! The beginning of a run, and of its further attempts.

use std::sync::Arc;

use mezzo_model::time::Now;

use super::super::Core;
use super::super::io::{Effect, Refusal, Reply, RequestId};
use super::super::job::JobId;
use super::{Run, RunId, RunKey, Stage};

/// Somebody wants a new run. It is queued at once and answered when it is stored.
pub fn on_start(core: &mut Core, now: Now, request: RequestId, job: &JobId) -> Result<(), Refusal> {
    if core.active_runs >= core.config.max_active_runs {
        return Err(Refusal::TooManyRuns {
            limit: core.config.max_active_runs,
        });
    }
    let Some(entry) = core.jobs.get_mut(job) else {
        return Err(Refusal::NoJob { job: job.clone() });
    };
    let mut id = RunId::generate(now.wall, &mut core.ids);
    while entry.runs.contains_key(&id) || entry.history.find(&id).is_some() {
        id = RunId::generate(now.wall, &mut core.ids);
    }
    let key = RunKey {
        job: job.clone(),
        run: id.clone(),
    };
    core.next_order += 1;
    let run = Run {
        key: key.clone(),
        spec: entry.spec.clone(),
        spec_version: entry.version,
        created_at: now.wall,
        order: core.next_order,
        instance: Arc::from(core.ids.uuid()),
        attempts: 0,
        failures: 0,
        hasty: 0,
        stage: Stage::Queued,
        past: Vec::new(),
    };
    let reply = Reply::Run(Box::new(run.view()));
    entry.runs.insert(id, run);
    core.active_runs += 1;
    let mut unit = core.record(&key);
    unit.effects.push(Effect::Reply { request, reply });
    core.pending.push(unit);
    core.enqueue(now, &key);
    Ok(())
}

/// The pause before a run's next attempt is over.
pub fn on_retry_due(core: &mut Core, now: Now, key: &RunKey) {
    if core
        .run(key)
        .is_some_and(|run| matches!(run.stage, Stage::Paused { .. }))
    {
        core.enqueue(now, key);
    }
}
