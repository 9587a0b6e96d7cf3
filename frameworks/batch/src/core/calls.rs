//! What people ask. Reads are answered at once; changes when they are stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mezzo_model::time::Now;

use super::history::History;
use super::io::{
    Call, Effect, Embed, EndedRun, JobView, Output, Refusal, Reply, RequestId, RunView, TaskView,
};
use super::job::parse::Dialect;
use super::job::{JobId, JobSpec};
use super::pending::Unit;
use super::run::{Run, RunId, RunKey, RunStatus, end, start};
use super::{Core, Job};
use crate::store;

/// Most keys that are removed in one unit when a job is deleted.
const REMOVED_AT_ONCE: usize = 500;

/// Somebody asks.
pub fn on_call(core: &mut Core, now: Now, request: RequestId, call: Call, out: &mut Vec<Output>) {
    let answered = match call {
        Call::ListJobs { embed } => Ok(Some(Reply::Jobs(
            core.jobs.values().map(|job| job.view(embed)).collect(),
        ))),
        Call::GetJob { job, embed } => core
            .job(&job)
            .map(|job| Some(Reply::Job(Box::new(job.view(embed))))),
        Call::CreateJob { spec } => create(core, now, request, spec).map(|()| None),
        Call::UpdateJob { spec, dialect } => update(core, request, spec, dialect),
        Call::DeleteJob { job, stop_runs } => {
            delete(core, now, request, &job, stop_runs).map(|()| None)
        }
        Call::ListRuns { job } => core
            .job(&job)
            .map(|job| Some(Reply::Runs(job.active_runs()))),
        Call::StartRun { job } => start::on_start(core, now, request, &job).map(|()| None),
        Call::GetRun { job, run, ended } => get_run(core, &job, &run, ended).map(Some),
        Call::StopRun { job, run } => stop(core, now, request, job, run).map(|()| None),
        Call::Queue => Ok(Some(queue(core))),
    };
    let reply = match answered {
        Ok(None) => return,
        Ok(Some(reply)) => reply,
        Err(refusal) => Reply::Refused(refusal),
    };
    out.push(Output::Reply { request, reply });
}

impl Core {
    fn job(&self, id: &JobId) -> Result<&Job, Refusal> {
        self.jobs
            .get(id)
            .ok_or_else(|| Refusal::NoJob { job: id.clone() })
    }
}

fn create(core: &mut Core, now: Now, request: RequestId, spec: JobSpec) -> Result<(), Refusal> {
    if core.jobs.contains_key(&spec.id) {
        return Err(Refusal::JobExists);
    }
    if core.jobs.len() >= core.config.max_jobs {
        return Err(Refusal::TooManyJobs {
            limit: core.config.max_jobs,
        });
    }
    let spec = Arc::new(spec);
    let job = Job {
        spec: spec.clone(),
        version: 1,
        created_at: now.wall,
        older: BTreeMap::new(),
        runs: BTreeMap::new(),
        history: History::default(),
    };
    let ops = vec![store::job_record(&job.spec, job.version, job.created_at)];
    core.jobs.insert(spec.id.clone(), job);
    let reply = Reply::Spec(spec);
    core.pending.push(Unit {
        ops,
        effects: vec![Effect::Reply { request, reply }],
    });
    Ok(())
}

fn update(
    core: &mut Core,
    request: RequestId,
    mut spec: JobSpec,
    dialect: Dialect,
) -> Result<Option<Reply>, Refusal> {
    let Some(job) = core.jobs.get_mut(&spec.id) else {
        return Err(Refusal::NoJob { job: spec.id });
    };
    if dialect == Dialect::Metronome {
        // Its documents cannot say it, so they cannot mean to take it away; as with schedules.
        spec.beyond = job.spec.beyond.clone();
    }
    let mut ops = Vec::new();
    if *job.spec != spec {
        let users = job
            .runs
            .values()
            .filter(|run| run.spec_version == job.version)
            .count();
        if users > 0 {
            job.older.insert(job.version, (job.spec.clone(), users));
            ops.push(store::spec_record(&job.spec, job.version));
        }
        job.spec = Arc::new(spec);
        job.version += 1;
        ops.push(store::job_record(&job.spec, job.version, job.created_at));
    }
    let reply = Reply::Spec(job.spec.clone());
    if ops.is_empty() {
        // The same again. It may still be on the way to the store.
        return Ok(answer_behind(core, request, reply));
    }
    core.pending.push(Unit {
        ops,
        effects: vec![Effect::Reply { request, reply }],
    });
    Ok(None)
}

/// Answers at once, or behind everything that is on the way to the store.
fn answer_behind(core: &mut Core, request: RequestId, reply: Reply) -> Option<Reply> {
    match core.pending.follow(Effect::Reply { request, reply })? {
        Effect::Reply { reply, .. } => Some(reply),
        // `follow` gives back what it was given.
        Effect::Acknowledge(_)
        | Effect::Ended(_)
        | Effect::Begun { .. }
        | Effect::Intended { .. }
        | Effect::Kill(_) => None,
    }
}

