//! Writes, for each message and enum, the constant table that `src/descriptor.rs` gives a type to:
//! names, numbers, labels, kinds and defaults of the fields in the order in which they were
//! declared.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Lists that Mesos prints in JSON even when they are empty: the answers that hold them are written
/// by hand there.
const PRINTED_EMPTY: &[(&str, &[&str])] = &[
    (
        "mezzo.v1.master.Response.GetTasks",
        &["tasks", "unreachable_tasks", "completed_tasks"],
    ),
    ("mezzo.v1.master.Response.GetExecutors", &["executors"]),
    (
        "mezzo.v1.master.Response.GetFrameworks",
        &["frameworks", "completed_frameworks"],
    ),
    (
        "mezzo.v1.master.Response.GetAgents",
        &["agents", "recovered_agents"],
    ),
    (
        "mezzo.v1.agent.Response.GetTasks",
        &[
            "pending_tasks",
            "queued_tasks",
            "launched_tasks",
            "terminated_tasks",
            "completed_tasks",
        ],
    ),
    (
        "mezzo.v1.agent.Response.GetExecutors",
        &["executors", "completed_executors"],
    ),
    (
        "mezzo.v1.agent.Response.GetFrameworks",
        &["frameworks", "completed_frameworks"],
    ),
];

/// A message with its full name (`mezzo.v1.scheduler.Call.Subscribe`) and the path of its Rust
/// type, which a map's entry lacks.
struct Found<'a> {
    full_name: String,
    rust: Option<String>,
    message: &'a DescriptorProto,
}

#[derive(Default)]
struct Index<'a> {
    messages: Vec<Found<'a>>,
    enums: Vec<(String, &'a EnumDescriptorProto)>,
    message_at: BTreeMap<String, usize>,
    enum_at: BTreeMap<String, usize>,
}

/// The tables, and `impl Described` for each message of ours.
pub fn tables(set: &FileDescriptorSet) -> Result<String> {
    let index = index(set);
    let mut out = String::new();
    for (i, (name, e)) in index.enums.iter().enumerate() {
        enum_table(&mut out, i, name, e)?;
    }
    for (i, found) in index.messages.iter().enumerate() {
        message_table(&mut out, i, found, &index)?;
    }
    writeln!(out, "static MESSAGES: &[&MessageInfo] = &[")?;
    for i in 0..index.messages.len() {
        writeln!(out, "    &MESSAGE_{i},")?;
    }
    writeln!(out, "];")?;
    writeln!(out, "static ENUMS: &[&EnumInfo] = &[")?;
    for i in 0..index.enums.len() {
        writeln!(out, "    &ENUM_{i},")?;
    }
    writeln!(out, "];")?;
    for (i, found) in index.messages.iter().enumerate() {
        if let Some(rust) = found
            .rust
            .as_deref()
            .filter(|rust| rust.starts_with("crate::"))
        {
            writeln!(
                out,
                "impl Described for {rust} {{\n    fn info() -> &'static MessageInfo {{ \
                 &MESSAGE_{i} }}\n}}"
            )?;
        }
    }
    Ok(out)
}

/// A macro that calls another with the list of all our message types, for tests that are to forget
/// none.
pub fn every_message(set: &FileDescriptorSet) -> Result<String> {
    let mut out =
        String::from("macro_rules! every_message {\n    ($with:ident) => {\n        $with! {\n");
    for found in index(set).messages {
        if let Some(rust) = found.rust.filter(|rust| rust.starts_with("crate::")) {
            writeln!(out, "            {rust},")?;
        }
    }
    out.push_str("        }\n    };\n}\n");
    Ok(out)
}

fn index(set: &FileDescriptorSet) -> Index<'_> {
    let mut index = Index::default();
    for file in &set.file {
        let package = file.package();
        let module = match package.strip_prefix("mezzo.") {
            Some(rest) => format!("crate::{}", rest.replace('.', "::")),
            None => "::prost_types".to_owned(),
        };
        for message in &file.message_type {
            collect(&mut index, package, &module, message);
        }
        for e in &file.enum_type {
            collect_enum(&mut index, package, e);
        }
    }
    index
}

fn collect<'a>(index: &mut Index<'a>, scope: &str, module: &str, message: &'a DescriptorProto) {
    let full_name = format!("{scope}.{}", message.name());
    let inner = format!("{module}::{}", snake(message.name()));
    for nested in &message.nested_type {
        collect(index, &full_name, &inner, nested);
    }
    for e in &message.enum_type {
        collect_enum(index, &full_name, e);
    }
    let entry = message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry());
    let rust = (!entry).then(|| format!("{module}::{}", camel(message.name())));
    index
        .message_at
        .insert(format!(".{full_name}"), index.messages.len());
    index.messages.push(Found {
        full_name,
        rust,
        message,
    });
}

fn collect_enum<'a>(index: &mut Index<'a>, scope: &str, e: &'a EnumDescriptorProto) {
    let full_name = format!("{scope}.{}", e.name());
    index
        .enum_at
        .insert(format!(".{full_name}"), index.enums.len());
    index.enums.push((full_name, e));
}

