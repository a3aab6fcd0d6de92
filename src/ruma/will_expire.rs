//! `m.will_expire` in an event's content: what a client asks for, and what is stored.
//!
//! Invariants: the two sides are two types. A request carries a positive whole number of seconds
//! and nothing else; a stored event carries a status and never a duration.

use std::{collections::BTreeMap, error::Error, fmt, num::NonZeroU64, time::Duration};

use ruma::serde::{JsonObject, StringEnum};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value as JsonValue, value::RawValue as RawJsonValue};

use super::PrivOwnedStr;

/// The key of the expiry in an event's content, in `unsigned` and in the capabilities.
pub const WILL_EXPIRE: &str = "m.will_expire";

/// For how long a client wants its event to be valid: whole seconds, from 1 to `i64::MAX`.
///
/// The server's own limits (`min_duration`, `max_duration`) are not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestedExpiry(NonZeroU64);

impl RequestedExpiry {
    /// An expiry after `seconds`.
    ///
    /// # Errors
    ///
    /// [`InvalidExpiry::Duration`] for 0 and for more than `i64::MAX`.
    pub fn from_seconds(seconds: u64) -> Result<Self, InvalidExpiry> {
        if i64::try_from(seconds).is_err() {
            return Err(InvalidExpiry::Duration);
        }
        NonZeroU64::new(seconds).map(Self).ok_or(InvalidExpiry::Duration)
    }

    /// What the content of a send request asks for; `None` if it doesn't ask to expire.
    ///
    /// This is strict: `10.0`, `1e1`, `"10"` and `null` are not durations. A status (`"running"`)
    /// is refused like any other string, because setting it is up to the server. If the key
    /// stands more than once the last one counts, as for every reader of the content.
    ///
    /// # Errors
    ///
    /// [`InvalidExpiry::Content`] if `content` is no JSON object, and
    /// [`InvalidExpiry::Duration`] if its `m.will_expire` is no valid duration.
    pub fn from_content(content: &RawJsonValue) -> Result<Option<Self>, InvalidExpiry> {
        let value = member(content, WILL_EXPIRE).map_err(|_| InvalidExpiry::Content)?;
        value
            .map(|raw| serde_json::from_str(raw.get()).map_err(|_| InvalidExpiry::Duration))
            .transpose()
    }

    /// As [`from_content`](Self::from_content), of content that is parsed already.
    ///
    /// # Errors
    ///
    /// [`InvalidExpiry::Duration`] if `m.will_expire` is no valid duration.
    pub fn from_object(content: &JsonObject) -> Result<Option<Self>, InvalidExpiry> {
        content.get(WILL_EXPIRE).map(Self::from_value).transpose()
    }

    /// The number of seconds.
    pub fn as_secs(self) -> u64 {
        self.0.get()
    }

    fn from_value(value: &JsonValue) -> Result<Self, InvalidExpiry> {
        // `as_u64` is `None` for every number that was written as a float, `10.0` and `1e1` too.
        value.as_u64().ok_or(InvalidExpiry::Duration).and_then(Self::from_seconds)
    }
}

impl From<RequestedExpiry> for Duration {
    fn from(expiry: RequestedExpiry) -> Self {
        Self::from_secs(expiry.as_secs())
    }
}

impl<'de> Deserialize<'de> for RequestedExpiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(&JsonValue::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Why the content of a send request asks for no expiry that could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidExpiry {
    /// The content is not a JSON object.
    Content,
    /// `m.will_expire` is there, but not a positive whole number of seconds.
    Duration,
}

impl fmt::Display for InvalidExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Content => "event content must be a json object",
            Self::Duration => "m.will_expire must be a positive whole number of seconds",
        })
    }
}

impl Error for InvalidExpiry {}

/// An event content together with the wish that it shall expire, for clients to send.
#[derive(Clone, Debug, Serialize)]
pub struct WillExpire<C> {
    /// The content of the event.
    #[serde(flatten)]
    pub content: C,
    /// For how long it is valid, unless it is refreshed.
    #[serde(rename = "m.will_expire")]
    pub will_expire: RequestedExpiry,
}

/// Where an event that can expire is in its life: `m.will_expire` of a stored event.
///
/// A status of a later version of the proposal is kept as it came.
#[derive(Clone, StringEnum)]
#[ruma_enum(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ExpireStatus {
    /// It is valid, and keep-alives renew it.
    Running,
    /// The keep-alives stopped.
    Expired,
    /// It was ended by a request.
    Ended,
    #[doc(hidden)]
    _Custom(PrivOwnedStr),
}

impl ExpireStatus {
    /// The status in a stored event's content; `None` if there is none, or something else under
    /// its key, as other servers may send anything.
    pub fn from_content(content: &RawJsonValue) -> Option<Self> {
        serde_json::from_str(member(content, WILL_EXPIRE).ok()??.get()).ok()
    }

    /// Whether the event's life is over.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Expired | Self::Ended)
    }
}

