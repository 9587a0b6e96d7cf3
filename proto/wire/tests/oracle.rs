//! Our JSON against that of prost-reflect, an implementation that shares nothing with ours but the
//! definitions. Where Mesos' dialect differs from its (defaults, a few empty lists), the difference
//! is put into what it says.

use std::sync::LazyLock;

use mezzo_wire::descriptor::{self, DefaultValue, FieldInfo, Kind, Label, MessageInfo};
use mezzo_wire::json;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_reflect::{MapKey, ReflectMessage as _, Value};
use serde_json::{Value as Json, json};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(descriptor::FILE_DESCRIPTOR_SET).expect("what the build wrote")
});

/// Numbers without end from a seed (xorshift).
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 9] = ["", "a", "task.1", "\"", "\\", "\n\t", "\u{1}", "é", "😀/"];
        (0..self.next(4))
            .map(|_| PIECES[self.next(9) as usize])
            .collect()
    }
}

/// A message with fields that the draw decides on; required ones always.
fn message(info: &MessageInfo, depth: u32, draw: &mut Draw) -> DynamicMessage {
    let known = POOL
        .get_message_by_name(info.full_name)
        .expect(info.full_name);
    let mut message = DynamicMessage::new(known.clone());
    let mut oneofs = Vec::new();
    for field in info.fields {
        let nested = matches!(field.kind, Kind::Message(_));
        let wanted = match field.label {
            Label::Required => true,
            // A duration has a form of its own in proto3's JSON.
            _ if is_duration(field) => false,
            _ if nested && depth == 0 => false,
            _ => draw.next(if nested { 3 } else { 2 }) == 0,
        };
        if !wanted || field.oneof.is_some_and(|oneof| oneofs.contains(&oneof)) {
            continue;
        }
        oneofs.extend(field.oneof);
        let described = known.get_field(field.number).expect("the same numbers");
        let value = match field.kind {
            Kind::Message(entry) if entry.map_entry => {
                let values = (0..1 + draw.next(2)).map(|i| {
                    (
                        MapKey::String(format!("k{i}")),
                        value(&entry.fields[1], depth, draw),
                    )
                });
                Value::Map(values.collect())
            }
            _ if field.label == Label::Repeated => Value::List(
                (0..1 + draw.next(2))
                    .map(|_| value(field, depth, draw))
                    .collect(),
            ),
            _ => value(field, depth, draw),
        };
        message.set_field(&described, value);
    }
    message
}

fn is_duration(field: &FieldInfo) -> bool {
    matches!(field.kind, Kind::Message(info) if info.full_name.starts_with("google."))
}

fn value(field: &FieldInfo, depth: u32, draw: &mut Draw) -> Value {
    // Quarters are exact in binary and short in decimal.
    let quarters = draw.next(4000) as f64 / 4.0 - 500.0;
    let large = [
        0,
        1,
        127,
        128,
        u64::from(u32::MAX),
        i64::MAX as u64,
        u64::MAX,
    ];
    let whole = large[draw.next(7) as usize];
    match field.kind {
        Kind::Message(info) => Value::Message(message(info, depth.saturating_sub(1), draw)),
        Kind::Enum(values) => {
            let all: Vec<i32> = values.values().map(|(number, _)| number).collect();
            Value::EnumNumber(all[draw.next(all.len() as u64) as usize])
        }
        Kind::String => Value::String(draw.text()),
        Kind::Bytes => Value::Bytes(draw.text().into_bytes().into()),
        Kind::Bool => Value::Bool(draw.next(2) == 0),
        Kind::Double => Value::F64(match draw.next(10) {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            _ => quarters,
        }),
        Kind::Float => Value::F32(quarters as f32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(whole as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(whole as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(whole as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(whole),
    }
}

/// What Mesos writes beyond what is there.
fn add_defaults(info: &MessageInfo, json: &mut Json) {
    let Json::Object(members) = json else {
        panic!("{json} is no {}", info.full_name)
    };
    for field in info.fields {
        let missing = !members.contains_key(field.name);
        if let Some(default) = field.default.filter(|_| missing && !field.deprecated) {
            let default = match default {
                DefaultValue::Bool(value) => json!(value),
                DefaultValue::Int(value) => json!(value),
                DefaultValue::Double(value) => json!(value),
                DefaultValue::Text(text) | DefaultValue::Enum(text) => json!(text),
            };
            members.insert(field.name.to_owned(), default);
        }
        if missing && field.printed_empty {
            members.insert(field.name.to_owned(), json!([]));
        }
        let (Kind::Message(inner), Some(json)) = (field.kind, members.get_mut(field.name)) else {
            continue;
        };
        match json {
            Json::Array(items) => items.iter_mut().for_each(|item| add_defaults(inner, item)),
            Json::Object(entries) if inner.map_entry => {
                if let Kind::Message(value) = inner.fields[1].kind {
                    entries
                        .values_mut()
                        .for_each(|entry| add_defaults(value, entry));
                }
            }
            json => add_defaults(inner, json),
        }
    }
}

fn compare(info: &'static MessageInfo, seed: u64) {
    let message = message(info, 3, &mut Draw(seed | 1));
    let binary = message.encode_to_vec();
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(true);
    let theirs = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect(info.full_name);
    let mut expected = theirs.clone();
    add_defaults(info, &mut expected);

    let ours = json::binary_to_json(info, &binary).expect(info.full_name);
    let parsed: Json = serde_json::from_slice(&ours).expect("what we write is JSON");
    assert_eq!(parsed, expected, "{}", info.full_name);

    // And the way back, from their text to the binary form.
    let read = json::json_to_binary(info, theirs.to_string().as_bytes()).expect(info.full_name);
    let read = DynamicMessage::decode(message.descriptor(), &*read).expect("a binary form");
    assert_eq!(read, message, "{}", info.full_name);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn an_independent_implementation_agrees(seed: u64) {
        for (i, info) in (0u64..).zip(descriptor::messages()) {
            if info.full_name.starts_with("mezzo.") && !info.map_entry {
                compare(info, seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            }
        }
    }
}
