//! Predicates over one agent's attributes: what a framework may ask of the agents it wants to be offered.
//!
//! The rules for attributes that are no text are those of Mesos' offer constraints: a text predicate does not judge
//! them and is true. Patterns are matched in linear time and must match the whole value.

use regex::{Regex, RegexBuilder};

use crate::attributes::{AttributeValue, Attributes};

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 4096;
/// The largest compiled pattern, in bytes.
pub const MAX_PROGRAM_BYTES: usize = 256 * 1024;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The agent's host name.
    Hostname,
    /// The region of the agent's fault domain.
    Region,
    /// The zone of the agent's fault domain.
    Zone,
    /// An attribute; of several with the name, the first.
    Attribute(String),
}

/// What is asked of it.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// It is there.
    Exists,
    /// It is not there.
    NotExists,
    /// It is there and equals the text.
    Equals(String),
    /// It is not there, or differs from the text.
    NotEquals(String),
    /// It is there and matches the pattern.
    Matches(Regex),
    /// It is not there, or does not match the pattern.
    NotMatches(Regex),
}

/// One condition.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// What is looked at.
    pub selector: Selector,
    /// What is asked of it.
    pub predicate: Predicate,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// More than [`MAX_PATTERN_BYTES`].
    #[error("the pattern is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// It would need too much memory.
    #[error("the pattern '{pattern}' is too large when compiled")]
    TooLarge {
        /// What was given.
        pattern: String,
    },
    /// It is no regular expression.
    #[error("the pattern '{pattern}' is not a regular expression: {why}")]
    Syntax {
        /// What was given.
        pattern: String,
        /// Where it breaks off.
        why: String,
    },
}

/// Compiles a pattern that must match a whole value.
///
/// # Errors
/// Refuses what is no regular expression or would be too large.
pub fn whole_match(pattern: &str) -> Result<Regex, PatternError> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong);
    }
    // Compiled alone first: `a)|(b` is no pattern, but would be one between the anchors.
    compile(pattern, pattern)?;
    compile(&format!("^(?:{pattern})$"), pattern)
}

fn compile(expression: &str, pattern: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(expression)
        .size_limit(MAX_PROGRAM_BYTES)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge {
            pattern: pattern.to_owned(),
        },
        other => PatternError::Syntax {
            pattern: pattern.to_owned(),
            why: other.to_string(),
        },
    })
}

/// What is known of an agent when a constraint is judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The agent's host name.
    pub hostname: &'a str,
    /// The region of its fault domain, if it has one.
    pub region: Option<&'a str>,
    /// The zone of its fault domain, if it has one.
    pub zone: Option<&'a str>,
    /// Its attributes.
    pub attributes: &'a Attributes,
}

/// A value found on an agent.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    NoText,
}

impl Constraint {
    /// Whether the agent satisfies it.
    pub fn admits(&self, subject: Subject<'_>) -> bool {
        let found = match &self.selector {
            Selector::Hostname => Found::Text(subject.hostname),
            Selector::Region => subject.region.map_or(Found::Nothing, Found::Text),
            Selector::Zone => subject.zone.map_or(Found::Nothing, Found::Text),
            Selector::Attribute(name) => match subject.attributes.get(name) {
                None => Found::Nothing,
                Some(AttributeValue::Text(text)) => Found::Text(text),
                Some(AttributeValue::Scalar(_) | AttributeValue::Ranges(_)) => Found::NoText,
            },
        };
        self.predicate.holds(&found)
    }
}

impl Predicate {
    fn holds(&self, found: &Found<'_>) -> bool {
        match (self, found) {
            (Self::Exists, Found::Nothing) => false,
            (Self::Exists, Found::Text(_) | Found::NoText) => true,
            (Self::NotExists, Found::Nothing) => true,
            (Self::NotExists, Found::Text(_) | Found::NoText) => false,
            (Self::Equals(_) | Self::Matches(_), Found::Nothing) => false,
            (Self::NotEquals(_) | Self::NotMatches(_), Found::Nothing) => true,
            (_, Found::NoText) => true,
            (Self::Equals(wanted), Found::Text(text)) => wanted == text,
            (Self::NotEquals(wanted), Found::Text(text)) => wanted != text,
            (Self::Matches(pattern), Found::Text(text)) => pattern.is_match(text),
            (Self::NotMatches(pattern), Found::Text(text)) => !pattern.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(selector: Selector, predicate: Predicate) -> bool {
        let attributes = Attributes::parse("rack:r1;level:3").expect("reads");
        let subject = Subject {
            hostname: "h1",
            region: Some("eu"),
            zone: None,
            attributes: &attributes,
        };
        Constraint {
            selector,
            predicate,
        }
        .admits(subject)
    }

    fn rack() -> Selector {
        Selector::Attribute("rack".into())
    }

    #[test]
    fn predicates_over_what_is_there() {
        let pattern = |text| whole_match(text).expect("compiles");
        assert!(judge(rack(), Predicate::Exists));
        assert!(!judge(rack(), Predicate::NotExists));
        assert!(judge(rack(), Predicate::Equals("r1".into())));
        assert!(!judge(rack(), Predicate::NotEquals("r1".into())));
        assert!(judge(rack(), Predicate::Matches(pattern("r[0-9]"))));
        assert!(
            !judge(rack(), Predicate::Matches(pattern("r"))),
            "the whole value must match"
        );
        assert!(judge(rack(), Predicate::NotMatches(pattern("r"))));
        assert!(judge(Selector::Hostname, Predicate::Equals("h1".into())));
        assert!(judge(Selector::Region, Predicate::Equals("eu".into())));
    }

    #[test]
    fn predicates_over_what_is_missing_or_no_text() {
        let missing = || Selector::Attribute("gpu".into());
        assert!(!judge(missing(), Predicate::Equals("x".into())));
        assert!(judge(missing(), Predicate::NotEquals("x".into())));
        assert!(judge(Selector::Zone, Predicate::NotExists));
        let level = || Selector::Attribute("level".into());
        assert!(
            judge(level(), Predicate::Equals("x".into())),
            "numbers are not judged as text"
        );
        assert!(judge(level(), Predicate::NotEquals("3".into())));
        assert!(judge(level(), Predicate::Exists));
    }

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(
            whole_match(&"x".repeat(5000)).expect_err("long"),
            PatternError::TooLong
        );
        let bomb = whole_match("(a{1000}){1000}").expect_err("large");
        assert!(matches!(bomb, PatternError::TooLarge { .. }), "{bomb}");
        assert!(matches!(whole_match("("), Err(PatternError::Syntax { .. })));
        // Closing the group inside a pattern must not unanchor it.
        assert!(whole_match("a)|(b").is_err());
    }
}
