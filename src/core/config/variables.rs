//! `${NAME}` in a text of the configuration file: the environment variable of that name.
//!
//! Invariant: a variable's value is put in once and not looked at again, so no value can name another.

use toml::Value;

/// `value` with the variables its texts name, in lists and inline tables too; or what is wrong.
pub(super) fn fill(value: Value, environment: &[(String, String)]) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill_text(&text, environment)?),
        Value::Array(items) => Value::Array(
            items.into_iter().map(|item| fill(item, environment)).collect::<Result<_, _>>()?,
        ),
        Value::Table(table) => Value::Table(
            table
                .into_iter()
                .map(|(key, item)| Ok::<_, String>((key, fill(item, environment)?)))
                .collect::<Result<_, _>>()?,
        ),
        value => value,
    })
}

fn fill_text(text: &str, environment: &[(String, String)]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("has a \"${\" without its \"}\"")?;
        let (_, value) = environment
            .iter()
            .find(|(variable, _)| variable == name)
            .ok_or_else(|| format!("names the environment variable {name:?}, which is not set"))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
