//! `/jobs/{id}/runs`, and the queue of runs that wait for an offer.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::jobs::unexpected;
use super::{Api, Problem, body, json as view};
use crate::core::job::JobId;
use crate::core::job::parse::Dialect;
use crate::core::{Call, Refusal, Reply, RunId};

type IdPath = Result<Path<String>, PathRejection>;
type TwoIds = Result<Path<(String, String)>, PathRejection>;
type Answer = Result<Json<Value>, Problem>;

pub async fn list(State(api): State<Api>, id: IdPath, uri: Uri) -> Answer {
    let job = body::job_id(id, &uri)?;
    match api.desk.ask(Call::ListRuns { job }).await? {
        Reply::Runs(runs) => {
            let runs: Vec<Value> = runs.iter().map(|run| view::run(run, api.dialect)).collect();
            Ok(Json(runs.into()))
        }
        other => Err(unexpected(other)),
    }
}

pub async fn start(
    State(api): State<Api>,
    id: IdPath,
    uri: Uri,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let job = body::job_id(id, &uri)?;
    let run = api.run(Call::StartRun { job }).await?;
    Ok((StatusCode::CREATED, run))
}

pub async fn get(State(api): State<Api>, ids: TwoIds, uri: Uri) -> Answer {
    let (job, run) = ids_of(ids, &uri)?;
    let Some(run) = RunId::parse(&run) else {
        return Err(no_run(&api, job, run).await);
    };
    // Metronome forgets a run here once it has ended; we tell in our own dialect.
    let ended = api.dialect == Dialect::Mezzo;
    api.run(Call::GetRun { job, run, ended }).await
}

pub async fn stop(State(api): State<Api>, ids: TwoIds, uri: Uri) -> Answer {
    let (job, run) = ids_of(ids, &uri)?;
    let Some(run) = RunId::parse(&run) else {
        return Err(no_run(&api, job, run).await);
    };
    api.run(Call::StopRun { job, run }).await
}

pub async fn queue(api: &Api) -> Answer {
    match api.desk.ask(Call::Queue).await? {
        Reply::Queue(jobs) => {
            let entry = |(job, runs): (JobId, Vec<RunId>)| {
                let runs: Vec<Value> = runs
                    .iter()
                    .map(|run| json!({"runId": run.as_str()}))
                    .collect();
                json!({"jobId": job.as_str(), "runs": runs})
            };
            Ok(Json(jobs.into_iter().map(entry).collect::<Vec<_>>().into()))
        }
        other => Err(unexpected(other)),
    }
}

fn ids_of(ids: TwoIds, uri: &Uri) -> Result<(JobId, String), Problem> {
    body::two_ids(ids, uri)
}

/// What is no run id names no run; but an unknown job is told of first.
async fn no_run(api: &Api, job: JobId, run: String) -> Problem {
    match api.desk.ask(Call::ListRuns { job: job.clone() }).await {
        Ok(Reply::Refused(refusal)) => refusal.into(),
        Ok(_) => Refusal::NoRun { job, run }.into(),
        Err(error) => error.into(),
    }
}

impl Api {
    /// Asks for something that is answered by a run.
    async fn run(&self, call: Call) -> Answer {
        match self.desk.ask(call).await? {
            Reply::Run(run) => Ok(Json(view::run(&run, self.dialect))),
            other => Err(unexpected(other)),
        }
    }
}
