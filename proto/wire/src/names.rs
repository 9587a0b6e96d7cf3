//! Small constructors: ids from text, times, labels and plain resources.
//!
//! Invariant: nothing here computes or judges; whether an id is well formed, and what resources add
//! up to, is the business of the model.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::v1;

macro_rules! ids {
    ($($id:ident),* $(,)?) => {$(
        impl From<&str> for v1::$id {
            fn from(value: &str) -> Self {
                Self { value: value.to_owned() }
            }
        }

        impl From<String> for v1::$id {
            fn from(value: String) -> Self {
                Self { value }
            }
        }

        impl AsRef<str> for v1::$id {
            fn as_ref(&self) -> &str {
                &self.value
            }
        }

        impl fmt::Display for v1::$id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.value)
            }
        }
    )*};
}

ids!(
    FrameworkId,
    OfferId,
    AgentId,
    TaskId,
    ExecutorId,
    ResourceProviderId,
    OperationId
);

impl From<&str> for v1::ContainerId {
    /// A container that lies in no other.
    fn from(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            parent: None,
        }
    }
}

impl From<String> for v1::ContainerId {
    /// A container that lies in no other.
    fn from(value: String) -> Self {
        Self {
            value,
            parent: None,
        }
    }
}

impl fmt::Display for v1::ContainerId {
    /// The names from the outermost to the innermost, with dots.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chain = vec![self];
        while let Some(parent) = chain[chain.len() - 1].parent.as_deref() {
            chain.push(parent);
        }
        let names: Vec<&str> = chain.iter().rev().map(|id| id.value.as_str()).collect();
        f.write_str(&names.join("."))
    }
}

impl v1::Value {
    /// The value of a scalar.
    pub fn scalar(value: f64) -> Self {
        Self {
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Self::default()
        }
    }

    /// A text.
    pub fn text(value: impl Into<String>) -> Self {
        Self {
            r#type: v1::value::Type::Text.into(),
            text: Some(v1::value::Text {
                value: value.into(),
            }),
            ..Self::default()
        }
    }
}

impl v1::value::Ranges {
    /// Ranges as they are given, ends included.
    pub fn of(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let range = ranges
            .into_iter()
            .map(|(begin, end)| v1::value::Range { begin, end });
        Self {
            range: range.collect(),
        }
    }
}

impl v1::Resource {
    /// An unreserved scalar, such as `cpus`.
    pub fn scalar(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Self::default()
        }
    }

    /// Unreserved ranges, such as `ports`; ends included.
    pub fn ranges(name: impl Into<String>, ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self {
            name: name.into(),
            r#type: v1::value::Type::Ranges.into(),
            ranges: Some(v1::value::Ranges::of(ranges)),
            ..Self::default()
        }
    }

    /// An unreserved set of names.
    pub fn set(
        name: impl Into<String>,
        items: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let item = items.into_iter().map(Into::into).collect();
        Self {
            name: name.into(),
            r#type: v1::value::Type::Set.into(),
            set: Some(v1::value::Set { item }),
            ..Self::default()
        }
    }
}

impl v1::Attribute {
    /// A text, such as `rack:r1`.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            r#type: v1::value::Type::Text.into(),
            text: Some(v1::value::Text {
                value: value.into(),
            }),
            ..Self::default()
        }
    }

    /// A number, such as `level:3`.
    pub fn scalar(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Self::default()
        }
    }
}

impl v1::Label {
    /// A key with a value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for v1::Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let labels = labels
            .into_iter()
            .map(|(key, value)| v1::Label::new(key, value));
        Self {
            labels: labels.collect(),
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for v1::Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variable = |(name, value): (K, V)| v1::environment::Variable {
            name: name.into(),
            value: Some(value.into()),
            ..Default::default()
        };
        Self {
            variables: variables.into_iter().map(variable).collect(),
        }
    }
}

impl v1::DurationInfo {
    /// A span in milliseconds; one that nanoseconds cannot tell becomes the longest that they can.
    pub fn from_millis(millis: u64) -> Self {
        let nanoseconds = i64::try_from(millis)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        Self { nanoseconds }
    }

    /// The span in milliseconds, rounded down; a negative one is 0.
    pub fn as_millis(&self) -> u64 {
        u64::try_from(self.nanoseconds).unwrap_or(0) / 1_000_000
    }
}

impl From<Duration> for v1::DurationInfo {
    fn from(span: Duration) -> Self {
        Self {
            nanoseconds: i64::try_from(span.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl v1::TimeInfo {
    /// A point in time in milliseconds since the Unix epoch.
    pub fn from_millis(millis: u64) -> Self {
        let nanoseconds = i64::try_from(millis)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        Self { nanoseconds }
    }

    /// Milliseconds since the Unix epoch, rounded down; what lies before it is 0.
    pub fn as_millis(&self) -> u64 {
        u64::try_from(self.nanoseconds).unwrap_or(0) / 1_000_000
    }
}

/// Bytes are not a universally unique id. Prints Mesos' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Not a valid UUID")]
pub struct NotAUuid;

/// Reads the 16 bytes of a `uuid` field.
///
/// # Errors
/// [`NotAUuid`] if they are not 16.
pub fn uuid_from_wire(bytes: &[u8]) -> Result<Uuid, NotAUuid> {
    Uuid::from_slice(bytes).map_err(|_| NotAUuid)
}

/// The 16 bytes for a `uuid` field.
pub fn uuid_to_wire(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

impl From<Uuid> for v1::Uuid {
    fn from(uuid: Uuid) -> Self {
        Self {
            value: uuid_to_wire(uuid),
        }
    }
}

impl TryFrom<&v1::Uuid> for Uuid {
    type Error = NotAUuid;

    fn try_from(wire: &v1::Uuid) -> Result<Self, NotAUuid> {
        uuid_from_wire(&wire.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_as_their_text() {
        assert_eq!(v1::TaskId::from("a").to_string(), "a");
        let inner = v1::ContainerId {
            value: "b".into(),
            parent: Some(Box::new("a".into())),
        };
        assert_eq!(inner.to_string(), "a.b");
    }

    #[test]
    fn uuids_take_16_bytes() {
        let uuid = Uuid::from_u128(7);
        assert_eq!(Uuid::try_from(&v1::Uuid::from(uuid)), Ok(uuid));
        assert_eq!(uuid_from_wire(b"abc"), Err(NotAUuid));
    }

    #[test]
    fn spans_do_not_overflow() {
        assert_eq!(v1::DurationInfo::from_millis(5).nanoseconds, 5_000_000);
        assert_eq!(
            v1::DurationInfo::from_millis(u64::MAX).nanoseconds,
            i64::MAX
        );
        assert_eq!(v1::DurationInfo { nanoseconds: -1 }.as_millis(), 0);
        assert_eq!(v1::DurationInfo::from(Duration::MAX).nanoseconds, i64::MAX);
    }
}
