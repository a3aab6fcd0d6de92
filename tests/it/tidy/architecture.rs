//! Rules that hold the pages to the code: crates, named tests, the manual's table of contents.
//!
//! A page names a test as `test:it::<area>::<name>` (in `tests/it/<area>.rs` or below it) or as
//! `test:<crate folder>::<module>::<name>` (in `src/<crate folder>/<module>.rs` or below it), in backticks.

use super::{
    manifests,
    tree::{File, Findings, Tree},
};
use std::collections::BTreeSet;

const PAGE: &str = "ARCHITECTURE.md";

/// What stands in backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The crates of the workspace, and those the page's "Code map" lists, are the same.
pub(super) fn crates(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    let Some(page) = tree.get(PAGE) else {
        findings.file(PAGE, "the page is missing");
        return findings;
    };
    let exist: BTreeSet<String> = manifests::package_names(tree).into_iter().collect();
    let mut named = BTreeSet::new();
    for (number, line) in page.lines() {
        for name in quoted(line).filter(|name| is_package(name)) {
            if !exist.contains(name) {
                findings.line(
                    PAGE,
                    number,
                    format!("names the crate `{name}`, which does not exist"),
                );
            }
            named.insert(name.to_owned());
        }
    }
    for name in exist.difference(&named) {
        findings.file(PAGE, format!("does not describe the crate `{name}`"));
    }
    findings
}

/// `wick`, or `wick-` and one word; file names and longer things are something else.
fn is_package(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|character| character.is_ascii_lowercase())
    };
    name == "wick" || name.strip_prefix("wick-").is_some_and(|word| is_word(word) && word != "data")
}

/// Every test that a page names exists and is a test.
pub(super) fn named_tests(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for page in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        for (number, line) in page.lines() {
            for name in quoted(line).filter_map(|text| text.strip_prefix("test:")) {
                // A pattern that explains the form is not a name.
                if !name.contains('<') && !exists(tree, name) {
                    findings.line(&page.path, number, format!("there is no test `{name}`"));
                }
            }
        }
    }
    findings
}

/// Is there a test function of this name in the module's file or below it?
fn exists(tree: &Tree, test: &str) -> bool {
    let mut parts: Vec<&str> = test.split("::").collect();
    let Some(name) = parts.pop() else { return false };
    let Some(first) = parts.first_mut() else { return false };
    let folder = if *first == "it" { "tests/it".to_owned() } else { format!("src/{first}") };
    *first = &folder;
    let module = parts.join("/");
    let in_module = |file: &&File| {
        file.path.strip_prefix(&module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    tree.rust().filter(in_module).any(|file| has_test(file, name))
}

fn has_test(file: &File, name: &str) -> bool {
    let definition = format!("fn {name}(");
    let is_attribute = |line: &str| {
        let line = line.trim_start();
        line.starts_with("#[test") || (line.starts_with("#[") && line.contains("::test"))
    };
    let mut is_test = false;
    file.lines().any(|(_, line)| {
        is_test |= is_attribute(line);
        let found = is_test && line.contains(&definition);
        // The attribute belongs to the first function after it.
        is_test &= !line.contains("fn ");
        found
    })
}

/// Every page under docs/ is linked from the summary, and every link leads to a page.
pub(super) fn summary(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    let path = "docs/SUMMARY.md";
    let Some(summary) = tree.get(path) else {
        findings.file(path, "the manual's table of contents is missing");
        return findings;
    };
    let mut linked = BTreeSet::new();
    for (number, line) in summary.lines() {
        let Some((_, target)) = line.split_once("](") else { continue };
        let target =
            format!("docs/{}", target.trim_end().trim_end_matches(')').trim_start_matches("./"));
        if tree.get(&target).is_none() {
            findings.line(path, number, format!("links to {target}, which does not exist"));
        }
        linked.insert(target);
    }
    for page in &tree.files {
        let is_page =
            page.path.starts_with("docs/") && page.path.ends_with(".md") && page.path != path;
        if is_page && !linked.contains(&page.path) {
            findings.file(&page.path, format!("not reachable: link it from {path}"));
        }
    }
    findings
}
