//! HTTP around the door: bodies are read with a limit, headers that every answer carries are put on, and what a
//! process that does not lead is asked is passed on.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use tokio::sync::watch;

use super::desk::{self, Standing, Way};
use super::proxy::Proxy;
use crate::api::{self, Facts};

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    standing: watch::Receiver<Standing>,
    facts: Arc<Facts>,
    proxy: Proxy,
}

/// All routes but `/health` and `/metrics`.
pub fn routes(standing: watch::Receiver<Standing>, facts: Facts) -> Router {
    let proxy = Proxy::new(facts.leader.clone());
    let shared = Shared {
        standing,
        facts: Arc::new(facts),
        proxy,
    };
    Router::new()
        .route("/ping", any(ping))
        .route("/v2/leader", any(leader))
        .fallback(door)
        .with_state(shared)
}

/// Answered by every process, leading or not: load balancers ask.
async fn ping(headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    let (kind, body) = if accept.contains("application/json") && !accept.contains("*/*") {
        ("application/json", "\"pong\"")
    } else if accept.contains("text/html") {
        ("text/html", "pong")
    } else {
        ("text/plain", "pong")
    };
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    put_usual(response.headers_mut());
    response
}

async fn leader(State(mut shared): State<Shared>, request: Request) -> Response {
    if request.method() != http::Method::GET && request.method() != http::Method::HEAD {
        return respond(api::Response::message(405, "Method Not Allowed"));
    }
    let leader = match desk::way(&mut shared.standing).await {
        Some(Way::Here(_)) => shared.facts.leader.clone(),
        Some(Way::There(leader)) => leader,
        None => return respond(api::Response::message(404, "There is no leader")),
    };
    respond(api::Response::json(200, json!({ "leader": leader })))
}

async fn door(State(mut shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(refused) => return respond(refused),
    };
    match desk::way(&mut shared.standing).await {
        Some(Way::Here(questions)) => {
            let mut response = answer(&questions, &shared.facts, &parts, body).await;
            put_leader(response.headers_mut(), &shared.facts.leader);
            response
        }
        Some(Way::There(leader)) => shared.proxy.pass_on(&parts, body, &leader).await,
        None => respond(api::Response::message(
            502,
            "Could not determine the current leader",
        )),
    }
}

async fn answer(
    questions: &tokio::sync::mpsc::Sender<desk::Question>,
    facts: &Facts,
    parts: &http::request::Parts,
    body: Bytes,
) -> Response {
    let text = |name: HeaderName| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let request = api::Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: text(header::CONTENT_TYPE),
        accept: text(header::ACCEPT),
        body,
    };
    let call = match api::read(&request) {
        Ok(call) => call,
        Err(refused) => return respond(refused),
    };
    match desk::ask(questions, call).await {
        Ok(answer) => respond(api::write(answer, facts)),
        Err(none) => respond(api::Response::message(503, none.to_string())),
    }
}

async fn read(body: Body) -> Result<Bytes, api::Response> {
    match Limited::new(body, api::body::MAX_BODY_BYTES)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(api::body::too_large()),
        Err(error) => Err(api::Response::message(
            400,
            format!("the body could not be read: {error}"),
        )),
    }
}

/// An answer of ours as HTTP.
pub fn respond(answer: api::Response) -> Response {
    let body = answer
        .body
        .map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            headers.insert(name, value);
        }
    }
    put_usual(headers);
    response
}

/// What every answer carries: nothing here may be kept by a cache.
fn put_usual(headers: &mut HeaderMap) {
    let none = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    headers.insert(header::CACHE_CONTROL, none);
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::EXPIRES, HeaderValue::from_static("0"));
}

fn put_leader(headers: &mut HeaderMap, leader: &str) {
    if let Ok(leader) = HeaderValue::from_str(&format!("http://{leader}")) {
        headers.insert("x-marathon-leader", leader);
    }
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::X_XSS_PROTECTION,
        HeaderValue::from_static("1; mode=block"),
    );
}
