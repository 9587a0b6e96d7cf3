//! `/jobs` and `/jobs/{id}`.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::body::{self, Pairs};
use super::{Api, Problem, json as view};
use crate::core::job::{FieldError, JobSpec, parse, render};
use crate::core::{Call, Embed, Reply};

type IdPath = Result<Path<String>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;
type Answer = Result<Json<Value>, Problem>;

pub async fn list(State(api): State<Api>, pairs: Pairs) -> Answer {
    let embed = body::embed(pairs)?;
    match api.desk.ask(Call::ListJobs { embed }).await? {
        Reply::Jobs(jobs) => Ok(Json(
            jobs.iter()
                .map(|job| view::job(job, api.dialect))
                .collect::<Vec<_>>()
                .into(),
        )),
        other => Err(unexpected(other)),
    }
}

pub async fn get(State(api): State<Api>, id: IdPath, uri: Uri, pairs: Pairs) -> Answer {
    let job = body::job_id(id, &uri)?;
    let embed = body::embed(pairs)?;
    match api.desk.ask(Call::GetJob { job, embed }).await? {
        Reply::Job(job) => Ok(Json(view::job(&job, api.dialect))),
        other => Err(unexpected(other)),
    }
}

pub async fn create(
    State(api): State<Api>,
    uri: Uri,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let document = body::document(body, &uri)?;
    let spec =
        parse::job(&document, api.dialect, None).map_err(|errors| Problem::invalid(&errors))?;
    let spec = api.spec(Call::CreateJob { spec }).await?;
    Ok((StatusCode::CREATED, spec))
}

pub async fn update(State(api): State<Api>, id: IdPath, uri: Uri, body: Body) -> Answer {
    let id = body::job_id(id, &uri)?;
    let document = body::document(body, &uri)?;
    let spec = parse::job(&document, api.dialect, Some(&id))
        .map_err(|errors| Problem::invalid(&errors))?;
    api.spec(Call::UpdateJob {
        spec,
        dialect: api.dialect,
    })
    .await
}

pub async fn delete(State(api): State<Api>, id: IdPath, uri: Uri, pairs: Pairs) -> Answer {
    let job = body::job_id(id, &uri)?;
    let stop_runs = body::flag(pairs, "stopCurrentJobRuns")?;
    api.spec(Call::DeleteJob { job, stop_runs }).await
}

/// No job has a schedule yet.
pub async fn schedules(State(api): State<Api>, id: IdPath, uri: Uri) -> Answer {
    api.known_job(id, &uri).await?;
    Ok(Json(json!([])))
}

/// Schedules are refused by name.
pub async fn add_schedule(State(api): State<Api>, id: IdPath, uri: Uri) -> Answer {
    api.known_job(id, &uri).await?;
    let message = "schedules are not served yet; start runs with POST .../runs".to_owned();
    Err(Problem::invalid(&[FieldError {
        path: "/".to_owned(),
        message,
    }]))
}

/// No job has a schedule yet, so there is none to read, change or remove.
pub async fn schedule(
    State(api): State<Api>,
    _method: Method,
    ids: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Answer {
    let (job, schedule) = body::two_ids(ids, &uri)?;
    api.spec_of(Call::GetJob {
        job,
        embed: Embed::default(),
    })
    .await?;
    Err(Problem::about(
        StatusCode::NOT_FOUND,
        &schedule,
        "Schedule not found",
    ))
}

impl Api {
    async fn known_job(&self, id: IdPath, uri: &Uri) -> Result<(), Problem> {
        let job = body::job_id(id, uri)?;
        self.spec_of(Call::GetJob {
            job,
            embed: Embed::default(),
        })
        .await
        .map(|_| ())
    }

    /// Asks for something that is answered by a description.
    async fn spec(&self, call: Call) -> Answer {
        let spec = self.spec_of(call).await?;
        Ok(Json(render::job(&spec, self.dialect)))
    }

    async fn spec_of(&self, call: Call) -> Result<std::sync::Arc<JobSpec>, Problem> {
        match self.desk.ask(call).await? {
            Reply::Spec(spec) => Ok(spec),
            Reply::Job(job) => Ok(job.spec),
            other => Err(unexpected(other)),
        }
    }
}

/// A refusal, or an answer to another question, which the core does not give.
pub fn unexpected(reply: Reply) -> Problem {
    match reply {
        Reply::Refused(refusal) => refusal.into(),
        Reply::Jobs(_)
        | Reply::Job(_)
        | Reply::Spec(_)
        | Reply::Runs(_)
        | Reply::Run(_)
        | Reply::Queue(_) => Problem::message(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer belongs to another question",
        ),
    }
}
