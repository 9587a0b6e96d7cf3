//! Basic authentication in front of a daemon's routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use mezzo_model::credentials::Credentials;

/// The name that a request proved, as a request extension. Absent where no credentials are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal(pub Arc<str>);

/// Who may pass, and what stays open to all.
#[derive(Clone, Debug)]
pub struct Guard {
    credentials: Option<Arc<Credentials>>,
    realm: HeaderValue,
    open: &'static [&'static str],
}

impl Guard {
    /// A guard for the realm named in challenges, such as `mezzo-master`. With no credentials everybody passes.
    ///
    /// `open` are exact paths that need no name: Mesos leaves `/health`, `/version` and `/redirect` open so that load
    /// balancers can ask.
    pub fn new(
        credentials: Option<Arc<Credentials>>,
        realm: &'static str,
        open: &'static [&'static str],
    ) -> Self {
        let challenge = format!("Basic realm=\"{realm}\"");
        let realm = HeaderValue::from_str(&challenge)
            .unwrap_or_else(|_| HeaderValue::from_static("Basic realm=\"mezzo\""));
        Self {
            credentials,
            realm,
            open,
        }
    }

    /// Puts the guard in front of every route of the router.
    pub fn protect(self, router: Router) -> Router {
        match self.credentials {
            None => router,
            Some(_) => router.layer(middleware::from_fn_with_state(Arc::new(self), pass)),
        }
    }

    fn principal(&self, request: &Request) -> Option<Principal> {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?;
        let name = self.credentials.as_ref()?.check_basic(given)?;
        Some(Principal(name))
    }
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if guard.open.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match guard.principal(&request) {
        Some(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        None => refuse(&guard, &request),
    }
}

/// A gRPC client reads trailers, everybody else the status line; both get the same words.
fn refuse(guard: &Guard, request: &Request) -> Response {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let mut response = if is_grpc {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert("grpc-status", HeaderValue::from_static("16"));
        headers.insert(
            "grpc-message",
            HeaderValue::from_static("401 Unauthorized."),
        );
        response
    } else {
        let mut response = Response::new(Body::from("401 Unauthorized."));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    };
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, guard.realm.clone());
    response
}
