//! What an agent says about itself: `rack:r1;level:3;slots:[1-8]`.

use std::fmt;
use std::sync::Arc;

use mezzo_wire::v1;

use crate::resources::{Milli, Ranges, RangesError};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A number, in thousandths.
    Scalar(Milli),
    /// Intervals of whole numbers.
    Ranges(Ranges),
    /// Anything else.
    Text(Arc<str>),
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Such as `rack`.
    pub name: Arc<str>,
    /// Such as `r1`.
    pub value: AttributeValue,
}

/// The attributes of an agent, in the order given. A name may stand more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<Attribute>);

/// Why attributes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// No `name:value`.
    #[error("Invalid attribute key:value pair '{pair}'; write attributes as rack:r1;level:3")]
    Pair {
        /// What was given.
        pair: String,
    },
    /// `[...]` that is no list of intervals.
    #[error("attribute '{name}': {source}")]
    Ranges {
        /// The attribute.
        name: String,
        /// What is wrong with the intervals.
        source: RangesError,
    },
    /// A number that is infinite, not a number, or too large.
    #[error("attribute '{name}' is not a usable number")]
    Scalar {
        /// The attribute.
        name: String,
    },
    /// Sets are for resources; a message without a value of its type is refused too.
    #[error("attribute '{name}' has no scalar, ranges or text value; sets are not supported")]
    Unsupported {
        /// The attribute.
        name: String,
    },
}

impl Attributes {
    /// Reads `name:value;name:value`. A number is a scalar, `[a-b,c-d]` is ranges, all else is text.
    ///
    /// # Errors
    /// Says which pair is wrong.
    pub fn parse(text: &str) -> Result<Self, AttributeError> {
        let mut attributes = Vec::new();
        for pair in text
            .split([';', '\n'])
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let refuse = || AttributeError::Pair {
                pair: pair.to_owned(),
            };
            let (name, value) = pair.split_once(':').ok_or_else(refuse)?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || value.is_empty() {
                return Err(refuse());
            }
            let value = read_value(name, value)?;
            attributes.push(Attribute {
                name: Arc::from(name),
                value,
            });
        }
        Ok(Self(attributes))
    }

    /// Takes attributes out of their messages.
    ///
    /// # Errors
    /// Names the attribute that has no usable value.
    pub fn from_wire(wire: &[v1::Attribute]) -> Result<Self, AttributeError> {
        wire.iter()
            .map(attribute_from_wire)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The messages that carry the attributes.
    pub fn to_wire(&self) -> Vec<v1::Attribute> {
        self.0.iter().map(Attribute::to_wire).collect()
    }

    /// The first attribute of that name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0
            .iter()
            .find(|attribute| &*attribute.name == name)
            .map(|attribute| &attribute.value)
    }

    /// All attributes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Attribute {
    /// The message that carries the attribute.
    pub fn to_wire(&self) -> v1::Attribute {
        let mut wire = v1::Attribute {
            name: self.name.to_string(),
            ..Default::default()
        };
        match &self.value {
            AttributeValue::Scalar(value) => {
                wire.r#type = v1::value::Type::Scalar as i32;
                wire.scalar = Some(v1::value::Scalar {
                    value: value.to_f64(),
                });
            }
            AttributeValue::Ranges(ranges) => {
                wire.r#type = v1::value::Type::Ranges as i32;
                wire.ranges = Some(ranges.to_wire());
            }
            AttributeValue::Text(text) => {
                wire.r#type = v1::value::Type::Text as i32;
                wire.text = Some(v1::value::Text {
                    value: text.to_string(),
                });
            }
        }
        wire
    }
}

fn read_value(name: &str, value: &str) -> Result<AttributeValue, AttributeError> {
    if value.starts_with('[') {
        return Ranges::parse(value)
            .map(AttributeValue::Ranges)
            .map_err(|source| AttributeError::Ranges {
                name: name.to_owned(),
                source,
            });
    }
    // `nan` and `inf` parse as floats in Rust, and are words to people.
    let numeric = value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    match value.parse::<f64>() {
        Ok(number) if numeric => match Milli::from_f64(number) {
            Some(scalar) => Ok(AttributeValue::Scalar(scalar)),
            None => Err(AttributeError::Scalar {
                name: name.to_owned(),
            }),
        },
        _ => Ok(AttributeValue::Text(Arc::from(value))),
    }
}

fn attribute_from_wire(wire: &v1::Attribute) -> Result<Attribute, AttributeError> {
    let name = || wire.name.clone();
    let value = match (
        v1::value::Type::try_from(wire.r#type),
        &wire.scalar,
        &wire.ranges,
        &wire.text,
    ) {
        (Ok(v1::value::Type::Scalar), Some(scalar), ..) => Milli::from_f64(scalar.value)
            .map(AttributeValue::Scalar)
            .ok_or_else(|| AttributeError::Scalar { name: name() })?,
        (Ok(v1::value::Type::Ranges), _, Some(ranges), _) => Ranges::from_wire(ranges)
            .map(AttributeValue::Ranges)
            .map_err(|source| AttributeError::Ranges {
                name: name(),
                source,
            })?,
        (Ok(v1::value::Type::Text), .., Some(text)) => {
            AttributeValue::Text(Arc::from(text.value.as_str()))
        }
        _ => return Err(AttributeError::Unsupported { name: name() }),
    };
    Ok(Attribute {
        name: Arc::from(wire.name.as_str()),
        value,
    })
}

/// As people write it: `r1`, `3`, `[1-8]`.
impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attribute) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{}:{}", attribute.name, attribute.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_and_go_through_their_messages() {
        let text = "rack:r1;level:3;slots:[1-8,10-12];url:http://x:1/;odd:nan";
        let attributes = Attributes::parse(text).expect("reads");
        assert_eq!(
            attributes.get("rack"),
            Some(&AttributeValue::Text(Arc::from("r1")))
        );
        assert_eq!(
            attributes.get("level"),
            Some(&AttributeValue::Scalar(Milli(3000)))
        );
        assert_eq!(
            attributes.get("url").map(ToString::to_string).as_deref(),
            Some("http://x:1/")
        );
        assert_eq!(
            attributes.get("odd").map(ToString::to_string).as_deref(),
            Some("nan")
        );
        assert_eq!(
            Attributes::from_wire(&attributes.to_wire()),
            Ok(attributes.clone())
        );
        assert_eq!(Attributes::parse(&attributes.to_string()), Ok(attributes));
        assert!(Attributes::parse(" ; ").expect("reads").is_empty());
    }

    #[test]
    fn bad_attributes_are_named() {
        for (text, words) in [
            ("rack", "'rack'"),
            (":r1", "':r1'"),
            ("rack:", "'rack:'"),
            ("slots:[3-1]", "attribute 'slots'"),
            ("level:1e300", "not a usable number"),
        ] {
            let refused = Attributes::parse(text).expect_err(text).to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let empty = v1::Attribute {
            name: "x".into(),
            r#type: 2,
            ..Default::default()
        };
        assert!(Attributes::from_wire(&[empty]).is_err());
    }
}
