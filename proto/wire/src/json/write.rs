//! From the binary form to JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::number::{write_double, write_integer};
use crate::descriptor::{DefaultValue, FieldInfo, Kind, Label, MessageInfo};
use crate::raw::{Malformed, Raw, Reader};

/// Appends the message in `binary` as an object.
pub(super) fn message(
    info: &'static MessageInfo,
    binary: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    Writer {
        out,
        values: Vec::new(),
    }
    .object(info, binary)
}

struct Writer<'o, 'a> {
    out: &'o mut Vec<u8>,
    /// The values of the messages that we are in, each with its field's place in the declaration.
    values: Vec<(usize, Raw<'a>)>,
}

impl<'a> Writer<'_, 'a> {
    fn object(&mut self, info: &'static MessageInfo, binary: &'a [u8]) -> Result<(), Malformed> {
        let base = self.gather(info, binary)?;
        self.out.push(b'{');
        let mut first = true;
        let mut at = base;
        for (place, field) in info.fields.iter().enumerate() {
            let end = at
                + self.values[at..]
                    .iter()
                    .take_while(|value| value.0 == place)
                    .count();
            let default = field.default.filter(|_| !field.deprecated);
            if at < end || default.is_some() || field.printed_empty {
                if !std::mem::take(&mut first) {
                    self.out.push(b',');
                }
                string(field.name.as_bytes(), self.out);
                self.out.push(b':');
            }
            if at < end {
                self.field(field, at, end)?;
            } else if let Some(default) = default {
                self.default(default);
            } else if field.printed_empty {
                self.out.extend_from_slice(b"[]");
            }
            at = end;
        }
        self.out.push(b'}');
        self.values.truncate(base);
        Ok(())
    }

    /// Puts the values of a message on the stack in the order of declaration; gives where they
    /// begin.
    fn gather(&mut self, info: &'static MessageInfo, binary: &'a [u8]) -> Result<usize, Malformed> {
        let base = self.values.len();
        let mut reader = Reader::new(binary);
        while let Some((number, value)) = reader.next()? {
            let Some(place) = info.field_by_number(number) else {
                continue;
            };
            // An enum value without a name cannot be told: it is as good as absent.
            if let (Kind::Enum(values), Raw::Varint(number)) = (info.fields[place].kind, value)
                && values.name_of(number as i32).is_none()
            {
                continue;
            }
            match (info.fields[place].kind, value) {
                (kind, Raw::Bytes(packed)) if kind.is_scalar() => {
                    let mut reader = Reader::new(packed);
                    while let Some(value) = reader.packed(kind)? {
                        self.values.push((place, value));
                    }
                }
                _ => self.values.push((place, value)),
            }
        }
        self.values[base..].sort_by_key(|value| value.0);
        Ok(base)
    }

    fn field(&mut self, field: &FieldInfo, at: usize, end: usize) -> Result<(), Malformed> {
        match field.kind {
            Kind::Message(entry) if entry.map_entry => {
                self.out.push(b'{');
                for i in at..end {
                    if i > at {
                        self.out.push(b',');
                    }
                    self.entry(entry, self.values[i].1)?;
                }
                self.out.push(b'}');
            }
            kind if field.label == Label::Repeated => {
                self.out.push(b'[');
                for i in at..end {
                    if i > at {
                        self.out.push(b',');
                    }
                    self.value(kind, self.values[i].1)?;
                }
                self.out.push(b']');
            }
            // Of a field that holds one value the last counts.
            kind => self.value(kind, self.values[end - 1].1)?,
        }
        Ok(())
    }

    fn entry(&mut self, info: &'static MessageInfo, entry: Raw<'a>) -> Result<(), Malformed> {
        let Raw::Bytes(binary) = entry else {
            return Err(Malformed::WireType);
        };
        let base = self.gather(info, binary)?;
        let mut parts = [None, None];
        for &(place, value) in &self.values[base..] {
            if let Some(part) = parts.get_mut(place) {
                *part = Some(value);
            }
        }
        self.values.truncate(base);
        // Keys are strings in every map that we know; an absent one is empty.
        let Some(Raw::Bytes(key)) = parts[0].or(Some(Raw::Bytes(b""))) else {
            return Err(Malformed::WireType);
        };
        string(key, self.out);
        self.out.push(b':');
        let Some(field) = info.fields.get(1) else {
            return Err(Malformed::WireType);
        };
        match parts[1] {
            Some(value) => self.value(field.kind, value),
            None => self.value(field.kind, Raw::Bytes(b"")),
        }
    }

    fn value(&mut self, kind: Kind, value: Raw<'a>) -> Result<(), Malformed> {
        match (kind, value) {
            (Kind::Message(info), Raw::Bytes(binary)) => self.object(info, binary)?,
            (Kind::String, Raw::Bytes(text)) => string(text, self.out),
            (Kind::Bytes, Raw::Bytes(bytes)) => {
                self.out.push(b'"');
                self.out
                    .extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
                self.out.push(b'"');
            }
            (Kind::Enum(values), Raw::Varint(number)) => {
                let name = values.name_of(number as i32).unwrap_or_default();
                string(name.as_bytes(), self.out);
            }
            (Kind::Bool, Raw::Varint(number)) => self.literal(number != 0),
            (Kind::Double, Raw::Fixed64(bits)) => write_double(f64::from_bits(bits), self.out),
            (Kind::Float, Raw::Fixed32(bits)) => {
                write_double(f64::from(f32::from_bits(bits)), self.out);
            }
            (kind, value) => {
                let number = integer(kind, value).ok_or(Malformed::WireType)?;
                write_integer(number, self.out);
            }
        }
        Ok(())
    }

    fn default(&mut self, default: DefaultValue) {
        match default {
            DefaultValue::Bool(value) => self.literal(value),
            DefaultValue::Int(value) => write_integer(i128::from(value), self.out),
            DefaultValue::Double(value) => write_double(value, self.out),
            DefaultValue::Text(text) | DefaultValue::Enum(text) => {
                string(text.as_bytes(), self.out);
            }
        }
    }

    fn literal(&mut self, value: bool) {
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }
}

fn integer(kind: Kind, value: Raw<'_>) -> Option<i128> {
    Some(match (kind, value) {
        (Kind::Int32, Raw::Varint(v)) => i128::from(v as i32),
        (Kind::Int64, Raw::Varint(v)) => i128::from(v as i64),
        (Kind::Uint32, Raw::Varint(v)) => i128::from(v as u32),
        (Kind::Uint64, Raw::Varint(v)) => i128::from(v),
        (Kind::Sint32, Raw::Varint(v)) => i128::from((v as u32 >> 1) as i32 ^ -((v & 1) as i32)),
        (Kind::Sint64, Raw::Varint(v)) => i128::from((v >> 1) as i64 ^ -((v & 1) as i64)),
        (Kind::Fixed32, Raw::Fixed32(v)) => i128::from(v),
        (Kind::Sfixed32, Raw::Fixed32(v)) => i128::from(v as i32),
        (Kind::Fixed64, Raw::Fixed64(v)) => i128::from(v),
        (Kind::Sfixed64, Raw::Fixed64(v)) => i128::from(v as i64),
        _ => return None,
    })
}

/// Appends a string with its quotes. What is not ASCII stays as it is; control characters are
/// written in the short form that JSON has for them, else as four hexadecimal digits.
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let mut from = 0;
    for (i, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[from..i]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'0', b'0', HEX[high], HEX[low]]);
        }
        from = i + 1;
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}
