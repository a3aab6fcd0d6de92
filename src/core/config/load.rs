//! Puts a configuration together: defaults, then the file, then the environment, then flags.
//!
//! Invariants: every value is tried by itself on top of the defaults, so that all problems are found
//! at once and each names where the value came from; a secret is in no message.

use toml::{Table, Value};

use super::{Config, Problem, variables};

/// Where values come from, each overriding the one before.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// Name and text of the configuration file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment: `WICK_<SECTION>__<KEY>`, and whatever the file names by `${NAME}`.
    pub environment: Vec<(String, String)>,
    /// Keys such as `server.name` with their values, as given on the command line.
    pub flags: Vec<(String, String)>,
}

struct Given {
    key: Vec<String>,
    value: Value,
    origin: String,
}

impl Config {
    /// The configuration that `sources` make, or everything that is wrong with them.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Vec<Problem>> {
        let defaults = Self::default();
        let tree = Table::try_from(&defaults)
            .map_err(|error| vec![Problem::general("the defaults", &error)])?;

        let mut problems = Vec::new();
        let mut given = Vec::new();
        if let Some((name, text)) = sources.file {
            match text.parse::<Table>() {
                Ok(table) => {
                    flatten(table, &mut Vec::new(), name, &mut given);
                    given = fill_variables(given, &sources.environment, &mut problems);
                }
                Err(error) => problems.push(Problem::general(name, &error)),
            }
        }
        for (name, value) in &sources.environment {
            if let Some(key) = environment_key(name) {
                let value = typed(&tree, &key, value);
                given.push(Given { key, value, origin: name.clone() });
            }
        }
        for (name, value) in &sources.flags {
            let key: Vec<_> = name.split('.').map(str::to_owned).collect();
            let value = typed(&tree, &key, value);
            given.push(Given { key, value, origin: "the command line".to_owned() });
        }

        let mut merged = tree.clone();
        for Given { key, value, origin } in given {
            let mut alone = tree.clone();
            put(&mut alone, &key, value.clone());
            match alone.try_into::<Self>() {
                Ok(_) => put(&mut merged, &key, value),
                Err(error) => problems.push(Problem {
                    key: key.join("."),
                    origin: Some(origin),
                    message: error.message().to_owned(),
                }),
            }
        }
        match merged.try_into::<Self>() {
            Ok(config) => {
                problems.extend(config.check());
                if problems.is_empty() { Ok(config) } else { Err(problems) }
            }
            Err(error) => {
                problems.push(Problem::general("the configuration", &error));
                Err(problems)
            }
        }
    }
}

/// What is given with its variables put in, without what names one that is not there.
fn fill_variables(
    given: Vec<Given>,
    environment: &[(String, String)],
    problems: &mut Vec<Problem>,
) -> Vec<Given> {
    let mut filled = Vec::with_capacity(given.len());
    for Given { key, value, origin } in given {
        match variables::fill(value, environment) {
            Ok(value) => filled.push(Given { key, value, origin }),
            Err(message) => {
                problems.push(Problem { key: key.join("."), origin: Some(origin), message });
            }
        }
    }
    filled
}

/// `WICK_SERVER__NAME` → `server.name`. A name without `__` is ignored.
fn environment_key(name: &str) -> Option<Vec<String>> {
    let (section, key) = name.strip_prefix("WICK_")?.split_once("__")?;
    Some([section].into_iter().chain(key.split("__")).map(str::to_lowercase).collect())
}

/// A text from outside TOML as the type that its key has by default.
fn typed(tree: &Table, key: &[String], text: &str) -> Value {
    if matches!(find(tree, key), Some(Value::String(_))) {
        return Value::String(text.to_owned());
    }
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn find<'t>(tree: &'t Table, key: &[String]) -> Option<&'t Value> {
    let (last, parents) = key.split_last()?;
    let table = parents.iter().try_fold(tree, |table, part| table.get(part)?.as_table())?;
    table.get(last)
}

fn flatten(table: Table, path: &mut Vec<String>, origin: &str, given: &mut Vec<Given>) {
    for (name, value) in table {
        path.push(name);
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, path, origin, given),
            value => given.push(Given { key: path.clone(), value, origin: origin.to_owned() }),
        }
        path.pop();
    }
}

fn put(table: &mut Table, key: &[String], value: Value) {
    match key {
        [] => {}
        [last] => {
            // An empty table in a file sets nothing; it must not replace a section's defaults.
            if !(matches!(&value, Value::Table(inner) if inner.is_empty())
                && matches!(table.get(last), Some(Value::Table(_))))
            {
                table.insert(last.clone(), value);
            }
        }
        [first, rest @ ..] => {
            let entry = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
    }
}
