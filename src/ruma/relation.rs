//! How the event that ends another one points at it.
//!
//! Invariant: a content without both the status and the event that ended is no terminal
//! content. Authorization to end an event is the server's rule, not the schema's.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;

use super::{ExpireStatus, will_expire::member};

/// The relation type of an event that ends the one it points at.
pub const EXPIRE_RELATION: &str = "m.expire.relationship";

/// `m.relates_to` of an event that ends another: `{ rel_type, event_id }`.
///
/// Any other `rel_type` fails to deserialize.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct ExpireRelation {
    /// The event that ended.
    pub event_id: OwnedEventId,
}

impl ExpireRelation {
    /// A relation to `event_id`.
    pub fn new(event_id: OwnedEventId) -> Self {
        Self { event_id }
    }
}

/// An enum, because serde checks a tag on those alone.
#[derive(Deserialize, Serialize)]
#[serde(tag = "rel_type")]
enum Wire {
    #[serde(rename = "m.expire.relationship")]
    Expire { event_id: OwnedEventId },
}

impl From<Wire> for ExpireRelation {
    fn from(Wire::Expire { event_id }: Wire) -> Self {
        Self { event_id }
    }
}

impl From<ExpireRelation> for Wire {
    fn from(ExpireRelation { event_id }: ExpireRelation) -> Self {
        Self::Expire { event_id }
    }
}

/// The two fields in which the event that ends another differs from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TerminalContent {
    /// `expired` or `ended`.
    #[serde(rename = "m.will_expire")]
    pub status: ExpireStatus,
    /// The event that is over.
    #[serde(rename = "m.relates_to")]
    pub relates_to: ExpireRelation,
}

impl TerminalContent {
    /// What `content` ends; `None` if it is not the content of a terminal event.
    pub fn from_content(content: &RawJsonValue) -> Option<Self> {
        let status = ExpireStatus::from_content(content).filter(ExpireStatus::is_terminal)?;
        let relates_to = member(content, "m.relates_to").ok()??;
        Some(Self { status, relates_to: serde_json::from_str(relates_to.get()).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;
    use serde_json::{Value as JsonValue, json, value::to_raw_value};

    use super::*;

    fn parse(content: &JsonValue) -> Option<TerminalContent> {
        TerminalContent::from_content(&to_raw_value(content).unwrap())
    }

    #[test]
    fn relation_round_trips() {
        let json = json!({ "rel_type": EXPIRE_RELATION, "event_id": "$original" });
        let relation: ExpireRelation = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(relation, ExpireRelation::new(owned_event_id!("$original")));
        assert_eq!(serde_json::to_value(relation).unwrap(), json);
    }

    #[test]
    fn other_relations_are_not_taken_for_it() {
        for json in [
            json!({ "rel_type": "m.thread", "event_id": "$original" }),
            json!({ "event_id": "$original" }),
            json!({ "rel_type": EXPIRE_RELATION }),
            json!({ "rel_type": EXPIRE_RELATION, "event_id": "original" }),
            json!({ "m.in_reply_to": { "event_id": "$original" } }),
        ] {
            assert!(serde_json::from_value::<ExpireRelation>(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn terminal_content_is_found_beside_the_copied_fields() {
        let relation = json!({ "rel_type": EXPIRE_RELATION, "event_id": "$original" });
        for status in [ExpireStatus::Expired, ExpireStatus::Ended] {
            let content =
                json!({ "body": "hello", "m.will_expire": status, "m.relates_to": relation });
            let terminal = parse(&content).unwrap();
            assert_eq!(terminal.status, status);
            assert_eq!(terminal.relates_to.event_id, "$original");
            assert_eq!(
                serde_json::to_value(terminal).unwrap(),
                json!({ "m.will_expire": status, "m.relates_to": relation })
            );
        }
    }

    #[test]
    fn content_that_ends_nothing_is_not_terminal() {
        let relation = json!({ "rel_type": EXPIRE_RELATION, "event_id": "$original" });
        for content in [
            json!({ "m.will_expire": "running", "m.relates_to": relation }),
            json!({ "m.will_expire": "paused", "m.relates_to": relation }),
            json!({ "m.will_expire": 10, "m.relates_to": relation }),
            json!({ "m.will_expire": "expired" }),
            json!({ "m.will_expire": "expired", "m.relates_to": { "rel_type": "m.thread" } }),
            json!({ "m.relates_to": relation }),
            json!(["expired", relation]),
        ] {
            assert_eq!(parse(&content), None, "{content}");
        }
    }
}
