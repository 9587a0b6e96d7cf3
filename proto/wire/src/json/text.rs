//! From text to values: a JSON reader whose refusals read as those of Mesos.
//!
//! A refusal quotes the rest of the line from the character at which reading stopped, so this
//! reader stops where the one in Mesos does. It is laxer than the standard where that one is: `01`
//! and `1.` are numbers. Invariant: depth, length and number of values are bounded; no input
//! panics.

use std::borrow::Cow;

/// Arrays and objects within each other.
const DEPTH_MAX: usize = 200;

/// Values in one text: what a text costs in memory is bounded by it.
const VALUES_MAX: usize = 1 << 20;

/// How much of the rest of a line a refusal quotes, in bytes.
const QUOTE_MAX: usize = 1024;

/// Why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else was expected; also nesting over 200 levels.
    #[error("syntax error at line {line} near: {near}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The rest of the line.
        near: String,
    },
    /// There is more after the value.
    #[error("Parsed JSON included non-whitespace trailing characters: {0}")]
    Trailing(String),
    /// A number too large for a double.
    #[error("Value out of range")]
    OutOfRange,
    /// Another kind of value was asked for.
    #[error("Unexpected JSON type parsed")]
    UnexpectedType,
    /// A string is not UTF-8.
    #[error("a string that begins at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// The text is too long.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The text holds too many values.
    #[error("more than {limit} values")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// A value; strings without escapes stay where they are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    /// A whole number that fits 64 bits with or without sign.
    Integer(i128),
    Double(f64),
    String(Cow<'t, str>),
    Array(Vec<Value<'t>>),
    /// Members as they stand; of two with one name the later counts.
    Object(Vec<(Cow<'t, str>, Value<'t>)>),
}

/// Reads a whole text as one value.
pub(super) fn parse(text: &[u8], bytes_max: usize) -> Result<Value<'_>, ParseError> {
    if text.len() > bytes_max {
        return Err(ParseError::TooLarge {
            len: text.len(),
            limit: bytes_max,
        });
    }
    let mut input = Input {
        text,
        at: 0,
        values: 0,
        depth: 0,
    };
    let value = input.value().map_err(|stop| input.error(stop))?;
    let visible = text
        .iter()
        .rposition(|c| !is_space(*c))
        .map_or(0, |last| last + 1);
    if input.at < visible {
        let rest = quote(&text[input.at..visible]);
        return Err(ParseError::Trailing(rest));
    }
    Ok(value)
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r')
}

fn quote(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(QUOTE_MAX)]).into_owned()
}

/// Where and why reading stopped.
enum Stop {
    /// At a character that does not belong there (or at the end): it is the first that is quoted.
    At(usize),
    /// Behind a character that was taken before it turned out wrong.
    After(usize),
    Error(ParseError),
}

struct Input<'t> {
    text: &'t [u8],
    at: usize,
    values: usize,
    depth: usize,
}

