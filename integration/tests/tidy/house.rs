//! The habits that span files: floors, versions of lasting formats, documents that point at what exists.
//!
//! Each rule is a function from the tree to findings, and has a small bad tree of its own at the end of this file.

use std::collections::{BTreeMap, BTreeSet};

use crate::lists::{FOREIGN_FLAGS, FRAMEWORKS_USE, NEIGHBOURS};
use crate::source::{Finding, Source, Tree};

/// Crates that use others on their own floor or above, and frameworks that use what an outside author would not have.
pub fn floors(tree: &Tree) -> Vec<Finding> {
    let floors = match floor_table(tree) {
        Ok(floors) => floors,
        Err(finding) => return vec![finding],
    };
    let folders = crate_folders(tree);
    let mut found = Vec::new();
    let manifests = tree
        .files
        .iter()
        .filter_map(|file| Some((file, file.path.strip_suffix("/Cargo.toml")?)));
    for (manifest, user) in manifests {
        let Some(&above) = floors.get(user) else {
            found.push(Finding::new(
                &manifest.path,
                0,
                "stands on no floor of ARCHITECTURE.md",
            ));
            continue;
        };
        for (line, name) in dependencies(&manifest.text) {
            let Some(used) = folders.get(name) else {
                continue;
            };
            if let Some(broken) = step(user, above, used, &floors) {
                found.push(Finding::new(&manifest.path, line, broken));
            }
        }
    }
    found
}

/// What is wrong with one dependency, if something is.
fn step(user: &str, above: u32, used: &str, floors: &BTreeMap<String, u32>) -> Option<String> {
    let below = floors.get(used)?;
    let is_neighbour = NEIGHBOURS
        .iter()
        .any(|(one, other, _)| *one == user && *other == used);
    // A crate's tests may ask itself for features.
    if user != used && *below >= above && !is_neighbour {
        return Some(format!("floor {above} uses {used} on floor {below}"));
    }
    if user.starts_with("frameworks/") && !FRAMEWORKS_USE.contains(&used) {
        return Some(format!(
            "a framework uses {used}, which an author outside has not"
        ));
    }
    None
}

/// Neighbours in the list of which the first does not use the second.
pub fn stale_neighbours(tree: &Tree) -> Vec<Finding> {
    let folders = crate_folders(tree);
    let uses = |user: &str, used: &str| {
        let manifest = tree.file(&format!("{user}/Cargo.toml"));
        manifest.is_some_and(|file| {
            dependencies(&file.text)
                .iter()
                .any(|(_, name)| folders.get(*name).is_some_and(|folder| *folder == used))
        })
    };
    let stale = NEIGHBOURS
        .iter()
        .filter(|(user, used, _)| !uses(user, used));
    stale
        .map(|(user, used, _)| Finding::new(user, 0, format!("does not use {used}")))
        .collect()
}

/// Folder of each crate and its floor, from the table in ARCHITECTURE.md.
fn floor_table(tree: &Tree) -> Result<BTreeMap<String, u32>, Finding> {
    let page = "ARCHITECTURE.md";
    let text = tree.file(page).map_or("", |file| file.text.as_str());
    let mut floors = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(floor) = cells.get(1).and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        let names = cells
            .get(2)
            .copied()
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2);
        floors.extend(names.map(|name| (name.trim_end_matches('/').to_owned(), floor)));
    }
    if floors.is_empty() {
        return Err(Finding::new(page, 0, "has no table of floors"));
    }
    Ok(floors)
}

/// The folder of each crate of the house, by the crate's name, from the root's `[workspace.dependencies]`.
fn crate_folders(tree: &Tree) -> BTreeMap<&str, &str> {
    let text = tree
        .file("Cargo.toml")
        .map_or("", |file| file.text.as_str());
    let lines = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once('=')?;
        let (_, path) = rest.split_once("path = \"")?;
        Some((name.trim(), path.split_once('"')?.0))
    });
    lines.collect()
}

/// The names in every section of dependencies of a manifest, with their lines.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut is_dependencies = false;
    let mut out = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            is_dependencies = section.ends_with("dependencies");
            // `[dependencies.name]` is a dependency of its own.
            if let Some((_, name)) = section.split_once("dependencies.") {
                out.push((number + 1, name));
            }
        } else if is_dependencies && !line.trim_start().starts_with('#') {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim();
            if !name.is_empty() {
                out.push((number + 1, name));
            }
        }
    }
    out
}

