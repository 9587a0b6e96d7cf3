//! What a run did, as a hash of every step and the last steps in words.
//!
//! Same seed, same hash: the proof that nothing outside the seed had a say.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Steps kept in words for the report of a failure.
const TAIL: usize = 400;

/// The trace of one run.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    tail: VecDeque<String>,
    line: String,
    /// Print every step as it happens.
    pub echo: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            tail: VecDeque::new(),
            line: String::new(),
            echo: false,
        }
    }
}

impl Trace {
    /// Adds a step: the virtual time, who, and what, in words that hold everything that matters.
    pub fn step(&mut self, at_ms: u64, who: &str, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.line, "{at_ms} {who} {what}");
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.steps += 1;
        if self.echo {
            println!("{}", self.line);
        }
        let mut kept = if self.tail.len() == TAIL {
            self.tail.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        kept.clear();
        kept.push_str(&self.line);
        self.tail.push_back(kept);
    }

    /// The hash of all steps so far (FNV-1a, 64 bits).
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The last steps, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}
