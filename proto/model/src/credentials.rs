//! Who may come in: names and secrets from a credentials file, and the check of an HTTP Basic header.
//!
//! Both forms of Mesos' file are read: JSON (`{"credentials":[{"principal":"ann","secret":"s"}]}`), and lines of a
//! principal and a secret with white space between.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The entries of a credentials file.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    principal: Arc<str>,
    secret: Box<str>,
}

/// Why a credentials file cannot be used. Secrets are never repeated in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// It begins with `{` and is no JSON of the known shape.
    #[error(
        "the credentials are not of the form {{\"credentials\":[{{\"principal\":\"...\",\"secret\":\"...\"}}]}} (line {line}, column {column})"
    )]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A line that is not `principal secret`.
    #[error("line {line} of the credentials is not 'principal secret'")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A principal that a Basic header cannot carry.
    #[error(
        "principal '{principal}' in the credentials is empty or contains ':' or a control character"
    )]
    Principal {
        /// The principal.
        principal: String,
    },
    /// One principal twice.
    #[error("principal '{principal}' stands twice in the credentials")]
    Twice {
        /// The principal.
        principal: String,
    },
    /// No entry at all: nobody could come in.
    #[error("the credentials hold no entry, so nobody could come in")]
    Empty,
}

#[derive(Deserialize)]
struct File {
    credentials: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct FileEntry {
    principal: String,
    #[serde(default)]
    secret: String,
}

/// A client without a secret proves nothing, so here it must be there.
#[derive(Deserialize)]
struct OnePair {
    principal: String,
    secret: String,
}

impl Credentials {
    /// Reads the content of a credentials file.
    ///
    /// # Errors
    /// Says what is wrong with the file, never repeating a secret.
    pub fn parse(content: &str) -> Result<Self, CredentialsError> {
        let pairs = if content.trim_start().starts_with('{') {
            let file: File =
                serde_json::from_str(content).map_err(|error| CredentialsError::Json {
                    line: error.line(),
                    column: error.column(),
                })?;
            file.credentials
                .into_iter()
                .map(|entry| (entry.principal, entry.secret))
                .collect()
        } else {
            lines(content)?
        };
        let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
        for (principal, secret) in pairs {
            if principal.is_empty() || principal.contains(|c: char| c == ':' || c.is_control()) {
                return Err(CredentialsError::Principal { principal });
            }
            if entries.iter().any(|entry| *entry.principal == *principal) {
                return Err(CredentialsError::Twice { principal });
            }
            entries.push(Entry {
                principal: principal.into(),
                secret: secret.into(),
            });
        }
        if entries.is_empty() {
            return Err(CredentialsError::Empty);
        }
        Ok(Self { entries })
    }

    /// The only pair in the content of a client's file: Mesos' form of one (`{"principal":"ann","secret":"s"}`), or a
    /// file of many with one in it. `None` if there are more.
    ///
    /// # Errors
    /// As [`Credentials::parse`].
    pub fn only_pair(content: &str) -> Result<Option<(String, String)>, CredentialsError> {
        if let Ok(OnePair { principal, secret }) = serde_json::from_str(content) {
            return Ok(Some((principal, secret)));
        }
        Ok(match Self::parse(content)?.entries.as_slice() {
            [one] => Some((one.principal.to_string(), one.secret.to_string())),
            _ => None,
        })
    }

    /// The principal that an `Authorization: Basic ...` value proves, or `None`.
    ///
    /// The time it takes depends on the length of what is given and on the number of entries, not on their content.
    pub fn check_basic(&self, header: &str) -> Option<Arc<str>> {
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let given = String::from_utf8(decoded).ok()?;
        let (principal, secret) = given.split_once(':')?;
        self.check(principal, secret)
    }

    /// The principal if the pair is one of the entries. In constant time, as [`Credentials::check_basic`].
    pub fn check(&self, principal: &str, secret: &str) -> Option<Arc<str>> {
        let mut found = None;
        for entry in &self.entries {
            let same_name = same(entry.principal.as_bytes(), principal.as_bytes());
            let same_secret = same(entry.secret.as_bytes(), secret.as_bytes());
            if same_name & same_secret {
                found = Some(entry.principal.clone());
            }
        }
        found
    }