impl<'t> Input<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn stop<T>(&self) -> Result<T, Stop> {
        Err(Stop::At(self.at))
    }

    /// Takes the next visible character if it is this one.
    fn take(&mut self, c: u8) -> bool {
        self.skip_spaces();
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, c: u8) -> Result<(), Stop> {
        if self.take(c) { Ok(()) } else { self.stop() }
    }

    fn value(&mut self) -> Result<Value<'t>, Stop> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Stop::Error(ParseError::TooMany { limit: VALUES_MAX }));
        }
        self.skip_spaces();
        match self.peek() {
            Some(b'n') => self.word(b"null", Value::Null),
            Some(b'f') => self.word(b"false", Value::Bool(false)),
            Some(b't') => self.word(b"true", Value::Bool(true)),
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::String)
            }
            Some(b'[') => self.nested(Self::array),
            Some(b'{') => self.nested(Self::object),
            Some(b'0'..=b'9' | b'-') => self.number(),
            _ => self.stop(),
        }
    }

    fn word(&mut self, word: &[u8], value: Value<'t>) -> Result<Value<'t>, Stop> {
        for &c in word {
            if self.peek() != Some(c) {
                return self.stop();
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn nested(
        &mut self,
        inner: fn(&mut Self) -> Result<Value<'t>, Stop>,
    ) -> Result<Value<'t>, Stop> {
        self.at += 1;
        if self.depth == DEPTH_MAX {
            return Err(Stop::After(self.at));
        }
        self.depth += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Value<'t>, Stop> {
        let mut values = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value()?);
            if !self.take(b',') {
                self.expect(b']')?;
                return Ok(Value::Array(values));
            }
        }
    }

    fn object(&mut self) -> Result<Value<'t>, Stop> {
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.expect(b'"')?;
            let name = self.string()?;
            self.expect(b':')?;
            members.push((name, self.value()?));
            if !self.take(b',') {
                self.expect(b'}')?;
                return Ok(Value::Object(members));
            }
        }
    }

    fn number(&mut self) -> Result<Value<'t>, Stop> {
        let from = self.at;
        while self
            .peek()
            .is_some_and(|c| matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        {
            self.at += 1;
        }
        // Only ASCII was let through.
        let Ok(text) = std::str::from_utf8(&self.text[from..self.at]) else {
            return self.stop();
        };
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Value::Integer(number.into()));
        }
        if let Ok(number) = text.parse::<u64>() {
            return Ok(Value::Integer(number.into()));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            Ok(_) => Err(Stop::Error(ParseError::OutOfRange)),
            Err(_) => self.stop(),
        }
    }

    /// Reads a string behind its opening quote.
    fn string(&mut self) -> Result<Cow<'t, str>, Stop> {
        let from = self.at;
        let mut owned: Option<Vec<u8>> = None;
        let mut plain = from;
        loop {
            let Some(c) = self.peek() else {
                return self.stop();
            };
            match c {
                b'"' => {
                    let tail = &self.text[plain..self.at];
                    self.at += 1;
                    let not_utf8 = Stop::Error(ParseError::NotUtf8 { at: from });
                    return match owned {
                        None => match std::str::from_utf8(tail) {
                            Ok(text) => Ok(Cow::Borrowed(text)),
                            Err(_) => Err(not_utf8),
                        },
                        Some(mut bytes) => {
                            bytes.extend_from_slice(tail);
                            String::from_utf8(bytes)
                                .map(Cow::Owned)
                                .map_err(|_| not_utf8)
                        }
                    };
                }
                b'\\' => {
                    let bytes = owned.get_or_insert_default();
                    bytes.extend_from_slice(&self.text[plain..self.at]);
                    self.at += 1;
                    self.escape(bytes)?;
                    plain = self.at;
                }
                0..0x20 => return self.stop(),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Stop> {
        let Some(c) = self.peek() else {
            return self.stop();
        };
        self.at += 1;
        out.push(match c {
            b'"' | b'\\' | b'/' => c,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.code_point()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Stop::After(self.at)),
        });
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Stop> {
        let first = self.four_digits()?;
        if !(0xd800..=0xdfff).contains(&first) {
            return char::from_u32(first).ok_or(Stop::After(self.at));
        }
        if first >= 0xdc00 {
            return Err(Stop::After(self.at));
        }
        // The second half of a pair must follow.
        for c in [b'\\', b'u'] {
            if self.peek() != Some(c) {
                return self.stop();
            }
            self.at += 1;
        }
        let second = self.four_digits()?;
        if !(0xdc00..=0xdfff).contains(&second) {
            return Err(Stop::After(self.at));
        }
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(code).ok_or(Stop::After(self.at))
    }

    fn four_digits(&mut self) -> Result<u32, Stop> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|c| char::from(c).to_digit(16));
            let Some(digit) = digit else {
                return self.stop();
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn error(&self, stop: Stop) -> ParseError {
        // The line is that of the last character that was looked at.
        let (from, looked_at) = match stop {
            Stop::At(at) => (at, at.min(self.text.len().saturating_sub(1))),
            Stop::After(at) => (at, at.saturating_sub(1)),
            Stop::Error(error) => return error,
        };
        let line = 1 + self.text[..looked_at]
            .iter()
            .filter(|&&c| c == b'\n')
            .count();
        let rest = self.text[from..]
            .split(|&c| c == b'\n')
            .next()
            .unwrap_or_default();
        let rest = &rest[..rest.len().min(QUOTE_MAX)];
        let visible: Vec<u8> = rest.iter().copied().filter(|&c| c >= b' ').collect();
        ParseError::Syntax {
            line,
            near: quote(&visible),
        }
    }
}

#[cfg(test)]
mod tests;
