//! What happened, as a hash of everything and the last lines of it.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

const TAIL: usize = 80;

/// Lines of a run. Two runs of one seed have the same hash.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            tail: VecDeque::new(),
        }
    }

    pub(super) fn line(&mut self, now_ms: u64, text: fmt::Arguments<'_>) {
        let mut line = if self.tail.len() >= TAIL {
            self.tail.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        // Writing to a String cannot fail.
        let _ = write!(line, "{:>8}.{:03} {text}", now_ms / 1000, now_ms % 1000);
        // FNV-1a; the line's end keeps lines apart.
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines += 1;
        self.tail.push_back(line);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
