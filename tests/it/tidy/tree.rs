//! The source tree as the rules see it: text files by their path from the top, and what was found.
//!
//! Build output, version control and downloaded things are no part of it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

const SKIPPED_FOLDERS: [&str; 9] = [
    ".git",
    "target",
    "wick-data",
    "node_modules",
    "__pycache__",
    ".venv",
    "venv",
    "book",
    "result",
];

const TEXT_SUFFIXES: [&str; 19] = [
    "rs", "toml", "md", "nix", "go", "mod", "sh", "py", "js", "mjs", "ts", "yml", "yaml", "json",
    "service", "conf", "txt", "pins", "patch",
];

/// Files without a suffix that are text.
const TEXT_NAMES: [&str; 19] = [
    "Makefile",
    "Dockerfile",
    "Caddyfile",
    "run",
    "env",
    "setup",
    "serve",
    "test",
    "cargo",
    "script",
    "bench",
    "crash",
    "install",
    "rocksdb",
    "tool",
    "image",
    "apply",
    "Cargo.lock",
    ".editorconfig",
];

/// One text file.
pub(super) struct File {
    /// Path from the top of the tree, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Is it run or compiled, as opposed to read?
    pub(super) fn is_code(&self) -> bool {
        !self.path.ends_with(".md") && !self.path.ends_with(".json") && !self.path.ends_with(".txt")
    }

    /// The lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// How many lines stand before the test module.
    pub(super) fn lines_before_tests(&self) -> usize {
        let mut after_marker = false;
        for (number, line) in self.lines() {
            if after_marker && line.starts_with("mod ") {
                return number - 2;
            }
            after_marker = line == "#[cfg(test)]";
        }
        self.text.lines().count()
    }

    /// The crate folder it belongs to, such as `src/core` or `tests/it`.
    pub(super) fn crate_folder(&self) -> Option<&str> {
        let (first, rest) = self.path.split_once('/')?;
        let (second, _) = rest.split_once('/')?;
        ["src", "tests"].contains(&first).then_some(())?;
        self.path.get(..first.len() + 1 + second.len())
    }
}

/// All text files, in the order of their paths.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

impl Tree {
    /// Reads the checkout these tests were compiled from.
    pub(super) fn load() -> io::Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let mut paths = Vec::new();
        collect(&top, &mut paths)?;
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let relative = path.strip_prefix(&top).map_err(io::Error::other)?;
            let relative = relative.to_string_lossy().replace('\\', "/");
            files.push(File { path: relative, text: fs::read_to_string(&path)? });
        }
        Ok(Self { files })
    }

    /// A tree made up for a test.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into() };
        Self { files: files.iter().map(file).collect() }
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                collect(&entry.path(), paths)?;
            }
        } else if kind.is_file() && is_text(&name) {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    TEXT_NAMES.contains(&name)
        || name.rsplit_once('.').is_some_and(|(_, suffix)| TEXT_SUFFIXES.contains(&suffix))
}

/// What a rule found.
#[derive(Default)]
pub(super) struct Findings(Vec<String>);

impl Findings {
    /// Something about a whole file.
    pub(super) fn file(&mut self, path: &str, problem: impl fmt::Display) {
        self.0.push(format!("{path}: {problem}"));
    }

    /// Something in one line.
    pub(super) fn line(&mut self, path: &str, line: usize, problem: impl fmt::Display) {
        self.0.push(format!("{path}:{line}: {problem}"));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|finding| writeln!(formatter, "{finding}"))
    }
}
