//! Keys as names that ZooKeeper takes, and back.
//!
//! The first part of a key becomes a directory, the rest one name in it, so that thousands of records of one
//! kind are found by one listing. Every byte but letters, digits, `-`, `_` and `.` is written `%XX`; a leading
//! `.` too. A key of one part has the name `%`. Chunks of large values stand beside it as `<name>%-<chunk>`,
//! which no escaped key can look like.
//!
//! Invariant: `decode(encode(key)) == key` for every key that [`check`] accepts, and encoding keeps keys apart.

use std::fmt::Write as _;

use super::KEY_MAX_BYTES;

/// The name of a key that has one part only.
const NO_REST: &str = "%";

/// Checks that a key is a path: parts separated by `/`, none empty, at most [`KEY_MAX_BYTES`].
///
/// # Errors
/// Words that say what is wrong.
pub fn check(key: &str) -> Result<(), String> {
    if key.len() > KEY_MAX_BYTES {
        return Err(format!(
            "a key of {} bytes; at most {KEY_MAX_BYTES} are allowed",
            key.len()
        ));
    }
    if key.split('/').any(str::is_empty) {
        return Err(format!(
            "`{key}` is not a key: it needs parts separated by `/`, none of them empty"
        ));
    }
    Ok(())
}

fn escape(part: &str, out: &mut String) {
    for (index, byte) in part.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            b'.' if index > 0 => out.push('.'),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The directory and the name of a key.
pub fn encode(key: &str) -> (String, String) {
    let (first, rest) = match key.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let mut dir = String::with_capacity(first.len());
    escape(first, &mut dir);
    let mut name = String::with_capacity(rest.map_or(1, str::len));
    match rest {
        Some(rest) => escape(rest, &mut name),
        None => name.push_str(NO_REST),
    }
    (dir, name)
}

/// How long directory and name are together, in bytes, with the slash between.
pub fn encoded_len(key: &str) -> usize {
    let (dir, name) = encode(key);
    dir.len() + name.len() + 1
}

/// The key of a directory and a name; `None` if no key is written so.
pub fn decode(dir: &str, name: &str) -> Option<String> {
    let first = unescape(dir)?;
    let key = if name == NO_REST {
        first
    } else {
        format!("{first}/{}", unescape(name)?)
    };
    let (again_dir, again_name) = encode(&key);
    (check(&key).is_ok() && again_dir == dir && again_name == name).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_readable_and_fit() {
        assert_eq!(
            encode("agents/a-1_b.c"),
            ("agents".into(), "a-1_b.c".into())
        );
        assert_eq!(encode("tasks/f/t:1"), ("tasks".into(), "f%2Ft%3A1".into()));
        assert_eq!(encode("info"), ("info".into(), "%".into()));
        assert_eq!(encode("./.."), ("%2E".into(), "%2E.".into()));
        assert_eq!(decode("tasks", "x%-0001"), None);
        assert_eq!(decode("tasks", "%2g"), None);
        assert_eq!(decode("tasks", "a%2"), None);
        assert_eq!(decode("tasks", "a%62"), None, "not how it is written");
    }

    #[test]
    fn what_is_no_key() {
        for key in ["", "/a", "a/", "a//b"] {
            assert!(
                check(key).unwrap_err().contains("none of them empty"),
                "{key}"
            );
        }
        assert!(check(&"x".repeat(1025)).unwrap_err().contains("1024"));
        assert_eq!(check("a/b/c d/ü"), Ok(()));
    }

    proptest! {
        #[test]
        fn encoding_is_undone_by_decoding(key in "[^/]{1,12}(/[^/]{1,12}){0,3}") {
            prop_assume!(check(&key).is_ok());
            let (dir, name) = encode(&key);
            prop_assert!(!dir.contains('/') && !name.contains('/'));
            prop_assert_eq!(decode(&dir, &name), Some(key));
        }
    }
}
