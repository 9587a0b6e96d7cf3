//! A process that does not lead passes requests on to the one that does, so that a client may ask any of them.
//!
//! Source: Marathon's headers. `X-Marathon-Via` names each process on the way; a request that comes back to one of
//! them goes round in a circle and is refused.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::http::respond;
use crate::api;

const VIA: HeaderName = HeaderName::from_static("x-marathon-via");

/// For how long the leader may take to begin its answer: longer than it waits for its store.
const TIMEOUT: Duration = Duration::from_secs(35);
/// For how long a connection to it may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that are meant for one connection only (RFC 9110, 7.6.1).
const HOPS: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Passes requests on.
#[derive(Clone)]
pub struct Proxy {
    client: Client<HttpConnector, Body>,
    /// `1.1 host:port` of this process.
    me: String,
}

impl Proxy {
    /// A proxy of the process at `host:port`.
    pub fn new(me: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self {
            client,
            me: format!("1.1 {me}"),
        }
    }

    /// Asks the leader, and answers what it answers.
    pub async fn pass_on(&self, parts: &Parts, body: Bytes, leader: &str) -> Response {
        let mut via = parts.headers.get_all(VIA).iter();
        if via.any(|one| one.to_str().is_ok_and(|one| one.contains(self.me.as_str()))) {
            return respond(api::Response::message(502, "Detected proxying loop."));
        }
        let Some(request) = self.request(parts, body, leader) else {
            let words = format!("the leader's address {leader} cannot be used");
            return respond(api::Response::message(502, words));
        };
        match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
            Ok(Ok(response)) => {
                let mut response = response.map(Body::new);
                without_hops(response.headers_mut());
                self.put_via(response.headers_mut());
                response
            }
            Ok(Err(error)) if error.is_connect() => {
                respond(api::Response::message(502, "Connection to leader refused."))
            }
            Ok(Err(error)) => respond(api::Response::message(
                502,
                format!("the leader at {leader}: {error}"),
            )),
            Err(_) => {
                let words = format!(
                    "the leader at {leader} did not answer within {} s",
                    TIMEOUT.as_secs()
                );
                respond(api::Response::message(504, words))
            }
        }
    }

    fn request(&self, parts: &Parts, body: Bytes, leader: &str) -> Option<http::Request<Body>> {
        let mut target = http::uri::Parts::default();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(leader.parse::<Authority>().ok()?);
        let path = parts.uri.path_and_query().cloned();
        target.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let mut request = http::Request::new(Body::from(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = Uri::from_parts(target).ok()?;
        let headers = request.headers_mut();
        headers.clone_from(&parts.headers);
        without_hops(headers);
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        self.put_via(headers);
        Some(request)
    }

    fn put_via(&self, headers: &mut HeaderMap) {
        if let Ok(me) = HeaderValue::from_str(&self.me) {
            headers.append(VIA, me);
        }
    }
}

fn without_hops(headers: &mut HeaderMap) {
    for name in HOPS {
        headers.remove(name);
    }
}
