//! The text form of resources: `cpus(role):4;mem:1024;ports:[31000-32000];words:{a,b}`.

use std::collections::BTreeSet;
use std::sync::Arc;

use mezzo_wire::json;
use mezzo_wire::v1;

use super::{
    InvalidResource, Milli, Ranges, RangesError, Reservation, ReservationKind, Resource, Resources,
    Value,
};
use crate::Role;
use crate::role::RoleError;

/// Why a text is no list of resources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not `name:value`.
    #[error("Bad value for resources, missing or extra ':' in {token}")]
    Colon {
        /// The part between semicolons.
        token: String,
    },
    /// `cpus(role:4`.
    #[error("Bad value for resources, unmatched parentheses in {token}")]
    Parentheses {
        /// The part between semicolons.
        token: String,
    },
    /// No name before the colon.
    #[error("Bad value for resources, empty name in {token}")]
    EmptyName {
        /// The part between semicolons.
        token: String,
    },
    /// Neither a number, `[...]` nor `{...}`.
    #[error("Bad type for resource {name}, value '{value}'; write a number, [1-9] or {{a,b}}")]
    Type {
        /// The resource.
        name: String,
        /// What stands after the colon.
        value: String,
    },
    /// Negative, or zero after rounding, or beyond what can be counted.
    #[error("Resource {name}: amount '{value}' must be a number from 0.001 up to 10^12")]
    Amount {
        /// The resource.
        name: String,
        /// What stands after the colon.
        value: String,
    },
    /// `[3-1]` and the like.
    #[error("Resource {name}: {source}")]
    Ranges {
        /// The resource.
        name: String,
        /// What is wrong.
        source: RangesError,
    },
    /// The name in parentheses is no role.
    #[error("Resource {name}: {source}")]
    Role {
        /// The resource.
        name: String,
        /// What is wrong.
        source: RoleError,
    },
    /// The text begins with `[` and is no JSON array of Resource messages.
    #[error("resources as JSON: {why}")]
    Json {
        /// What is wrong with it.
        why: String,
    },
    /// One of the messages in the JSON array is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidResource),
    /// `x:1;x:[1-2]`.
    #[error("Resources with the same name ('{name}') but different types are not allowed")]
    MixedTypes {
        /// The resource.
        name: String,
    },
}

impl Resources {
    /// Reads either form of the `--resources` flag: a JSON array of Resource messages, or
    /// `cpus:4;mem:1024;ports:[31000-32000]`, where `name(role)` is statically reserved.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.trim_start().starts_with('[') {
            let messages: Vec<v1::Resource> =
                json::list_from_slice(text.as_bytes()).map_err(|error| TextError::Json {
                    why: error.to_string(),
                })?;
            return Ok(Self::from_wire(&messages)?);
        }
        let mut resources = Self::new();
        for token in text
            .split([';', '\n'])
            .map(str::trim)
            .filter(|token| !token.is_empty())
        {
            let resource = read_token(token)?;
            let mixed = resources.iter().any(|other| {
                other.name == resource.name
                    && std::mem::discriminant(&other.value)
                        != std::mem::discriminant(&resource.value)
            });
            if mixed {
                return Err(TextError::MixedTypes {
                    name: resource.name.to_string(),
                });
            }
            resources.insert(resource);
        }
        Ok(resources)
    }
}

fn read_token(token: &str) -> Result<Resource, TextError> {
    let owned = || token.to_owned();
    let (head, value) = token
        .split_once(':')
        .ok_or_else(|| TextError::Colon { token: owned() })?;
    if value.contains(':') {
        return Err(TextError::Colon { token: owned() });
    }
    let unmatched = || TextError::Parentheses { token: owned() };
    let (name, role) = match head.split_once('(') {
        Some((name, rest)) => {
            let role = rest.trim_end().strip_suffix(')').ok_or_else(unmatched)?;
            if role.contains(['(', ')']) {
                return Err(unmatched());
            }
            (name.trim(), Some(role.trim()))
        }
        None if head.contains(')') => return Err(unmatched()),
        None => (head.trim(), None),
    };
    if name.is_empty() {
        return Err(TextError::EmptyName { token: owned() });
    }
    let mut resource = Resource::new(name, read_value(name, value.trim())?);
    if let Some(role) = role {
        let role = Role::parse(role).map_err(|source| TextError::Role {
            name: name.to_owned(),
            source,
        })?;
        if !role.is_star() {
            let kind = ReservationKind::Static;
            resource.reservations.push(Reservation {
                kind,
                role,
                principal: None,
                labels: None,
            });
        }
    }
    Ok(resource)
}

fn read_value(name: &str, value: &str) -> Result<Value, TextError> {
    if value.starts_with('[') {
        return Ranges::parse(value)
            .map(Value::Ranges)
            .map_err(|source| TextError::Ranges {
                name: name.to_owned(),
                source,
            });
    }
    if let Some(inner) = value
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let words = inner
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        return Ok(Value::Set(words.map(Arc::from).collect::<BTreeSet<_>>()));
    }
    let number: f64 = value.parse().map_err(|_| TextError::Type {
        name: name.to_owned(),
        value: value.to_owned(),
    })?;
    match Milli::from_f64(number) {
        // Zero is allowed, and is the same as not naming the resource.
        Some(amount) if amount > Milli::ZERO || number == 0.0 => Ok(Value::Scalar(amount)),
        _ => Err(TextError::Amount {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read() {
        let text = "cpus(eng/web):4; mem:1024.5;ports:[31000-31001,31002-32000];words:{b,a};cpus:0.1;disk:0";
        let resources = Resources::parse(text).expect("reads");
        assert_eq!(
            resources.to_string(),
            "cpus(reservations: [(STATIC,eng/web)]):4; mem:1024.5; ports:[31000-32000]; \
             words:{a, b}; cpus:0.1"
        );
        assert_eq!(resources.scalar("cpus"), Milli(4100));
        assert_eq!(resources.ranges("ports").count(), 1001);
        assert_eq!(Resources::parse("").expect("reads").to_string(), "{}");
    }

    #[test]
    fn the_json_form_is_read() {
        let text = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":4}},
            {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":9}]},"role":"eng"}]"#;
        let resources = Resources::parse(text).expect("reads");
        assert_eq!(
            resources,
            Resources::parse("cpus:4;ports(eng):[1-9]").expect("reads")
        );
    }

    #[test]
    fn bad_texts_are_refused() {
        for (text, words) in [
            ("cpus", "missing or extra ':' in cpus"),
            ("cpus:1:2", "missing or extra ':' in cpus:1:2"),
            ("cpus(a:1", "unmatched parentheses"),
            ("cpus)a(:1", "unmatched parentheses"),
            (":1", "empty name"),
            ("cpus:many", "Bad type for resource cpus"),
            ("cpus:-1", "amount '-1'"),
            ("cpus:0.0001", "amount '0.0001'"),
            ("cpus:1e300", "amount"),
            ("cpus:inf", "amount"),
            ("ports:[3-1]", "begin > end"),
            ("cpus(-x):1", "starts with a dash"),
            ("x:1;x:[1-2]", "different types"),
            ("[{\"name\":1}", "as JSON"),
            (
                r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]"#,
                "Resource 'cpus:-1' is invalid",
            ),
        ] {
            let refused = Resources::parse(text).expect_err(text).to_string();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }
}
