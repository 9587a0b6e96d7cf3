//! Reading JSON documents field by field: each wrong value is collected with its path, in the codes that Marathon's
//! clients know.
//!
//! Invariant: reading never panics, and never stops at the first mistake.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// One mistake: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `/field`, `/list(0)/field`, or `/`.
    pub path: String,
    /// A code such as `error.expected.jsstring`, or a sentence.
    pub words: String,
}

/// Why a document is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A value has the wrong type, or a needed field is missing.
    #[error("Invalid JSON: {}", list(.0))]
    Shape(Vec<Problem>),
    /// A value breaks a rule.
    #[error("Object is not valid: {}", list(.0))]
    Rules(Vec<Problem>),
    /// The document contradicts itself.
    #[error("{0}")]
    Conflict(String),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{} {}", problem.path, problem.words))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Mistakes as they are found. At most [`Problems::MOST`] are kept; more help nobody.
#[derive(Debug, Default)]
pub struct Problems {
    shape: Vec<Problem>,
    rules: Vec<Problem>,
}

impl Problems {
    /// How many mistakes of one kind are told.
    pub const MOST: usize = 50;

    /// A wrong type or a missing field.
    pub fn shape(&mut self, path: impl Into<String>, code: &str) {
        if self.shape.len() < Self::MOST {
            self.shape.push(Problem {
                path: path.into(),
                words: code.to_owned(),
            });
        }
    }

    /// A broken rule.
    pub fn rule(&mut self, path: impl Into<String>, words: impl Into<String>) {
        if self.rules.len() < Self::MOST {
            self.rules.push(Problem {
                path: path.into(),
                words: words.into(),
            });
        }
    }

    /// The verdict: wrong shapes hide broken rules, for a rule cannot be judged on a value of the wrong type.
    ///
    /// # Errors
    /// Everything that was found.
    pub fn verdict(self) -> Result<(), Refused> {
        if !self.shape.is_empty() {
            Err(Refused::Shape(self.shape))
        } else if !self.rules.is_empty() {
            Err(Refused::Rules(self.rules))
        } else {
            Ok(())
        }
    }
}

/// A view of one JSON object at one path. `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a str,
}

/// Takes the object out of a value.
pub fn object<'a>(value: &'a Value, path: &'a str, problems: &mut Problems) -> Option<Fields<'a>> {
    match value {
        Value::Object(object) => Some(Fields { object, path }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            problems.shape(
                if path.is_empty() { "/" } else { path },
                "error.expected.jsobject",
            );
            None
        }
    }
}