/// Lasting formats without a version that somebody compares, and version constants that the list does not know.
pub fn versions(tree: &Tree, formats: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (format, path, name) in formats {
        let Some(file) = tree.file(path) else {
            found.push(Finding::new(
                path,
                0,
                format!("is not there, and should name {name} of the {format}"),
            ));
            continue;
        };
        let is_defined = version_constants(file)
            .iter()
            .any(|(_, found)| found == name);
        if !is_defined {
            found.push(Finding::new(
                path,
                0,
                format!("the {format} has no constant {name}"),
            ));
        } else if !is_compared(tree, file, name) {
            found.push(Finding::new(
                path,
                0,
                format!("nobody looks at {name} of the {format}"),
            ));
        }
    }
    let listed: BTreeSet<(&str, &str)> = formats
        .iter()
        .map(|(_, path, name)| (*path, *name))
        .collect();
    for file in tree.rust() {
        for (line, name) in version_constants(file) {
            if !listed.contains(&(file.path.as_str(), name)) {
                found.push(Finding::new(
                    &file.path,
                    line,
                    format!("{name} is the version of no listed format"),
                ));
            }
        }
    }
    found
}

/// `const …VERSION: u32` and `const …FORMAT: u32` outside of tests, with their lines.
fn version_constants(file: &Source) -> Vec<(usize, &str)> {
    let tokens = file.tokens();
    let constants = tokens
        .windows(4)
        .filter(|w| w[0].1 == "const" && w[2].1 == ":" && w[3].1 == "u32");
    let versions = constants.map(|w| w[1]).filter(|(line, name)| {
        let last = name.rsplit('_').next().unwrap_or_default();
        matches!(last, "VERSION" | "FORMAT") && !file.is_test(*line)
    });
    versions.collect()
}

/// Whether some code besides tests compares the constant with what it read, or matches on it.
fn is_compared(tree: &Tree, home: &Source, name: &str) -> bool {
    let krate = home.path.split("src/").next().unwrap_or_default();
    let is_near = |file: &&Source| file.path.starts_with(krate) || krate.starts_with("proto/");
    tree.rust().filter(is_near).any(|file| {
        let tokens = file.tokens();
        let mut uses = tokens
            .iter()
            .enumerate()
            .filter(|(_, (_, token))| *token == name);
        uses.any(|(at, (line, _))| {
            let words: Vec<&str> = tokens.iter().map(|(_, token)| *token).collect();
            let before: Vec<&str> = words[..at].iter().rev().take(6).copied().collect();
            let statement = before.iter().take_while(|token| !"{};,".contains(**token));
            let before: Vec<&str> = statement.copied().collect();
            let behind = words.get(at + 1..at + 3).unwrap_or_default();
            !file.is_test(*line) && (is_comparison_before(&before) || is_comparison(behind))
        })
    })
}

/// Whether one of these begins with an operator that compares, or the arrow of a `match`.
fn is_comparison(tokens: &[&str]) -> bool {
    matches!(
        tokens,
        ["<" | ">", ..] | ["!" | "=", "=", ..] | ["=", ">", ..]
    )
}

/// The same for what stands before, nearest first. The arrow before a return type is no comparison.
fn is_comparison_before(tokens: &[&str]) -> bool {
    (0..tokens.len()).any(|at| match &tokens[at..] {
        [">", "-" | "=", ..] => false,
        ["<" | ">", ..] => true,
        ["=", "<" | ">" | "=" | "!", ..] => true,
        _ => false,
    })
}

/// Links of the documents to files that are not there, and flags that no program of the house has.
pub fn documents(tree: &Tree) -> Vec<Finding> {
    let flags = known_flags(tree);
    let mut found = Vec::new();
    for page in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (number, line) in page.text.lines().enumerate() {
            for target in links(line).filter(|target| !leads_somewhere(tree, &page.path, target)) {
                found.push(Finding::new(
                    &page.path,
                    number + 1,
                    format!("leads to {target}, which is not there"),
                ));
            }
            for flag in flags_in(line).filter(|flag| !flags.contains(flag)) {
                found.push(Finding::new(
                    &page.path,
                    number + 1,
                    format!("--{flag} is no flag of the house"),
                ));
            }
        }
    }
    found
}

/// The targets of `[words](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

fn leads_somewhere(tree: &Tree, page: &str, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") {
        return true;
    }
    let path = beside(page, target);
    tree.files
        .iter()
        .any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
}

