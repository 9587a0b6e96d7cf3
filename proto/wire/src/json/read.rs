//! From JSON values to the binary form.
//!
//! Members are taken in the order of their names and of two with one name the last, because that is
//! how Mesos reads an object: it decides which of several mistakes is told, and which member of a
//! `oneof` wins. Invariant: the depth is that of the text, which is bounded.

use std::borrow::Cow;

use super::text::{self, ParseError, Value};
use crate::check::DecodeCause;
use crate::descriptor::{FieldInfo, Kind, Label, MessageInfo};
use crate::raw::{self, WireType};

/// Why a JSON value is not the message that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A message is an object.
    #[error("Expecting a JSON object")]
    NotAnObject,
    /// A list of messages is an array.
    #[error("Expecting a JSON array")]
    NotAnArray,
    /// The field holds another kind of value.
    #[error("Not expecting a JSON {found} for field '{field}'")]
    Unexpected {
        /// What is there: `object`, `array`, `string`, `number` or `boolean`.
        found: &'static str,
        /// The name of the field.
        field: &'static str,
    },
    /// A required enum has no such value.
    #[error("Failed to find enum for '{0}'")]
    UnknownValue(String),
    /// A string stands for a number and is none.
    #[error("Failed to parse '{text}' as a JSON number for field '{field}': {cause}")]
    NotANumber {
        /// The string.
        text: String,
        /// The name of the field.
        field: &'static str,
        /// What is wrong with it.
        cause: ParseError,
    },
    /// A string stands for a boolean and is none.
    #[error("Failed to parse '{text}' as a JSON boolean for field '{field}': {cause}")]
    NotABoolean {
        /// The string.
        text: String,
        /// The name of the field.
        field: &'static str,
        /// What is wrong with it.
        cause: ParseError,
    },
    /// Bytes are not base64.
    #[error("Failed to base64 decode bytes field '{field}': Invalid character '{character}'")]
    NotBase64 {
        /// The name of the field.
        field: &'static str,
        /// The first character that does not belong there.
        character: char,
    },
    /// A whole number does not fit its field.
    #[error("Value out of range for field '{field}'")]
    OutOfRange {
        /// The name of the field.
        field: &'static str,
    },
    /// Required fields are absent: their paths.
    #[error("Missing required fields: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// It is too deep or would cost too much.
    #[error("{0}")]
    Refused(DecodeCause),
}

type Members<'t> = [(Cow<'t, str>, Value<'t>)];

/// Longest string that a refusal quotes, in bytes.
const QUOTE_MAX: usize = 1024;

/// Appends the binary form of an object.
pub(super) fn object(
    info: &'static MessageInfo,
    members: &Members<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&i| &members[i].0);
    for (i, &member) in order.iter().enumerate() {
        let (name, value) = &members[member];
        let shadowed = order
            .get(i + 1)
            .is_some_and(|&next| members[next].0 == *name);
        if !shadowed && let Some(place) = info.field_by_name(name) {
            field(&info.fields[place], value, out)?;
        }
    }
    Ok(())
}

fn field(
    field: &'static FieldInfo,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    match value {
        Value::Null => Ok(()),
        Value::Bool(value) => match field.kind {
            Kind::Bool => {
                raw::put_key(out, field.number, WireType::Varint);
                raw::put_varint(out, u64::from(*value));
                Ok(())
            }
            _ => unexpected("boolean", field),
        },
        Value::Integer(number) => integer(field, *number, out),
        Value::Double(number) => double(field, *number, out),
        Value::String(text) => string(field, text, out),
        Value::Array(values) => {
            if field.label != Label::Repeated {
                return unexpected("array", field);
            }
            values
                .iter()
                .try_for_each(|value| self::field(field, value, out))
        }
        Value::Object(members) => match field.kind {
            Kind::Message(entry) if entry.map_entry => map(field, entry, members, out),
            Kind::Message(info) => {
                raw::put_nested(out, field.number, |out| object(info, members, out))
            }
            _ => unexpected("object", field),
        },
    }
}

fn unexpected(found: &'static str, field: &'static FieldInfo) -> Result<(), ConvertError> {
    Err(ConvertError::Unexpected {
        found,
        field: field.name,
    })
}

