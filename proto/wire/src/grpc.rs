//! The door that gRPC is: which status stands for which HTTP status, what travels in metadata, and
//! a codec that reads with [`crate::check`].
//!
//! Both doors refuse with the same words; one table says which number goes with them on each.
//! Invariant: the table is one to one, so that a refusal that crossed a gateway reads the same.

use std::marker::PhantomData;

use bytes::{Buf, BufMut};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Status};

use crate::check::{self, DecodeError, Limits};
use crate::descriptor::Described;
use crate::encode::encode;

/// Metadata with the id of a subscription's stream: in the answer to a scheduler's `Subscribe`, and
/// with each later call.
pub const STREAM_ID: &str = "mesos-stream-id";

/// Metadata with `host:port` of the leading master, in the refusal of one that does not lead.
pub const LEADER: &str = "mezzo-leader";

/// HTTP statuses and the gRPC statuses that stand for them.
///
/// 405, 406 and 415 are missing: they speak of HTTP itself, and a gRPC caller cannot earn them.
pub const STATUSES: &[(u16, Code)] = &[
    (200, Code::Ok),
    (307, Code::FailedPrecondition),
    (400, Code::InvalidArgument),
    (401, Code::Unauthenticated),
    (403, Code::PermissionDenied),
    (404, Code::NotFound),
    (409, Code::Aborted),
    (413, Code::OutOfRange),
    (422, Code::DataLoss),
    (429, Code::ResourceExhausted),
    (499, Code::Cancelled),
    (500, Code::Internal),
    (501, Code::Unimplemented),
    (503, Code::Unavailable),
    (504, Code::DeadlineExceeded),
];

/// Longest text of a status, in bytes: it travels in a header, and peers bound those.
const TEXT_MAX: usize = 4096;

/// The gRPC status for an HTTP status; one that the table lacks becomes the first of its hundred.
pub fn code(http: u16) -> Code {
    let exact = STATUSES.iter().find(|entry| entry.0 == http);
    match (exact, http) {
        (Some(&(_, code)), _) => code,
        (None, 200..=299) => Code::Ok,
        (None, 300..=399) => Code::FailedPrecondition,
        (None, 400..=499) => Code::InvalidArgument,
        (None, 500..=599) => Code::Internal,
        (None, _) => Code::Unknown,
    }
}

/// The HTTP status for a gRPC status; one that the table lacks becomes 500.
pub fn http(code: Code) -> u16 {
    STATUSES
        .iter()
        .find(|entry| entry.1 == code)
        .map_or(500, |entry| entry.0)
}

/// A refusal: the words of the HTTP door under the gRPC status that stands for its number.
pub fn refuse(http: u16, text: impl AsRef<str>) -> Status {
    let text = text.as_ref();
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Status::new(code(http), &text[..end])
}

/// The refusal of a master that does not lead: with the leader's `host:port` (307 over HTTP), or
/// without (503), when none is known.
pub fn not_leading(leader: Option<&str>) -> Status {
    let address = leader.and_then(|leader| leader.parse::<MetadataValue<Ascii>>().ok());
    match (leader, address) {
        (Some(leader), Some(address)) => {
            let mut status = refuse(307, format!("not leading; the leader is {leader}"));
            status.metadata_mut().insert(LEADER, address);
            status
        }
        _ => refuse(503, "No leader elected"),
    }
}

/// The leader's `host:port` that a refusal names.
pub fn leader(status: &Status) -> Option<&str> {
    status.metadata().get(LEADER)?.to_str().ok()
}

/// The words of a refused message: those of the HTTP door, and why.
impl From<DecodeError> for Status {
    fn from(error: DecodeError) -> Self {
        refuse(400, format!("{error}: {}", error.cause))
    }
}

/// Writes with [`encode`] and reads with the check for required fields, so that no service of ours,
/// and no receiver elsewhere, sees a message that lacks one.
#[derive(Clone, Copy, Debug)]
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Described + Send, U: Described + Send> Codec for CheckedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = CheckedEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        CheckedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        CheckedDecoder(PhantomData)
    }
}

/// The writing half of [`CheckedCodec`].
#[derive(Clone, Copy, Debug)]
pub struct CheckedEncoder<T>(PhantomData<T>);

impl<T: Described + Send> Encoder for CheckedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if T::info().holds_maps {
            buf.put_slice(&encode(&item));
            return Ok(());
        }
        item.encode(buf)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// The reading half of [`CheckedCodec`]. The length of a message is bounded by tonic
/// (`max_decoding_message_size`), the rest by [`Limits::DEFAULT`].
#[derive(Clone, Copy, Debug)]
pub struct CheckedDecoder<U>(PhantomData<U>);

impl<U: Described + Send> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let body = buf.copy_to_bytes(buf.remaining());
        let limits = Limits {
            bytes: usize::MAX,
            ..Limits::DEFAULT
        };
        Ok(Some(check::decode_within(body, &limits)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_one_to_one() {
        for (i, &(number, code)) in STATUSES.iter().enumerate() {
            assert_eq!(super::code(number), code);
            assert_eq!(super::http(code), number);
            for &(other_number, other_code) in &STATUSES[i + 1..] {
                assert!(
                    number < other_number && code != other_code,
                    "{number} {code:?}"
                );
            }
        }
        assert_eq!(code(406), Code::InvalidArgument);
        assert_eq!(code(502), Code::Internal);
        assert_eq!(http(Code::Unknown), 500);
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let status = refuse(403, "Framework is not subscribed");
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "Framework is not subscribed")
        );
        assert_eq!(refuse(400, "é".repeat(4000)).message().len(), TEXT_MAX);
    }

    #[test]
    fn who_does_not_lead_says_who_does() {
        let status = not_leading(Some("10.0.0.1:5050"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(leader(&status), Some("10.0.0.1:5050"));
        for unknown in [None, Some("no\nheader")] {
            let status = not_leading(unknown);
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(leader(&status), None);
        }
    }
}
