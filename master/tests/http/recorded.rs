//! What Mesos was asked and answered, and how this master differs.

use std::collections::BTreeSet;

use mezzo_wire::{decode_checked, json, v1};
use serde_json::Value;

use crate::client::{Answer, Ask};
use crate::scheduler::text;
use crate::shapes;

/// One exchange.
pub struct Exchange {
    pub name: String,
    pub ask: Ask,
    pub answer: Value,
}

/// The exchanges of a file.
pub fn exchanges(lines: &str) -> Vec<Exchange> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let request = &line["request"];
        let mut ask = Ask::new(
            request["method"].as_str().expect("text"),
            request["target"].as_str().expect("text"),
        );
        for header in request["headers"].as_array().expect("a list") {
            ask = ask.header(&text(&header[0]), &text(&header[1]));
        }
        ask.body = body(request);
        Exchange {
            name: text(&line["name"]),
            ask,
            answer: line["answer"].clone(),
        }
    };
    lines.lines().map(read).collect()
}

fn body(message: &Value) -> Vec<u8> {
    match (&message["body"], &message["body_hex"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(digits)) => {
            let digits = digits.as_bytes().chunks(2);
            let byte = |pair: &[u8]| {
                let pair = std::str::from_utf8(pair).expect("ASCII");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            };
            digits.map(byte).collect()
        }
        _ => Vec::new(),
    }
}

/// What is different, each as `name place kind`.
#[derive(Default)]
pub struct Differences {
    asked: BTreeSet<String>,
    found: BTreeSet<String>,
}

impl Differences {
    /// Compares an answer that was read to its end.
    pub fn compare(&mut self, exchange: &Exchange, answer: &Answer) {
        self.head(exchange, answer);
        let recorded = body(&exchange.answer);
        let kind = answer.header("content-type");
        match kind {
            Some("application/json") => {
                let recorded: Value = serde_json::from_slice(&recorded).unwrap_or_default();
                self.values(&exchange.name, "body", &recorded, &answer.json());
            }
            Some("application/x-protobuf") => {
                let shown = |bytes: Vec<u8>| -> Value {
                    let response: v1::master::Response =
                        decode_checked(bytes::Bytes::from(bytes)).expect("a response");
                    serde_json::from_slice(&json::to_vec(&response)).expect("JSON")
                };
                let (recorded, ours) = (shown(recorded), shown(answer.body.clone()));
                self.values(&exchange.name, "body", &recorded, &ours);
            }
            _ => {
                let recorded = String::from_utf8(recorded).expect("text");
                if plain(&recorded) != plain(answer.text()) {
                    self.add(&exchange.name, "body", "differs");
                    eprintln!("{}: {recorded:?} is {:?}", exchange.name, answer.text());
                }
            }
        }
    }

    /// Compares the first records of a stream.
    pub fn compare_stream(
        &mut self,
        exchange: &Exchange,
        answer: &Answer,
        records: &[Value],
        ended: bool,
    ) {
        self.head(exchange, answer);
        let recorded = &exchange.answer["records"];
        self.values(&exchange.name, "records", recorded, &Value::from(records));
        if exchange.answer["ended"] != ended {
            self.add(&exchange.name, "ended", "differs");
        }
    }

    /// Compares places and kinds of fields with the lines of `shapes.txt` below a name.
    pub fn compare_shape(&mut self, name: &str, body: &str) {
        self.asked.insert(name.to_owned());
        let recorded = shapes::recorded(name);
        let ours = shapes::Shape::of(body);
        for line in recorded.iter().filter(|line| !ours.lines.contains(*line)) {
            self.add(name, line, "absent");
        }
        for line in ours.lines.iter().filter(|line| !recorded.contains(line)) {
            self.add(name, line, "added");
        }
        for line in ours.out_of_order(&recorded) {
            self.add(name, &line, "order");
        }
    }

    /// Compares one value that was recorded below a name.
    pub fn compare_value(&mut self, name: &str, place: &str, recorded: &Value, ours: &Value) {
        self.asked.insert(name.to_owned());
        self.values(name, place, recorded, ours);
    }

