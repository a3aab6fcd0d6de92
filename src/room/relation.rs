//! `m.relates_to` as the server parses it, the same for every caller.
//!
//! Invariant: a relation without a `rel_type` or a well-formed `event_id` counts as none.

use ruma::{CanonicalJsonValue, OwnedEventId, canonical_json::CanonicalJsonObject};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_ruma::EXPIRE_RELATION;

/// The kinds of relation of events that repeat the content of their parent.
pub(crate) const REPEATING: [&str; 2] = ["m.replace", EXPIRE_RELATION];

/// How an event relates to another one.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct RelatesTo {
    /// The kind of relation, such as `m.thread`.
    pub rel_type: String,
    /// The parent.
    pub event_id: OwnedEventId,
    /// The annotation, for `m.annotation`.
    pub key: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

impl RelatesTo {
    /// The relation in a content.
    #[must_use]
    pub fn of(content: &RawValue) -> Option<Self> {
        // Only a content that mentions it is parsed: this runs for every event.
        if !content.get().contains("m.relates_to") {
            return None;
        }
        serde_json::from_str::<Content>(content.get()).ok()?.relates_to
    }

    /// Whether an event with this relation repeats the content of its parent: an edit, or the terminal event
    /// of one that expired. It is not to be found any more once its parent is redacted.
    #[must_use]
    pub fn repeats(&self) -> bool {
        REPEATING.contains(&self.rel_type.as_str())
    }

    /// The relation in a content that is not an event yet.
    #[must_use]
    pub fn of_object(content: &CanonicalJsonObject) -> Option<Self> {
        let CanonicalJsonValue::Object(relation) = content.get("m.relates_to")? else {
            return None;
        };
        serde_json::from_value(serde_json::to_value(relation).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &serde_json::Value) -> Option<RelatesTo> {
        let object: CanonicalJsonObject = serde_json::from_value(content.clone()).unwrap();
        let raw = serde_json::value::to_raw_value(content).unwrap();
        assert_eq!(RelatesTo::of(&raw), RelatesTo::of_object(&object), "{content}");
        RelatesTo::of(&raw)
    }

    #[test]
    fn a_malformed_relation_is_none() {
        let found = of(&serde_json::json!({
            "m.relates_to": { "rel_type": "m.annotation", "event_id": "$a", "key": "+" },
        }));
        assert_eq!(
            found.map(|found| (found.rel_type, found.key.is_some())),
            Some(("m.annotation".to_owned(), true))
        );
        for relation in [
            serde_json::json!({ "event_id": "$a" }),
            serde_json::json!({ "rel_type": "m.thread" }),
            serde_json::json!({ "rel_type": "m.thread", "event_id": 1 }),
            serde_json::json!({ "rel_type": "m.annotation", "event_id": "$a", "key": 1 }),
            serde_json::json!("m.thread"),
        ] {
            assert_eq!(of(&serde_json::json!({ "m.relates_to": relation })), None, "{relation}");
        }
    }
}
