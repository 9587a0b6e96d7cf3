//! Answers: bodies, refusals and where else to ask.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Uri, header};
use mezzo_wire::grpc;
use tonic::Status;

use crate::core::Refusal;

/// Why a request is not served here.
#[derive(Debug)]
pub(super) enum Refused {
    /// A status with a line of text.
    Words(Refusal),
    /// Another master leads: the whole `Location`.
    Elsewhere(String),
    /// The method that was used; `POST` would do.
    Method(String),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Words(refusal)
    }
}

impl Refused {
    /// A refusal that the doors share, as HTTP has it. A leader elsewhere is named with the page that was asked for.
    pub fn from_status(status: &Status, uri: &Uri) -> Self {
        match grpc::leader(status) {
            Some(leader) => Self::Elsewhere(location(leader, uri)),
            None => Self::Words(Refusal::new(grpc::http(status.code()), status.message())),
        }
    }

    /// As it goes out.
    pub fn into_response(self) -> Response {
        match self {
            Self::Words(refusal) => words(refusal.status, refusal.text),
            Self::Elsewhere(location) => redirect(&location),
            Self::Method(method) => {
                let text = format!(
                    "405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
                );
                let mut response = words(405, text);
                let allow = HeaderValue::from_static("POST");
                response.headers_mut().insert(header::ALLOW, allow);
                response
            }
        }
    }
}

/// Where the same page lies at the leader: always below `/master`, whatever the scheme.
fn location(leader: &str, uri: &Uri) -> String {
    let path = uri.path();
    let below = path
        .strip_prefix("/master")
        .filter(|rest| rest.starts_with('/'));
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    format!("//{leader}/master{}{query}", below.unwrap_or(path))
}

/// 307 without a body.
pub(super) fn redirect(location: &str) -> Response {
    // Addresses that were read as text are headers too; one that is not cannot be followed anyway.
    let Ok(location) = HeaderValue::from_str(location) else {
        return words(503, "No leader elected");
    };
    let mut response = empty(307);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// A status without a body.
pub(super) fn empty(status: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = number(status);
    response
}

/// A status with a line of text.
pub(super) fn words(status: u16, text: impl Into<String>) -> Response {
    let mut response = of_kind("text/plain; charset=utf-8", text.into());
    *response.status_mut() = number(status);
    response
}

/// Nothing lies there.
pub(super) fn not_found() -> Response {
    words(404, "404 Not Found.")
}

/// A body of a kind.
pub(super) fn of_kind(kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn number(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_named_with_the_page() {
        for (asked, location) in [
            ("/state", "//m2:5050/master/state"),
            ("/master/state?x=1", "//m2:5050/master/state?x=1"),
            ("/api/v1", "//m2:5050/master/api/v1"),
            (
                "/master/api/v1/scheduler",
                "//m2:5050/master/api/v1/scheduler",
            ),
            (
                "/tasks?limit=3&order=asc",
                "//m2:5050/master/tasks?limit=3&order=asc",
            ),
            ("/masterful", "//m2:5050/master/masterful"),
        ] {
            let uri: Uri = asked.parse().unwrap();
            assert_eq!(super::location("m2:5050", &uri), location);
            let status = grpc::not_leading(Some("m2:5050"));
            assert!(
                matches!(Refused::from_status(&status, &uri), Refused::Elsewhere(at) if at == location)
            );
        }
        let nobody = Refused::from_status(&grpc::not_leading(None), &Uri::from_static("/state"));
        assert!(
            matches!(nobody, Refused::Words(why) if why.status == 503 && why.text == "No leader elected")
        );
    }
}