fn delete(
    core: &mut Core,
    now: Now,
    request: RequestId,
    id: &JobId,
    stop_runs: bool,
) -> Result<(), Refusal> {
    let job = core.job(id)?;
    if !job.runs.is_empty() && !stop_runs {
        return Err(Refusal::ActiveRuns);
    }
    let active: Vec<RunKey> = job.runs.values().map(|run| run.key.clone()).collect();
    for key in active {
        let unit = end::stop(core, now, &key);
        core.pending.push(unit);
    }
    let Some(job) = core.jobs.remove(id) else {
        return Ok(());
    };
    let mut keys = Vec::new();
    for run in job.history.runs() {
        core.kept.remove(id, run);
        keys.push(store::run_key(id, &run.id));
    }
    // The job itself goes last: if this process ends in between, the job is there with less of a history.
    for chunk in keys.chunks(REMOVED_AT_ONCE) {
        let ops: Vec<(String, Option<Bytes>)> =
            chunk.iter().map(|key| (key.clone(), None)).collect();
        core.pending.push(Unit {
            ops,
            effects: Vec::new(),
        });
    }
    let reply = Reply::Spec(job.spec);
    core.pending.push(Unit {
        ops: vec![(store::counts_key(id), None), (store::job_key(id), None)],
        effects: vec![Effect::Reply { request, reply }],
    });
    Ok(())
}

fn stop(
    core: &mut Core,
    now: Now,
    request: RequestId,
    job: JobId,
    run: RunId,
) -> Result<(), Refusal> {
    core.job(&job)?;
    let key = RunKey { job, run };
    if core.run(&key).is_none() {
        return Err(Refusal::NoRun {
            job: key.job,
            run: key.run.as_str().to_owned(),
        });
    }
    let mut unit = end::stop(core, now, &key);
    let ended = core
        .jobs
        .get(&key.job)
        .and_then(|job| job.history.find(&key.run));
    if let Some(ended) = ended {
        let reply = Reply::Run(Box::new(ended.view(&key.job)));
        unit.effects.push(Effect::Reply { request, reply });
    }
    core.pending.push(unit);
    Ok(())
}

fn get_run(core: &Core, job: &JobId, run: &RunId, ended: bool) -> Result<Reply, Refusal> {
    let entry = core.job(job)?;
    if let Some(run) = entry.runs.get(run) {
        return Ok(Reply::Run(Box::new(run.view())));
    }
    let found = entry.history.find(run).filter(|_| ended);
    found
        .map(|run| Reply::Run(Box::new(run.view(job))))
        .ok_or_else(|| Refusal::NoRun {
            job: job.clone(),
            run: run.as_str().to_owned(),
        })
}

fn queue(core: &Core) -> Reply {
    let mut jobs: BTreeMap<&JobId, Vec<RunId>> = BTreeMap::new();
    for (_, key) in core.queue.iter() {
        jobs.entry(&key.job).or_default().push(key.run.clone());
    }
    let sorted = |(job, mut runs): (&JobId, Vec<RunId>)| {
        runs.sort_unstable();
        (job.clone(), runs)
    };
    Reply::Queue(jobs.into_iter().map(sorted).collect())
}

impl Job {
    fn view(&self, embed: Embed) -> JobView {
        let history = embed.history || embed.history_summary;
        JobView {
            spec: self.spec.clone(),
            active_runs: embed.active_runs.then(|| self.active_runs()),
            history: history.then(|| self.history.view(embed.history)),
            with_runs: embed.history,
            with_summary: embed.history_summary,
        }
    }

    fn active_runs(&self) -> Vec<RunView> {
        let mut runs: Vec<&Run> = self.runs.values().collect();
        runs.sort_unstable_by_key(|run| run.order);
        runs.into_iter().map(Run::view).collect()
    }
}

impl Run {
    /// How it is shown.
    pub fn view(&self) -> RunView {
        RunView {
            key: self.key.clone(),
            status: self.status(),
            created_at: self.created_at,
            completed_at: None,
            attempts: self.attempts,
            tasks: end::task_views(&self.past, self.launched()),
        }
    }
}

impl EndedRun {
    /// How it is shown.
    pub fn view(&self, job: &JobId) -> RunView {
        let tasks: Vec<TaskView> = end::task_views(&self.tasks, None);
        RunView {
            key: RunKey {
                job: job.clone(),
                run: self.id.clone(),
            },
            status: if self.success {
                RunStatus::Success
            } else {
                RunStatus::Failed
            },
            created_at: self.created_at,
            completed_at: Some(self.finished_at),
            attempts: self.attempts,
            tasks,
        }
    }
}
