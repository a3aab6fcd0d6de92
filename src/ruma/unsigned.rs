//! What a server adds to `unsigned` of an event that can expire, under `m.will_expire`.
//!
//! Invariants: `running` comes alone; the two details belong to a life that is over.

use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;

use super::{
    ExpireStatus,
    will_expire::{WILL_EXPIRE, member},
};

/// The state of an event as the server of its sender knows it, computed when the event is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ExpireUnsigned {
    /// Where the event is in its life.
    pub status: ExpireStatus,
    /// The terminal event. None was sent if the auth rules refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<OwnedEventId>,
    /// When the event's life ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

impl ExpireUnsigned {
    /// Of an event that is valid.
    pub fn running() -> Self {
        Self { status: ExpireStatus::Running, event_id: None, origin_server_ts: None }
    }

    /// Of an event that expired or ended at `origin_server_ts`, by the event `event_id`, if the
    /// room allowed one.
    pub fn terminal(
        status: ExpireStatus,
        event_id: Option<OwnedEventId>,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
    ) -> Self {
        Self { status, event_id, origin_server_ts: Some(origin_server_ts) }
    }

    /// Reads it from an event's whole `unsigned`; `None` if it is not there, or no such thing.
    pub fn from_unsigned(unsigned: &RawJsonValue) -> Option<Self> {
        serde_json::from_str(member(unsigned, WILL_EXPIRE).ok()??.get()).ok()
    }
}

#[cfg(test)]
mod tests {
    use ruma::{UInt, owned_event_id};
    use serde_json::{Value as JsonValue, json, value::to_raw_value};

    use super::*;

    fn parse(unsigned: &JsonValue) -> Option<ExpireUnsigned> {
        ExpireUnsigned::from_unsigned(&to_raw_value(unsigned).unwrap())
    }

    #[test]
    fn every_form_round_trips() {
        let ts = MilliSecondsSinceUnixEpoch(UInt::try_from(1_721_732_853_284_u64).unwrap());
        for (status, json) in [
            (ExpireUnsigned::running(), json!({ "status": "running" })),
            (
                ExpireUnsigned::terminal(
                    ExpireStatus::Expired,
                    Some(owned_event_id!("$terminal")),
                    ts,
                ),
                json!({
                    "status": "expired",
                    "event_id": "$terminal",
                    "origin_server_ts": 1_721_732_853_284_i64,
                }),
            ),
            (
                ExpireUnsigned::terminal(ExpireStatus::Ended, None, ts),
                json!({ "status": "ended", "origin_server_ts": 1_721_732_853_284_i64 }),
            ),
        ] {
            assert_eq!(serde_json::to_value(&status).unwrap(), json);
            assert_eq!(parse(&json!({ "age": 1, "m.will_expire": json })), Some(status));
        }
    }

    #[test]
    fn unsigned_without_a_status_has_none() {
        for unsigned in [
            json!({ "age": 1 }),
            json!({ "m.will_expire": null }),
            json!({ "m.will_expire": "running" }),
            json!({ "m.will_expire": { "event_id": "$terminal" } }),
            json!(null),
        ] {
            assert_eq!(parse(&unsigned), None, "{unsigned}");
        }
    }
}
