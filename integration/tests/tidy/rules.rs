//! The habits that can be seen in one file: its size, its words, and what a core may name.
//!
//! Each rule is a function from a source to findings, and has a small bad sample of its own at the end of this file.
//! Invariant: a rule reads a file and nothing else; exceptions are data (`lists.rs`), with their reasons.

use crate::lists::{
    CORES_NAME_NOTHING_OF, LINES_MAX, LONG_FILES, OLD_NAMES, UNSAFE_MODULES, WIDTH_MAX,
};
use crate::source::{Finding, Source};

/// Files longer than the limit, but for those with a reason.
pub fn length(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let is_listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
    if lines <= LINES_MAX || is_listed {
        return Vec::new();
    }
    vec![Finding::new(
        &source.path,
        0,
        format!("{lines} lines; {LINES_MAX} are the most"),
    )]
}

/// Lines wider than the limit. What a string literal holds is data and is not counted.
pub fn width(source: &Source) -> Vec<Finding> {
    let lines = source.code.lines().enumerate();
    let wide = lines.map(|(number, line)| (number + 1, line.chars().count()));
    wide.filter(|(_, width)| *width > WIDTH_MAX)
        .map(|(line, width)| {
            Finding::new(
                &source.path,
                line,
                format!("{width} characters; {WIDTH_MAX} are the most"),
            )
        })
        .collect()
}

/// Marks of work that is not done, in code or in comments.
pub fn unfinished(source: &Source) -> Vec<Finding> {
    let macros = ["todo", "unimplemented", "dbg"];
    let tokens = source.tokens();
    let calls = tokens
        .windows(2)
        .filter(|w| macros.contains(&w[0].1) && w[1].1 == "!");
    let mut found: Vec<Finding> = calls
        .map(|w| Finding::new(&source.path, w[0].0, format!("{}!", w[0].1)))
        .collect();
    // Put together here, so that this file does not have them.
    let marks = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    for (number, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        if let Some(mark) = words.find(|word| marks.iter().any(|mark| mark == word)) {
            found.push(Finding::new(&source.path, number + 1, mark));
        }
    }
    found
}

/// `.unwrap()` outside of tests: `expect` says why it cannot fail.
pub fn unwrap(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens();
    let calls = tokens
        .windows(3)
        .filter(|w| w[0].1 == "." && w[1].1 == "unwrap" && w[2].1 == "(");
    let outside = calls.filter(|w| !source.is_test(w[0].0));
    outside
        .map(|w| Finding::new(&source.path, w[0].0, ".unwrap() outside of tests"))
        .collect()
}

/// Paths of a machine on which the code was written.
pub fn private_paths(source: &Source) -> Vec<Finding> {
    // Put together here, so that this file does not name them.
    let prefixes = [["/wo", "rk/"].concat(), ["/tmp/", "mz"].concat()];
    let mut found = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for prefix in &prefixes {
            let starts_a_path = line.match_indices(prefix).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.})>".contains(c))
            });
            if starts_a_path {
                found.push(Finding::new(
                    &source.path,
                    number + 1,
                    format!("names {prefix}"),
                ));
            }
        }
    }
    found
}

/// The old word for an agent, in identifiers. Old wire formats print it, from strings.
pub fn old_names(source: &Source) -> Vec<Finding> {
    if OLD_NAMES.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let tokens = source.tokens().into_iter();
    tokens
        .filter(|(_, token)| token.to_lowercase().contains("slave"))
        .map(|(line, token)| Finding::new(&source.path, line, format!("`{token}`; say agent")))
        .collect()
}

/// A module's first line says what it is.
pub fn opening(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding::new(
        &source.path,
        1,
        "opens without a `//!` line that says what it is",
    )]
}

/// `unsafe`, or the permission for it, outside of the modules that argue for its soundness.
pub fn unsafety(source: &Source) -> Vec<Finding> {
    if UNSAFE_MODULES.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let uses = tokens.iter().enumerate().filter(|(at, (_, token))| {
        *token == "unsafe" || *token == "unsafe_code" && *at >= 2 && tokens[at - 2].1 == "allow"
    });
    uses.map(|(_, (line, _))| Finding::new(&source.path, *line, "unsafe outside its module"))
        .collect()
}

