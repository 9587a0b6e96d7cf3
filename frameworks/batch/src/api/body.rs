//! Reads what a request says: ids in its path, its query, its JSON.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use bytes::Bytes;
use http::{StatusCode, Uri};
use serde_json::Value;

use super::Problem;
use crate::core::Embed;
use crate::core::job::JobId;

/// Most bytes of a document. A spec may have a quarter of it.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Longest id that is repeated in an answer, in characters.
const MAX_ID_CHARS: usize = 200;

/// The pairs of a query.
pub type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The job id of a path.
pub fn job_id(id: Result<Path<String>, PathRejection>, uri: &Uri) -> Result<JobId, Problem> {
    let Path(id) = id.map_err(|error| unreadable(&error.body_text(), uri))?;
    parse_id(&id, uri)
}

/// A job id and another of a path.
pub fn two_ids(
    ids: Result<Path<(String, String)>, PathRejection>,
    uri: &Uri,
) -> Result<(JobId, String), Problem> {
    let Path((job, other)) = ids.map_err(|error| unreadable(&error.body_text(), uri))?;
    Ok((parse_id(&job, uri)?, short(&other)))
}

fn parse_id(id: &str, uri: &Uri) -> Result<JobId, Problem> {
    JobId::parse(id).map_err(|error| {
        let words = format!("Not a valid id: {} ({error})", short(id));
        Problem::at(StatusCode::BAD_REQUEST, words, uri)
    })
}

fn unreadable(words: &str, uri: &Uri) -> Problem {
    Problem::at(
        StatusCode::BAD_REQUEST,
        format!("Not a valid id: {words}"),
        uri,
    )
}

fn short(text: &str) -> String {
    text.chars().take(MAX_ID_CHARS).collect()
}

/// The JSON of a request.
pub fn document(body: Result<Bytes, BytesRejection>, uri: &Uri) -> Result<Value, Problem> {
    let body = body.map_err(|error| {
        let words = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the document is larger than {MAX_BODY_BYTES} bytes")
            }
            _ => error.body_text(),
        };
        Problem::at(error.status(), words, uri)
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::at(
            StatusCode::BAD_REQUEST,
            format!("Invalid JSON: {error}"),
            uri,
        )
    })
}

/// What is to be shown with a job: `embed=history&embed=activeRuns`, or with commas.
pub fn embed(pairs: Pairs) -> Result<Embed, Problem> {
    let mut embed = Embed::default();
    for (name, value) in pairs_of(pairs)? {
        if name != "embed" {
            continue;
        }
        for option in value.split(',') {
            match option {
                "activeRuns" => embed.active_runs = true,
                "history" => embed.history = true,
                "historySummary" => embed.history_summary = true,
                // Schedules are always shown.
                "schedules" => {}
                _ => {
                    let words = "Unknown embed options. Valid options are: \
                                 activeRuns, schedules, history, historySummary";
                    return Err(Problem::message(StatusCode::BAD_REQUEST, words));
                }
            }
        }
    }
    Ok(embed)
}

/// A yes or no of the query; no if it is not there.
pub fn flag(pairs: Pairs, flag: &str) -> Result<bool, Problem> {
    let mut set = false;
    for (name, value) in pairs_of(pairs)? {
        if name == flag {
            set = match value.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => {
                    let words = format!("{flag} must be true or false, not {}", short(&value));
                    return Err(Problem::message(StatusCode::BAD_REQUEST, words));
                }
            };
        }
    }
    Ok(set)
}

fn pairs_of(pairs: Pairs) -> Result<Vec<(String, String)>, Problem> {
    let Query(pairs) =
        pairs.map_err(|error| Problem::message(StatusCode::BAD_REQUEST, error.body_text()))?;
    Ok(pairs)
}
