//! The JSON dialect of the Mesos v1 API.
//!
//! It is not proto3's mapping: fields go by their proto names in the order of declaration, enums by
//! name, bytes in base64, 64-bit numbers as numbers, doubles always with a decimal point, and an
//! absent optional field is printed when it has a default of its own and is not deprecated. On the
//! way in, numbers and booleans may stand in strings, unknown fields and unknown names of optional
//! enums are passed over, `null` means absent, and the words of a refusal are Mesos' own.
//!
//! Deliberate differences: a whole number that does not fit its field is refused (Mesos takes what
//! is left of it), a string must be UTF-8, and an infinite number is written as `"Infinity"` (Mesos
//! writes it bare, which is not JSON).
//! Invariant: both directions go through the binary form and the tables of [`crate::descriptor`],
//! so no message has JSON code of its own and none can be forgotten.

mod number;
mod read;
mod text;
mod write;

use crate::check::{self, DecodeCause, DecodeError, Limits};
use crate::descriptor::{Described, MessageInfo};
use crate::encode::encode;

pub use read::ConvertError;
pub use text::ParseError;

/// Why a text was not taken as a message. Prints what an HTTP answer of 400 says.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("Failed to parse body into JSON: {0}")]
    Parse(#[from] ParseError),
    /// It is JSON, but not of this message.
    #[error("Failed to convert JSON into {message} protobuf: {cause}")]
    Convert {
        /// The bare name of the message, such as `Call`.
        message: &'static str,
        /// What is wrong.
        cause: ConvertError,
    },
}

/// Reads a message from an object, within [`Limits::DEFAULT`].
///
/// # Errors
/// See [`JsonError`].
pub fn from_slice<T: Described>(body: &[u8]) -> Result<T, JsonError> {
    from_slice_within(body, &Limits::DEFAULT)
}

/// Reads a message from an object, within limits of the caller's: they hold for the text and for
/// the binary form that it stands for.
///
/// # Errors
/// See [`JsonError`].
pub fn from_slice_within<T: Described>(body: &[u8], limits: &Limits) -> Result<T, JsonError> {
    let value = text::parse(body, limits.bytes)?;
    convert(&value, limits)
}

/// Reads a list of messages from an array, within [`Limits::DEFAULT`].
///
/// # Errors
/// See [`JsonError`]; the first message that is refused ends it.
pub fn list_from_slice<T: Described>(body: &[u8]) -> Result<Vec<T>, JsonError> {
    let limits = &Limits::DEFAULT;
    match text::parse(body, limits.bytes)? {
        text::Value::Array(values) => values.iter().map(|value| convert(value, limits)).collect(),
        _ => Err(JsonError::Convert {
            message: T::info().name,
            cause: ConvertError::NotAnArray,
        }),
    }
}

fn convert<T: Described>(value: &text::Value<'_>, limits: &Limits) -> Result<T, JsonError> {
    let info = T::info();
    let binary = to_binary(info, value, limits)?;
    T::decode(&*binary).map_err(|error| JsonError::Convert {
        message: info.name,
        cause: ConvertError::Refused(DecodeCause::Malformed(error.to_string())),
    })
}

fn to_binary(
    info: &'static MessageInfo,
    value: &text::Value<'_>,
    limits: &Limits,
) -> Result<Vec<u8>, JsonError> {
    let fail = |cause| JsonError::Convert {
        message: info.name,
        cause,
    };
    let text::Value::Object(object) = value else {
        return Err(fail(ConvertError::NotAnObject));
    };
    let mut binary = Vec::new();
    read::object(info, object, &mut binary).map_err(fail)?;
    // The text was measured; what it stands for may be somewhat longer (`-1` takes ten bytes).
    let limits = Limits {
        bytes: usize::MAX,
        ..*limits
    };
    let missing =
        check::scan(info, &binary, &limits).map_err(|cause| fail(ConvertError::Refused(cause)))?;
    if missing.is_empty() {
        Ok(binary)
    } else {
        Err(fail(ConvertError::Missing(missing)))
    }
}

/// Turns an object into the binary form of a message that is known by its table alone, for tools
/// that look at anything.
///
/// # Errors
/// See [`JsonError`].
pub fn json_to_binary(info: &'static MessageInfo, body: &[u8]) -> Result<Vec<u8>, JsonError> {
    let limits = &Limits::DEFAULT;
    to_binary(info, &text::parse(body, limits.bytes)?, limits)
}

/// Turns the binary form of a message that is known by its table alone into an object, for tools
/// that look at anything. What lacks required fields is shown as it is.
///
/// # Errors
/// [`DecodeError`] if it is not the binary form of the message, or over [`Limits::DEFAULT`].
pub fn binary_to_json(info: &'static MessageInfo, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let fail = |cause| DecodeError {
        message: info.name,
        cause,
    };
    check::scan(info, body, &Limits::DEFAULT).map_err(fail)?;
    let mut out = Vec::new();
    write::message(info, body, &mut out).map_err(|error| fail(error.into()))?;
    Ok(out)
}

/// Writes a message as an object.
pub fn to_vec<T: Described>(message: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_to(message, &mut out);
    out
}

/// Writes a message as an object.
pub fn to_string<T: Described>(message: &T) -> String {
    String::from_utf8(to_vec(message)).expect("strings of a message are UTF-8, and so is the rest")
}

/// Appends a message as an object to `out`, for answers that are put together from several.
pub fn write_to<T: Described>(message: &T, out: &mut Vec<u8>) {
    write::message(T::info(), &encode(message), out).expect("what prost has written can be read");
}

/// Appends a list of messages as an array to `out`.
pub fn write_list_to<'a, T: Described>(
    messages: impl IntoIterator<Item = &'a T>,
    out: &mut Vec<u8>,
) {
    out.push(b'[');
    for (i, message) in messages.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_to(message, out);
    }
    out.push(b']');
}

/// Writes a string as JSON does, quotes included: for those who put an answer together by hand.
pub fn write_str_to(text: &str, out: &mut Vec<u8>) {
    write::string(text.as_bytes(), out);
}

/// Writes a number as JSON does here: always with a decimal point or an exponent.
pub fn write_f64_to(value: f64, out: &mut Vec<u8>) {
    number::write_double(value, out);
}