fn enum_table(out: &mut String, i: usize, name: &str, e: &EnumDescriptorProto) -> Result<()> {
    let mut by_number: Vec<(i32, &str)> = e.value.iter().map(|v| (v.number(), v.name())).collect();
    by_number.sort();
    let mut by_name: Vec<(&str, i32)> = by_number.iter().map(|&(n, s)| (s, n)).collect();
    by_name.sort();
    writeln!(
        out,
        "static ENUM_{i}: EnumInfo = EnumInfo {{ full_name: {name:?}, \
         by_number: &{by_number:?}, by_name: &{by_name:?} }};"
    )?;
    Ok(())
}

fn message_table(out: &mut String, i: usize, found: &Found<'_>, index: &Index<'_>) -> Result<()> {
    let fields = &found.message.field;
    // The scan for required fields marks what it saw in 128 bits.
    if fields.len() > 128 {
        return Err(format!("{} has more than 128 fields", found.full_name).into());
    }
    let size = match &found.rust {
        Some(rust) => format!("::core::mem::size_of::<{rust}>()"),
        // A map's node: key, value and its share of the tree.
        None => "256".to_owned(),
    };
    writeln!(out, "static MESSAGE_{i}: MessageInfo = MessageInfo {{")?;
    writeln!(
        out,
        "    name: {:?}, full_name: {:?},",
        found.message.name(),
        found.full_name
    )?;
    let maps = holds_maps(found.message, index, &mut Vec::new());
    let map_entry = found.rust.is_none();
    writeln!(
        out,
        "    size: {size}, map_entry: {map_entry}, holds_maps: {maps}, fields: &["
    )?;
    for field in fields {
        writeln!(out, "        {},", field_table(field, found, index)?)?;
    }
    let mut by_number: Vec<usize> = (0..fields.len()).collect();
    by_number.sort_by_key(|&f| fields[f].number());
    let mut by_name: Vec<usize> = (0..fields.len()).collect();
    by_name.sort_by_key(|&f| fields[f].name());
    writeln!(
        out,
        "    ], by_number: &{by_number:?}, by_name: &{by_name:?},\n}};"
    )?;
    Ok(())
}

/// Whether a map lies somewhere within a message; `seen` are those that were asked on the way.
fn holds_maps(message: &DescriptorProto, index: &Index<'_>, seen: &mut Vec<usize>) -> bool {
    if message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
    {
        return true;
    }
    message.field.iter().any(|field| {
        let Some(&inner) = index.message_at.get(field.type_name()) else {
            return false;
        };
        if seen.contains(&inner) {
            return false;
        }
        seen.push(inner);
        holds_maps(index.messages[inner].message, index, seen)
    })
}

fn field_table(
    field: &FieldDescriptorProto,
    found: &Found<'_>,
    index: &Index<'_>,
) -> Result<String> {
    let message = |kind: &str, at: &BTreeMap<String, usize>| -> Result<String> {
        let i = at
            .get(field.type_name())
            .ok_or_else(|| format!("no {}", field.type_name()))?;
        Ok(format!("Kind::{kind}(&{}_{i})", kind.to_uppercase()))
    };
    let kind = match field.r#type() {
        Type::Message => message("Message", &index.message_at)?,
        Type::Enum => message("Enum", &index.enum_at)?,
        Type::Group => return Err(format!("{} has a group", found.full_name).into()),
        plain => format!("Kind::{plain:?}"),
    };
    let label = match field.label() {
        Label::Optional => "Optional",
        Label::Required => "Required",
        Label::Repeated => "Repeated",
    };
    let default = match &field.default_value {
        Some(text) => format!("Some({})", default(field.r#type(), text)?),
        None => "None".to_owned(),
    };
    let printed_empty = PRINTED_EMPTY
        .iter()
        .any(|(name, fields)| *name == found.full_name && fields.contains(&field.name()));
    let deprecated = field
        .options
        .as_ref()
        .is_some_and(|options| options.deprecated());
    Ok(format!(
        "FieldInfo {{ name: {:?}, number: {}, label: Label::{label}, kind: {kind}, \
         default: {default}, deprecated: {deprecated}, printed_empty: {printed_empty}, \
         oneof: {:?} }}",
        field.name(),
        field.number(),
        field.oneof_index,
    ))
}

fn default(kind: Type, text: &str) -> Result<String> {
    Ok(match kind {
        Type::Bool => format!("DefaultValue::Bool({text})"),
        Type::Double | Type::Float => format!("DefaultValue::Double({:?})", text.parse::<f64>()?),
        Type::String => format!("DefaultValue::Text({text:?})"),
        Type::Enum => format!("DefaultValue::Enum({text:?})"),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => {
            format!("DefaultValue::Int({})", text.parse::<i64>()?)
        }
        other => return Err(format!("no default of kind {other:?} is in use").into()),
    })
}

/// The words of a name as prost sees them: a capital after a small letter opens one, and so does
/// the last of several capitals when a small letter follows (`CSIPlugin` is `CSI`, `Plugin`).
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().collect();
    let mut words = Vec::new();
    let mut word = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let after_small = i > 0 && chars[i - 1].is_lowercase();
        let before_small = i > 0
            && chars[i - 1].is_uppercase()
            && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && (after_small || before_small) {
            words.push(std::mem::take(&mut word));
        }
        word.extend(c.to_lowercase());
    }
    words.push(word);
    words
}

fn snake(name: &str) -> String {
    words(name).join("_")
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    for word in words(name) {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}
