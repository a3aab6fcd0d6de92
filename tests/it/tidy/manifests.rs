//! Rules over the crates' manifests: which crate may depend on which, and on what from outside.

use super::tree::{File, Findings, Tree};
use toml::Table;

/// The crates from the bottom up: each may depend on those before it, and on no other of ours.
const LAYERS: [&str; 23] = [
    "wick-ruma",
    "wick-core",
    "wick-database",
    "wick-room",
    "wick-runtime",
    "wick-outbound",
    "wick-federation",
    "wick-media",
    "wick-account",
    "wick-people",
    "wick-encryption",
    "wick-timers",
    "wick-rooms",
    "wick-inbound",
    "wick-remote",
    "wick-sender",
    "wick-calls",
    "wick-notify",
    "wick-push",
    "wick-sync",
    "wick-service",
    "wick-api",
    "wick",
];

const STORAGE_ENGINE: [&str; 2] = ["rocksdb", "librocksdb-sys"];

/// What the use cases must not know: they have no HTTP server.
const HTTP_SERVER: &[&str] = &["axum", "axum-server", "tower-http"];

/// What a layer must not know: `core` is pure, `room` does no network, use cases have no HTTP server.
const FORBIDDEN: [(&str, &[&str]); 20] = [
    ("wick-core", &["tokio", "axum", "hyper", "http", "reqwest", "tower"]),
    ("wick-database", &["axum", "hyper", "http", "reqwest", "tower"]),
    ("wick-room", &["axum", "hyper", "hyper-util", "http", "reqwest", "tower", "tower-http"]),
    ("wick-runtime", HTTP_SERVER),
    ("wick-outbound", HTTP_SERVER),
    ("wick-federation", HTTP_SERVER),
    ("wick-media", HTTP_SERVER),
    ("wick-account", HTTP_SERVER),
    ("wick-people", HTTP_SERVER),
    ("wick-encryption", HTTP_SERVER),
    ("wick-timers", HTTP_SERVER),
    ("wick-rooms", HTTP_SERVER),
    ("wick-inbound", HTTP_SERVER),
    ("wick-remote", HTTP_SERVER),
    ("wick-sender", HTTP_SERVER),
    ("wick-calls", HTTP_SERVER),
    ("wick-notify", HTTP_SERVER),
    ("wick-push", HTTP_SERVER),
    ("wick-sync", HTTP_SERVER),
    ("wick-service", HTTP_SERVER),
];

/// The manifests of our crates that parse, with their text. What lies deeper is a workspace of its own,
/// such as the clients in `tests/clients/rust`.
fn manifests(tree: &Tree) -> impl Iterator<Item = (&File, Table)> {
    let is_manifest = |file: &&File| {
        file.path.ends_with("/Cargo.toml")
            && file.path.matches('/').count() == 2
            && file.crate_folder().is_some()
    };
    tree.files
        .iter()
        .filter(is_manifest)
        .filter_map(|file| Some((file, file.text.parse::<Table>().ok()?)))
}

/// The names in `[package]`, or an empty one.
fn package_name(manifest: &Table) -> &str {
    let package = manifest.get("package").and_then(|package| package.get("name"));
    package.and_then(toml::Value::as_str).unwrap_or_default()
}

/// The names of all packages of the workspace.
pub(super) fn package_names(tree: &Tree) -> Vec<String> {
    manifests(tree).map(|(_, manifest)| package_name(&manifest).to_owned()).collect()
}

/// All dependencies of a manifest: normal, for tests, for the build script, for one platform.
fn dependencies(manifest: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        if let Some(table) = manifest.get(section).and_then(toml::Value::as_table) {
            for (key, value) in table {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                names.push(renamed.unwrap_or(key).to_owned());
            }
        }
    }
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    for platform in platforms.into_iter().flat_map(Table::values) {
        names.extend(platform.as_table().map(dependencies).unwrap_or_default());
    }
    names
}