/// The value of a JSON object under `key`, unparsed.
///
/// A map and no derived struct: that would take an array for an object, and `null` for absence.
pub(crate) fn member<'a>(
    object: &'a RawJsonValue,
    key: &str,
) -> serde_json::Result<Option<&'a RawJsonValue>> {
    let mut members: BTreeMap<String, &RawJsonValue> = serde_json::from_str(object.get())?;
    Ok(members.remove(key))
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn raw(json: &str) -> Box<RawJsonValue> {
        RawJsonValue::from_string(json.to_owned()).unwrap()
    }

    /// Reads the expiry both ways, which must agree.
    fn requested(content: &str) -> Result<Option<u64>, InvalidExpiry> {
        let from_raw = RequestedExpiry::from_content(&raw(content));
        if let Ok(object) = serde_json::from_str(content) {
            assert_eq!(RequestedExpiry::from_object(&object), from_raw, "{content}");
        }
        from_raw.map(|expiry| expiry.map(RequestedExpiry::as_secs))
    }

    #[test]
    fn content_without_the_key_does_not_ask_to_expire() {
        assert_eq!(requested("{}"), Ok(None));
        assert_eq!(requested(r#"{"body":"x","m":{"m.will_expire":5}}"#), Ok(None));
    }

    #[test]
    fn positive_integers_up_to_i64_are_durations() {
        assert_eq!(requested(r#"{"m.will_expire":1}"#), Ok(Some(1)));
        assert_eq!(requested(r#"{"body":"x", "m.will_expire" : 10 }"#), Ok(Some(10)));
        assert_eq!(
            requested(r#"{"m.will_expire":9223372036854775807}"#),
            Ok(Some(9_223_372_036_854_775_807))
        );
    }

    #[test]
    fn every_other_value_is_refused() {
        for value in [
            "0",
            "-0",
            "-1",
            "10.0",
            "1.5",
            "1e1",
            "1E1",
            "1e400",
            "-9223372036854775808",
            "9223372036854775808",
            "18446744073709551616",
            r#""10""#,
            r#""running""#,
            r#""""#,
            "true",
            "false",
            "null",
            "[]",
            "[10]",
            "{}",
            r#"{"seconds":10}"#,
        ] {
            let content = format!(r#"{{"m.will_expire":{value}}}"#);
            assert_eq!(requested(&content), Err(InvalidExpiry::Duration), "{value}");
        }
    }

    #[test]
    fn content_that_is_no_object_is_refused() {
        for content in ["[10]", "10", "null", r#""m.will_expire""#] {
            assert_eq!(requested(content), Err(InvalidExpiry::Content), "{content}");
        }
    }

    #[test]
    fn escaped_and_repeated_keys_are_read_as_every_json_parser_reads_them() {
        assert_eq!(requested(r#"{"m.will\u005fexpire":7}"#), Ok(Some(7)));
        assert_eq!(requested(r#"{"m.will_expire":"x","m.will_expire":7}"#), Ok(Some(7)));
        assert_eq!(
            requested(r#"{"m.will_expire":7,"m.will_expire":"running"}"#),
            Err(InvalidExpiry::Duration)
        );
    }

    #[test]
    fn request_side_is_written_as_a_number_beside_the_content() {
        let content = WillExpire {
            content: json!({ "body": "hello" }),
            will_expire: RequestedExpiry::from_seconds(10).unwrap(),
        };
        assert_eq!(Duration::from(content.will_expire), Duration::from_secs(10));
        assert_eq!(
            serde_json::to_value(&content).unwrap(),
            json!({ "m.will_expire": 10, "body": "hello" })
        );
        let read = RequestedExpiry::from_content(&to_raw_value(&content).unwrap());
        assert_eq!(read, Ok(Some(content.will_expire)));
    }

    #[test]
    fn seconds_out_of_range_make_no_duration() {
        assert_eq!(RequestedExpiry::from_seconds(0), Err(InvalidExpiry::Duration));
        assert_eq!(RequestedExpiry::from_seconds(u64::MAX), Err(InvalidExpiry::Duration));
    }

    #[test]
    fn statuses_round_trip_and_unknown_ones_are_kept() {
        for (text, status, terminal) in [
            ("running", ExpireStatus::Running, false),
            ("expired", ExpireStatus::Expired, true),
            ("ended", ExpireStatus::Ended, true),
            ("paused", ExpireStatus::from("paused"), false),
            ("Running", ExpireStatus::from("Running"), false),
        ] {
            let content = json!({ "m.will_expire": text });
            let read = ExpireStatus::from_content(&to_raw_value(&content).unwrap()).unwrap();
            assert_eq!(read, status);
            assert_eq!(read.is_terminal(), terminal);
            assert_eq!(serde_json::to_value(&read).unwrap(), json!(text));
        }
        assert_ne!(ExpireStatus::from("Running"), ExpireStatus::Running);
    }

    #[test]
    fn stored_content_without_a_status_has_none() {
        for content in ["{}", r#"{"m.will_expire":10}"#, r#"{"m.will_expire":null}"#, "[]", "1"] {
            assert_eq!(ExpireStatus::from_content(&raw(content)), None, "{content}");
        }
    }
}
