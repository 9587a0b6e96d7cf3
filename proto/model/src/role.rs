//! Roles: the names under which resources are shared out and reserved. A path, `eng/web`, is a role below `eng`.

use std::fmt;
use std::sync::{Arc, LazyLock};

static STAR: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("*"));

/// A well-formed role: `*`, or components separated by single slashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Arc<str>);

/// Why a text is no role, in Mesos' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// Nothing was given.
    #[error("Empty role name is invalid")]
    Empty,
    /// Longer than an id may be.
    #[error("Role name must not be greater than 255 characters")]
    TooLong,
    /// `/x`.
    #[error("Role '{0}' cannot start with a slash")]
    LeadingSlash(String),
    /// `x/`.
    #[error("Role '{0}' cannot end with a slash")]
    TrailingSlash(String),
    /// `a//b`.
    #[error("Role '{0}' cannot contain two adjacent slashes")]
    AdjacentSlashes(String),
    /// `.`, `..` or `*` as a part of a path.
    #[error("Role '{role}' cannot include '{component}' as a component")]
    Reserved {
        /// The whole role.
        role: String,
        /// The part that may not be.
        component: String,
    },
    /// `-x`.
    #[error("Role component '{0}' is invalid because it starts with a dash")]
    Dash(String),
    /// Space, tab, line ends, backspace, delete and other control characters.
    #[error(
        "Role component '{0}' is invalid because it contains backspace or whitespace characters"
    )]
    Whitespace(String),
}

impl Role {
    /// The role of everybody who names none.
    pub fn star() -> Self {
        Self(STAR.clone())
    }

    /// Takes a text that is a role.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(role: &str) -> Result<Self, RoleError> {
        if role == "*" {
            return Ok(Self::star());
        }
        if role.is_empty() {
            return Err(RoleError::Empty);
        }
        if role.len() > crate::ids::MAX_ID_BYTES {
            return Err(RoleError::TooLong);
        }
        if role.starts_with('/') {
            return Err(RoleError::LeadingSlash(role.to_owned()));
        }
        if role.ends_with('/') {
            return Err(RoleError::TrailingSlash(role.to_owned()));
        }
        if role.contains("//") {
            return Err(RoleError::AdjacentSlashes(role.to_owned()));
        }
        for component in role.split('/') {
            if matches!(component, "." | ".." | "*") {
                let (role, component) = (role.to_owned(), component.to_owned());
                return Err(RoleError::Reserved { role, component });
            }
            if component.starts_with('-') {
                return Err(RoleError::Dash(component.to_owned()));
            }
            if component
                .chars()
                .any(|c| c.is_whitespace() || c.is_control())
            {
                return Err(RoleError::Whitespace(component.escape_debug().to_string()));
            }
        }
        Ok(Self(Arc::from(role)))
    }

    /// The role as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `*`.
    pub fn is_star(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether this lies below `other`: `eng/web` below `eng`. A role is not below itself, and nothing is below `*`.
    pub fn is_strict_subrole_of(&self, other: &Self) -> bool {
        self.0.len() > other.0.len()
            && self.0.as_bytes()[other.0.len()] == b'/'
            && self.0.starts_with(&*other.0)
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self == other || self.is_strict_subrole_of(other)
    }

    /// The role just above: `eng` of `eng/web`; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rfind('/')
            .map(|slash| Self(Arc::from(&self.0[..slash])))
    }

    /// The components from the top down.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl Default for Role {
    fn default() -> Self {
        Self::star()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({})", self.0)
    }
}

impl std::str::FromStr for Role {
    type Err = RoleError;
    fn from_str(role: &str) -> Result<Self, RoleError> {
        Self::parse(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_roles_are_refused_in_known_words() {
        for (bad, words) in [
            ("", "Empty role name is invalid"),
            ("/a", "Role '/a' cannot start with a slash"),
            ("a/", "Role 'a/' cannot end with a slash"),
            ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
            ("a/./b", "Role 'a/./b' cannot include '.' as a component"),
            ("..", "Role '..' cannot include '..' as a component"),
            ("a/*", "Role 'a/*' cannot include '*' as a component"),
            (
                "-bad",
                "Role component '-bad' is invalid because it starts with a dash",
            ),
            (
                "a b",
                "Role component 'a b' is invalid because it contains backspace or whitespace characters",
            ),
            (
                "a\u{7f}",
                "Role component 'a\\u{7f}' is invalid because it contains backspace or whitespace characters",
            ),
        ] {
            assert_eq!(Role::parse(bad).expect_err(bad).to_string(), words);
        }
        for good in ["*", "a", "a/b/c", "ads-prod", "ünï"] {
            assert!(Role::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_tree_of_roles() {
        let role = |text: &str| Role::parse(text).expect("a good role");
        assert!(role("a/b").is_strict_subrole_of(&role("a")));
        assert!(!role("ab").is_strict_subrole_of(&role("a")));
        assert!(!role("a").is_strict_subrole_of(&role("a")));
        assert!(!role("a").is_strict_subrole_of(&role("a/b")));
        assert!(role("a").is_within(&role("a")));
        assert_eq!(role("a/b/c").parent(), Some(role("a/b")));
        assert_eq!(role("a").parent(), None);
    }
}