/// Whether the file belongs to a pure core: a folder or a file of that name below `src`.
pub fn is_core(path: &str) -> bool {
    let Some((_, inside)) = path.split_once("src/") else {
        return false;
    };
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    stem.split('/')
        .any(|part| matches!(part, "core" | "allocator" | "zk_core"))
}

/// A core that names a clock, a socket, a disk, a random source, hash order, a door or its shell.
pub fn purity(source: &Source) -> Vec<Finding> {
    if !is_core(&source.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, path) in paths(&source.tokens()) {
        if source.is_test(line) {
            continue;
        }
        let broken = CORES_NAME_NOTHING_OF
            .iter()
            .find(|(banned, _)| names(&path, banned));
        if let Some((banned, why)) = broken {
            found.push(Finding::new(
                &source.path,
                line,
                format!("a core names {banned}: {why}"),
            ));
        }
    }
    found
}

/// Whether the path has the banned one in it. `name::` means the crate of that name.
fn names(path: &[&str], banned: &str) -> bool {
    if let Some(name) = banned.strip_suffix("::") {
        return path.len() > 1 && path[0] == name;
    }
    let banned: Vec<&str> = banned.split("::").collect();
    path.windows(banned.len()).any(|part| part == banned)
}

/// Every path that the tokens name, with `use` trees taken apart.
pub fn paths<'a>(tokens: &[(usize, &'a str)]) -> Vec<(usize, Vec<&'a str>)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].1 == "use" {
            at = use_tree(tokens, at + 1, &[], &mut out);
        } else if is_name(tokens[at].1) {
            let line = tokens[at].0;
            let mut path = vec![tokens[at].1];
            at += 1;
            while at + 1 < tokens.len() && tokens[at].1 == "::" && is_name(tokens[at + 1].1) {
                path.push(tokens[at + 1].1);
                at += 2;
            }
            out.push((line, path));
        } else {
            at += 1;
        }
    }
    out
}

