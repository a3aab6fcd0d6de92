//! A delayed event as its owner gets to see it.
//!
//! Invariants: written with the proposal's current names (`delay_ms`, `scheduled_at`, the outcome in
//! place) and with the earlier ones (`delay`, `running_since`, `delayed_since_ts`, the outcome in
//! `finalised`); read with the current ones, `delay` and `running_since`, the current one first.

use std::time::Duration;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    api::error::StandardErrorBody,
    events::{AnyTimelineEventContent, TimelineEventType},
    serde::{Raw, duration::opt_ms},
};
use serde::{Deserialize, Serialize};

/// A delayed event that is scheduled, or was sent, cancelled or refused.
///
/// The last three fields are those of an event that is no longer scheduled. Of these the list of
/// all delayed events gives none.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct DelayedEvent {
    /// The id by which it is restarted, sent and cancelled.
    pub delay_id: String,
    /// The room it is for.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content, as the client gave it.
    pub content: Raw<AnyTimelineEventContent>,
    /// How long after `scheduled_at` it is due; on the wire in milliseconds.
    pub delay: Duration,
    /// When it was scheduled or last restarted.
    pub scheduled_at: MilliSecondsSinceUnixEpoch,
    /// Why it could not be sent.
    pub error: Option<StandardErrorBody>,
    /// The event it became.
    pub event_id: Option<OwnedEventId>,
    /// When it was sent, cancelled or refused.
    pub finalized_ts: Option<MilliSecondsSinceUnixEpoch>,
}

#[derive(Deserialize, Serialize)]
struct Wire {
    delay_id: String,
    room_id: OwnedRoomId,
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state_key: Option<String>,
    content: Raw<AnyTimelineEventContent>,
    #[serde(default, with = "opt_ms")]
    delay_ms: Option<Duration>,
    #[serde(default, with = "opt_ms")]
    delay: Option<Duration>,
    #[serde(default)]
    scheduled_at: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(default)]
    running_since: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(default, skip_deserializing)]
    delayed_since_ts: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<StandardErrorBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_id: Option<OwnedEventId>,
    #[serde(default, rename = "finalised_ts", skip_serializing_if = "Option::is_none")]
    finalized_ts: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    finalised: Option<Finalised>,
}

/// The outcome where clients of 2025 look for it.
#[derive(Serialize)]
struct Finalised {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<StandardErrorBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<OwnedEventId>,
    finalised_ts: MilliSecondsSinceUnixEpoch,
}

impl TryFrom<Wire> for DelayedEvent {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        Ok(Self {
            delay_id: wire.delay_id,
            room_id: wire.room_id,
            event_type: wire.event_type,
            state_key: wire.state_key,
            content: wire.content,
            delay: wire.delay_ms.or(wire.delay).ok_or("missing field `delay_ms`")?,
            scheduled_at: wire
                .scheduled_at
                .or(wire.running_since)
                .ok_or("missing field `scheduled_at`")?,
            error: wire.error,
            event_id: wire.event_id,
            finalized_ts: wire.finalized_ts,
        })
    }
}

impl From<DelayedEvent> for Wire {
    fn from(event: DelayedEvent) -> Self {
        let finalised = event.finalized_ts.map(|finalised_ts| Finalised {
            error: event.error.clone(),
            event_id: event.event_id.clone(),
            finalised_ts,
        });
        Self {
            delay_id: event.delay_id,
            room_id: event.room_id,
            event_type: event.event_type,
            state_key: event.state_key,
            content: event.content,
            delay_ms: Some(event.delay),
            delay: Some(event.delay),
            scheduled_at: Some(event.scheduled_at),
            running_since: Some(event.scheduled_at),
            delayed_since_ts: Some(event.scheduled_at),
            finalised,
            error: event.error,
            event_id: event.event_id,
            finalized_ts: event.finalized_ts,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ruma::api::client::delayed_events::DelayedEventData;
    use serde_json::{Value as JsonValue, from_value, json, to_value};

    use super::*;

    /// A scheduled event with the current names alone.
    pub(crate) fn scheduled() -> JsonValue {
        json!({
            "delay_id": "delay1",
            "room_id": "!call:example.org",
            "type": "m.room.topic",
            "state_key": "",
            "content": { "topic": "gone" },
            "delay_ms": 5500,
            "scheduled_at": 1_721_732_853_284_i64,
        })
    }

    #[test]
    fn current_names_are_read_and_both_are_written() {
        let event: DelayedEvent = from_value(scheduled()).unwrap();
        assert_eq!(event.delay, Duration::from_millis(5500));

        let mut both = scheduled();
        both["delay"] = json!(5500);
        both["running_since"] = both["scheduled_at"].clone();
        both["delayed_since_ts"] = both["scheduled_at"].clone();
        assert_eq!(to_value(&event).unwrap(), both);
        let again: DelayedEvent = from_value(both).unwrap();
        assert_eq!(again.scheduled_at, event.scheduled_at);
    }

    #[test]
    fn client_of_the_earlier_form_reads_what_is_written() {
        let event: DelayedEvent = from_value(scheduled()).unwrap();
        let earlier: DelayedEventData =
            serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(earlier.delay, event.delay);
        assert_eq!(earlier.running_since, event.scheduled_at);
    }

    #[test]
    fn answer_of_an_earlier_server_is_read() {
        let mut json = scheduled();
        let object = json.as_object_mut().unwrap();
        for (current, earlier) in [("delay_ms", "delay"), ("scheduled_at", "running_since")] {
            let value = object.remove(current).unwrap();
            assert!(from_value::<DelayedEvent>(object.clone().into()).is_err());
            object.insert(earlier.to_owned(), value);
        }
        let event: DelayedEvent = from_value(json).unwrap();
        assert_eq!(event.delay, Duration::from_millis(5500));
    }

    #[test]
    fn outcome_round_trips() {
        for outcome in [
            json!({ "finalised_ts": 1_721_732_858_784_i64, "event_id": "$sent" }),
            json!({
                "finalised_ts": 1_721_732_858_784_i64,
                "error": { "errcode": "M_FORBIDDEN", "error": "not in the room" },
            }),
            json!({ "finalised_ts": 1_721_732_858_784_i64 }),
        ] {
            let mut json = scheduled();
            json.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
            let event: DelayedEvent = from_value(json).unwrap();
            let written = to_value(&event).unwrap();
            for key in ["finalised_ts", "event_id", "error"] {
                assert_eq!(written.get(key), outcome.get(key), "{key}");
                assert_eq!(written["finalised"].get(key), outcome.get(key), "{key}");
            }
        }
    }
}