impl<'a> Fields<'a> {
    /// The path of a field.
    pub fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    /// The value of a field that is present and not `null`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether the field is present and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Names of the fields that are present and not `null`.
    pub fn present(&self) -> impl Iterator<Item = &'a str> {
        self.object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, _)| key.as_str())
    }

    /// Refuses every field that is not known, with a guess at what was meant.
    pub fn only(&self, known: &[&str], problems: &mut Problems) {
        for key in self
            .object
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
        {
            let shown: String = key.chars().take(80).collect();
            let words = match closest(key, known) {
                Some(meant) => format!("is not a known field; did you mean '{meant}'?"),
                None => "is not a known field".to_owned(),
            };
            problems.rule(self.at(&shown), words);
        }
    }

    /// A string.
    pub fn string(&self, key: &str, problems: &mut Problems) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                problems.shape(self.at(key), "error.expected.jsstring");
                None
            }
        }
    }

    /// A truth value.
    pub fn bool(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(truth) => Some(*truth),
            _ => {
                problems.shape(self.at(key), "error.expected.jsboolean");
                None
            }
        }
    }

    /// A number.
    pub fn number(&self, key: &str, problems: &mut Problems) -> Option<f64> {
        let value = self.get(key)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            problems.shape(self.at(key), "error.expected.jsnumber");
        }
        number
    }

    /// A whole number in a range. `1.0` is one; a number outside is a broken rule.
    pub fn whole(&self, key: &str, low: u64, high: u64, problems: &mut Problems) -> Option<u64> {
        let number = self.number(key, problems)?;
        if number.fract() != 0.0 {
            problems.shape(self.at(key), "error.expected.int");
            return None;
        }
        if number < low as f64 || number > high as f64 {
            problems.rule(
                self.at(key),
                format!("got {number}, expected between {low} and {high}"),
            );
            return None;
        }
        // In range, so the cast is exact enough: no limit here is beyond 2^53.
        Some(number as u64)
    }

    /// A list of strings.
    pub fn strings(&self, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
        let items = self.list(key, problems)?;
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => strings.push(text.clone()),
                _ => problems.shape(
                    format!("{}({index})", self.at(key)),
                    "error.expected.jsstring",
                ),
            }
        }
        Some(strings)
    }

    /// A list.
    pub fn list(&self, key: &str, problems: &mut Problems) -> Option<&'a Vec<Value>> {
        match self.get(key)? {
            Value::Array(items) => Some(items),
            _ => {
                problems.shape(self.at(key), "error.expected.jsarray");
                None
            }
        }
    }

    /// A list of objects, each read by `read` at its own path.
    pub fn objects<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        mut read: impl FnMut(Fields<'_>, &mut Problems) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(key, problems)?;
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}({index})", self.at(key));
            if let Some(fields) = object(item, &path, problems)
                && let Some(value) = read(fields, problems)
            {
                values.push(value);
            }
        }
        Some(values)
    }

    /// An object, read by `read`.
    pub fn nested<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        read: impl FnOnce(Fields<'_>, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let path = self.at(key);
        let fields = object(self.get(key)?, &path, problems)?;
        read(fields, problems)
    }

    /// A map from names to strings.
    pub fn string_map(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<BTreeMap<String, String>> {
        let path = self.at(key);
        let fields = object(self.get(key)?, &path, problems)?;
        let mut map = BTreeMap::new();
        for (name, value) in fields.object {
            match value {
                Value::String(text) => {
                    map.insert(name.clone(), text.clone());
                }
                _ => problems.shape(fields.at(name), "error.expected.jsstring"),
            }
        }
        Some(map)
    }

    /// The entries of the object, `null` included.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// The known name that differs from `key` by at most two letters (Levenshtein), case aside.
fn closest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    if key.len() > 64 {
        return None;
    }
    let key: Vec<char> = key.to_lowercase().chars().collect();
    known
        .iter()
        .map(|name| {
            (
                distance(&key, &name.to_lowercase().chars().collect::<Vec<_>>()),
                *name,
            )
        })
        .filter(|(distance, name)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != b))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mistakes_are_collected_with_their_paths() {
        let value = json!({"a": 1, "b": ["x", 2], "c": {"d": true}, "e": 1.5, "instanses": 3});
        let mut problems = Problems::default();
        let fields = object(&value, "", &mut problems).expect("an object");
        fields.string("a", &mut problems);
        fields.strings("b", &mut problems);
        fields.string_map("c", &mut problems);
        fields.whole("e", 0, 9, &mut problems);
        assert_eq!(
            problems.verdict().expect_err("wrong").to_string(),
            "Invalid JSON: /a error.expected.jsstring; /b(1) error.expected.jsstring; \
             /c/d error.expected.jsstring; /e error.expected.int"
        );
        let mut problems = Problems::default();
        fields.only(&["a", "b", "c", "e", "instances"], &mut problems);
        let words = problems.verdict().expect_err("unknown").to_string();
        assert!(words.contains("/instanses is not a known field; did you mean 'instances'?"));
    }

    #[test]
    fn null_is_absent_and_whole_numbers_may_have_a_point() {
        let value = json!({"a": null, "n": 3.0, "m": -1, "h": 1e300});
        let mut problems = Problems::default();
        let fields = object(&value, "", &mut problems).expect("an object");
        assert!(!fields.has("a"));
        assert_eq!(fields.string("a", &mut problems), None);
        assert_eq!(fields.whole("n", 0, 9, &mut problems), Some(3));
        assert_eq!(fields.whole("m", 0, 9, &mut problems), None);
        assert_eq!(fields.whole("h", 0, 9, &mut problems), None);
        let words = problems.verdict().expect_err("out of range").to_string();
        assert!(
            words.contains("/m got -1, expected between 0 and 9"),
            "{words}"
        );
    }
}
