//! The contract's rules on contents: what may be asked for, what is stored, what is sent at the end.
//! The numbers are the rules of the table in wick's manual, "Expiring events".
//!
//! Invariants: pure; the fields of a content other than the two of the contract are copied byte for byte.

use std::{collections::BTreeMap, time::Duration};

use ruma::{EventId, OwnedEventId};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    config::Expiring,
    wire::{
        EXPIRE_RELATION, ExpireRelation, ExpireStatus, InvalidExpiry, RequestedExpiry,
        TerminalContent, WILL_EXPIRE,
    },
};

/// Types of events that a server must not repeat by itself (rule 3).
const NEVER: [&str; 9] = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.tombstone",
    "m.room.redaction",
];

/// The largest event, in bytes.
const MAX_EVENT_BYTES: usize = 65_535;

/// What the terminal event can have more than the original besides its relation: twenty `prev_events`
/// in place of one, more auth events, a greater depth, the original's id in `unsigned`.
const COPY_GROWTH_BYTES: usize = 1_600;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400 `M_BAD_JSON`.
    BadJson(&'static str),
    /// 400 `M_INVALID_PARAM`.
    InvalidParam(String),
    /// 403 `M_FORBIDDEN`.
    Forbidden(&'static str),
    /// 413 `M_TOO_LARGE`.
    TooLarge(&'static str),
}

/// What an event is about to be, as far as the rules need it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Its content.
    pub content: &'a RawValue,
    /// Whether the request can be answered a token: `/send` and `/state` alone (rule 28).
    pub answers_token: bool,
}

/// Whether a content may have the key. Cheap, and never wrongly `false`.
pub fn may_concern(content: &str) -> bool {
    content.contains(WILL_EXPIRE) || content.contains("\\u")
}

/// The duration that an event asks for; `None` if it has none.
///
/// # Errors
/// Rules 1, 2, 3, 5 and 28.
pub fn duration(config: &Expiring, asked: &Asked<'_>) -> Result<Option<Duration>, Refusal> {
    let expiry = match RequestedExpiry::from_content(asked.content) {
        Ok(None) | Err(InvalidExpiry::Content) => return Ok(None),
        Ok(Some(expiry)) => expiry,
        Err(InvalidExpiry::Duration) => {
            return Err(Refusal::BadJson(
                "m.will_expire must be a positive whole number of seconds",
            ));
        }
    };
    if !config.enabled || config.max_running == 0 {
        return Err(Refusal::Forbidden("this server does not let events expire"));
    }
    let invalid = |problem: String| Err(Refusal::InvalidParam(problem));
    if NEVER.contains(&asked.event_type) {
        return invalid(format!("an event of type {} cannot expire", asked.event_type));
    }
    if !asked.answers_token {
        return invalid("m.will_expire can be given to /send and /state alone".to_owned());
    }
    if is_command(asked) {
        return invalid(
            "an admin command cannot expire, as its copy would run it again".to_owned(),
        );
    }
    let seconds = expiry.as_secs();
    if seconds < config.min_duration {
        return invalid(format!("m.will_expire must be at least {} seconds", config.min_duration));
    }
    if seconds > config.max_duration {
        return invalid(format!("m.will_expire must be at most {} seconds", config.max_duration));
    }
    Ok(Some(expiry.into()))
}

/// Whether a message would be taken for a command of the server's own, such as `\!admin`.
fn is_command(asked: &Asked<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Body {
        body: String,
    }
    asked.event_type == "m.room.message"
        && serde_json::from_str(asked.content.get()).is_ok_and(|Body { body }| {
            body.trim_start().trim_start_matches('\\').starts_with("!admin")
        })
}

/// The content as it is stored: `running` in place of the duration.
///
/// # Errors
/// If the content is no object.
pub fn running(content: &RawValue) -> serde_json::Result<Box<RawValue>> {
    let mut members = members(content)?;
    members.insert(WILL_EXPIRE.to_owned(), to_raw_value(&ExpireStatus::Running)?);
    to_raw_value(&members)
}

/// The content of the terminal event (rules 18 and 19).
///
/// # Errors
/// If the content is no object.
pub fn terminal(
    content: &RawValue,
    status: &ExpireStatus,
    original: &EventId,
) -> serde_json::Result<Box<RawValue>> {
    let mut members = members(content)?;
    members.insert(WILL_EXPIRE.to_owned(), to_raw_value(status)?);
    let relation = ExpireRelation::new(original.to_owned());
    members.insert("m.relates_to".to_owned(), to_raw_value(&relation)?);
    to_raw_value(&members)
}

fn members(content: &RawValue) -> serde_json::Result<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(content.get())
}

