//! Queries and forms: `a=1&b=two+words&c=%2F`.

/// Pairs in the order in which they stand; of two with one name the first counts.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query or the body of a form. What is not UTF-8 is replaced, what has no `=` is empty.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self(pairs.map(read).collect())
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name)?;
        Some(&found.1)
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (byte, length) = match byte {
            b'+' => (b' ', 1),
            b'%' => match bytes.get(at + 1..at + 3).and_then(hex) {
                Some(byte) => (byte, 3),
                None => (b'%', 1),
            },
            plain => (plain, 1),
        };
        out.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("a=1&b=two+words&c=%2Fx%2f&d&e=%zz%4&a=2&&=x");
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("two words")),
            ("c", Some("/x/")),
            ("d", Some("")),
            ("e", Some("%zz%4")),
            ("f", None),
        ] {
            assert_eq!(query.get(name), value, "{name}");
        }
        assert_eq!(Query::parse("x=%ff%C3%A4").get("x"), Some("\u{fffd}ä"));
    }
}
