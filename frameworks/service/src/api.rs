//! The REST door: HTTP requests become calls of the core, its answers become Marathon's JSON.
//!
//! One file a resource; everything here is a pure function of bytes, so that a simulator or a test comes in by the same
//! door: [`read`] a request, hand the call to the core, [`write`] what it answers.
//!
//! Source: the routes, statuses, bodies and words that Marathon's clients know.
//!
//! Invariant: nothing that is sent can panic here or make more than a bounded amount of work.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::core::request::{Answer, ApiCall, Refusal};

mod apps;
pub mod body;
mod deployments;
mod info;
mod query;
mod queue;
mod refusals;
mod tasks;
#[cfg(test)]
mod tests;

pub use info::{Facts, MARATHON_VERSION};
pub use query::Query;
pub use refusals::refused;

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// What follows `?`, as sent.
    pub query: String,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The header `Accept`.
    pub accept: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// A response as it goes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Headers besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON body; `None`: empty.
    pub body: Option<Value>,
}

impl Response {
    /// A JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(body),
        }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: None,
        }
    }

    /// `{"message": …}`.
    pub fn message(status: u16, words: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": words.into() }))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request without the parts that every route treats alike.
pub(crate) struct Call<'a> {
    method: &'a str,
    /// The segments of the path after the resource's own name, decoded; empty ones are left out.
    rest: Vec<String>,
    query: Query,
    request: &'a Request,
}

impl Call<'_> {
    /// The body as JSON, which must be announced as such.
    fn json(&self) -> Result<Value, Response> {
        body::json(self.request)
    }

    fn method_not_allowed(&self) -> Response {
        Response::message(405, "Method Not Allowed")
    }
}

/// Reads a request.
///
/// # Errors
/// The response that refuses it.
pub fn read(request: &Request) -> Result<ApiCall, Response> {
    let path = query::decode(&request.path, false)
        .ok_or_else(|| Response::message(400, "the path is not UTF-8"))?;
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned);
    let not_found = || Response::message(404, "URI not found");
    if segments.next().as_deref() != Some("v2") {
        return Err(not_found());
    }
    let resource = segments.next().ok_or_else(not_found)?;
    if !accepts_json(request) {
        return Err(Response::message(406, "Not Acceptable"));
    }
    let call = Call {
        method: if request.method == "HEAD" {
            "GET"
        } else {
            &request.method
        },
        rest: segments.collect(),
        query: Query::parse(&request.query)
            .ok_or_else(|| Response::message(400, "the query is not UTF-8"))?,
        request,
    };
    match resource.as_str() {
        "apps" => apps::read(&call),
        "tasks" => tasks::read(&call),
        "deployments" => deployments::read(&call),
        "queue" => queue::read(&call),
        "info" => info::read(&call),
        _ => Err(not_found()),
    }
}

fn accepts_json(request: &Request) -> bool {
    request.accept.as_deref().is_none_or(|accept| {
        accept.split(',').any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim();
            matches!(range, "" | "*/*" | "application/*" | "application/json")
        })
    })
}

/// Writes what the core answered.
pub fn write(answer: Result<Answer, Refusal>, facts: &Facts) -> Response {
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return refused(&refusal),
    };
    match answer {
        Answer::Apps(views) => Response::json(
            200,
            json!({ "apps": views.iter().map(apps::app).collect::<Vec<_>>() }),
        ),
        Answer::AppsBelow(views) => Response::json(
            200,
            json!({ "*": views.iter().map(apps::app).collect::<Vec<_>>() }),
        ),
        Answer::App(view) => Response::json(200, json!({ "app": apps::app(&view) })),
        Answer::Created(view, deployed) => Response::json(201, apps::app(&view))
            .with("Location", view.spec.id.to_string())
            .with("Marathon-Deployment-Id", deployed.deployment),
        Answer::Deployed(deployed, created) => {
            let body = json!({
                "version": deployed.version.to_string(),
                "deploymentId": deployed.deployment,
            });
            let status = if created.is_some() { 201 } else { 200 };
            let response =
                Response::json(status, body).with("Marathon-Deployment-Id", deployed.deployment);
            match created {
                Some(id) => response.with("Location", id.to_string()),
                None => response,
            }
        }
        Answer::Tasks {
            tasks,
            service_ports,
        } => {
            let tasks: Vec<Value> = tasks
                .iter()
                .map(|view| tasks::task(view, service_ports))
                .collect();
            Response::json(200, json!({ "tasks": tasks }))
        }
        Answer::Task(view) => Response::json(200, json!({ "task": tasks::task(&view, true) })),
        Answer::Versions(versions) => {
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            Response::json(200, json!({ "versions": versions }))
        }
        Answer::Definition(spec) => {
            Response::json(200, Value::Object(crate::core::app::render::app(&spec)))
        }
        Answer::Deployments(views) => {
            Response::json(200, views.iter().map(deployments::deployment).collect())
        }
        Answer::Accepted => Response::empty(202),
        Answer::Done => Response::empty(204),
        Answer::Queue(views) => Response::json(200, queue::queue(&views)),
        Answer::Info(framework_id) => Response::json(200, info::info(facts, framework_id.as_ref())),
    }
}