    /// The secret of a principal, for a client that logs in with it.
    pub fn secret_of(&self, principal: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|entry| *entry.principal == *principal)
            .map(|entry| &*entry.secret)
    }

    /// The principals, in the order of the file.
    pub fn principals(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.principal)
    }
}

/// The value of an `Authorization` header that proves the pair.
pub fn basic_header(principal: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{principal}:{secret}")))
}

fn lines(content: &str) -> Result<Vec<(String, String)>, CredentialsError> {
    let mut pairs = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => {}
            (Some(comment), ..) if comment.starts_with('#') => {}
            (Some(principal), Some(secret), None) => {
                pairs.push((principal.to_owned(), secret.to_owned()));
            }
            _ => return Err(CredentialsError::Line { line: index + 1 }),
        }
    }
    Ok(pairs)
}

/// Compares without leaving early; the length of what is given is no secret.
fn same(ours: &[u8], given: &[u8]) -> bool {
    let mut different = u8::from(ours.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        let own = ours.get(index).copied().unwrap_or(0);
        different |= std::hint::black_box(own ^ byte);
    }
    std::hint::black_box(different) == 0
}

/// Names only.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.principals()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_one_pair_in_any_form() {
        let one = Some(("ann".to_owned(), "s".to_owned()));
        for content in [
            r#"{"principal": "ann", "secret": "s"}"#,
            r#"{"credentials": [{"principal": "ann", "secret": "s"}]}"#,
            "ann s\n",
        ] {
            assert_eq!(
                Credentials::only_pair(content),
                Ok(one.clone()),
                "{content}"
            );
        }
        assert_eq!(Credentials::only_pair("ann s\nbob t\n"), Ok(None));
        assert!(Credentials::only_pair(r#"{"principal": "ann"}"#).is_err());
        assert_eq!(Credentials::only_pair(""), Err(CredentialsError::Empty));
    }

    #[test]
    fn both_forms_are_read() {
        let json = r#"{"credentials":[{"principal":"ann","secret":"s1"},{"principal":"bob","secret":"s:2"}]}"#;
        for content in [json, "ann s1\n# a comment\n\n bob\ts:2 \n"] {
            let credentials = Credentials::parse(content).expect("reads");
            assert_eq!(
                credentials
                    .check_basic(&basic_header("ann", "s1"))
                    .as_deref(),
                Some("ann")
            );
            assert_eq!(
                credentials
                    .check_basic(&basic_header("bob", "s:2"))
                    .as_deref(),
                Some("bob")
            );
            for (principal, secret) in [
                ("ann", "s2"),
                ("ann", ""),
                ("bob", "s1"),
                ("", ""),
                ("ann", "s11"),
            ] {
                assert_eq!(
                    credentials.check_basic(&basic_header(principal, secret)),
                    None
                );
            }
            assert_eq!(format!("{credentials:?}"), r#"{"ann", "bob"}"#);
            assert_eq!(credentials.secret_of("bob"), Some("s:2"));
        }
    }

    #[test]
    fn headers_that_prove_nothing() {
        let credentials = Credentials::parse("ann s").expect("reads");
        for header in [
            "",
            "Basic",
            "Bearer abc",
            "Basic !!!",
            "Basic YW5u",
            "basic",
        ] {
            assert_eq!(credentials.check_basic(header), None, "{header}");
        }
        assert!(
            credentials
                .check_basic(&basic_header("ann", "s").replace("Basic", "bAsIc"))
                .is_some()
        );
    }

    #[test]
    fn bad_files_are_refused_without_their_secrets() {
        for (content, words) in [
            ("", "hold no entry"),
            ("{\"credentials\":[]}", "hold no entry"),
            ("{\"users\":1}", "not of the form"),
            (
                "{\"credentials\":[{\"principal\":\"a\",\"secret\":\"hidden\"",
                "not of the form",
            ),
            ("ann hidden more", "line 1"),
            ("ann s\nbob", "line 2"),
            ("ann s\nann hidden", "twice"),
            ("a:b hidden", "contains ':'"),
        ] {
            let refused = Credentials::parse(content).expect_err(content).to_string();
            assert!(refused.contains(words), "{refused}");
            assert!(!refused.contains("hidden"), "{refused}");
        }
    }
}
