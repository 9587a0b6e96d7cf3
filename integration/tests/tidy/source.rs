//! Reading the tree: the tracked files, and a Rust file with its comments, strings and tests told apart.
//!
//! This is a lexer, not a parser: it knows where comments, literals and `#[cfg(test)]` items begin and end, and nothing
//! of types. Invariant: masking keeps every line where it is, so a finding in masked code has the line of the file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One broken habit: where, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A tracked text file.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
    /// For Rust: the text with comments blank and literals empty. For anything else: the text.
    pub code: String,
    /// Which lines (from 0) belong to tests.
    test_lines: Vec<bool>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") {
            mask(text)
        } else {
            text.to_owned()
        };
        let tests = if path.ends_with(".rs") {
            test_lines(&code)
        } else {
            Vec::new()
        };
        let mut source = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            test_lines: tests,
        };
        if is_test_path(path) {
            source.all_is_test();
        }
        source
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the line (from 1) belongs to tests.
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    fn all_is_test(&mut self) {
        self.test_lines = vec![true; self.text.lines().count()];
    }

    /// The masked code, token by token: identifiers, `::`, and single characters, each with its line.
    pub fn tokens(&self) -> Vec<(usize, &str)> {
        tokens(&self.code)
    }

    /// The files that this one declares as tests (`#[cfg(test)] mod laws;`), as path stems.
    fn test_children(&self) -> Vec<String> {
        let tokens = self.tokens();
        let stem = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        let folder = match stem.rsplit_once('/') {
            Some((parent, "lib" | "main" | "mod")) => parent,
            _ => stem,
        };
        let declared = tokens
            .windows(3)
            .filter(|w| w[0].1 == "mod" && w[2].1 == ";");
        declared
            .filter(|w| self.is_test(w[0].0))
            .map(|w| format!("{folder}/{}", w[1].1))
            .collect()
    }
}

/// Every tracked text file of the repository.
pub struct Tree {
    pub files: Vec<Source>,
}

impl Tree {
    /// Reads what git tracks, as it lies in the working tree.
    pub fn of_this_repository() -> Self {
        let root = root();
        let listed = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-z"])
            .current_dir(&root)
            .output()
            .expect("git is needed to know which files belong to the repository");
        assert!(
            listed.status.success(),
            "{}",
            String::from_utf8_lossy(&listed.stderr)
        );
        let names = String::from_utf8(listed.stdout).expect("paths of this repository are UTF-8");
        let files = names
            .split('\0')
            .filter(|name| !name.is_empty())
            .filter_map(|name| {
                let text = std::fs::read_to_string(root.join(name)).ok()?;
                Some(Source::new(name, &text))
            });
        Self::new(files.collect())
    }

    pub fn new(mut files: Vec<Source>) -> Self {
        let tests: BTreeSet<String> = files.iter().flat_map(Source::test_children).collect();
        for file in &mut files {
            let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
            let folders = stem.match_indices('/').map(|(at, _)| &stem[..at]);
            if folders.chain([stem]).any(|prefix| tests.contains(prefix)) {
                file.all_is_test();
            }
        }
        Self { files }
    }

    pub fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }

    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.is_rust())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files that are tests, harnesses for tests, or benchmarks, by where they lie.
fn is_test_path(path: &str) -> bool {
    let is_one = |part: &str| {
        matches!(
            part,
            "tests" | "tests.rs" | "testing" | "testing.rs" | "bench" | "bench.rs" | "benches"
        )
    };
    path.split('/').any(is_one)
}

/// Identifiers (and numbers), `::`, and every other character by itself, each with its line from 1.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                out.push((number + 1, &rest[..length]));
            }
            rest = &rest[length..];
        }
    }
    out
}

/// Blanks comments and the insides of string and character literals; line breaks stay.
fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        let is_comment = chars[at] == '/';
        let quote = if chars[at] == '\'' { '\'' } else { '"' };
        if !is_comment {
            out.push(quote);
        }
        for c in &chars[at..end] {
            match c {
                '\n' => out.push('\n'),
                _ if is_comment => out.push(' '),
                _ => {}
            }
        }
        if !is_comment {
            out.push(quote);
        }
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    let is_after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == Some('/') => find(chars, at, |c| c == '\n').unwrap_or(chars.len()),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if !is_after_word && matches!(next, Some('"' | '#')) => {
            raw_string_end(chars, at).unwrap_or(at)
        }
        'b' if !is_after_word && next == Some('r') => raw_string_end(chars, at + 1).unwrap_or(at),
        '\'' if next == Some('\\') => {
            find(chars, at + 3, |c| c == '\'').map_or(chars.len(), |end| end + 1)
        }
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
    (from..chars.len()).find(|at| wanted(chars[*at]))
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut now = at;
    while now < chars.len() {
        match (chars[now], chars.get(now + 1)) {
            ('/', Some('*')) => (depth, now) = (depth + 1, now + 2),
            ('*', Some('/')) => (depth, now) = (depth - 1, now + 2),
            _ => now += 1,
        }
        if depth == 0 {
            break;
        }
    }
    now
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut now = at + 1;
    while now < chars.len() && chars[now] != '"' {
        now += if chars[now] == '\\' { 2 } else { 1 };
    }
    (now + 1).min(chars.len())
}

