//! Where the fields of a page lie, of what kind they are, and in which order they stand.
//!
//! Things of one kind are one thing, wherever they stand: a task that is over has the fields of a task.

use std::collections::BTreeSet;

/// Fields whose members have names of their own.
const MAPS: [&str; 4] = [
    "flags",
    "attributes",
    "reserved_resources",
    "reserved_resources_full",
];

/// What was recorded of a page.
pub fn recorded(name: &str) -> Vec<String> {
    let lines = include_str!("recorded/shapes.txt").lines();
    let heading = format!("# {name}");
    lines
        .skip_while(|line| **line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// What a page holds.
#[derive(Default)]
pub struct Shape {
    /// Such as `.slaves[].port whole`, each once.
    pub lines: BTreeSet<String>,
    /// Fields of one object, each with one that stood behind it.
    order: BTreeSet<(String, String)>,
}

impl Shape {
    pub fn of(page: &str) -> Self {
        let mut walk = Walk {
            text: page.as_bytes(),
            at: 0,
            shape: Self::default(),
        };
        walk.value("", "");
        assert_eq!(walk.at, page.len(), "one value");
        walk.shape
    }

    /// Fields that stand before one that they were recorded behind.
    pub fn out_of_order(&self, recorded: &[String]) -> Vec<String> {
        let place = |path: &String| {
            let is_it = |line: &&String| line.split(' ').next() == Some(path);
            recorded.iter().position(|line| is_it(&line))
        };
        let wrong = self
            .order
            .iter()
            .filter(|(first, second)| place(second).is_some() && place(second) < place(first));
        wrong
            .map(|(first, second)| format!("{first} before {second}"))
            .collect()
    }
}

/// One name for things of one kind.
fn canonical<'n>(name: &'n str, kind: &str) -> &'n str {
    match (name, kind) {
        ("completed_frameworks", _) => "frameworks",
        ("completed_tasks" | "unreachable_tasks", _) => "tasks",
        (
            "resources" | "used_resources" | "offered_resources" | "unreserved_resources",
            "object",
        ) => "amounts",
        ("total_resources" | "allocated_resources" | "offered_resources", "array") => "held",
        _ => name,
    }
}

/// Reads JSON without losing the order of members. Pages hold no space between tokens.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
    shape: Shape,
}

impl Walk<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let is = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is);
        is
    }

    fn string(&mut self) -> String {
        assert!(self.take(b'"'), "a string at {}", self.at);
        let from = self.at;
        while self.text[self.at] != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        String::from_utf8(self.text[from..self.at - 1].to_vec()).expect("text")
    }

    /// The kind of the value that comes.
    fn kind(&self) -> &'static str {
        match self.text[self.at] {
            b'{' => "object",
            b'[' => "array",
            b'"' => "text",
            b't' | b'f' => "flag",
            b'n' => "null",
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.iter().position(|byte| b",}]".contains(byte));
                let digits = &rest[..end.unwrap_or(rest.len())];
                let is_number = digits.iter().any(|byte| b".e".contains(byte));
                if is_number { "number" } else { "whole" }
            }
        }
    }

    fn value(&mut self, path: &str, key: &str) {
        match self.kind() {
            "object" => self.object(path, key),
            "array" => {
                self.at += 1;
                while !self.take(b']') {
                    self.value(&format!("{path}[]"), "");
                    self.take(b',');
                }
            }
            "text" => drop(self.string()),
            _ => {
                while !matches!(self.text.get(self.at), None | Some(b',' | b'}' | b']')) {
                    self.at += 1;
                }
            }
        }
    }

    fn object(&mut self, path: &str, key: &str) {
        let is_map = MAPS.contains(&key);
        let mut before: Option<String> = None;
        self.at += 1;
        while !self.take(b'}') {
            let name = self.string();
            assert!(self.take(b':'), "a colon at {}", self.at);
            let kind = self.kind();
            let shown = if is_map { "*" } else { &name };
            let here = format!("{path}.{shown}");
            self.shape.lines.insert(format!("{here} {kind}"));
            if let Some(before) = before.replace(here.clone())
                && !is_map
            {
                self.shape.order.insert((before, here));
            }
            let below = if is_map { "*" } else { canonical(&name, kind) };
            self.value(&format!("{path}.{below}"), &name);
            self.take(b',');
        }
    }
}
