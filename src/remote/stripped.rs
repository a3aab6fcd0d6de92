//! Stripped state that other servers send of rooms which are not here.
//!
//! Invariant: it is bounded, and has the form that clients get.

use ruma_federation_api::membership::RawStrippedState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How many events of stripped state are kept.
const MAX_EVENTS: usize = 50;

/// How many bytes of content an event of it has at most.
const MAX_CONTENT: usize = 16 << 10;

/// An event as clients get it of a room that its user is not in.
#[derive(Deserialize, Serialize)]
struct Stripped<'a> {
    #[serde(rename = "type")]
    event_type: String,
    state_key: String,
    sender: String,
    #[serde(borrow)]
    content: &'a RawValue,
    /// Of the create event alone (MSC4311).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin_server_ts: Option<u64>,
}

/// An event in its stripped form; `None` if it is no state event or too large.
pub(crate) fn strip(event: &RawValue) -> Option<String> {
    let mut stripped: Stripped<'_> = serde_json::from_str(event.get()).ok()?;
    if stripped.event_type != "m.room.create" {
        stripped.origin_server_ts = None;
    }
    if stripped.content.get().len() > MAX_CONTENT {
        return None;
    }
    serde_json::to_string(&stripped).ok()
}

/// Stripped state in its stripped form.
pub(crate) fn strip_all(state: &[RawStrippedState]) -> Vec<String> {
    let stripped = state.iter().filter_map(|event| match serde_json::value::to_raw_value(event) {
        Ok(event) => strip(&event),
        Err(_) => None,
    });
    stripped.take(MAX_EVENTS).collect()
}
