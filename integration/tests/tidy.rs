//! The habits of the house, checked over every file that git tracks.
//!
//! One test a rule, so that a failure names the habit; each rule is shown to find a bad sample beside its code.
//! Exceptions are listed with their reasons in `tidy/lists.rs`, and one that no longer applies fails as well.
//! Invariant: nothing here looks at what a program does; that is for the other tests.

#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/lists.rs"]
mod lists;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::sync::LazyLock;

use source::{Finding, Source, Tree};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::of_this_repository);

#[track_caller]
fn none(habit: &str, found: &[Finding]) {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "{habit} ({} findings):\n{}",
        lines.len(),
        lines.join("\n")
    );
}

/// Applies a rule to each Rust file.
#[track_caller]
fn none_in_rust(habit: &str, rule: fn(&Source) -> Vec<Finding>) {
    let found: Vec<Finding> = TREE.rust().flat_map(rule).collect();
    none(habit, &found);
}

/// The files of the list to which the rule would have nothing to say.
fn stale(list: &[(&str, &str)], applies: impl Fn(&Source) -> bool) -> Vec<Finding> {
    let is_stale = |path: &str| !TREE.file(path).is_some_and(&applies);
    let files = list.iter().filter(|(path, _)| is_stale(path));
    files
        .map(|(path, _)| Finding::new(path, 0, "is listed as an exception and needs none"))
        .collect()
}

#[test]
fn the_tree_is_read() {
    for path in [
        "Cargo.toml",
        "master/src/lib.rs",
        "proto/wire/src/lib.rs",
        "integration/tests/tidy.rs",
    ] {
        assert!(
            TREE.file(path).is_some(),
            "{path} is not among {} files",
            TREE.files.len()
        );
    }
    let cores = TREE
        .rust()
        .filter(|file| rules::is_core(&file.path))
        .count();
    assert!(cores > 100, "only {cores} files of cores were found");
}

#[test]
fn a_file_is_a_room_not_a_hall() {
    let sources = TREE
        .files
        .iter()
        .filter(|file| file.is_rust() || file.path.ends_with(".proto"));
    none(
        "a file has a limit of lines",
        &sources.flat_map(rules::length).collect::<Vec<_>>(),
    );
    let is_long = |file: &Source| file.text.lines().count() > lists::LINES_MAX;
    none(
        "each exception is needed",
        &stale(lists::LONG_FILES, is_long),
    );
}

#[test]
fn a_line_fits_a_window() {
    let sources = TREE
        .files
        .iter()
        .filter(|file| file.is_rust() || file.path.ends_with(".proto"));
    none(
        "a line has a limit of characters",
        &sources.flat_map(rules::width).collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_for_later() {
    none_in_rust("no mark of unfinished work", rules::unfinished);
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    none_in_rust("`expect` says why it cannot fail", rules::unwrap);
}

#[test]
fn no_private_machine_is_named() {
    let found: Vec<Finding> = TREE.files.iter().flat_map(rules::private_paths).collect();
    none("no path of the machine on which it was written", &found);
}

#[test]
fn an_agent_is_called_an_agent() {
    none_in_rust(
        "the old word only where a wire format prints it",
        rules::old_names,
    );
    let says_it = |file: &Source| {
        file.tokens()
            .iter()
            .any(|(_, token)| token.to_lowercase().contains("slave"))
    };
    none(
        "each exception is needed",
        &stale(lists::OLD_NAMES, says_it),
    );
}

#[test]
fn a_module_opens_with_what_it_is() {
    none_in_rust("the first line is a `//!`", rules::opening);
}

#[test]
fn unsafe_code_lives_where_it_is_argued_for() {
    none_in_rust("unsafe only in its modules", rules::unsafety);
    let is_argued = |file: &Source| {
        let comments = file
            .text
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("//"));
        let mut words = comments.map(str::to_lowercase);
        let argues = words.any(|line| line.contains("soundness") || line.contains("safety:"));
        argues && file.tokens().iter().any(|(_, token)| *token == "unsafe")
    };
    none(
        "each listed module needs it and says why it is sound",
        &stale(lists::UNSAFE_MODULES, is_argued),
    );
}

#[test]
fn cores_are_pure() {
    none_in_rust(
        "a core has no clock, socket, disk, thread or chance of its own",
        rules::purity,
    );
}

#[test]
fn crates_stand_on_lower_floors() {
    none("a crate uses lower floors", &house::floors(&TREE));
    none("each exception is needed", &house::stale_neighbours(&TREE));
}

#[test]
fn lasting_formats_have_versions() {
    none(
        "a lasting format has a version that is looked at",
        &house::versions(&TREE, lists::FORMATS),
    );
}

#[test]
fn every_file_is_compiled_by_somebody() {
    none(
        "a file that nobody compiles is rubbish",
        &house::orphans(&TREE),
    );
}

#[test]
fn documents_point_at_what_exists() {
    none(
        "links lead somewhere and flags exist",
        &house::documents(&TREE),
    );
}
