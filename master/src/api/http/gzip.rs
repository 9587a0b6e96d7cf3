//! Gzip: bodies that come so are taken, and long answers go out so to whoever asks. Streams never do: a reader would
//! wait for events that lie in a compressor.
//!
//! Invariant: what a body unpacks to is bounded as what comes plain is.

use std::io::{Read as _, Write as _};

use axum::body::{Body, HttpBody as _};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};

use super::media;
use crate::api::MAX_CALL_BYTES;
use crate::core::Refusal;

/// Shorter answers go out as they are, in bytes.
const LONG: u64 = 1024;

/// Unpacks a body that says that it is packed.
pub(super) async fn unpack(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let packed = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if !packed {
        return Ok(body);
    }
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut plain = Vec::new();
        let limit = MAX_CALL_BYTES as u64 + 1;
        let read = GzDecoder::new(&*body).take(limit).read_to_end(&mut plain);
        read.map(|_| plain)
    });
    match unpacked.await {
        Ok(Ok(plain)) if plain.len() > MAX_CALL_BYTES => Err(Refusal::new(
            413,
            format!("The body is longer than the limit of {MAX_CALL_BYTES} bytes"),
        )),
        Ok(Ok(plain)) => Ok(plain.into()),
        Ok(Err(error)) => Err(Refusal::bad(format!("Failed to unpack the body: {error}"))),
        Err(_) => Err(Refusal::new(500, "the body could not be unpacked")),
    }
}

/// Whether a reader wants what is long to be packed.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let wanted = headers.get_all(header::ACCEPT_ENCODING);
    let wanted: Vec<&str> = wanted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    media::weighs(&wanted.join(","), &["gzip", "*"])
}

/// Packs a long answer.
pub(super) async fn pack(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    if length.is_none_or(|length| length < LONG) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is in memory already.
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        return super::answer::words(500, "the answer could not be packed");
    };
    let packed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain)?;
        encoder.finish()
    });
    match packed.await {
        Ok(Ok(packed)) => {
            let gzip = HeaderValue::from_static("gzip");
            parts.headers.insert(header::CONTENT_ENCODING, gzip);
            // The inner router has said how long it was.
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(packed))
        }
        // Writing into memory does not fail.
        _ => super::answer::words(500, "the answer could not be packed"),
    }
}
