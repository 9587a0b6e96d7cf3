//! Queries: `a=b&c=d`, with repeated names, Java's truth values, and label selectors.

use std::collections::BTreeSet;

use crate::core::request::LabelTest;

/// The parameters of a request, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part after `?`. `None` if it is not UTF-8 once decoded.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// A truth value: `true` in any case of letters is true, everything else false.
    pub fn truth(&self, name: &str, default: bool) -> bool {
        self.get(name)
            .map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }
}

/// Undoes percent encoding, and `+` for a space where forms are read. `None` if the result is not UTF-8.
pub fn decode(text: &str, is_form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => match tail {
                [high, low, after @ ..] => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => {
                        bytes.push(high * 16 + low);
                        rest = after;
                    }
                    _ => bytes.push(b'%'),
                },
                _ => bytes.push(b'%'),
            },
            b'+' if is_form => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Reads `key`, `key==v`, `key!=v`, `key in (a, b)`, `key notin (a, b)`, joined by commas.
///
/// # Errors
/// Says where the selector stops making sense.
pub fn selector(text: &str) -> Result<Vec<LabelTest>, String> {
    let mut reader = Reader { rest: text };
    let mut tests = Vec::new();
    loop {
        tests.push(reader.test().ok_or_else(|| {
            format!(
                "Couldn't parse label selector. Error at: '{}'. Write key, key==value, key!=value, key in (a,b) or \
                 key notin (a,b), joined by commas",
                reader.rest.chars().take(40).collect::<String>()
            )
        })?);
        reader.skip();
        if reader.rest.is_empty() {
            return Ok(tests);
        }
        if !reader.eat(",") {
            return Err(format!(
                "Couldn't parse label selector. Error at: '{}'. A comma is expected",
                reader.rest.chars().take(40).collect::<String>()
            ));
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A term: letters, digits, `-`, `_`, `.`, and anything after a backslash.
    fn term(&mut self) -> Option<String> {
        self.skip();
        let mut term = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                term.push(chars.next()?.1);
            } else if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                term.push(c);
            } else {
                end = at;
                break;
            }
        }
        self.rest = &self.rest[end..];
        (!term.is_empty()).then_some(term)
    }

    fn test(&mut self) -> Option<LabelTest> {
        let key = self.term()?;
        if self.eat("==") {
            return Some(LabelTest::In(key, BTreeSet::from([self.term()?])));
        }
        if self.eat("!=") {
            return Some(LabelTest::NotIn(key, BTreeSet::from([self.term()?])));
        }
        self.skip();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Some(LabelTest::Exists(key));
        }
        match self.term()?.as_str() {
            "in" => Some(LabelTest::In(key, self.set()?)),
            "notin" => Some(LabelTest::NotIn(key, self.set()?)),
            _ => None,
        }
    }

    fn set(&mut self) -> Option<BTreeSet<String>> {
        self.eat("(").then_some(())?;
        let mut terms = BTreeSet::from([self.term()?]);
        while self.eat(",") {
            terms.insert(self.term()?);
        }
        self.eat(")").then_some(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query =
            Query::parse("force=True&embed=a&embed=b%2Fc+d&x&scale=yes&bad=%zz%4").expect("UTF-8");
        assert!(
            query.truth("force", false) && !query.truth("scale", true) && query.truth("no", true)
        );
        assert_eq!(query.all("embed").collect::<Vec<_>>(), ["a", "b/c d"]);
        assert_eq!((query.get("x"), query.get("y")), (Some(""), None));
        assert_eq!(query.get("bad"), Some("%zz%4"));
        assert!(Query::parse("a=%ff").is_none());
        assert_eq!(
            decode("/v2/apps/%2Fa+b", false).as_deref(),
            Some("/v2/apps//a+b")
        );
    }

    #[test]
    fn selectors_are_read() {
        let set = |terms: &[&str]| terms.iter().map(|term| (*term).to_owned()).collect();
        assert_eq!(
            selector(r"a, b==c , d!=e,f in (x, y\ z),g notin(w)"),
            Ok(vec![
                LabelTest::Exists("a".into()),
                LabelTest::In("b".into(), set(&["c"])),
                LabelTest::NotIn("d".into(), set(&["e"])),
                LabelTest::In("f".into(), set(&["x", "y z"])),
                LabelTest::NotIn("g".into(), set(&["w"])),
            ])
        );
        for bad in [
            "",
            "a=b",
            "a in",
            "a in ()",
            "a in (b",
            "a,",
            "==b",
            "a near (b)",
            "a\\",
        ] {
            assert!(
                selector(bad)
                    .expect_err(bad)
                    .contains("Couldn't parse label selector"),
                "{bad}"
            );
        }
    }
}
