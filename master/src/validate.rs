//! What is refused, and in which words: pure functions over messages. The order of checks and the words are those of
//! Mesos where Mesos checks the same.
//!
//! Invariant: nothing here changes anything; what passes comes back as a lean value, so that it is checked once.

pub mod agent;
pub mod call;
pub mod check;
pub mod framework;
pub mod task;

/// Why something was refused, in words for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Invalid {
    /// The words, at most [`MAX_WORDS`] bytes.
    pub words: String,
}

/// The longest refusal, in bytes.
pub const MAX_WORDS: usize = 4096;

impl Invalid {
    /// A refusal; what is too long is cut.
    pub fn new(words: impl Into<String>) -> Self {
        let mut words = words.into();
        if words.len() > MAX_WORDS {
            let end = (0..=MAX_WORDS - 3)
                .rev()
                .find(|at| words.is_char_boundary(*at))
                .unwrap_or(0);
            words.truncate(end);
            words.push_str("...");
        }
        Self { words }
    }
}

impl From<&str> for Invalid {
    fn from(words: &str) -> Self {
        Self::new(words)
    }
}

impl From<String> for Invalid {
    fn from(words: String) -> Self {
        Self::new(words)
    }
}
