//! The rungs that every call climbs before it is looked at: does this master lead, is it a POST, what is the body, can
//! it be read. Their order is Mesos', so that a caller who errs twice hears of the same mistake first.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, Method};
use mezzo_door::Principal;
use mezzo_wire::Described;
use tokio::sync::OwnedSemaphorePermit;

use super::Door;
use super::answer::Refused;
use super::gzip;
use super::media::Media;
use crate::api::MAX_CALL_BYTES;
use crate::core::Refusal;
use crate::front::Office;

/// A body that has not arrived after so long is not waited for.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// Bodies longer than this wait for one of a few places, and are read on a thread that may block.
const LONG_BODY: usize = 128 << 10;

/// Long bodies that are taken in at once.
pub(super) const LONG_BODIES: usize = 16;

/// A call that can be looked at.
pub(super) struct Climbed<C> {
    pub office: Arc<Office>,
    pub principal: Option<Arc<str>>,
    pub headers: HeaderMap,
    pub call: C,
}

/// Climbs.
pub(super) async fn climb<C: Described + Send>(
    door: &Door,
    request: Request,
) -> Result<Climbed<C>, Refused> {
    let (parts, body) = request.into_parts();
    let office = door
        .front
        .office()
        .map_err(|status| Refused::from_status(&status, &parts.uri))?;
    if parts.method != Method::POST {
        return Err(Refused::Method(parts.method.to_string()));
    }
    let media = Media::of_body(&parts.headers)?;
    let (body, _place) = read(door, body).await?;
    let body = gzip::unpack(&parts.headers, body).await?;
    let call = if body.len() > LONG_BODY {
        let read = tokio::task::spawn_blocking(move || media.read(&body));
        read.await
            .map_err(|_| Refusal::new(500, "the body could not be read"))??
    } else {
        media.read(&body)?
    };
    let principal = parts
        .extensions
        .get::<Principal>()
        .map(|Principal(name)| name.clone());
    Ok(Climbed {
        office,
        principal,
        headers: parts.headers,
        call,
    })
}

/// Takes in a whole body, within [`MAX_CALL_BYTES`] and in time. One that is long, or does not say how long it is,
/// waits for a place and keeps it until its bytes are done with, so that many of them cannot fill the memory together.
pub(super) async fn read(
    door: &Door,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let is_short = body
        .size_hint()
        .upper()
        .is_some_and(|length| length <= LONG_BODY as u64);
    let read = async {
        let place = if is_short {
            None
        } else {
            door.places.clone().acquire_owned().await.ok()
        };
        let body = axum::body::to_bytes(body, MAX_CALL_BYTES).await?;
        Ok((body, place))
    };
    match tokio::time::timeout(BODY_PATIENCE, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_long(&error) => Err(Refusal::new(
            413,
            format!("The body is longer than the limit of {MAX_CALL_BYTES} bytes"),
        )),
        Ok(Err(error)) => Err(Refusal::bad(format!("Failed to read the body: {error}"))),
        Err(_) => Err(Refusal::new(408, "The body did not arrive in time")),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
