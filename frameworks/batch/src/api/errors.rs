//! Answers that say no, in Metronome's shapes.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::desk::AskError;
use crate::core::Refusal;
use crate::core::job::FieldError;

/// Longest path that is repeated in an answer, in characters.
const MAX_PATH_CHARS: usize = 500;

/// A status and a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    body: Value,
}

impl Problem {
    /// A message.
    pub fn message(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            body: json!({"message": message.into()}),
        }
    }

    /// A message about the address that was asked for.
    pub fn at(status: StatusCode, message: impl Into<String>, uri: &Uri) -> Self {
        let path: String = uri.path().chars().take(MAX_PATH_CHARS).collect();
        Self {
            status,
            body: json!({"message": message.into(), "requestPath": escape(&path)}),
        }
    }

    /// A message about a thing with an id.
    pub fn about(status: StatusCode, id: &str, message: &str) -> Self {
        Self {
            status,
            body: json!({"id": id, "message": message}),
        }
    }

    /// Everything that is wrong with a document.
    pub fn invalid(errors: &[FieldError]) -> Self {
        let mut details: Vec<Value> = Vec::new();
        for error in errors {
            let known = details
                .iter_mut()
                .find(|detail| detail["path"] == error.path.as_str());
            match known.and_then(|detail| detail["errors"].as_array_mut()) {
                Some(list) => list.push(error.message.as_str().into()),
                None => details.push(json!({"path": error.path, "errors": [error.message]})),
            }
        }
        let body = json!({"message": "Object is not valid", "details": details});
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            Refusal::NoJob { job } => Self::about(StatusCode::NOT_FOUND, job.as_str(), &words),
            Refusal::NoRun { job, run } => Self {
                status: StatusCode::NOT_FOUND,
                body: json!({"jobSpec": job.as_str(), "id": run, "message": words}),
            },
            Refusal::JobExists | Refusal::ActiveRuns => Self::message(StatusCode::CONFLICT, words),
            Refusal::TooManyJobs { .. } | Refusal::TooManyRuns { .. } => {
                Self::message(StatusCode::TOO_MANY_REQUESTS, words)
            }
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        Self::message(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

/// Browsers may show what somebody else put into an address.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