/// `at` is at the `r`. Nothing if this is no raw string after all (`r#type`).
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| {
        chars[*end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    Some(
        (open + 1..chars.len())
            .find(closes)
            .map_or(chars.len(), |end| end + 1 + hashes),
    )
}

/// Which lines of masked code belong to items under `#[cfg(test)]` (or `cfg(any(test, ..))`) or `#[test]`.
fn test_lines(code: &str) -> Vec<bool> {
    let tokens = tokens(code);
    let mut marked = vec![false; code.lines().count()];
    let mut at = 0;
    while at < tokens.len() {
        let attribute = attribute(&tokens, at);
        let Some((end, is_test)) = attribute else {
            at += 1;
            continue;
        };
        if is_test {
            let last = item_end(&tokens, end);
            let lines = tokens[at].0..=tokens[last.min(tokens.len() - 1)].0;
            lines.for_each(|line| marked[line - 1] = true);
        }
        at = end;
    }
    marked
}

/// If an outer attribute begins at `at`: the token after it, and whether it makes its item a test.
fn attribute(tokens: &[(usize, &str)], at: usize) -> Option<(usize, bool)> {
    if tokens[at].1 != "#" || tokens.get(at + 1)?.1 != "[" {
        return None;
    }
    let mut depth = 0;
    for (offset, (_, token)) in tokens[at + 1..].iter().enumerate() {
        match *token {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let end = at + 1 + offset;
            let inside: Vec<&str> = tokens[at + 2..end]
                .iter()
                .map(|(_, token)| *token)
                .collect();
            let is_test = match inside.as_slice() {
                ["cfg", rest @ ..] => rest.contains(&"test") && !rest.contains(&"not"),
                inside => inside.last() == Some(&"test"),
            };
            return Some((end + 1, is_test));
        }
    }
    None
}

/// The last token of the item that begins at `at`: a `;` outside of all brackets, or the brace that closes it.
fn item_end(tokens: &[(usize, &str)], at: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, (_, token)) in tokens[at.min(tokens.len())..].iter().enumerate() {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(*token, ";" | "}") {
            return at + offset;
        }
    }
    tokens.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_masked_and_lines_stay() {
        let text = "let a = \"x // y\"; // .unwrap()\n/* a /* b */ c */ let b = r#\"q\"q\"#;\nlet c = '\"'; let d: &'static str = \"\\\"\";\n";
        let code = mask(text);
        assert_eq!(code.lines().count(), 3);
        assert!(
            !code.contains("unwrap") && !code.contains('x') && !code.contains('q'),
            "{code}"
        );
        assert!(
            code.contains("let b = \"\";") && code.contains("&'static str"),
            "{code}"
        );
        assert_eq!(
            mask("let r#type = b'\\''; f('a', \"\")"),
            "let r#type = b''; f('', \"\")"
        );
    }

    #[test]
    fn tests_inside_a_file_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { c() }\n}\nfn d() {}\n#[cfg(not(test))]\nfn e() {}\n";
        let source = Source::new("x/src/lib.rs", text);
        let marked: Vec<usize> = (1..=8).filter(|line| source.is_test(*line)).collect();
        assert_eq!(marked, [2, 3, 4, 5]);
    }

    #[test]
    fn tests_in_files_of_their_own_are_known() {
        let tree = Tree::new(vec![
            Source::new("x/src/sorter.rs", "#[cfg(test)]\nmod laws;\nmod life;\n"),
            Source::new("x/src/sorter/laws.rs", "fn a() {}\n"),
            Source::new("x/src/sorter/laws/more.rs", "fn a() {}\n"),
            Source::new("x/src/sorter/life.rs", "fn a() {}\n"),
            Source::new("x/tests/y.rs", "fn a() {}\n"),
        ]);
        let marked: Vec<bool> = tree.files.iter().map(|file| file.is_test(1)).collect();
        assert_eq!(marked, [true, true, true, false, true]);
    }
}
