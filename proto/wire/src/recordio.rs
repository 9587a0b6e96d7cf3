//! RecordIO: records on a stream of bytes, each behind its length as ASCII digits and a newline.
//!
//! It knows no socket: bytes are pushed in as they come and records pulled out. Records may lie
//! across chunks in any way. Invariant: at most one record of the limit's length and what the
//! caller pushed last are held; after an error the stream is over, since nobody knows where the
//! next record begins.

use bytes::{Buf, Bytes, BytesMut};

/// Digits of a length: more than any limit needs.
const HEADER_MAX: usize = 20;

/// Why a stream is no longer RecordIO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length holds something other than digits, or nothing.
    #[error("Failed to decode length '{0}'")]
    Length(String),
    /// A length does not end.
    #[error("a record's length has more than {HEADER_MAX} digits")]
    HeaderTooLong,
    /// A record is longer than the limit of the decoder.
    #[error("a record of {len} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The stream ended within a record; told by [`Decoder::finish`].
    #[error("the stream ended within a record, {missing} bytes early")]
    Truncated {
        /// Bytes that lack; at least 1.
        missing: usize,
    },
    /// An earlier error ended the stream.
    #[error("Decoder is in a FAILED state")]
    Failed,
}

/// Puts a record behind its length.
pub fn encode(record: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(record.len() + HEADER_MAX + 1);
    encode_to(record, &mut out);
    out.into()
}

/// Appends a record behind its length to `out`.
pub fn encode_to(record: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(record.len().to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
}

/// Takes a stream apart.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// The length of the record that is coming, once its header was read.
    record: Option<usize>,
    failed: bool,
}

impl Decoder {
    /// A decoder for records of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            record: None,
            failed: false,
        }
    }

    /// Adds bytes as they came. Pull all records with [`Decoder::next_record`] before the next
    /// push, else they pile up.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next whole record, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// See [`RecordError`]; after the first, each call gives `Failed`.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        if self.failed {
            return Err(RecordError::Failed);
        }
        let len = match self.record {
            Some(len) => len,
            None => match self.header() {
                Ok(Some(len)) => *self.record.insert(len),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed = true;
                    self.buffer = BytesMut::new();
                    return Err(error);
                }
            },
        };
        if self.buffer.len() < len {
            return Ok(None);
        }
        self.record = None;
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    /// Says that the stream has ended.
    ///
    /// # Errors
    /// `Truncated` if it ended within a record, `Failed` after an earlier error.
    pub fn finish(&self) -> Result<(), RecordError> {
        let missing = match self.record {
            _ if self.failed => return Err(RecordError::Failed),
            Some(len) => len - self.buffer.len().min(len),
            // Within a header, at least its newline lacks.
            None => usize::from(!self.buffer.is_empty()),
        };
        if missing > 0 {
            Err(RecordError::Truncated { missing })
        } else {
            Ok(())
        }
    }

    /// Bytes that are held for the record that is coming.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn header(&mut self) -> Result<Option<usize>, RecordError> {
        let window = &self.buffer[..self.buffer.len().min(HEADER_MAX + 1)];
        let Some(newline) = window.iter().position(|&c| c == b'\n') else {
            // What cannot become a number is refused without waiting for its end.
            let wrong = window.iter().any(|c| !c.is_ascii_digit());
            return match window.len() {
                _ if wrong => Err(RecordError::Length(shown(window))),
                len if len > HEADER_MAX => Err(RecordError::HeaderTooLong),
                _ => Ok(None),
            };
        };
        let digits = &window[..newline];
        let len: u64 = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| RecordError::Length(shown(digits)))?;
        let too_long = RecordError::TooLong {
            len,
            limit: self.limit,
        };
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= self.limit)
            .ok_or(too_long)?;
        self.buffer.advance(newline + 1);
        Ok(Some(len))
    }
}

fn shown(header: &[u8]) -> String {
    header.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Bytes>, RecordError> {
        std::iter::from_fn(|| decoder.next_record().transpose()).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Bytes>, RecordError> {
        let mut decoder = Decoder::new(100);
        decoder.push(bytes);
        all(&mut decoder)
    }

    #[test]
    fn takes_records_apart() {
        assert_eq!(encode(b"hello"), "5\nhello");
        assert_eq!(
            decode(b"5\nhello0\n6\nworld!"),
            Ok(vec!["hello".into(), "".into(), "world!".into()])
        );
        assert_eq!(decode(b"007\nhello\n!"), Ok(vec!["hello\n!".into()]));
        assert_eq!(decode(b""), Ok(vec![]));
    }

    #[test]
    fn refuses_what_is_no_length() {
        let length = |text: &str| Err(RecordError::Length(text.into()));
        assert_eq!(decode(b"\nx"), length(""));
        assert_eq!(decode(b"-1\nx"), length("-1"));
        assert_eq!(decode(b"+1\nx"), length("+1"));
        assert_eq!(decode(b"{\"type\""), length("{\\\"type\\\""));
        assert_eq!(
            decode(b"99999999999999999999\n"),
            length("99999999999999999999")
        );
        assert_eq!(decode(&[b'1'; 21]), Err(RecordError::HeaderTooLong));
        assert_eq!(
            decode(b"101\n"),
            Err(RecordError::TooLong {
                len: 101,
                limit: 100
            })
        );
    }

    #[test]
    fn is_over_after_an_error() {
        let mut decoder = Decoder::new(4);
        decoder.push(b"x\n");
        assert!(decoder.next_record().is_err());
        decoder.push(b"1\na");
        assert_eq!(decoder.next_record(), Err(RecordError::Failed));
        assert_eq!(decoder.buffered(), 0);
        assert_eq!(decoder.finish(), Err(RecordError::Failed));
    }

    #[test]
    fn tells_a_cut_stream_from_a_whole_one() {
        for (bytes, missing) in [(&b"3\nabc"[..], 0), (b"3\na", 2), (b"3", 1), (b"", 0)] {
            let mut decoder = Decoder::new(4);
            decoder.push(bytes);
            all(&mut decoder).expect("well-formed so far");
            let expected = if missing > 0 {
                Err(RecordError::Truncated { missing })
            } else {
                Ok(())
            };
            assert_eq!(decoder.finish(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            sizes in prop::collection::vec(1usize..20, 1..50),
        ) {
            let mut stream = Vec::new();
            records.iter().for_each(|record| encode_to(record, &mut stream));
            let mut decoder = Decoder::new(50);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*size).min(rest.len()));
                decoder.push(chunk);
                got.extend(all(&mut decoder).expect("well-formed"));
                prop_assert!(decoder.buffered() <= 50);
                rest = tail;
            }
            prop_assert_eq!(got, records);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_end(chunks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new(50);
            for chunk in chunks {
                decoder.push(&chunk);
                while let Ok(Some(record)) = decoder.next_record() {
                    prop_assert!(record.len() <= 50);
                }
            }
        }
    }
}