/// Whether an event's terminal copy will be small enough to be sent (rule 4). `event` and `content` are
/// sizes in bytes. The copy of a state event carries the original's content, as `prev_content`.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub fn check_copy_fits(
    event: usize,
    content: usize,
    original: &EventId,
    state: bool,
) -> Result<(), Refusal> {
    let relation = EXPIRE_RELATION.len().saturating_add(original.as_str().len()).saturating_add(64);
    let previous = if state { content } else { 0 };
    let copy = [event, relation, previous, COPY_GROWTH_BYTES].iter().sum::<usize>();
    if copy > MAX_EVENT_BYTES {
        return Err(Refusal::TooLarge("the terminal event would be larger than 65535 bytes"));
    }
    Ok(())
}

/// The event that a terminal event ends, and its status; `None` if it is no terminal event, or of a type that cannot
/// expire.
pub fn ends(event_type: &str, content: &RawValue) -> Option<(OwnedEventId, ExpireStatus)> {
    if !content.get().contains(EXPIRE_RELATION) || NEVER.contains(&event_type) {
        return None;
    }
    let TerminalContent { status, relates_to } = TerminalContent::from_content(content)?;
    Some((relates_to.event_id, status))
}

#[cfg(test)]
mod tests {
    use ruma::event_id;
    use serde_json::{Value, json};

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        to_raw_value(value).unwrap()
    }

    fn ask(config: &Expiring, event_type: &str, content: &Value) -> Result<Option<u64>, Refusal> {
        let content = raw(content);
        let asked = Asked { event_type, content: &content, answers_token: true };
        duration(config, &asked).map(|duration| duration.map(|duration| duration.as_secs()))
    }

    fn ask_message(content: &Value) -> Result<Option<u64>, Refusal> {
        ask(&Expiring::default(), "m.room.message", content)
    }

    #[test]
    fn row_1_a_duration_is_a_positive_whole_number() {
        assert_eq!(ask_message(&json!({ "body": "x" })), Ok(None));
        assert_eq!(ask_message(&json!([1])), Ok(None), "the server itself refuses it");
        assert_eq!(ask_message(&json!({ "m.will_expire": 10 })), Ok(Some(10)));
        for value in [json!(0), json!(-1), json!(1.5), json!("10"), json!("running"), json!(null)] {
            let answer = ask_message(&json!({ "m.will_expire": value }));
            assert!(matches!(answer, Err(Refusal::BadJson(_))), "{value}");
        }
    }

    #[test]
    fn row_2_the_limits_are_named() {
        let config = Expiring { min_duration: 5, max_duration: 60, ..Expiring::default() };
        for (seconds, named) in [(4, "at least 5 "), (61, "at most 60 ")] {
            let answer = ask(&config, "m.room.message", &json!({ "m.will_expire": seconds }));
            let Err(Refusal::InvalidParam(problem)) = answer else { panic!("{answer:?}") };
            assert!(problem.contains(named), "{problem}");
        }
        for seconds in [5, 60] {
            let answer = ask(&config, "m.room.message", &json!({ "m.will_expire": seconds }));
            assert_eq!(answer, Ok(Some(seconds)));
        }
    }

    #[test]
    fn row_3_types_that_a_server_must_not_repeat_cannot_expire() {
        for event_type in NEVER {
            let answer = ask(&Expiring::default(), event_type, &json!({ "m.will_expire": 10 }));
            assert!(matches!(answer, Err(Refusal::InvalidParam(_))), "{event_type}");
            assert_eq!(ask(&Expiring::default(), event_type, &json!({})), Ok(None));
        }
    }

    #[test]
    fn row_4_an_event_whose_copy_would_be_too_large_is_refused() {
        let fits = |event, content, state| {
            check_copy_fits(event, content, event_id!("$original"), state).is_ok()
        };
        assert!(fits(60_000, 59_000, false));
        assert!(!fits(64_500, 64_000, false));
        assert!(!fits(40_000, 39_000, true), "a copy of state holds the content twice");
        assert!(fits(30_000, 29_000, true));
    }

    #[test]
    fn row_5_a_server_that_is_switched_off_refuses() {
        for config in [
            Expiring { enabled: false, ..Expiring::default() },
            Expiring { max_running: 0, ..Expiring::default() },
        ] {
            let answer = ask(&config, "m.room.message", &json!({ "m.will_expire": 10 }));
            assert!(matches!(answer, Err(Refusal::Forbidden(_))));
            assert_eq!(ask(&config, "m.room.message", &json!({ "body": "x" })), Ok(None));
        }
    }

    #[test]
    fn row_28_what_cannot_be_answered_a_token_cannot_expire() {
        let content = raw(&json!({ "m.will_expire": 10 }));
        let asked = Asked { event_type: "org.example", content: &content, answers_token: false };
        let answer = duration(&Expiring::default(), &asked);
        assert!(matches!(answer, Err(Refusal::InvalidParam(_))));
    }

    #[test]
    fn a_command_cannot_expire() {
        for body in ["!admin users list", " !admin", "\\!admin x", "\\\\!admin"] {
            let answer = ask_message(&json!({ "m.will_expire": 10, "body": body }));
            assert!(matches!(answer, Err(Refusal::InvalidParam(_))), "{body}");
        }
        let answer = ask_message(&json!({ "m.will_expire": 10, "body": "an !admin" }));
        assert_eq!(answer, Ok(Some(10)));
    }

    #[test]
    fn contents_differ_in_the_contracts_fields_alone() {
        let content = RawValue::from_string(
            r#"{"ciphertext":"a\u0062","m.will_expire":10,"m.relates_to":{"rel_type":"m.thread"}}"#
                .to_owned(),
        )
        .unwrap();
        assert!(may_concern(content.get()) && may_concern(r#"{"m.will\u005fexpire":1}"#));
        assert!(!may_concern("{}"));
        let stored = running(&content).unwrap();
        let expected = r#"{"ciphertext":"a\u0062","m.relates_to":{"rel_type":"m.thread"},"m.will_expire":"running"}"#;
        assert_eq!(stored.get(), expected);

        let copy = terminal(&stored, &ExpireStatus::Expired, event_id!("$original")).unwrap();
        let parsed: Value = serde_json::from_str(copy.get()).unwrap();
        let relation = json!({ "rel_type": "m.expire.relationship", "event_id": "$original" });
        assert_eq!(parsed["m.relates_to"], relation);
        assert_eq!(parsed["m.will_expire"], "expired");
        assert!(copy.get().contains(r#""ciphertext":"a\u0062""#));
        let ended = ends("m.room.message", &copy);
        assert_eq!(ended, Some((event_id!("$original").to_owned(), ExpireStatus::Expired)));
    }

    #[test]
    fn what_ends_nothing_is_no_terminal_event() {
        let relation = json!({ "rel_type": EXPIRE_RELATION, "event_id": "$original" });
        let ended = json!({ "m.will_expire": "ended", "m.relates_to": relation });
        assert!(ends("m.room.message", &raw(&ended)).is_some());
        assert_eq!(ends("m.room.member", &raw(&ended)), None);
        for content in [
            json!({ "m.will_expire": "running", "m.relates_to": relation }),
            json!({ "m.relates_to": relation }),
            json!({ "m.will_expire": "ended" }),
            json!({}),
        ] {
            assert_eq!(ends("m.room.message", &raw(&content)), None, "{content}");
        }
    }
}
