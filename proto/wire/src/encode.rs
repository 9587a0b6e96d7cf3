//! The binary form as every other implementation reads it.
//!
//! prost leaves the value out of a map's entry when it equals the default, as proto3 allows. A
//! proto2 receiver takes that as an empty message and refuses the whole when the value has a
//! required field: a limit of 0 cpus would spoil a call. [`encode`] puts such values back.
//! Invariant: what [`encode`] gives reads back as the same message, and lacks no required field.

use crate::descriptor::{Described, FieldInfo, Kind, Label, MessageInfo};
use crate::raw::{self, Malformed, Raw, Reader, WireType};

/// Encodes a message for any receiver.
pub fn encode<T: Described>(message: &T) -> Vec<u8> {
    let binary = message.encode_to_vec();
    let info = T::info();
    if !info.holds_maps || whole(info, &binary) != Ok(false) {
        return binary;
    }
    let mut out = Vec::with_capacity(binary.len() + 64);
    match rewrite(info, &binary, &mut out) {
        Ok(()) => out,
        // What prost has written can be read, so this is never reached.
        Err(_) => binary,
    }
}

/// Whether no entry of a map lacks its value.
fn whole(info: &'static MessageInfo, binary: &[u8]) -> Result<bool, Malformed> {
    let mut reader = Reader::new(binary);
    let mut value_seen = false;
    while let Some((number, value)) = reader.next()? {
        value_seen |= number == 2;
        if let Some(inner) = nested(info, number)
            && let Raw::Bytes(part) = value
            && !whole(inner, part)?
        {
            return Ok(false);
        }
    }
    Ok(value_seen || !info.map_entry)
}

/// The message that a field holds, if there are maps within it.
fn nested(info: &'static MessageInfo, number: u32) -> Option<&'static MessageInfo> {
    match info.fields[info.field_by_number(number)?].kind {
        Kind::Message(inner) if inner.holds_maps => Some(inner),
        _ => None,
    }
}

fn rewrite(info: &'static MessageInfo, binary: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut reader = Reader::new(binary);
    let mut value_seen = false;
    while let Some((number, value)) = reader.next()? {
        value_seen |= number == 2;
        match (value, nested(info, number)) {
            (Raw::Bytes(part), Some(inner)) => {
                raw::put_nested(out, number, |out| rewrite(inner, part, out))?;
            }
            (Raw::Bytes(part), None) => raw::put_bytes(out, number, part),
            (Raw::Varint(value), _) => {
                raw::put_key(out, number, WireType::Varint);
                raw::put_varint(out, value);
            }
            (Raw::Fixed64(value), _) => {
                raw::put_key(out, number, WireType::Fixed64);
                out.extend_from_slice(&value.to_le_bytes());
            }
            (Raw::Fixed32(value), _) => {
                raw::put_key(out, number, WireType::Fixed32);
                out.extend_from_slice(&value.to_le_bytes());
            }
            // prost writes no groups.
            (Raw::Group, _) => return Err(Malformed::Group),
        }
    }
    if info.map_entry
        && !value_seen
        && let Some(field) = info.fields.get(1)
    {
        put_default(field, out);
    }
    Ok(())
}

/// Writes a field with its default: zero, empty, or a message with its required fields alone.
fn put_default(field: &'static FieldInfo, out: &mut Vec<u8>) {
    match field.kind {
        Kind::Message(info) => {
            let fill = |out: &mut Vec<u8>| {
                let required = |field: &&FieldInfo| field.label == Label::Required;
                info.fields
                    .iter()
                    .filter(required)
                    .for_each(|field| put_default(field, out));
                Ok::<(), std::convert::Infallible>(())
            };
            match raw::put_nested(out, field.number, fill) {
                Ok(()) => {}
            }
        }
        Kind::String | Kind::Bytes => raw::put_bytes(out, field.number, b""),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            raw::put_key(out, field.number, WireType::Fixed64);
            out.extend_from_slice(&[0; 8]);
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
            raw::put_key(out, field.number, WireType::Fixed32);
            out.extend_from_slice(&[0; 4]);
        }
        Kind::Enum(values) => {
            let first = values.values().next().map_or(0, |(number, _)| number);
            raw::put_key(out, field.number, WireType::Varint);
            raw::put_varint(out, i64::from(first) as u64);
        }
        _ => {
            raw::put_key(out, field.number, WireType::Varint);
            raw::put_varint(out, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_checked, json, v1};
    use prost::Message as _;

    #[test]
    fn a_limit_of_zero_reaches_every_receiver() {
        let mut task = v1::TaskInfo {
            name: "t".into(),
            ..Default::default()
        };
        let limits = [("cpus", 0.0), ("mem", 64.0)];
        task.limits = limits
            .map(|(name, value)| (name.into(), v1::value::Scalar { value }))
            .into();
        let binary = encode(&task);
        assert_eq!(
            binary.len(),
            task.encoded_len() + 11,
            "key, length, key and eight bytes"
        );
        assert_eq!(
            decode_checked::<v1::TaskInfo>(&binary[..]).ok().as_ref(),
            Some(&task)
        );
        // From a sender that left it out, it is understood all the same.
        let short = task.encode_to_vec();
        assert_eq!(
            decode_checked::<v1::TaskInfo>(&short[..]).ok().as_ref(),
            Some(&task)
        );
        let text = json::to_string(&task);
        assert!(
            text.contains(r#""limits":{"cpus":{"value":0.0},"mem":{"value":64.0}}"#),
            "{text}"
        );
        assert_eq!(
            json::from_slice::<v1::TaskInfo>(text.as_bytes()).ok(),
            Some(task)
        );
    }

    #[test]
    fn what_is_whole_is_left_alone() {
        let call = v1::scheduler::Call {
            framework_id: Some("f".into()),
            ..Default::default()
        };
        assert_eq!(encode(&call), call.encode_to_vec());
    }
}