    fn head(&mut self, exchange: &Exchange, answer: &Answer) {
        self.asked.insert(exchange.name.clone());
        let name = exchange.name.as_str();
        if exchange.answer["status"] != answer.status {
            self.add(name, "status", "differs");
            eprintln!(
                "{name}: {} is {} {:?}",
                exchange.answer["status"],
                answer.status,
                answer.text()
            );
        }
        let recorded: Vec<(String, String)> = exchange.answer["headers"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|pair| (text(&pair[0]).to_ascii_lowercase(), text(&pair[1])))
            .collect();
        let length = |name: &str| name == "content-length";
        for (header, value) in recorded.iter().filter(|(header, _)| !length(header)) {
            match answer.header(header) {
                None => self.add(name, header, "absent"),
                Some(ours) if plain(ours) != plain(value) => {
                    self.add(name, header, "differs");
                    eprintln!("{name}: {header} {value:?} is {ours:?}");
                }
                Some(_) => {}
            }
        }
        for (header, _) in answer.headers.iter().filter(|(header, _)| !length(header)) {
            if !recorded.iter().any(|(other, _)| other == header) {
                self.add(name, header, "added");
            }
        }
    }

    fn values(&mut self, name: &str, place: &str, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::Object(left), Value::Object(right)) => {
                for (key, value) in left {
                    let place = format!("{place}.{key}");
                    match right.get(key) {
                        // When and where is different each time.
                        Some(_) if is_of_the_run(key) => {}
                        Some(ours) => self.values(name, &place, value, ours),
                        None => self.add(name, &place, "absent"),
                    }
                }
                for key in right.keys().filter(|key| !left.contains_key(*key)) {
                    self.add(name, &format!("{place}.{key}"), "added");
                }
            }
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                // Resources stand in any order.
                for (left, right) in by_name(left).into_iter().zip(by_name(right)) {
                    self.values(name, &format!("{place}[]"), left, right);
                }
            }
            (Value::String(left), Value::String(right)) if plain(left) == plain(right) => {}
            (left, right) if left == right => {}
            (left, right) => {
                self.add(name, place, "differs");
                eprintln!("{name}: {place} {left} is {right}");
            }
        }
    }

    fn add(&mut self, name: &str, place: &str, kind: &str) {
        self.found.insert(format!("{name} {place} {kind}"));
    }

    /// Fails for what is not listed, and for what is listed and does not occur.
    pub fn settle(self) {
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let listed: Vec<&str> = include_str!("deviations.txt")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once(" | ").expect("a reason").0)
            .collect();
        let unlisted: Vec<&String> = self
            .found
            .iter()
            .filter(|found| {
                let line = listed.iter().find(|line| is_covered(line, found));
                used.extend(line);
                line.is_none()
            })
            .collect();
        let stale: Vec<&&str> = listed
            .iter()
            .filter(|line| {
                let name = line.split(' ').next().expect("a name");
                self.asked.contains(name) && !used.contains(*line)
            })
            .collect();
        assert!(
            unlisted.is_empty() && stale.is_empty(),
            "not listed: {unlisted:#?}\nno longer so: {stale:#?}"
        );
    }
}

/// A `*` stands for any one or more names.
fn is_covered(line: &str, found: &str) -> bool {
    match line.split_once('*') {
        Some((before, after)) => found.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && is_covered(after, &rest[at..]))
        }),
        None => line == found,
    }
}

fn by_name(list: &[Value]) -> Vec<&Value> {
    let mut list: Vec<&Value> = list.iter().collect();
    list.sort_by_key(|value| value["name"].as_str());
    list
}

fn is_of_the_run(key: &str) -> bool {
    key == "port" || key.ends_with("_time") || key == "timestamp" || key == "nanoseconds"
}

/// A text without ids and ports of the run.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = strip_uuid(rest) {
            out.push_str("ID");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("127.0.0.1:") {
            out.push_str("HERE");
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// What stands behind a UUID and the number of what it names.
fn strip_uuid(text: &str) -> Option<&str> {
    let uuid = text.as_bytes().get(..36)?;
    let fits = uuid.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let rest = fits.then(|| &text[36..])?;
    let number = rest
        .strip_prefix('-')
        .map(|rest| rest.strip_prefix(['S', 'O']).unwrap_or(rest));
    let behind = number.map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    Some(
        behind
            .filter(|behind| Some(behind.len()) < number.map(str::len))
            .unwrap_or(rest),
    )
}
