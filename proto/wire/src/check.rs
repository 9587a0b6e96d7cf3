//! Reading what comes from outside: a message is refused when a required field is absent, when it
//! is too large or too deep, or when it would take far more memory than its bytes.
//!
//! prost gives an absent required field its default and tells nobody, so a proto2 receiver made
//! with prost alone accepts what every other one refuses. [`decode_checked`] walks the bytes by the
//! table of the message before prost reads them, and names what is missing in the words that Mesos
//! uses (`subscribe.framework_info.user`, `accept.operations[0].launch.task_infos[2].task_id`).
//! Invariant: no input panics, recurses without bound, or allocates more than the limits say.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Buf;

use crate::descriptor::{Described, Kind, Label, MessageInfo};
use crate::raw::{Malformed, Raw, Reader};

/// What a message from outside may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the encoded message in bytes.
    pub bytes: usize,
    /// Messages within messages.
    pub depth: usize,
    /// Bytes of memory that the decoded message may take for each encoded byte, beyond 16 MiB. What
    /// frameworks send stays under the default; a million empty operations do not.
    pub memory_per_byte: usize,
}

impl Limits {
    /// 8 MiB, 100 levels (what every implementation of protobuf allows), 48 bytes for a byte.
    pub const DEFAULT: Self = Self {
        bytes: 8 << 20,
        depth: 100,
        memory_per_byte: 48,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why bytes were not taken as a message. Prints Mesos' words (`Failed to parse body into Call
/// protobuf`); the cause says more.
#[derive(Debug, thiserror::Error)]
#[error("Failed to parse body into {message} protobuf")]
pub struct DecodeError {
    /// The bare name of the message, such as `Call`.
    pub message: &'static str,
    /// What is wrong with it.
    #[source]
    pub cause: DecodeCause,
}

/// What is wrong with the bytes of a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeCause {
    /// Longer than [`Limits::bytes`].
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Deeper than [`Limits::depth`].
    #[error("messages are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Decoded, it would take more memory than [`Limits::memory_per_byte`] allows.
    #[error("decoded it would take more than {limit} bytes of memory")]
    TooCostly {
        /// The limit for this message in bytes.
        limit: usize,
    },
    /// Required fields are absent: their paths.
    #[error("Missing required fields: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// Not the binary form of the message.
    #[error("{0}")]
    Malformed(String),
}

/// Memory that any message may take, in bytes.
const MEMORY_FREE: usize = 16 << 20;

/// Missing fields that are named; a message may lack millions.
const MISSING_MAX: usize = 64;

/// Decodes a message from outside within [`Limits::DEFAULT`].
///
/// # Errors
/// See [`DecodeCause`].
pub fn decode_checked<T: Described>(body: impl Buf + AsRef<[u8]>) -> Result<T, DecodeError> {
    decode_within(body, &Limits::DEFAULT)
}

/// Decodes a message from outside within limits of the caller's.
///
/// # Errors
/// See [`DecodeCause`].
pub fn decode_within<T: Described>(
    body: impl Buf + AsRef<[u8]>,
    limits: &Limits,
) -> Result<T, DecodeError> {
    let info = T::info();
    let fail = |cause| DecodeError {
        message: info.name,
        cause,
    };
    let missing = scan(info, body.as_ref(), limits).map_err(fail)?;
    if !missing.is_empty() {
        return Err(fail(DecodeCause::Missing(missing)));
    }
    T::decode(body).map_err(|error| fail(DecodeCause::Malformed(error.to_string())))
}

/// The paths of the required fields that `message` lacks. What was decoded with [`decode_checked`]
/// or read from JSON lacks none; a message made here may hold an unknown enum value, which counts
/// as absent.
pub fn missing<T: Described>(message: &T) -> Vec<String> {
    let limits = Limits {
        bytes: usize::MAX,
        depth: usize::MAX,
        memory_per_byte: usize::MAX,
    };
    // What prost has written can be read.
    scan(T::info(), &message.encode_to_vec(), &limits).unwrap_or_default()
}

/// Walks an encoded message and names the required fields that it lacks, at most [`MISSING_MAX`].
pub(crate) fn scan(
    info: &'static MessageInfo,
    body: &[u8],
    limits: &Limits,
) -> Result<Vec<String>, DecodeCause> {
    if body.len() > limits.bytes {
        return Err(DecodeCause::TooLarge {
            len: body.len(),
            limit: limits.bytes,
        });
    }
    let memory = body
        .len()
        .saturating_mul(limits.memory_per_byte)
        .saturating_add(MEMORY_FREE);
    let mut scan = Scan {
        depth_max: limits.depth,
        memory_max: memory,
        memory_left: memory,
        parts: vec![(0, body)],
        path: Vec::new(),
        missing: Vec::new(),
    };
    scan.take(info.size)?;
    scan.message(info, 0..1)?;
    Ok(scan.missing)
}

struct Scan<'a> {
    depth_max: usize,
    memory_max: usize,
    memory_left: usize,
    /// The nested messages that were seen and not yet walked, each with its place among the fields.
    parts: Vec<(usize, &'a [u8])>,
    /// Where we are: fields and, for repeated ones, the index.
    path: Vec<(&'static str, Option<usize>)>,
    missing: Vec<String>,
}

impl<'a> Scan<'a> {
    /// Walks one message that stands in the given parts: several when a sender wrote a field that
    /// holds one message more than once, which means that they are to be merged.
    fn message(
        &mut self,
        info: &'static MessageInfo,
        parts: Range<usize>,
    ) -> Result<(), DecodeCause> {
        if self.path.len() > self.depth_max {
            return Err(DecodeCause::TooDeep {
                limit: self.depth_max,
            });
        }
        let base = self.parts.len();
        let mut present = 0u128;
        for part in parts {
            let mut reader = Reader::new(self.parts[part].1);
            while let Some((number, value)) = reader.next()? {
                if let Some(place) = info.field_by_number(number)
                    && self.field(info, place, value)?
                {
                    present |= 1 << place;
                }
            }
        }
        for (place, field) in info.fields.iter().enumerate() {
            if field.label == Label::Required && present & (1 << place) == 0 {
                self.report(field.name);
            }
        }
        self.nested(info, base)?;
        self.parts.truncate(base);
        Ok(())
    }

    /// Whether this value makes the field present. Nested messages are noted for later, and what
    /// lists take is counted.
    fn field(
        &mut self,
        info: &'static MessageInfo,
        place: usize,
        value: Raw<'a>,
    ) -> Result<bool, DecodeCause> {
        let field = &info.fields[place];
        let repeated = field.label == Label::Repeated;
        match (field.kind, value) {
            (Kind::Message(inner), Raw::Bytes(part)) => {
                // A field that holds one message lies within its parent, unless that is of its
                // kind.
                if repeated || std::ptr::eq(inner, info) {
                    self.take(inner.size)?;
                }
                self.parts.push((place, part));
            }
            (Kind::String | Kind::Bytes, Raw::Bytes(_)) if repeated => {
                self.take(size_of::<bytes::Bytes>())?;
            }
            (Kind::String | Kind::Bytes, Raw::Bytes(_)) => {}
            (Kind::Enum(values), Raw::Varint(number)) => {
                // A value that nobody here knows is read as if the field were not there.
                return Ok(values.name_of(number as i32).is_some());
            }
            (kind, Raw::Bytes(packed)) if repeated && kind.is_scalar() => {
                self.take(packed.len().saturating_mul(8))?;
            }
            (kind, value) if value.fits(kind) => {
                if repeated {
                    self.take(8)?;
                }
            }
            _ => return Err(Malformed::WireType.into()),
        }
        Ok(true)
    }

    /// Walks the nested messages that were noted since `base`, by the numbers of their fields.
    fn nested(&mut self, info: &'static MessageInfo, base: usize) -> Result<(), DecodeCause> {
        self.parts[base..].sort_by_key(|&(place, _)| info.fields[place].number);
        let end = self.parts.len();
        let mut at = base;
        while at < end {
            let place = self.parts[at].0;
            let field = &info.fields[place];
            let same = self.parts[at..end]
                .iter()
                .take_while(|part| part.0 == place)
                .count();
            let Kind::Message(inner) = field.kind else {
                break;
            };
            if field.label == Label::Repeated {
                for i in 0..same {
                    self.walk(inner, field.name, Some(i), at + i..at + i + 1)?;
                }
            } else {
                self.walk(inner, field.name, None, at..at + same)?;
            }
            at += same;
        }
        Ok(())
    }

    fn walk(
        &mut self,
        info: &'static MessageInfo,
        name: &'static str,
        index: Option<usize>,
        parts: Range<usize>,
    ) -> Result<(), DecodeCause> {
        self.path.push((name, index));
        self.message(info, parts)?;
        self.path.pop();
        Ok(())
    }

    fn report(&mut self, name: &str) {
        if self.missing.len() >= MISSING_MAX {
            return;
        }
        let mut text = String::new();
        for (step, index) in &self.path {
            text.push_str(step);
            if let Some(index) = index {
                // Writing into a string cannot fail.
                let _ = write!(text, "[{index}]");
            }
            text.push('.');
        }
        text.push_str(name);
        self.missing.push(text);
    }

    fn take(&mut self, bytes: usize) -> Result<(), DecodeCause> {
        self.memory_left = self
            .memory_left
            .checked_sub(bytes)
            .ok_or(DecodeCause::TooCostly {
                limit: self.memory_max,
            })?;
        Ok(())
    }
}

impl From<Malformed> for DecodeCause {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}