fn map(
    field: &'static FieldInfo,
    entry: &'static MessageInfo,
    members: &Members<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let [key_field, value_field] = entry.fields else {
        return unexpected("object", field);
    };
    for (name, value) in members {
        raw::put_nested(out, field.number, |out| {
            string(key_field, name, out)?;
            match (value, value_field.kind) {
                // An entry always has a value; one that is not told is empty.
                (Value::Null, Kind::Message(_)) => raw::put_bytes(out, value_field.number, b""),
                _ => self::field(value_field, value, out)?,
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn string(field: &'static FieldInfo, text: &str, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    match field.kind {
        Kind::String => raw::put_bytes(out, field.number, text.as_bytes()),
        Kind::Bytes => {
            let bytes = base64(text).map_err(|character| ConvertError::NotBase64 {
                field: field.name,
                character,
            })?;
            raw::put_bytes(out, field.number, &bytes);
        }
        Kind::Enum(values) => match values.number_of(text) {
            Some(number) => {
                raw::put_key(out, field.number, WireType::Varint);
                raw::put_varint(out, i64::from(number) as u64);
            }
            None if field.label == Label::Required => {
                return Err(ConvertError::UnknownValue(quote(text)));
            }
            None => {}
        },
        Kind::Double | Kind::Float if text == "Infinity" => {
            double(field, f64::INFINITY, out)?;
        }
        Kind::Double | Kind::Float if text == "-Infinity" => {
            double(field, f64::NEG_INFINITY, out)?;
        }
        Kind::Bool => match inner(text) {
            Ok(value @ Value::Bool(_)) => self::field(field, &value, out)?,
            other => {
                let cause = other.err().unwrap_or(ParseError::UnexpectedType);
                let (text, field) = (quote(text), field.name);
                return Err(ConvertError::NotABoolean { text, field, cause });
            }
        },
        Kind::Message(_) => return unexpected("string", field),
        _ => match inner(text) {
            Ok(value @ (Value::Integer(_) | Value::Double(_))) => self::field(field, &value, out)?,
            other => {
                let cause = other.err().unwrap_or(ParseError::UnexpectedType);
                let (text, field) = (quote(text), field.name);
                return Err(ConvertError::NotANumber { text, field, cause });
            }
        },
    }
    Ok(())
}

/// Reads what stands in a string as JSON; a number or a boolean is short.
fn inner(text: &str) -> Result<Value<'_>, ParseError> {
    text::parse(text.as_bytes(), QUOTE_MAX)
}

fn quote(text: &str) -> String {
    let mut end = text.len().min(QUOTE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn integer(field: &'static FieldInfo, number: i128, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    let range = match field.kind {
        Kind::Double | Kind::Float => return double(field, number as f64, out),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::MIN.into()..=i32::MAX.into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::MIN.into()..=i64::MAX.into(),
        Kind::Uint32 | Kind::Fixed32 => 0..=u32::MAX.into(),
        Kind::Uint64 | Kind::Fixed64 => 0..=u64::MAX.into(),
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => {
            return unexpected("number", field);
        }
    };
    if !range.contains(&number) {
        return Err(ConvertError::OutOfRange { field: field.name });
    }
    let wire_type = match field.kind {
        Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        _ => WireType::Varint,
    };
    raw::put_key(out, field.number, wire_type);
    match wire_type {
        WireType::Fixed32 => out.extend_from_slice(&(number as u32).to_le_bytes()),
        WireType::Fixed64 => out.extend_from_slice(&(number as u64).to_le_bytes()),
        _ => {
            let folded = match field.kind {
                Kind::Sint32 | Kind::Sint64 => (number << 1 ^ number >> 127) as u64,
                _ => number as u64,
            };
            raw::put_varint(out, folded);
        }
    }
    Ok(())
}

/// Writes a number with a fraction; a field of whole numbers gets what is before the point.
fn double(field: &'static FieldInfo, number: f64, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    match field.kind {
        Kind::Double => {
            raw::put_key(out, field.number, WireType::Fixed64);
            out.extend_from_slice(&number.to_le_bytes());
            Ok(())
        }
        Kind::Float => {
            raw::put_key(out, field.number, WireType::Fixed32);
            out.extend_from_slice(&(number as f32).to_le_bytes());
            Ok(())
        }
        // Beyond 2^64 no field can hold it, and an i128 holds that exactly.
        _ if number.abs() > 2e19 => integer(field, i128::MAX, out),
        _ => integer(field, number as i128, out),
    }
}

/// Decodes base64 as Mesos does: white space is passed over, and all after the first `=`; padding
/// may lack. An error is the first character that is neither.
fn base64(text: &str) -> Result<Vec<u8>, char> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.chars() {
        let sextet = match c {
            '=' => break,
            ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r' => continue,
            'A'..='Z' => c as u32 - u32::from(b'A'),
            'a'..='z' => c as u32 - u32::from(b'a') + 26,
            '0'..='9' => c as u32 - u32::from(b'0') + 52,
            '+' => 62,
            '/' => 63,
            other => return Err(other),
        };
        bits = (bits << 6 | sextet) & 0xff_ffff;
        count += 1;
        if count % 4 == 0 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
        }
    }
    match count % 4 {
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_lenient_about_padding_and_spaces() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("aGVsbG8=", b"hello"),
            ("aGVsbG8", b"hello"),
            ("aGVs\nbG8h", b"hello!"),
            ("aGk=ignored!", b"hi"),
            ("a", b""),
            ("/+8A", b"\xff\xef\x00"),
        ] {
            assert_eq!(base64(text).as_deref(), Ok(bytes), "{text}");
        }
        assert_eq!(base64("aG-s"), Err('-'));
        assert_eq!(base64("é"), Err('é'));
    }
}
