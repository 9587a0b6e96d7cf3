//! The HTTP door: the v1 API of schedulers and operators, and the pages that older tools poll, on the same port as
//! gRPC.
//!
//! A request finds its page by the longest served prefix of its path (`route`), passes the guard of that page's realm,
//! and is answered: calls climb the common ladder (`ladder`), pages are pure functions of what the read model says
//! (`v0`). Invariant: this door decides nothing that the other one would decide otherwise; both hand the same values to
//! the same core, and every refusal of a call's meaning has the core's words.

mod answer;
mod explain;
mod gzip;
mod ladder;
mod media;
mod operator;
mod pages;
mod query;
mod route;
mod scheduler;
mod stream;
mod v0;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::header;
use mezzo_door::{Guard, Health};
use mezzo_model::credentials::Credentials;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::reads::Reads;
use crate::front::Front;
use answer::{not_found, words};
use route::{Page, Realm};

/// What every page may look at.
#[derive(Clone, Debug)]
pub(super) struct Door {
    front: Front,
    reads: Reads,
    health: Health,
    /// For long bodies.
    places: Arc<Semaphore>,
}

/// One guarded router a realm.
#[derive(Clone, Debug)]
struct Halls {
    open: Router,
    readonly: Router,
    readwrite: Router,
    scheduler: Router,
}

/// Whatever no gRPC service takes.
pub(super) fn routes(
    front: Front,
    reads: Reads,
    health: Health,
    credentials: Option<&Arc<Credentials>>,
) -> Router {
    let door = Arc::new(Door {
        front,
        reads,
        health,
        places: Arc::new(Semaphore::new(ladder::LONG_BODIES)),
    });
    let door = Router::new().fallback(serve).with_state(door);
    let behind = |realm| Guard::new(credentials.cloned(), realm, &[]).protect(door.clone());
    let halls = Halls {
        readonly: behind("mesos-master-readonly"),
        readwrite: behind("mesos-master-readwrite"),
        scheduler: behind("mesos-master-scheduler"),
        open: door,
    };
    Router::new().fallback(enter).with_state(Arc::new(halls))
}

/// Finds the page and the hall that it lies in.
async fn enter(State(halls): State<Arc<Halls>>, mut request: Request) -> Response {
    let Some(page) = route::find(request.uri().path()) else {
        return lost(&request);
    };
    request.extensions_mut().insert(page);
    let is_packed = gzip::is_wanted(request.headers());
    let hall = match page.realm() {
        Realm::Open => &halls.open,
        Realm::ReadOnly => &halls.readonly,
        Realm::ReadWrite => &halls.readwrite,
        Realm::Scheduler => &halls.scheduler,
    };
    match hall.clone().oneshot(request).await {
        Ok(response) if is_packed => gzip::pack(response).await,
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Nothing lies there. Callers of gRPC and drivers of the first API are told in their own way.
fn lost(request: &Request) -> Response {
    let headers = request.headers();
    let is_grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return tonic::Status::unimplemented("no such method").into_http();
    }
    if route::is_libprocess(request.uri().path(), headers) {
        tracing::warn!(
            path = request.uri().path(),
            "a driver of the first API was refused"
        );
        return words(
            501,
            "This master does not speak libprocess messages: use a driver of the v1 HTTP API (POST /api/v1/scheduler); \
             see docs/differences-from-mesos.md",
        );
    }
    not_found()
}

async fn serve(
    State(door): State<Arc<Door>>,
    Extension(page): Extension<Page>,
    request: Request,
) -> Response {
    let answered = match page {
        Page::Scheduler => scheduler::serve(&door, request).await,
        Page::Operator => operator::serve(&door, request).await,
        Page::Teardown => pages::teardown(&door, request).await,
        Page::Explain => explain::serve(&door, request.uri()).await,
        Page::Unserved => pages::unserved(&door, &request),
        Page::Health => Ok(pages::health(&door)),
        Page::Redirect => pages::redirect(&door),
        page => pages::serve(&door, page, request).await,
    };
    answered.unwrap_or_else(answer::Refused::into_response)
}
