//! `POST /api/v1/scheduler`: SUBSCRIBE opens a stream of records, every other call is answered at once.

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use mezzo_wire::v1::scheduler::Call;
use mezzo_wire::v1::scheduler::call::Type;
use tokio::sync::oneshot;

use super::Door;
use super::answer::{self, Refused};
use super::ladder::{self, Climbed};
use super::media::Media;
use super::stream;
use crate::core::Refusal;
use crate::front::{self, Knock};
use crate::validate;

/// Names the stream that a call belongs to.
const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// Answers a call.
pub(super) async fn serve(door: &Door, request: Request) -> Result<Response, Refused> {
    let climbed: Climbed<Call> = ladder::climb(door, request).await?;
    let kind = validate::call::check(&climbed.call, climbed.principal.as_deref())
        .map_err(|invalid| Refusal::bad(invalid.words))?;
    // Only these two may have something to answer; for the others nobody looks.
    let media = match kind {
        Type::Subscribe | Type::ReconcileOperations => Media::of_answer(&climbed.headers)?,
        _ => Media::Json,
    };
    match kind {
        Type::Unknown => Err(Refusal::new(501, "Received a call of type UNKNOWN").into()),
        Type::Subscribe => subscribe(climbed, media).await,
        _ => submit(climbed, kind).await,
    }
}

/// The stream id that came with a call; what is no text cannot be one.
fn stream_id<C>(climbed: &Climbed<C>) -> Option<String> {
    let value = climbed.headers.get(STREAM_ID)?;
    Some(value.to_str().unwrap_or_default().to_owned())
}

async fn subscribe(climbed: Climbed<Call>, media: Media) -> Result<Response, Refused> {
    let stream_id = stream_id(&climbed);
    let Climbed {
        office,
        principal,
        call,
        ..
    } = climbed;
    let connection = office.connection();
    let conn = connection.id;
    // Dropping the stream, now or later, tells the core that the scheduler is gone.
    let (events, inbox) = front::stream(connection);
    let (opened, answer) = oneshot::channel();
    let knock = Knock::Subscribe {
        conn,
        principal,
        stream_id,
        call: Box::new(call),
        opened,
        events,
    };
    office.knock(knock).await.map_err(|_| over())?;
    let stream_id = answer.await.map_err(|_| over())??;
    let mut response = Response::new(stream::body(inbox, media));
    let headers = response.headers_mut();
    let id =
        HeaderValue::from_str(stream_id.as_str()).map_err(|_| Refusal::new(500, "no stream id"))?;
    headers.insert(STREAM_ID, id);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.name()));
    Ok(response)
}

async fn submit(climbed: Climbed<Call>, kind: Type) -> Result<Response, Refused> {
    let stream_id = stream_id(&climbed);
    let (answer, answered) = oneshot::channel();
    let knock = Knock::Call {
        principal: climbed.principal,
        stream_id,
        call: Box::new(climbed.call),
        answer,
    };
    climbed.office.knock(knock).await.map_err(|_| over())?;
    answered.await.map_err(|_| over())??;
    // The answer of this one says that it is done, not only that it was taken.
    let status = if kind == Type::UpdateFramework {
        200
    } else {
        202
    };
    Ok(answer::empty(status))
}

/// A term that ended while somebody waited.
pub(super) fn over() -> Refusal {
    Refusal::new(503, front::over().message())
}
