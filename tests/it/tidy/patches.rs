//! The law of `patches/`: not one line of the servers that are patched is in this repository. A patch is
//! headers and added lines; a hunk's header ends after its numbers, where git would put a line of theirs.

use super::tree::{File, Findings, Tree};

/// What stands in the folder: prose, patches, our own modules, and the script that applies them.
pub(super) fn files(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.files.iter().filter(|file| file.path.starts_with("patches/")) {
        let path = file.path.as_str();
        let is_module = path.starts_with("patches/expiring/") && file.is_rust();
        if !(is_patch(file) || is_module || ["patches/README.md", "patches/apply"].contains(&path))
        {
            findings.file(path, "the folder holds patches and our own modules alone");
        }
    }
    findings
}

/// Every line of every patch.
pub(super) fn lines(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for file in tree.files.iter().filter(|file| is_patch(file)) {
        let mut added = 0;
        for (number, line) in file.lines() {
            if added > 0 {
                added -= 1;
                if !line.starts_with('+') {
                    findings.line(&file.path, number, "a hunk may hold added lines alone");
                }
            } else if let Some(count) = hunk(line) {
                added = count;
            } else if !is_header(line) {
                findings.line(&file.path, number, "neither a header nor an added line");
            }
        }
        if added > 0 {
            findings.file(&file.path, "the last hunk is cut off");
        }
    }
    findings
}

pub(super) fn is_patch(file: &File) -> bool {
    file.path.ends_with(".patch")
}

/// How many lines a hunk adds, if `line` is its header and the hunk has no context and removes nothing.
fn hunk(line: &str) -> Option<usize> {
    let numbers = line.strip_prefix("@@ -")?.strip_suffix(" @@")?;
    let (place, added) = numbers.split_once(",0 +")?;
    let (first, count) = added.split_once(',').unwrap_or((added, "1"));
    let numbers = (place.parse::<usize>().ok()?, first.parse::<usize>().ok()?);
    count.parse().ok().filter(|count| *count > 0 && numbers.1 > numbers.0)
}

fn is_header(line: &str) -> bool {
    let path = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if let Some(paths) = line.strip_prefix("diff --git a/") {
        return paths.split_once(" b/").is_some_and(|(old, new)| path(old) && old == new);
    }
    if let Some(ids) = line.strip_prefix("index ") {
        let blob = |id: &str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ids = ids.strip_suffix(" 100644").and_then(|ids| ids.split_once(".."));
        return ids.is_some_and(|(before, after)| blob(before) && blob(after));
    }
    line.strip_prefix("--- a/").or_else(|| line.strip_prefix("+++ b/")).is_some_and(path)
}