/// A path as it is written in a file, from the root of the repository.
fn beside(file: &str, path: &str) -> String {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Names behind `--`, with `_` for `-`.
fn flags_in(line: &str) -> impl Iterator<Item = String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let starts = line.match_indices("--").filter(|(at, _)| {
        let before = line[..*at].chars().next_back();
        before.is_none_or(|c| c != '-' && !c.is_alphanumeric())
    });
    starts.filter_map(move |(at, _)| {
        let rest = &line[at + 2..];
        let name = &rest[..rest.find(|c| !is_flag(c)).unwrap_or(rest.len())];
        name.starts_with(|c: char| c.is_ascii_lowercase())
            .then(|| name.trim_end_matches(['-', '_']).replace('-', "_"))
    })
}

/// What the programs' sources could take as a flag: names of fields, and words in string literals, where clap is used.
fn known_flags(tree: &Tree) -> BTreeSet<String> {
    let sources = tree
        .rust()
        .filter(|file| !file.path.contains("/tests") && file.text.contains("clap"));
    let words = sources.flat_map(|file| {
        file.text
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
    });
    let known = words.map(|word| word.trim_matches('-').replace('-', "_"));
    known
        .chain(FOREIGN_FLAGS.iter().map(|flag| (*flag).to_owned()))
        .collect()
}

/// Rust files that no crate's root leads to: they are compiled by nobody.
pub fn orphans(tree: &Tree) -> Vec<Finding> {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let roots = tree.rust().filter(|file| is_root(&file.path));
    let mut next: Vec<&Source> = roots.collect();
    while let Some(file) = next.pop() {
        if reached.insert(file.path.clone()) {
            next.extend(children(file).iter().filter_map(|path| tree.file(path)));
        }
    }
    let lost = tree.rust().filter(|file| !reached.contains(&file.path));
    lost.map(|file| Finding::new(&file.path, 0, "belongs to no crate: no `mod` leads to it"))
        .collect()
}

/// Files from which cargo starts a crate.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts.as_slice(),
        [.., "src", "lib.rs" | "main.rs"]
            | [.., "build.rs"]
            | [.., "src", "bin", _]
            | [.., "tests" | "examples" | "benches", _]
            | [.., "tests" | "examples" | "benches", _, "main.rs"]
    ) && !matches!(
        parts.as_slice(),
        [.., "src", _, _, _] | [.., "src", "tests", _]
    )
}

/// Where the modules that a file declares may lie.
fn children(file: &Source) -> Vec<String> {
    let (folder, _) = file.path.rsplit_once('/').unwrap_or_default();
    let below = match file.path.strip_suffix("/mod.rs") {
        None if is_root(&file.path) => folder,
        None => file.path.trim_end_matches(".rs"),
        Some(folder) => folder,
    };
    let declared = declared(&file.tokens());
    let usual = declared.iter().flat_map(|name| {
        [
            format!("{below}/{name}.rs"),
            format!("{below}/{name}/mod.rs"),
        ]
    });
    let named = file
        .text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("#[path = \""));
    let named = named
        .filter_map(|rest| rest.split('"').next())
        .map(|path| beside(&file.path, path));
    usual.chain(named).collect()
}

