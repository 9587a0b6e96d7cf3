//! JSON or protobuf: what a body is, and what an answer may be.
//!
//! The two are independent of each other. A body's kind is compared as it stands (a charset beside it is refused, as
//! Mesos refuses it); for answers JSON is tried first, so whoever accepts anything gets JSON.

use bytes::Bytes;
use http::{HeaderMap, header};
use mezzo_wire::check::Limits;
use mezzo_wire::{Described, decode_within, encode, json};

use crate::api::MAX_CALL_BYTES;
use crate::core::Refusal;

/// A kind of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Protobuf,
}

const LIMITS: Limits = Limits {
    bytes: MAX_CALL_BYTES,
    ..Limits::DEFAULT
};

impl Media {
    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// What the body of a request is.
    pub fn of_body(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(kind) = headers.get(header::CONTENT_TYPE) else {
            return Err(Refusal::bad("Expecting 'Content-Type' to be present"));
        };
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|media| kind.as_bytes() == media.name().as_bytes())
            .ok_or_else(|| {
                Refusal::new(
                    415,
                    "Expecting 'Content-Type' of application/json or application/x-protobuf",
                )
            })
    }

    /// What the answer to a request is to be.
    pub fn of_answer(headers: &HeaderMap) -> Result<Self, Refusal> {
        let accepted: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        if accepted.is_empty() {
            return Ok(Self::Json);
        }
        let accepted = accepted.join(",");
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|media| accepts(&accepted, media.name()))
            .ok_or_else(|| {
                Refusal::new(
                    406,
                    "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
                )
            })
    }

    /// Reads a call.
    pub fn read<C: Described>(self, body: &Bytes) -> Result<C, Refusal> {
        match self {
            Self::Json => json::from_slice_within(body, &LIMITS)
                .map_err(|error| Refusal::bad(error.to_string())),
            Self::Protobuf => decode_within(body.clone(), &LIMITS)
                .map_err(|error| Refusal::bad(error.to_string())),
        }
    }

    /// Writes an answer or an event.
    pub fn write<M: Described>(self, message: &M) -> Vec<u8> {
        match self {
            Self::Json => json::to_vec(message),
            Self::Protobuf => encode(message),
        }
    }
}

/// Whether a list of media ranges lets this kind in.
fn accepts(ranges: &str, kind: &str) -> bool {
    let family = kind.split('/').next().unwrap_or_default();
    weighs(ranges, &[kind, &format!("{family}/*"), "*/*"])
}

/// Whether a list gives weight to the first of these names that it holds; of several equal entries the first decides.
pub(super) fn weighs(list: &str, names: &[&str]) -> bool {
    for name in names {
        for entry in list.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            if parts
                .next()
                .is_some_and(|other| other.eq_ignore_ascii_case(name))
            {
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
                return weight.is_none_or(|weight: f64| weight > 0.0);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(accept: Option<&str>) -> Result<Media, u16> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        Media::of_answer(&headers).map_err(|refusal| refusal.status)
    }

    #[test]
    fn json_is_tried_first() {
        for (accept, media) in [
            (None, Ok(Media::Json)),
            (Some("*/*"), Ok(Media::Json)),
            (Some("application/*"), Ok(Media::Json)),
            (Some("application/x-protobuf"), Ok(Media::Protobuf)),
            (
                Some("text/html, application/x-protobuf;q=0.5, application/json;q=0.4"),
                Ok(Media::Json),
            ),
            (Some("application/json;q=0, */*"), Ok(Media::Protobuf)),
            (Some("APPLICATION/JSON"), Ok(Media::Json)),
            (Some("application/json;q=0"), Err(406)),
            (Some("text/plain"), Err(406)),
            (Some("text/*"), Err(406)),
            (Some(""), Err(406)),
        ] {
            assert_eq!(answer(accept), media, "{accept:?}");
        }
    }

    #[test]
    fn bodies_are_compared_as_they_stand() {
        let mut headers = HeaderMap::new();
        assert_eq!(Media::of_body(&headers).map_err(|why| why.status), Err(400));
        for (kind, media) in [
            ("application/json", Ok(Media::Json)),
            ("application/x-protobuf", Ok(Media::Protobuf)),
            ("application/json; charset=utf-8", Err(415)),
            ("application/protobuf", Err(415)),
            ("text/plain", Err(415)),
        ] {
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(Media::of_body(&headers).map_err(|why| why.status), media);
        }
    }
}
