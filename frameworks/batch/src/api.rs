//! The door: Metronome's REST API (`/v1`), and the same with our own fields (`/v2`).
//!
//! A handler reads the request, asks the core through the [`Desk`], and writes the answer down. Invariant: nothing here
//! decides what happens to a job.

mod body;
pub mod desk;
mod errors;
mod jobs;
mod json;
mod proxy;
mod runs;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http::{StatusCode, Uri};
use serde_json::{Value, json};

use crate::core::job::parse::Dialect;
use desk::Desk;

pub use errors::Problem;

/// What `/info` tells of this process.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The framework's name.
    pub framework_name: String,
    /// Its role.
    pub role: String,
    /// The user of its tasks.
    pub user: String,
    /// How this process is reached: `host:port`.
    pub address: String,
}

/// What every handler has.
#[derive(Clone, Debug)]
pub struct Api {
    desk: Desk,
    about: Arc<About>,
    dialect: Dialect,
    client: proxy::Client,
}

impl Api {
    /// The door's handlers, asking at this desk.
    pub fn new(desk: Desk, about: About) -> Self {
        let client = proxy::client();
        Self {
            desk,
            about: Arc::new(about),
            dialect: Dialect::Metronome,
            client,
        }
    }

    /// All routes. Those that the leader must answer are passed on to it by a process that does not lead.
    pub fn routes(self) -> Router {
        let led = Router::new()
            .nest(
                "/v1",
                resources()
                    .route("/queue", get(queue))
                    .with_state(self.clone()),
            )
            .nest(
                "/v2",
                resources().with_state(Self {
                    dialect: Dialect::Mezzo,
                    ..self.clone()
                }),
            )
            .fallback(unknown_route)
            .method_not_allowed_fallback(unknown_route)
            .layer(DefaultBodyLimit::max(body::MAX_BODY_BYTES))
            .layer(middleware::from_fn_with_state(self.clone(), proxy::pass_on));
        let own = Router::new()
            .route("/ping", get(|| async { "pong" }))
            .route("/info", get(info))
            .route("/leader", get(leader))
            .with_state(self);
        own.merge(led)
    }
}

fn resources() -> Router<Api> {
    Router::new()
        .route("/jobs", get(jobs::list).post(jobs::create))
        .route(
            "/jobs/{id}",
            get(jobs::get).put(jobs::update).delete(jobs::delete),
        )
        .route(
            "/jobs/{id}/schedules",
            get(jobs::schedules).post(jobs::add_schedule),
        )
        .route(
            "/jobs/{id}/schedules/{schedule}",
            get(jobs::schedule)
                .put(jobs::schedule)
                .delete(jobs::schedule),
        )
        .route("/jobs/{id}/runs", get(runs::list).post(runs::start))
        .route("/jobs/{id}/runs/{run}", get(runs::get))
        .route("/jobs/{id}/runs/{run}/actions/stop", post(runs::stop))
}

async fn queue(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    runs::queue(&api).await
}

async fn info(State(api): State<Api>) -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "version": version,
        "libVersion": version,
        "config": {
            "frameworkName": api.about.framework_name,
            "mesosRole": api.about.role,
            "mesosUser": api.about.user,
            "address": api.about.address,
        },
    }))
}

async fn leader(State(api): State<Api>) -> Response {
    let leader = match api.desk.leader() {
        desk::Leader::Us => Some(api.about.address.clone()),
        desk::Leader::At(address) => Some(address),
        desk::Leader::Nobody => None,
    };
    match leader {
        Some(leader) => Json(json!({"leader": leader})).into_response(),
        None => Problem::message(StatusCode::NOT_FOUND, "There is no leader").into_response(),
    }
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::at(StatusCode::NOT_FOUND, "Unknown route.", &uri)
}

#[cfg(test)]
mod tests;
