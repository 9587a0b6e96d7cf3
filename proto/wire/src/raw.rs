//! The binary form at its lowest: varints, keys and the values behind them, read and written
//! without knowing the message.
//!
//! Invariant: reading never panics and never goes past the end, whatever the bytes are; it
//! allocates nothing.

use crate::descriptor::Kind;

/// The bytes are not the binary form of anything, or a value is of another shape than its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the bytes end within a value")]
    Truncated,
    #[error("a number is longer than ten bytes or larger than 64 bits")]
    Varint,
    #[error("a key names field 0 or an unknown wire type")]
    Key,
    #[error("a group ends that did not begin, or does not end")]
    Group,
    #[error("a value is of another wire type than its field")]
    WireType,
}

/// One value as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// A group, skipped: no field of ours is one.
    Group,
}

impl Raw<'_> {
    /// Whether a single value of this kind looks so.
    pub(crate) fn fits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => matches!(self, Raw::Fixed64(_)),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => matches!(self, Raw::Fixed32(_)),
            Kind::String | Kind::Bytes | Kind::Message(_) => matches!(self, Raw::Bytes(_)),
            _ => matches!(self, Raw::Varint(_)),
        }
    }
}

/// Reads keys and values one after another.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// Groups within groups that are followed before the bytes are refused.
const GROUPS_MAX: u32 = 32;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        Ok(Some((number, self.value(number, wire_type, 0)?)))
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::Key)?;
        if key >> 3 == 0 {
            return Err(Malformed::Key);
        }
        Ok((key >> 3, (key & 7) as u8))
    }

    fn value(&mut self, number: u32, wire_type: u8, groups: u32) -> Result<Raw<'a>, Malformed> {
        match wire_type {
            0 => Ok(Raw::Varint(self.varint()?)),
            1 => Ok(Raw::Fixed64(u64::from_le_bytes(self.array()?))),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
                Ok(Raw::Bytes(self.take(len)?))
            }
            3 if groups < GROUPS_MAX => loop {
                let (inner, wire_type) = self.key()?;
                if wire_type == 4 {
                    break if inner == number {
                        Ok(Raw::Group)
                    } else {
                        Err(Malformed::Group)
                    };
                }
                self.value(inner, wire_type, groups + 1)?;
            },
            3 | 4 => Err(Malformed::Group),
            5 => Ok(Raw::Fixed32(u32::from_le_bytes(self.array()?))),
            _ => Err(Malformed::Key),
        }
    }

    /// A number of 7 bits a byte, lowest first.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                if i == 9 && byte > 1 {
                    return Err(Malformed::Varint);
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 {
            Malformed::Truncated
        } else {
            Malformed::Varint
        })
    }

    /// The next value of a packed list of this kind, or `None` at the end.
    pub(crate) fn packed(&mut self, kind: Kind) -> Result<Option<Raw<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let wire_type = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
            _ => 0,
        };
        self.value(0, wire_type, 0).map(Some)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The wire types that we write.
#[derive(Clone, Copy)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

pub(crate) fn put_key(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    put_varint(out, u64::from(number << 3 | wire_type as u32));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_key(out, number, WireType::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Turns what `fill` writes into a length-delimited value: its length goes in front of it.
pub(crate) fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_key(out, number, WireType::Bytes);
    let start = out.len();
    fill(out)?;
    let len = out.len() - start;
    let end = out.len();
    put_varint(out, len as u64);
    let varint = out.len() - end;
    out[start..].rotate_right(varint);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_key_or_ends_early() {
        let read = |bytes: &[u8]| Reader::new(bytes).next().map(|_| ());
        assert_eq!(read(&[0x00]), Err(Malformed::Key), "field 0");
        assert_eq!(read(&[0x0e]), Err(Malformed::Key), "wire type 6");
        assert_eq!(read(&[0x08]), Err(Malformed::Truncated), "no value");
        assert_eq!(
            read(&[0x0a, 5, 1]),
            Err(Malformed::Truncated),
            "five bytes announced"
        );
        assert_eq!(
            read(&[0x0c]),
            Err(Malformed::Group),
            "an end without a beginning"
        );
        assert_eq!(
            read(&[0x0b, 0x14]),
            Err(Malformed::Group),
            "another group's end"
        );
        assert_eq!(read(&[0x0b, 0x0c]), Ok(()));
        let endless = [0xff; 11];
        assert_eq!(read(&endless), Err(Malformed::Varint));
        let nested = [0x0b; 100];
        assert_eq!(read(&nested), Err(Malformed::Group), "too many groups");
    }

    proptest! {
        #[test]
        fn varints_come_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.rest.is_empty());
        }

        #[test]
        fn any_bytes_end_or_are_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let mut left = bytes.len();
            while let Ok(Some(_)) = reader.next() {
                prop_assert!(reader.rest.len() < left, "each value takes some bytes");
                left = reader.rest.len();
            }
        }
    }
}
