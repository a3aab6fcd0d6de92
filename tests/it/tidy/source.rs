//! Rules over source files: headers, sizes, names, leftovers, machine paths.
//!
//! The words that are looked for are put together from halves, so that this file does not hold them.

use super::tree::{File, Findings, Tree};
use std::collections::BTreeMap;

const FILE_LIMIT: usize = 500;
const CRATE_LIMIT: usize = 10_000;
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "data"];

/// Marks of unfinished work in code.
const MARKS: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("HA", "CK"),
    concat!("W", "IP"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Phrases of code that only pretends.
const EXCUSES: [&str; 4] = [
    concat!("in a real ", "implementation"),
    concat!("not yet ", "implemented"),
    concat!("not implemented ", "yet"),
    concat!("lorem ", "ipsum"),
];

/// Folders of a developer's machine.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Every file opens with `//!`.
pub(super) fn headers(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.rust().filter(|file| !file.text.starts_with("//!")) {
        findings.line(&file.path, 1, "open the file with `//!`: its purpose, then its invariants");
    }
    findings
}

/// No file is longer than the limit, tests not counted.
pub(super) fn file_sizes(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.rust() {
        let lines = file.lines_before_tests();
        if lines > FILE_LIMIT {
            let problem = format!(
                "{lines} lines before its tests, the limit is {FILE_LIMIT}: split it by concept"
            );
            findings.file(&file.path, problem);
        }
    }
    findings
}

/// No crate of the product is longer than the limit, tests not counted.
pub(super) fn crate_sizes(tree: &Tree) -> Findings {
    let mut sizes = BTreeMap::<&str, usize>::new();
    for file in tree.rust().filter(|file| file.path.starts_with("src/")) {
        if let Some(folder) = file.crate_folder() {
            *sizes.entry(folder).or_default() += file.lines_before_tests();
        }
    }
    let mut findings = Findings::default();
    for (folder, lines) in sizes.into_iter().filter(|(_, lines)| *lines > CRATE_LIMIT) {
        findings.file(folder, format!("{lines} lines, the limit for a crate is {CRATE_LIMIT}"));
    }
    findings
}

/// No `mod.rs`, and no module with a meaningless name.
pub(super) fn module_names(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.rust() {
        if file.path.ends_with("/mod.rs") {
            findings.file(&file.path, "use foo.rs and foo/ instead of foo/mod.rs");
        }
        for part in file.path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                findings.file(
                    &file.path,
                    format!("`{part}` means nothing: name it after what it holds"),
                );
            }
        }
        for (number, line) in file.lines() {
            let inline = declared_module(line).filter(|_| line.trim_end().ends_with('{'));
            if inline.is_some_and(|name| EMPTY_NAMES.contains(&name)) {
                findings.line(&file.path, number, "name the module after what it holds");
            }
        }
    }
    findings
}

/// The name in `mod name;`, `pub(crate) mod name {` and the like.
fn declared_module(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("mod ")?;
    let is_visibility = before.is_empty() || before.starts_with("pub");
    is_visibility.then(|| after.trim_end_matches([';', '{', ' ']))
}

/// No marks of unfinished work, no ignored tests, no allowed lints.
pub(super) fn leftovers(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.files.iter().filter(|file| file.is_code()) {
        for (number, line) in file.lines() {
            if let Some(problem) = leftover(file, line) {
                findings.line(&file.path, number, problem);
            }
        }
    }
    findings
}

fn leftover(file: &File, line: &str) -> Option<String> {
    if let Some(mark) = MARKS.iter().find(|mark| contains_word(line, mark)) {
        return Some(format!("`{mark}`: finish it, or file an issue and say what is missing"));
    }
    let lower = line.to_lowercase();
    if let Some(excuse) = EXCUSES.iter().find(|excuse| lower.contains(*excuse)) {
        return Some(format!("`{excuse}`: implement it, or leave it out and say so in the docs"));
    }
    if !file.is_rust() {
        return None;
    }
    let attribute = line.trim_start();
    let is_attribute = attribute.starts_with("#[") || attribute.starts_with("#![");
    if is_attribute && attribute.contains(concat!("all", "ow(")) {
        return Some("use `#[expect(lint, reason = \"…\")]`".into());
    }
    if is_attribute && contains_word(attribute, concat!("ign", "ore")) {
        return Some("no ignored tests: repair it or delete it".into());
    }
    None
}

/// Is `word` in `line` with no letter, digit or `_` before or after it? A dot before it makes it
/// a foreign name, such as a function of Go's context package.
fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(|character| is_part(character) || character == '.')
            && !after.is_some_and(is_part)
    })
}

/// No absolute paths of one machine.
pub(super) fn machine_paths(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in &tree.files {
        for (number, line) in file.lines() {
            if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| contains_path(line, folder))
            {
                let problem = format!(
                    "`{folder}…` exists on one machine only: use a relative path or a variable"
                );
                findings.line(&file.path, number, problem);
            }
        }
    }
    findings
}

/// Does a path in `line` begin with `folder`? As a later part of a path or a route it means nothing.
fn contains_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        !before.is_some_and(|character| character.is_alphanumeric() || "_-.}/".contains(character))
    })
}

/// A file in `tests/it` that no `mod` line names would never run.
pub(super) fn unlisted_test_files(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.rust().filter(|file| file.path != "tests/it/main.rs") {
        let Some(module) =
            file.path.strip_prefix("tests/it/").and_then(|path| path.strip_suffix(".rs"))
        else {
            continue;
        };
        let (parent, name) = match module.rsplit_once('/') {
            Some((folder, name)) => (format!("tests/it/{folder}.rs"), name),
            None => ("tests/it/main.rs".into(), module),
        };
        let listed = tree
            .get(&parent)
            .is_some_and(|file| file.lines().any(|(_, line)| declared_module(line) == Some(name)));
        if !listed {
            findings.file(&file.path, format!("never compiled: add `mod {name};` to {parent}"));
        }
    }
    findings
}
