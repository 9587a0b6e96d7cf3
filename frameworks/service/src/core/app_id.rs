//! The path of an app, `/a/b/c`, and the names that are made of it.
//!
//! Source: Marathon's path rules. A segment is one or more labels joined by dots, a label is lower-case letters,
//! digits and inner dashes; so a segment can never hold `_`, which is what joins segments in task ids.
//!
//! Invariant: an [`AppId`] is absolute, not the root, and fits into a task id.

use std::fmt;
use std::sync::Arc;

/// The longest id in bytes: a task id holds it, an instance id and an incarnation, and has 255 bytes at most.
pub const MAX_APP_ID_BYTES: usize = 180;

/// Last segments that would collide with a route below an app.
const RESERVED_LAST: [&str; 5] = ["restart", "tasks", "versions", ".", ".."];

/// The absolute path of an app.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(Arc<str>);

/// Why a text cannot be an app's id: one sentence for each broken rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct AppIdError(pub Vec<String>);

impl AppId {
    /// Reads an id, absolute or relative to the root; empty segments are dropped.
    ///
    /// # Errors
    /// Names every rule that the id breaks.
    pub fn parse(raw: &str) -> Result<Self, AppIdError> {
        let id = Self::normalise(raw);
        let mut broken = Vec::new();
        if id == "/" {
            return Err(AppIdError(vec![
                "the root is not an app; give a path such as /web".to_owned(),
            ]));
        }
        if id.len() > MAX_APP_ID_BYTES {
            broken.push(format!(
                "must not be longer than {MAX_APP_ID_BYTES} bytes, got {}",
                id.len()
            ));
        }
        for segment in id.split('/').skip(1) {
            if !segment_is_good(segment) {
                broken.push(format!(
                    "segment '{}' must be lower-case letters, digits and dashes in labels joined by dots; a label neither \
                     begins nor ends with a dash",
                    segment.escape_debug()
                ));
            }
        }
        if let Some(last) = id.rsplit('/').next()
            && RESERVED_LAST.contains(&last)
        {
            broken.push(format!(
                "must not end with any of these: {}",
                RESERVED_LAST.join(", ")
            ));
        }
        if broken.is_empty() {
            Ok(Self(Arc::from(id)))
        } else {
            Err(AppIdError(broken))
        }
    }

    /// Makes a path absolute and drops empty segments, without judging it.
    pub fn normalise(raw: &str) -> String {
        let mut id = String::with_capacity(raw.len() + 1);
        for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
            id.push('/');
            id.push_str(segment);
        }
        if id.is_empty() {
            id.push('/');
        }
        id
    }

    /// `/a/b`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `a_b`: the form in task ids and store keys. Two ids never share one, for a segment holds no `_`.
    pub fn safe(&self) -> String {
        self.0[1..].replace('/', "_")
    }

    /// The id of a safe form.
    ///
    /// # Errors
    /// As [`AppId::parse`].
    pub fn from_safe(safe: &str) -> Result<Self, AppIdError> {
        Self::parse(&safe.replace('_', "/"))
    }

    /// `b.a`: the task's name, which DNS bridges read.
    pub fn host_name(&self) -> String {
        self.0[1..].rsplit('/').collect::<Vec<_>>().join(".")
    }

    /// Whether `other` is a group above this app: `/a` is above `/a/b`.
    pub fn is_below(&self, other: &str) -> bool {
        let other = other.trim_end_matches('/');
        self.0
            .strip_prefix(other)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

fn segment_is_good(segment: &str) -> bool {
    segment.split('.').all(|label| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        !bytes.is_empty()
            && bytes.iter().all(inner)
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    })
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_absolute() {
        for (raw, id) in [
            ("web", "/web"),
            ("/a/b", "/a/b"),
            ("//a//b/", "/a/b"),
            ("a.b-c/d1", "/a.b-c/d1"),
        ] {
            assert_eq!(AppId::parse(raw).expect(raw).as_str(), id);
        }
    }

    #[test]
    fn bad_ids_say_what_is_wrong() {
        let long = "a".repeat(200);
        for (raw, words) in [
            ("", "the root is not an app"),
            ("/", "the root is not an app"),
            ("/Web", "segment 'Web'"),
            ("/a_b", "segment 'a_b'"),
            ("/-a", "segment '-a'"),
            ("/a/b-", "segment 'b-'"),
            ("/a b", "segment 'a b'"),
            ("/a/..", "segment '..'"),
            ("/a/restart", "must not end with any of these"),
            ("/tasks", "must not end with any of these"),
            (long.as_str(), "must not be longer than 180 bytes, got 201"),
            ("/ä", "segment 'ä'"),
            ("/a\n", "segment 'a\\n'"),
        ] {
            let refused = AppId::parse(raw).expect_err(raw).to_string();
            assert!(refused.contains(words), "{raw}: {refused}");
        }
    }

    #[test]
    fn names_made_of_an_id() {
        let id = AppId::parse("/a/b-1/c").expect("good");
        assert_eq!(id.safe(), "a_b-1_c");
        assert_eq!(id.host_name(), "c.b-1.a");
        assert_eq!(AppId::from_safe("a_b-1_c"), Ok(id.clone()));
        assert!(id.is_below("/a") && id.is_below("/a/b-1") && id.is_below("/"));
        assert!(!id.is_below("/a/b") && !id.is_below("/a/b-1/c"));
    }
}
