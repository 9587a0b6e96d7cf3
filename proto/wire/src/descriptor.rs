//! What is known of the messages at run time: names, numbers, labels, kinds and defaults, as
//! constant tables.
//!
//! prost keeps none of this, and cannot tell an absent required field from an empty one. The JSON
//! dialect ([`crate::json`]) and the check for required fields ([`crate::check`]) both walk the
//! encoded bytes by these tables.
//! Invariant: the tables are made by `build.rs` from `defs/` and are never changed; `fields` stands
//! in the order of declaration, which is the order in which JSON is printed.

/// A message that the tables know.
pub trait Described: prost::Message + Default + 'static {
    /// Its table.
    fn info() -> &'static MessageInfo;
}

/// One message.
#[derive(Debug)]
pub struct MessageInfo {
    /// The bare name, such as `Call`.
    pub name: &'static str,
    /// The name with its package and the messages around it, such as `mezzo.v1.scheduler.Call`.
    pub full_name: &'static str,
    /// Bytes that a decoded one takes, without what it points to.
    pub size: usize,
    /// Whether this is what a map field repeats: a key (1) and a value (2).
    pub map_entry: bool,
    /// Whether it is a map's entry, or a map lies somewhere within it.
    pub holds_maps: bool,
    /// The fields in the order of declaration.
    pub fields: &'static [FieldInfo],
    by_number: &'static [u16],
    by_name: &'static [u16],
}

/// One field.
#[derive(Debug)]
pub struct FieldInfo {
    /// Its name, in JSON too.
    pub name: &'static str,
    /// Its number in the binary form.
    pub number: u32,
    /// How often it may be there.
    pub label: Label,
    /// What it holds.
    pub kind: Kind,
    /// What is read when it is absent, if something was said.
    pub default: Option<DefaultValue>,
    /// Whether it is out of use: its default is not printed in JSON.
    pub deprecated: bool,
    /// Whether JSON has it as `[]` when it is empty, as Mesos does in a few answers.
    pub printed_empty: bool,
    /// Which of the message's `oneof`s it belongs to: of their fields the last one counts.
    pub oneof: Option<i32>,
}

/// How often a field may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Once or not at all.
    Optional,
    /// Exactly once.
    Required,
    /// Any number of times.
    Repeated,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Bytes,
    Uint32,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
    Enum(&'static EnumInfo),
    Message(&'static MessageInfo),
}

/// What is read when a field is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum DefaultValue {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'static str),
    Enum(&'static str),
}

/// One enum.
#[derive(Debug)]
pub struct EnumInfo {
    /// The name with its package and the messages around it.
    pub full_name: &'static str,
    by_number: &'static [(i32, &'static str)],
    by_name: &'static [(&'static str, i32)],
}

impl MessageInfo {
    /// The place in `fields` of the field with this number.
    pub fn field_by_number(&self, number: u32) -> Option<usize> {
        // Most messages number their fields 1, 2, 3, ...: look there first.
        let guess = number.wrapping_sub(1) as usize;
        if let Some(&place) = self.by_number.get(guess)
            && self.fields[usize::from(place)].number == number
        {
            return Some(usize::from(place));
        }
        let found = self
            .by_number
            .binary_search_by_key(&number, |&place| self.fields[usize::from(place)].number)
            .ok()?;
        Some(usize::from(self.by_number[found]))
    }

    /// The place in `fields` of the field with this name.
    pub fn field_by_name(&self, name: &str) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by_key(&name, |&place| self.fields[usize::from(place)].name)
            .ok()?;
        Some(usize::from(self.by_name[found]))
    }
}

impl EnumInfo {
    /// The name of a value.
    pub fn name_of(&self, number: i32) -> Option<&'static str> {
        let found = self
            .by_number
            .binary_search_by_key(&number, |&(number, _)| number)
            .ok()?;
        Some(self.by_number[found].1)
    }

    /// The number of a value.
    pub fn number_of(&self, name: &str) -> Option<i32> {
        let found = self
            .by_name
            .binary_search_by_key(&name, |&(name, _)| name)
            .ok()?;
        Some(self.by_name[found].1)
    }

    /// All values by number.
    pub fn values(&self) -> impl Iterator<Item = (i32, &'static str)> {
        self.by_number.iter().copied()
    }
}

impl Kind {
    /// Whether lists of it may be packed into one value.
    pub fn is_scalar(self) -> bool {
        !matches!(self, Self::String | Self::Bytes | Self::Message(_))
    }
}

/// Every message, those that map fields repeat included.
pub fn messages() -> &'static [&'static MessageInfo] {
    tables::messages()
}

/// Every enum.
pub fn enums() -> &'static [&'static EnumInfo] {
    tables::enums()
}

/// The message with this full name, such as `mezzo.v1.scheduler.Call`.
pub fn message(full_name: &str) -> Option<&'static MessageInfo> {
    messages()
        .iter()
        .copied()
        .find(|info| info.full_name == full_name)
}

/// The compiled definitions as a `google.protobuf.FileDescriptorSet`, for tools that want to know
/// the messages (server reflection, debuggers).
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod tables {
    use super::{DefaultValue, Described, EnumInfo, FieldInfo, Kind, Label, MessageInfo};
    include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));

    pub(super) fn messages() -> &'static [&'static MessageInfo] {
        MESSAGES
    }

    pub(super) fn enums() -> &'static [&'static EnumInfo] {
        ENUMS
    }
}

#[cfg(test)]
mod tests;
