//! Every message of ours against its table: what the table says is encoded is what prost reads and
//! writes.

use super::*;
use crate::check::{self, decode_checked, missing};
use crate::encode::encode;
use crate::raw::{WireType, put_bytes, put_key, put_nested, put_varint};

include!(concat!(env!("OUT_DIR"), "/every_message.rs"));

/// Writes a message by its table, with its fields by number as prost writes them. `depth` messages
/// are nested where they may be; required ones and those of maps always. Enums take the last value.
fn sample(info: &'static MessageInfo, depth: usize, out: &mut Vec<u8>) {
    let mut oneofs = Vec::new();
    for &place in info.by_number {
        let field = &info.fields[usize::from(place)];
        if let Some(oneof) = field.oneof {
            if oneofs.contains(&oneof) {
                continue;
            }
            oneofs.push(oneof);
        }
        let map = matches!(field.kind, Kind::Message(entry) if entry.map_entry);
        let times = if field.label == Label::Repeated && !map {
            2
        } else {
            1
        };
        for time in 0..times {
            value(field, depth, info.map_entry, time, out);
        }
    }
}

fn value(field: &'static FieldInfo, depth: usize, always: bool, time: u64, out: &mut Vec<u8>) {
    let number = field.number;
    let always = always || field.label == Label::Required;
    match field.kind {
        Kind::Message(_) if depth == 0 && !always => {}
        Kind::Message(info) => {
            let nest = |out: &mut Vec<u8>| {
                sample(info, depth.saturating_sub(1), out);
                Ok::<(), ()>(())
            };
            put_nested(out, number, nest).expect("nothing fails");
        }
        Kind::String => put_bytes(out, number, format!("{}{time}", field.name).as_bytes()),
        Kind::Bytes => put_bytes(out, number, &[time as u8, 0xff]),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
            put_key(out, number, WireType::Fixed64);
            out.extend((f64::from(number) + 0.5).to_le_bytes());
        }
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
            put_key(out, number, WireType::Fixed32);
            out.extend([1, 2, 3, 4]);
        }
        Kind::Bool => {
            put_key(out, number, WireType::Varint);
            put_varint(out, 1);
        }
        Kind::Enum(values) => {
            let (last, _) = values.values().last().expect("a value");
            put_key(out, number, WireType::Varint);
            put_varint(out, i64::from(last) as u64);
        }
        _ => {
            put_key(out, number, WireType::Varint);
            put_varint(out, u64::from(number) + time);
        }
    }
}

fn every_field_comes_back<T: Described>() {
    let info = T::info();
    assert_eq!(info.size, size_of::<T>());
    assert!(std::ptr::eq(message(info.full_name).expect("listed"), info));
    for depth in 0..4 {
        let mut bytes = Vec::new();
        sample(info, depth, &mut bytes);
        let read: T = decode_checked(&bytes[..]).expect(info.full_name);
        // prost knows each field by the number and kind of the table, or it would be lost here.
        assert_eq!(encode(&read), bytes, "{}", info.full_name);
        assert_eq!(missing(&read), Vec::<String>::new());
        let text = crate::json::to_vec(&read);
        let again: T = crate::json::from_slice(&text).expect(info.full_name);
        assert_eq!(crate::json::to_vec(&again), text, "{}", info.full_name);
        if depth == 3 {
            assert_eq!(encode(&again), bytes, "{}", info.full_name);
        }
    }
}

fn an_empty_one_lacks_what_is_required<T: Described>() {
    let required = |field: &&FieldInfo| field.label == Label::Required;
    let names: Vec<_> = T::info()
        .fields
        .iter()
        .filter(required)
        .map(|field| field.name)
        .collect();
    match decode_checked::<T>(&b""[..]) {
        Ok(_) => assert!(names.is_empty(), "{}", T::info().full_name),
        Err(error) => match error.cause {
            check::DecodeCause::Missing(paths) => assert_eq!(paths, names),
            other => panic!("{}: {other}", T::info().full_name),
        },
    }
}

macro_rules! test_all {
    ($($message:path,)*) => {
        const COUNT: usize = [$(stringify!($message)),*].len();
        fn test_every() {
            $(
                every_field_comes_back::<$message>();
                an_empty_one_lacks_what_is_required::<$message>();
            )*
        }
    };
}

every_message!(test_all);

#[test]
fn every_message_encodes_and_decodes() {
    test_every();
    let ours = messages()
        .iter()
        .filter(|info| info.full_name.starts_with("mezzo.") && !info.map_entry);
    assert_eq!(ours.count(), COUNT);
}

#[test]
fn fields_of_our_own_start_at_1000() {
    // Those of Mesos end far below; what is between is a slip of the pen.
    for info in messages()
        .iter()
        .filter(|info| info.full_name.starts_with("mezzo.v1."))
    {
        for field in info.fields {
            assert!(
                field.number < 100 || field.number >= 1000,
                "{}.{}",
                info.full_name,
                field.name
            );
        }
    }
}

#[test]
fn names_and_numbers_find_each_other() {
    for info in messages() {
        for (place, field) in info.fields.iter().enumerate() {
            assert_eq!(info.field_by_number(field.number), Some(place));
            assert_eq!(info.field_by_name(field.name), Some(place));
        }
        assert_eq!(info.field_by_number(0), None);
        assert_eq!(info.field_by_number(u32::MAX), None);
        assert_eq!(info.field_by_name("no such field"), None);
    }
    for values in enums() {
        for (number, name) in values.values() {
            assert_eq!(values.name_of(number), Some(name));
            assert_eq!(values.number_of(name), Some(number));
        }
        assert_eq!(values.number_of("NO_SUCH_VALUE"), None);
    }
}
