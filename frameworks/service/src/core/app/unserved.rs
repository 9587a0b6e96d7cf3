//! Fields of Marathon's app that this version does not serve yet. Each is refused by name when its value differs from
//! Marathon's default: a field that is taken and ignored would be a lie.

use serde_json::{Value, json};

use super::document::{Fields, Problems};

/// Whether a value is the default of a field that is not served, and so may be given.
type IsDefault = fn(&Value) -> bool;

/// The fields, and what of each is harmless.
pub const UNSERVED: [(&str, IsDefault); 16] = [
    ("check", never),
    ("container", never),
    ("dependencies", empty),
    ("executor", empty),
    ("executorResources", never),
    ("fetch", empty),
    ("gpus", zero),
    ("ipAddress", never),
    ("networks", host_network),
    ("readinessChecks", empty),
    ("residency", never),
    ("resourceLimits", never),
    ("secrets", empty),
    ("storeUrls", empty),
    ("tty", off),
    ("uris", empty),
];

/// Names every field whose value would need something that is not there.
pub fn refuse(fields: Fields<'_>, problems: &mut Problems) {
    for (name, is_default) in UNSERVED {
        if let Some(value) = fields.get(name)
            && !is_default(value)
        {
            problems.rule(
                fields.at(name),
                format!("'{name}' is not served by this version of Mezzo; leave it out"),
            );
        }
    }
}

fn never(_: &Value) -> bool {
    false
}

fn off(value: &Value) -> bool {
    *value == Value::Bool(false)
}

fn zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn host_network(value: &Value) -> bool {
    let is_host = |network: &Value| {
        network.as_object().is_some_and(|fields| {
            fields.iter().all(|(name, value)| match name.as_str() {
                "mode" => *value == json!("host"),
                "labels" => value.is_null() || empty(value),
                "name" => value.is_null(),
                _ => false,
            }) && fields.contains_key("mode")
        })
    };
    value
        .as_array()
        .is_some_and(|networks| networks.len() <= 1 && networks.iter().all(is_host))
}

#[cfg(test)]
mod tests {
    use super::super::document::object;
    use super::*;

    #[test]
    fn defaults_pass_and_the_rest_is_named() {
        let defaults = json!({
            "container": null, "dependencies": [], "executor": "", "fetch": [], "uris": [], "gpus": 0,
            "networks": [{"mode": "host"}], "secrets": {}, "tty": false, "storeUrls": [], "readinessChecks": [],
        });
        let mut problems = Problems::default();
        refuse(
            object(&defaults, "", &mut problems).expect("an object"),
            &mut problems,
        );
        assert_eq!(problems.verdict(), Ok(()));
        for (name, value) in [
            ("container", json!({})),
            ("networks", json!([{"mode": "container"}])),
            ("networks", json!([{"mode": "host", "name": "x"}])),
            ("networks", json!("host")),
            ("gpus", json!(1)),
            ("tty", json!(true)),
            ("dependencies", json!(["/db"])),
            ("executor", json!("//cmd")),
        ] {
            let value = json!({ name: value });
            let mut problems = Problems::default();
            refuse(
                object(&value, "", &mut problems).expect("an object"),
                &mut problems,
            );
            let words = problems.verdict().expect_err(name).to_string();
            assert!(
                words.contains(&format!("/{name} '{name}' is not served")),
                "{words}"
            );
        }
    }
}