/// Reads one branch of a `use` tree from `at`; returns the token behind it.
fn use_tree<'a>(
    tokens: &[(usize, &'a str)],
    mut at: usize,
    prefix: &[&'a str],
    out: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    while let Some((_, token)) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|(_, token)| *token != "}") {
                    at = use_tree(tokens, at, &path, out);
                    at += usize::from(tokens.get(at).is_some_and(|(_, token)| *token == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 1,
            name if is_name(name) => path.push(name),
            _ => {}
        }
        at += 1;
    }
    out.push((line, path));
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rule = fn(&Source) -> Vec<Finding>;

    /// The lines on which the rule finds something.
    fn found(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text))
            .into_iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn a_file_beyond_the_limit_is_found_and_one_at_the_limit_is_not() {
        let at_limit = "let a = 1;\n".repeat(LINES_MAX);
        assert_eq!(found(length, "x/src/a.rs", &at_limit), [0_usize; 0]);
        assert_eq!(found(length, "x/src/a.rs", &format!("{at_limit}\n")), [0]);
    }

    #[test]
    fn a_wide_line_is_found_whether_code_or_comment_and_data_is_not() {
        let comment = format!("// {}\n", "é".repeat(WIDTH_MAX - 3));
        assert_eq!(found(width, "x/src/a.rs", &comment), [0_usize; 0]);
        let wide = format!("let a = 1;\n// {}\n", "é".repeat(WIDTH_MAX - 2));
        assert_eq!(found(width, "x/src/a.rs", &wide), [2]);
        let data = format!("let a = \"{}\";\n", "b".repeat(WIDTH_MAX));
        assert_eq!(found(width, "x/src/a.rs", &data), [0_usize; 0]);
    }

    #[test]
    fn marks_of_unfinished_work_are_found() {
        let marks = [
            ["TO", "DO"].concat(),
            ["FIX", "ME"].concat(),
            ["XX", "X"].concat(),
        ];
        for mark in marks {
            let text = format!("let a = \"{mark}S\";\n// {mark}: later\n");
            assert_eq!(found(unfinished, "x/src/a.rs", &text), [2], "{mark}");
        }
        let text = "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }\nlet c = dbg!(d);\nlet todo = 1; // todo!\n";
        assert_eq!(found(unfinished, "x/src/a.rs", text), [1, 2, 3]);
    }

    #[test]
    fn unwrap_is_found_outside_of_tests_only() {
        let text = "//! `a.unwrap()`\nfn a() { b\n    .unwrap() }\n#[cfg(test)]\nmod tests { fn c() { d.unwrap() } }\nfn e() { f.unwrap_or(1) }\n";
        assert_eq!(found(unwrap, "x/src/a.rs", text), [3]);
        assert_eq!(found(unwrap, "x/tests/a.rs", text), [0_usize; 0]);
        assert_eq!(found(unwrap, "x/src/core/testing.rs", text), [0_usize; 0]);
    }

    #[test]
    fn paths_of_a_private_machine_are_found_and_like_ones_are_not() {
        let (work, temporary) = (["/wo", "rk/"].concat(), ["/tmp/", "mz"].concat());
        let text = format!("see {work}main\nlet a = \"{temporary}/x\";\n");
        assert_eq!(found(private_paths, "README.md", &text), [1, 2]);
        let text = format!("/var{work}x and {{root}}{work}y\n");
        assert_eq!(found(private_paths, "README.md", &text), [0_usize; 0]);
    }

    #[test]
    fn the_old_word_is_found_in_identifiers_and_not_in_what_is_printed() {
        let text = "out[\"slaveId\"] = 1; // a slave\nlet slave_id = 2;\nstruct SlaveInfo;\n";
        assert_eq!(found(old_names, "x/src/a.rs", text), [2, 3]);
    }

    #[test]
    fn a_module_that_does_not_say_what_it_is_is_found() {
        assert_eq!(found(opening, "x/src/a.rs", "use a::b;\n//! Late.\n"), [1]);
        assert_eq!(found(opening, "x/src/a.rs", "//!\nuse a::b;\n"), [1]);
        assert_eq!(
            found(opening, "x/src/a.rs", "//! What it is.\n"),
            [0_usize; 0]
        );
    }

    #[test]
    fn unsafe_outside_its_module_is_found() {
        let text = "// unsafe\n#![deny(unsafe_code)]\nlet unsafe_yet = 1;\nunsafe { a() };\n#[allow(unsafe_code)]\nfn b() {}\n";
        assert_eq!(found(unsafety, "x/src/a.rs", text), [4, 5]);
        let (listed, _) = UNSAFE_MODULES[0];
        assert_eq!(found(unsafety, listed, text), [0_usize; 0]);
    }

    #[test]
    fn a_core_is_known_by_where_it_lies() {
        let cores = [
            "a/src/core.rs",
            "a/src/core/b/c.rs",
            "a/src/election/core/d.rs",
            "m/src/allocator.rs",
        ];
        assert!(cores.iter().all(|path| is_core(path)));
        assert!(
            !["a/src/score.rs", "core/src/shell.rs", "a/src/cores/a.rs"]
                .iter()
                .any(|path| is_core(path))
        );
    }

    #[test]
    fn whatever_makes_a_core_impure_is_found() {
        for (banned, _) in CORES_NAME_NOTHING_OF {
            let path = banned
                .strip_suffix("::")
                .map_or((*banned).to_owned(), |name| format!("{name}::x"));
            let text = format!("//! {path} in words.\nfn a() {{ {path}(1) }}\n");
            assert_eq!(found(purity, "x/src/core/a.rs", &text), [2], "{path}");
            assert_eq!(
                found(purity, "x/src/shell/a.rs", &text),
                [0_usize; 0],
                "{path}"
            );
        }
        let text = "use std::{collections::BTreeMap, time::{Duration, Instant}};\n\nuse super::super::shell as s;\n#[cfg(test)]\nuse std::fs;\n";
        assert_eq!(found(purity, "x/src/core.rs", text), [1, 3]);
        assert_eq!(
            found(
                purity,
                "x/src/core.rs",
                "use crate::rand;\nlet tokio = 1;\n"
            ),
            [0_usize; 0]
        );
    }
}
