//! A process that does not lead passes requests on to the one that does, so that a client may ask any of them.
//!
//! A request is passed on once: one that comes from another such process is refused, because then no two agree on
//! who leads.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::desk::Leader;
use super::{Api, Problem};

/// Which processes have passed a request on.
const VIA: HeaderName = HeaderName::from_static("x-via");

/// Which process answered it.
const LEADER: HeaderName = HeaderName::from_static("x-leader");

/// For how long the leader may take to begin its answer.
const TIMEOUT: Duration = Duration::from_secs(45);

/// For how long a connection to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The client that requests are passed on with.
pub type Client = HyperClient<HttpConnector, Body>;

/// A client.
pub fn client() -> Client {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    HyperClient::builder(TokioExecutor::new()).build(connector)
}

/// Answers here if this process leads, else passes the request on.
pub async fn pass_on(State(api): State<Api>, request: Request, next: Next) -> Response {
    let leader = match api.desk.leader() {
        Leader::Us => {
            let mut response = next.run(request).await;
            put_leader(&mut response, &api.about.address);
            return response;
        }
        Leader::At(leader) => leader,
        Leader::Nobody => {
            let words = "No consistent leadership: nobody leads at the moment; try again";
            return Problem::message(StatusCode::SERVICE_UNAVAILABLE, words).into_response();
        }
    };
    if request.headers().contains_key(VIA) {
        let words = "Prevent proxying already proxied request";
        return Problem::message(StatusCode::BAD_REQUEST, words).into_response();
    }
    match send(&api, request, &leader).await {
        Ok(response) => response,
        Err(words) => {
            let words = format!("the leader at {leader} did not answer: {words}");
            Problem::message(StatusCode::BAD_GATEWAY, words).into_response()
        }
    }
}

async fn send(api: &Api, mut request: Request, leader: &str) -> Result<Response, String> {
    let authority: Authority = leader
        .parse()
        .map_err(|_| String::from("that is no address"))?;
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
    *request.version_mut() = http::Version::HTTP_11;
    without_hops(request.headers_mut());
    request.headers_mut().remove(header::HOST);
    let via =
        HeaderValue::from_str(&api.about.address).unwrap_or(HeaderValue::from_static("mezzo"));
    request.headers_mut().insert(VIA, via);
    let answered = tokio::time::timeout(TIMEOUT, api.client.request(request));
    let response = answered
        .await
        .map_err(|_| format!("nothing came within {} s", TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let mut response = response.map(Body::new);
    without_hops(response.headers_mut());
    put_leader(&mut response, leader);
    Ok(response)
}

fn put_leader(response: &mut Response, leader: &str) {
    if let Ok(leader) = HeaderValue::from_str(leader) {
        response.headers_mut().insert(LEADER, leader);
    }
}

/// Headers that are meant for one connection only (RFC 9110, 7.6.1).
fn without_hops(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}
