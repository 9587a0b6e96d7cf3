//! Reads a JSON object strictly: each field has a type and a range, unknown fields are refused, and everything that
//! is wrong is told at once, with its place.
//!
//! Invariant: a reader never stops at the first error; what it gives back for a bad field is `None`, and the error
//! is kept.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_model::resources::Milli;
use serde_json::{Map, Value};

use super::FieldError;

/// Longest text that a field may have where nothing else is said, in bytes. The kernel takes no single argument or
/// environment entry of 128 KiB or more.
pub const MAX_TEXT_BYTES: usize = 131_000;

/// Everything that is wrong with a document.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Notes that something is wrong.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError {
            path: path.into(),
            message: message.into(),
        });
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong, in the order in which it was found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

/// One object of the document.
pub struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
    seen: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    /// The object at a path; an error is noted if the value is none.
    pub fn new(path: &str, value: &'a Value, errors: &mut Errors) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                path: path.to_owned(),
                fields,
                seen: BTreeSet::new(),
            }),
            other => {
                let path = if path.is_empty() { "/" } else { path };
                errors.add(path, format!("must be an object, not {}", kind(other)));
                None
            }
        }
    }

    /// The path of a field.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{}", self.path, pointer(name))
    }

    /// A field's value, whatever its type.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.seen.insert(name);
        self.fields.get(name)
    }

    /// A field's value; an error is noted if it is absent.
    pub fn required(&mut self, name: &'static str, errors: &mut Errors) -> Option<&'a Value> {
        let value = self.value(name);
        if value.is_none() {
            errors.add(self.path(name), "is required");
        }
        value
    }

    /// An object in a field.
    pub fn object(&mut self, name: &'static str, errors: &mut Errors) -> Option<Object<'a>> {
        let value = self.value(name)?;
        Object::new(&self.path(name), value, errors)
    }

    /// A text in a field, not longer than [`MAX_TEXT_BYTES`] and without NUL.
    pub fn text(&mut self, name: &'static str, errors: &mut Errors) -> Option<&'a str> {
        let value = self.value(name)?;
        text(&self.path(name), value, errors)
    }

    /// An amount in a field, between the two limits, in thousandths.
    pub fn amount(
        &mut self,
        name: &'static str,
        least: f64,
        most: f64,
        errors: &mut Errors,
    ) -> Option<Milli> {
        let value = self.value(name)?;
        let Some(number) = value.as_f64() else {
            errors.add(
                self.path(name),
                format!("must be a number, not {}", kind(value)),
            );
            return None;
        };
        if !(least..=most).contains(&number) {
            errors.add(
                self.path(name),
                format!("is {number}, must be between {least} and {most}"),
            );
            return None;
        }
        // In range, so the product is far below 2^53 and the cast exact.
        #[allow(clippy::cast_possible_truncation)]
        Some(Milli((number * 1000.0).round() as i64))
    }

    /// A whole number in a field, between the two limits.
    pub fn whole(
        &mut self,
        name: &'static str,
        least: u64,
        most: u64,
        errors: &mut Errors,
    ) -> Option<u64> {
        let value = self.value(name)?;
        let number = match value {
            Value::Number(number) => number.as_u64().or_else(|| whole_float(number.as_f64())),
            _ => {
                errors.add(
                    self.path(name),
                    format!("must be a whole number, not {}", kind(value)),
                );
                return None;
            }
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let words =
                    format!("is {value}, must be a whole number between {least} and {most}");
                errors.add(self.path(name), words);
                None
            }
        }
    }

    /// A map of texts in a field; absent is empty.
    pub fn texts(&mut self, name: &'static str, errors: &mut Errors) -> BTreeMap<String, String> {
        let path = self.path(name);
        let mut texts = BTreeMap::new();
        match self.value(name) {
            None => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    let place = format!("{path}/{}", pointer(key));
                    if let Some(value) = text(&place, value, errors) {
                        texts.insert(key.clone(), value.to_owned());
                    }
                }
            }
            Some(other) => errors.add(
                path,
                format!("must be an object of texts, not {}", kind(other)),
            ),
        }
        texts
    }

    /// Refuses a field that is not served yet, unless it says what its absence says.
    pub fn not_served(&mut self, name: &'static str, neutral: &[Value], errors: &mut Errors) {
        let Some(value) = self.value(name) else {
            return;
        };
        if !neutral.contains(value) {
            let shown: Vec<String> = neutral.iter().map(Value::to_string).collect();
            let accepted = if shown.is_empty() {
                String::from("leave it out")
            } else {
                format!("leave it out or give {}", shown.join(" or "))
            };
            errors.add(
                self.path(name),
                format!("{name} is not served yet; {accepted}"),
            );
        }
    }

    /// Refuses every field that was not asked for.
    pub fn finish(self, errors: &mut Errors) {
        for name in self.fields.keys() {
            if !self.seen.contains(name.as_str()) {
                let known: Vec<&str> = self.seen.iter().copied().collect();
                let words = format!("is no field here; fields are {}", known.join(", "));
                errors.add(self.path(name), words);
            }
        }
    }
}

/// The text that a value is, not longer than [`MAX_TEXT_BYTES`] and without NUL.
pub fn text<'a>(path: &str, value: &'a Value, errors: &mut Errors) -> Option<&'a str> {
    let Some(text) = value.as_str() else {
        errors.add(path, format!("must be a text, not {}", kind(value)));
        return None;
    };
    if text.len() > MAX_TEXT_BYTES {
        let words = format!(
            "is {} bytes long, at most {MAX_TEXT_BYTES} are possible",
            text.len()
        );
        errors.add(path, words);
        return None;
    }
    if text.contains('\0') {
        errors.add(
            path,
            "contains a NUL character, which no program can be given",
        );
        return None;
    }
    Some(text)
}

/// A number written with a point and nothing behind it (`3600.0`) is a whole number too.
fn whole_float(number: Option<f64>) -> Option<u64> {
    let number = number?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
}

/// What a value is, for a person.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A name as a step of a JSON pointer, cut if somebody sent a very long one.
fn pointer(name: &str) -> String {
    let short: String = name.chars().take(100).collect();
    short.replace('~', "~0").replace('/', "~1")
}
