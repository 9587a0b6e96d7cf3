//! Names of things, each of a type of its own, so that a task id cannot be handed where an agent id is meant.
//!
//! The rule for ids that callers choose is that of Mesos: not empty, at most 255 bytes, not `.` or `..`, no control
//! character, no `/` and no `\`. Ids become names of directories, so the rule is what keeps a path inside its root.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mezzo_wire::v1;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 255;

/// Why a text cannot be an id, in Mesos' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("ID must not be empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`].
    #[error("ID must not be greater than {MAX_ID_BYTES} characters")]
    TooLong,
    /// `.` or `..`.
    #[error("'{id}' is disallowed")]
    Disallowed {
        /// What was given.
        id: String,
    },
    /// A control character, a slash or a backslash.
    #[error("'{id}' contains invalid characters")]
    InvalidCharacters {
        /// What was given.
        id: String,
    },
}

/// Checks the rule for ids.
///
/// # Errors
/// Says which part of the rule is broken.
pub fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if id == "." || id == ".." {
        return Err(IdError::Disallowed { id: id.to_owned() });
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(IdError::InvalidCharacters {
            id: id.escape_debug().to_string(),
        });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that keeps the rule for ids.
            ///
            /// # Errors
            /// Says which part of the rule is broken.
            pub fn parse(id: &str) -> Result<Self, IdError> {
                check(id)?;
                Ok(Self(Arc::from(id)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(id: &str) -> Result<Self, IdError> {
                Self::parse(id)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(id: &str) -> Result<Self, IdError> {
                Self::parse(id)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let id = String::deserialize(deserializer)?;
                Self::parse(&id).map_err(serde::de::Error::custom)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, $wire:ty) => {
        id!($(#[$doc])* $name);

        impl $name {
            /// The message that carries the id.
            pub fn to_wire(&self) -> $wire {
                self.into()
            }

            /// Takes the id out of its message.
            ///
            /// # Errors
            /// Says which part of the rule for ids is broken.
            pub fn from_wire(wire: &$wire) -> Result<Self, IdError> {
                Self::parse(&wire.value)
            }
        }

        impl From<&$name> for $wire {
            fn from(id: &$name) -> Self {
                Self { value: id.0.to_string() }
            }
        }

        impl From<$name> for $wire {
            fn from(id: $name) -> Self {
                (&id).into()
            }
        }

        impl TryFrom<&$wire> for $name {
            type Error = IdError;
            fn try_from(wire: &$wire) -> Result<Self, IdError> {
                Self::parse(&wire.value)
            }
        }
    };
}

id!(
    /// A framework: issued by a master as `<master uuid>-NNNN`, or any well-formed id that an older master issued.
    FrameworkId, v1::FrameworkId
);
id!(
    /// An agent: issued by a master as `<master uuid>-S<n>`, kept by the agent across restarts and reboots.
    AgentId, v1::AgentId
);
id!(
    /// A task: chosen by its framework; unique within the framework while the task is known.
    TaskId, v1::TaskId
);
id!(
    /// An executor: chosen by its framework; unique within (framework, agent).
    ExecutorId, v1::ExecutorId
);
id!(
    /// An offer: issued by a master as `<master uuid>-O<n>`.
    OfferId, v1::OfferId
);
id!(
    /// One subscription of a scheduler: issued anew at each SUBSCRIBE; a call with an older one is refused.
    StreamId
);
id!(
    /// A container. A nested one is written `parent.child`, as Mesos does, with the outermost first.
    ContainerId
);

impl ContainerId {
    /// The message that carries the id; a dot separates parent and child.
    pub fn to_wire(&self) -> v1::ContainerId {
        let mut nested: Option<v1::ContainerId> = None;
        for part in self.0.split('.') {
            nested = Some(v1::ContainerId {
                value: part.to_owned(),
                parent: nested.map(Into::into),
            });
        }
        nested.unwrap_or_default()
    }

    /// Takes the id out of its message, parents included.
    ///
    /// # Errors
    /// Says which part of the rule for ids is broken; nesting deeper than 32 counts as too long.
    pub fn from_wire(wire: &v1::ContainerId) -> Result<Self, IdError> {
        const DEEPEST: usize = 32;
        let mut parts = vec![wire.value.as_str()];
        let mut outer = wire.parent.as_deref();
        while let Some(container) = outer {
            if parts.len() >= DEEPEST {
                return Err(IdError::TooLong);
            }
            parts.push(&container.value);
            outer = container.parent.as_deref();
        }
        parts.reverse();
        for part in &parts {
            check(part)?;
        }
        Self::parse(&parts.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_ids_speaks_in_known_words() {
        let long = "x".repeat(256);
        for (bad, words) in [
            ("", "ID must not be empty"),
            (long.as_str(), "ID must not be greater than 255 characters"),
            (".", "'.' is disallowed"),
            ("..", "'..' is disallowed"),
            ("bad/id", "'bad/id' contains invalid characters"),
            ("bad\\id", "'bad\\\\id' contains invalid characters"),
            ("a\nb", "'a\\nb' contains invalid characters"),
            ("a\u{7f}", "'a\\u{7f}' contains invalid characters"),
        ] {
            assert_eq!(TaskId::parse(bad).expect_err(bad).to_string(), words);
        }
        assert_eq!(
            TaskId::parse(&"x".repeat(255)).map(|id| id.as_str().len()),
            Ok(255)
        );
        assert!(TaskId::parse("web.1 of söme").is_ok());
    }

    #[test]
    fn ids_go_through_their_messages() {
        let id = AgentId::parse("m-S0").expect("a good id");
        assert_eq!(AgentId::from_wire(&id.to_wire()), Ok(id));
        let nested = ContainerId::parse("outer.inner").expect("a good id");
        let wire = nested.to_wire();
        assert_eq!(wire.value, "inner");
        assert_eq!(
            wire.parent.as_ref().map(|parent| parent.value.as_str()),
            Some("outer")
        );
        assert_eq!(ContainerId::from_wire(&wire), Ok(nested));
    }

    #[test]
    fn ids_are_checked_when_they_are_deserialised() {
        assert!(serde_json::from_str::<TaskId>("\"../etc\"").is_err());
        let id: TaskId = serde_json::from_str("\"t1\"").expect("a good id");
        assert_eq!(serde_json::to_string(&id).expect("serialises"), "\"t1\"");
    }
}