/// The line that names a dependency, or the first.
fn line_of(file: &File, dependency: &str) -> usize {
    let names_it = |line: &str| {
        line.strip_prefix(dependency)
            .is_some_and(|rest| rest.starts_with(|character| " =.".contains(character)))
    };
    file.lines().find(|(_, line)| names_it(line)).map_or(1, |(number, _)| number)
}

/// Only `src/database` depends on the storage engine.
pub(super) fn storage_engine(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for (file, manifest) in manifests(tree) {
        if file.path == "src/database/Cargo.toml" {
            continue;
        }
        for name in dependencies(&manifest) {
            if STORAGE_ENGINE.contains(&name.as_str()) {
                let problem =
                    "only src/database names RocksDB: add what is needed to wick-database";
                findings.line(&file.path, line_of(file, &name), problem);
            }
        }
    }
    findings
}

/// Dependencies point down the layers, and what a layer must not know.
pub(super) fn arrows(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    for (file, manifest) in manifests(tree).filter(|(file, _)| file.path.starts_with("src/")) {
        let package = package_name(&manifest);
        let Some(own) = rank(package) else {
            findings.line(
                &file.path,
                1,
                format!("`{package}` has no place among the layers {LAYERS:?}"),
            );
            continue;
        };
        let forbidden =
            FORBIDDEN.iter().find(|(layer, _)| *layer == package).map(|(_, names)| *names);
        for name in dependencies(&manifest) {
            let is_ours = name.starts_with("wick");
            if is_ours && rank(&name).is_none_or(|other| other >= own) {
                let problem = format!(
                    "`{package}` must not depend on `{name}`: the arrows point down {LAYERS:?}"
                );
                findings.line(&file.path, line_of(file, &name), problem);
            }
            if forbidden.is_some_and(|names| names.contains(&name.as_str())) {
                let problem =
                    format!("`{package}` must not know `{name}`: it belongs to a higher layer");
                findings.line(&file.path, line_of(file, &name), problem);
            }
        }
    }
    findings
}

/// Versions are written once, in the top manifest; the lints hold everywhere.
pub(super) fn workspace_inheritance(tree: &Tree) -> Findings {
    let mut findings = Findings::default();
    for (file, manifest) in manifests(tree) {
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            findings.file(&file.path, "add `[lints] workspace = true`");
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(section).and_then(toml::Value::as_table);
            for (name, value) in table.into_iter().flatten() {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    let problem = format!(
                        "take `{name}` from [workspace.dependencies] of the top Cargo.toml"
                    );
                    findings.line(&file.path, line_of(file, name), problem);
                }
            }
        }
    }
    findings
}

/// RocksDB's version stands in `Cargo.lock`; its fetched builds, and what the server demands, are of it.
pub(super) fn storage_engine_version(tree: &Tree) -> Findings {
    const PINS: &str = ".ci/rocksdb.pins";
    const DEMAND: &str = "src/database/engine/version.rs";
    let mut findings = Findings::default();
    let text = |path: &str| tree.get(path).map(|file| file.text.as_str()).unwrap_or_default();
    let locked = text("Cargo.lock")
        .split_once("name = \"librocksdb-sys\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next()?.split_once('+'))
        .map(|(_, version)| version);
    let Some(locked) = locked else {
        findings.file("Cargo.lock", "librocksdb-sys has no RocksDB version after its `+`");
        return findings;
    };
    let pins = || text(PINS).lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    for (index, line) in pins() {
        if line.split(' ').next() != Some(locked) {
            findings.line(PINS, index + 1, format!("Cargo.lock has RocksDB {locked}"));
        }
    }
    if pins().next().is_none() {
        findings.file(PINS, "no library is pinned");
    }
    if !text(DEMAND).contains(&format!("const BUILT_FOR: &str = \"{locked}\";")) {
        findings.file(DEMAND, format!("Cargo.lock has RocksDB {locked}"));
    }
    findings
}