/// The modules that are declared with a file of their own, with the modules around them: `a/b` for `mod a { mod b; }`.
fn declared(tokens: &[(usize, &str)]) -> Vec<String> {
    let mut around: Vec<Option<&str>> = Vec::new();
    let mut found = Vec::new();
    for (at, (_, token)) in tokens.iter().enumerate() {
        let is_named = at >= 2 && tokens[at - 2].1 == "mod";
        match *token {
            "{" => around.push(is_named.then(|| tokens[at - 1].1)),
            "}" => drop(around.pop()),
            ";" if is_named => {
                let names = around.iter().flatten().copied().chain([tokens[at - 1].1]);
                found.push(names.collect::<Vec<_>>().join("/"));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| floor | crate |\n|---|---|\n| 3 | `master/`, `agent/` |\n| 4 | `frameworks/a/` |\n| 1 | `low` |\n";
    const ROOT: &str = "[workspace.dependencies]\nx-low = { path = \"low\" }\nx-master = { path = \"master\" }\nx-agent = { path = \"agent\" }\n";

    fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::new(
            files
                .iter()
                .map(|(path, text)| Source::new(path, text))
                .collect(),
        )
    }

    fn words(found: Vec<Finding>) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_step_up_or_sideways_is_found() {
        let bad = tree(&[
            ("ARCHITECTURE.md", TABLE),
            ("Cargo.toml", ROOT),
            (
                "low/Cargo.toml",
                "[dependencies]\nserde = \"1\"\nx-agent.workspace = true\n",
            ),
            (
                "master/Cargo.toml",
                "[dependencies]\nx-low.workspace = true\n[dev-dependencies]\nx-agent = { workspace = true }\n",
            ),
            (
                "frameworks/a/Cargo.toml",
                "[dependencies.x-master]\nworkspace = true\n",
            ),
            ("new/Cargo.toml", "[dependencies]\n"),
        ]);
        let expected = [
            "low/Cargo.toml:3: floor 1 uses agent on floor 3",
            "master/Cargo.toml:4: floor 3 uses agent on floor 3",
            "frameworks/a/Cargo.toml:1: a framework uses master, which an author outside has not",
            "new/Cargo.toml:0: stands on no floor of ARCHITECTURE.md",
        ];
        assert_eq!(words(floors(&bad)), expected);
    }

    #[test]
    fn steps_down_are_good_and_a_missing_table_is_not() {
        let manifest = "[dependencies]\nx-low.workspace = true\n\n[features]\nx-agent = []\n";
        let good = [
            ("ARCHITECTURE.md", TABLE),
            ("Cargo.toml", ROOT),
            ("master/Cargo.toml", manifest),
        ];
        assert_eq!(words(floors(&tree(&good))), [""; 0]);
        assert_eq!(
            words(floors(&tree(&good[1..]))),
            ["ARCHITECTURE.md:0: has no table of floors"]
        );
        assert_eq!(stale_neighbours(&tree(&good)).len(), NEIGHBOURS.len());
    }

    #[test]
    fn a_format_without_a_version_that_is_looked_at_is_found() {
        let sources = tree(&[
            (
                "a/src/log.rs",
                "pub const LOG_VERSION: u32 = 1;\nfn r(v: u32) -> bool { v > LOG_VERSION }\n",
            ),
            (
                "b/src/log.rs",
                "pub const LOG_VERSION: u32 = 1;\nfn w() -> u32 { LOG_VERSION }\n",
            ),
            (
                "c/src/log.rs",
                "pub const FORMAT: u32 = 1;\n#[cfg(test)]\nconst OLD_FORMAT: u32 = 0;\n",
            ),
        ]);
        let formats = [
            ("a log", "a/src/log.rs", "LOG_VERSION"),
            ("b log", "b/src/log.rs", "LOG_VERSION"),
            ("c log", "c/src/log.rs", "LOG_VERSION"),
            ("d log", "d/src/log.rs", "LOG_VERSION"),
        ];
        let expected = [
            "b/src/log.rs:0: nobody looks at LOG_VERSION of the b log",
            "c/src/log.rs:0: the c log has no constant LOG_VERSION",
            "d/src/log.rs:0: is not there, and should name LOG_VERSION of the d log",
            "c/src/log.rs:1: FORMAT is the version of no listed format",
        ];
        assert_eq!(words(versions(&sources, &formats)), expected);
    }

    #[test]
    fn a_file_that_nobody_compiles_is_found() {
        let sources = tree(&[
            (
                "a/src/lib.rs",
                "mod b;\n#[path = \"../odd/c.rs\"]\nmod c;\n// mod d;\n",
            ),
            ("a/src/b.rs", "mod e;\n"),
            ("a/src/b/e.rs", "mod f;\n"),
            ("a/src/b/e/f/mod.rs", ""),
            ("a/odd/c.rs", ""),
            ("a/src/d.rs", ""),
            ("a/src/b/tests/g.rs", ""),
            ("a/tests/h.rs", "mod i;\n"),
            ("a/tests/real/main.rs", "mod j;\n"),
            ("a/tests/real/j.rs", ""),
            ("a/tests/real/k.rs", ""),
            ("a/tests/m.rs", "mod m { mod n; fn o() {} }\n"),
            ("a/tests/m/n.rs", ""),
            ("a/src/bin/l.rs", ""),
            ("a/build.rs", ""),
        ]);
        let lost: Vec<String> = orphans(&sources)
            .into_iter()
            .map(|finding| finding.path)
            .collect();
        assert_eq!(
            lost,
            ["a/src/d.rs", "a/src/b/tests/g.rs", "a/tests/real/k.rs"]
        );
    }

    #[test]
    fn documents_that_point_at_nothing_are_found() {
        let sources = tree(&[
            (
                "docs/a.md",
                "[b](b.md) [c](../c/src/lib.rs#x) [d](https://d.example)\n`--work-dir=x --no_such 5`, a--b ---\n",
            ),
            (
                "c/src/flags.rs",
                "#[derive(clap::Args)]\nstruct Flags { work_dir: PathBuf }\n",
            ),
        ]);
        let expected = [
            "docs/a.md:1: leads to b.md, which is not there",
            "docs/a.md:1: leads to ../c/src/lib.rs#x, which is not there",
            "docs/a.md:2: --no_such is no flag of the house",
        ];
        assert_eq!(words(documents(&sources)), expected);
    }
}
