//! The form of events that a client asks for: `event_format` and `event_fields` of a filter.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#filtering>

use serde_json::{Map, Value, value::RawValue};
use wick_core::{Error, Result};

/// The form of the events in one response. The default is that for clients, with all fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// The paths of the wanted fields; `None` for all.
    fields: Option<Vec<Vec<String>>>,
    /// The signed event with all that only servers need.
    pub(super) federation: bool,
}

impl Format {
    /// The form with these `event_fields`, as an event is sent between servers if `federation`.
    #[must_use]
    pub fn new(event_fields: Option<&[String]>, federation: bool) -> Self {
        let paths = |fields: &[String]| fields.iter().map(|field| path(field)).collect();
        Self { fields: event_fields.map(paths), federation }
    }

    /// The event with the wanted fields alone.
    pub(super) fn reduced(&self, event: Box<RawValue>) -> Result<Box<RawValue>> {
        let Some(fields) = &self.fields else { return Ok(event) };
        let whole: Value = serde_json::from_str(event.get())
            .map_err(|error| Error::internal("a shown event cannot be read", error))?;
        let mut reduced = Map::new();
        for path in fields {
            copy(&whole, &mut reduced, path);
        }
        serde_json::value::to_raw_value(&reduced)
            .map_err(|error| Error::internal("could not serialize an event", error))
    }
}

/// The parts of a path, which dots divide; a backslash escapes a dot or a backslash.
fn path(field: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '.' => {
                parts.push(String::new());
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped) => escaped,
                None => character,
            },
            other => other,
        };
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts
}

fn copy(from: &Value, to: &mut Map<String, Value>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        to.insert(first.clone(), value.clone());
        return;
    }
    if value.is_object() {
        let inner = to.entry(first.clone()).or_insert_with(|| Map::new().into());
        if let Value::Object(inner) = inner {
            copy(value, inner, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_kept_by_their_paths() {
        let event = json!({
            "type": "a", "sender": "@a:b",
            "content": { "body": "text", "m.relates_to": { "rel_type": "x" }, "a\\b": 1 },
        });
        let event = serde_json::value::to_raw_value(&event).unwrap();
        for (fields, expected) in [
            (vec![], json!({})),
            (vec!["type"], json!({ "type": "a" })),
            (
                vec!["content.body", "sender"],
                json!({ "content": { "body": "text" }, "sender": "@a:b" }),
            ),
            (
                vec!["content.m\\.relates_to"],
                json!({ "content": { "m.relates_to": { "rel_type": "x" } } }),
            ),
            (vec!["content.m.relates_to"], json!({ "content": {} })),
            (vec!["content.a\\\\b"], json!({ "content": { "a\\b": 1 } })),
            (vec!["content.body.deeper", "nothing"], json!({ "content": {} })),
        ] {
            let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
            let reduced = Format::new(Some(&fields), false).reduced(event.clone()).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(reduced.get()).unwrap(),
                expected,
                "{fields:?}"
            );
        }
        assert_eq!(Format::default().reduced(event.clone()).unwrap().get(), event.get());
    }
}
