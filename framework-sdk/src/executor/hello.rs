//! The first line that an executor says on its agent's socket, and the line that comes back.
//!
//! `mezzo-executor <version> <framework> <executor> <container> <token>\n` is answered by `ok\n` or `refused
//! <words>\n`; after `ok` both sides send frames ([`super::frame`]) of [`mezzo_wire::v1::executor`] messages. Ids may
//! hold spaces, so each field is percent-escaped. Invariant: pure text in, pure values out; both sides of the socket
//! use this one file.

use std::fmt::Write as _;

/// The version of the line and of what follows it; a side that reads a newer one refuses it in words.
pub use mezzo_wire::version::EXECUTOR_SOCKET_VERSION;

/// Longest hello line in bytes, the newline included: three ids of 255 bytes, all escaped, and a token.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Longest answer line in bytes, the newline included.
pub const ANSWER_BYTES_MAX: usize = 1024;

const WORD: &str = "mezzo-executor";

/// Who an executor says it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its framework's id.
    pub framework_id: String,
    /// Its own id.
    pub executor_id: String,
    /// The container it runs in: tells two runs of one executor apart.
    pub container_id: String,
    /// The secret that the agent gave it.
    pub token: String,
}

/// Why a line is no hello.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Something else speaks.
    #[error(
        "expected 'mezzo-executor <version> <framework> <executor> <container> <token>' and a newline"
    )]
    Malformed,
    /// The other side is newer.
    #[error(
        "the executor speaks version {found} of the executor socket, this side up to {EXECUTOR_SOCKET_VERSION}"
    )]
    Newer {
        /// Its version.
        found: u32,
    },
}

impl std::fmt::Debug for Hello {
    /// Without the token: this ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("framework_id", &self.framework_id)
            .field("executor_id", &self.executor_id)
            .field("container_id", &self.container_id)
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// The line, with its newline.
    pub fn line(&self) -> String {
        let mut line = format!("{WORD} {EXECUTOR_SOCKET_VERSION}");
        for field in [
            &self.framework_id,
            &self.executor_id,
            &self.container_id,
            &self.token,
        ] {
            line.push(' ');
            escape(field, &mut line);
        }
        line.push('\n');
        line
    }

    /// Reads a line, with or without its newline.
    pub fn parse(line: &str) -> Result<Self, HelloError> {
        let mut words = line.trim_end_matches('\n').split(' ');
        if words.next() != Some(WORD) {
            return Err(HelloError::Malformed);
        }
        let version = words.next().and_then(|v| v.parse::<u32>().ok());
        let found = version.ok_or(HelloError::Malformed)?;
        if found > EXECUTOR_SOCKET_VERSION {
            return Err(HelloError::Newer { found });
        }
        let mut field = || {
            let word = words.next().filter(|word| !word.is_empty());
            word.and_then(unescape).ok_or(HelloError::Malformed)
        };
        let hello = Self {
            framework_id: field()?,
            executor_id: field()?,
            container_id: field()?,
            token: field()?,
        };
        match words.next() {
            None => Ok(hello),
            Some(_) => Err(HelloError::Malformed),
        }
    }
}

/// What the agent answers to a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Frames may follow.
    Ok,
    /// The agent does not want this executor, and will not: why.
    Refused(String),
}

impl Answer {
    /// The line, with its newline; words are cut to fit and lose their newlines.
    pub fn line(&self) -> String {
        match self {
            Self::Ok => "ok\n".to_owned(),
            Self::Refused(words) => {
                let mut line = "refused ".to_owned();
                for c in words.chars() {
                    if line.len() + c.len_utf8() + 1 > ANSWER_BYTES_MAX {
                        break;
                    }
                    line.push(if c.is_control() { ' ' } else { c });
                }
                line.push('\n');
                line
            }
        }
    }

    /// Reads a line; `None` if it is no answer.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end_matches('\n');
        if line == "ok" {
            return Some(Self::Ok);
        }
        let words = line.strip_prefix("refused")?;
        Some(Self::Refused(words.trim().to_owned()))
    }
}

/// Percent-escapes what would break the line: blanks, control characters, the percent sign.
fn escape(field: &str, line: &mut String) {
    for c in field.chars() {
        if c == '%' || c == ' ' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(line, "%{byte:02x}");
            }
        } else {
            line.push(c);
        }
    }
}

fn unescape(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(executor: &str) -> Hello {
        Hello {
            framework_id: "m-0001".into(),
            executor_id: executor.into(),
            container_id: "c".into(),
            token: "t0k%n".into(),
        }
    }

    #[test]
    fn any_id_goes_through_one_line() {
        for id in ["web.1", "web 1", "100%", "söme\tid", "%41"] {
            let line = hello(id).line();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Hello::parse(&line), Ok(hello(id)), "{line}");
        }
        let longest = "\u{2003}".repeat(85);
        assert!(hello(&longest).line().len() < HELLO_BYTES_MAX);
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in [
            "",
            "\n",
            "GET / HTTP/1.1",
            "mezzo-executor",
            "mezzo-executor one f e c t",
            "mezzo-executor 1 f e c",
            "mezzo-executor 1 f e  c",
            "mezzo-executor 1 f e c t more",
            "mezzo-executor 1 f e%2 c t",
            "mezzo-executor 1 f e%zz c t",
            "mezzo-executor 1 f %ff c t",
        ] {
            assert_eq!(Hello::parse(bad), Err(HelloError::Malformed), "{bad}");
        }
        let newer = Hello::parse("mezzo-executor 2 whatever").expect_err("newer");
        assert_eq!(newer, HelloError::Newer { found: 2 });
        assert!(newer.to_string().contains("version 2"));
    }

    #[test]
    fn answers_keep_to_one_bounded_line() {
        assert_eq!(Answer::parse(&Answer::Ok.line()), Some(Answer::Ok));
        let long = Answer::Refused(format!("no\nsuch {}", "é".repeat(2000)));
        let line = long.line();
        assert!(line.len() <= ANSWER_BYTES_MAX);
        assert_eq!(line.matches('\n').count(), 1);
        let Some(Answer::Refused(words)) = Answer::parse(&line) else {
            panic!("not a refusal: {line}");
        };
        assert!(words.starts_with("no such é"));
        assert_eq!(Answer::parse("HTTP/1.1 200 OK"), None);
    }
}
