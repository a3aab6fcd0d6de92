//! Contents of events as clients send them.

use ruma::{
    OwnedEventId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::{Error, Pdu, Result};

/// Reads a content.
///
/// # Errors
/// `M_BAD_JSON` if it is no object, or has numbers that canonical JSON does not have.
pub(super) fn parse(content: &RawValue) -> Result<CanonicalJsonObject> {
    serde_json::from_str(content.get())
        .map_err(|error| Error::bad_json(format!("the content is no canonical JSON: {error}")))
}

/// A content made here.
pub(super) fn of(content: &impl Serialize) -> Result<CanonicalJsonObject> {
    match ruma::canonical_json::to_canonical_value(content) {
        Ok(CanonicalJsonValue::Object(object)) => Ok(object),
        Ok(_) => Err(Error::corrupt("a content is no object")),
        Err(error) => Err(Error::internal("a content is no canonical JSON", error)),
    }
}

/// Whether an event has exactly this content.
pub(super) fn is_same(event: &Pdu, content: &CanonicalJsonObject) -> bool {
    // What is stored is canonical, so equal contents are equal texts.
    serde_json::to_string(content).is_ok_and(|text| text == event.content.get())
}

/// The event that the content of a redaction names.
///
/// # Errors
/// `M_BAD_JSON` if it names none.
pub(super) fn redacts(content: &CanonicalJsonObject) -> Result<OwnedEventId> {
    text(content, "redacts")
        .and_then(|event_id| event_id.try_into().ok())
        .ok_or_else(|| Error::bad_json("a redaction names an event in redacts"))
}

/// A text among a content's fields.
pub(super) fn text<'a>(content: &'a CanonicalJsonObject, key: &str) -> Option<&'a str> {
    match content.get(key) {
        Some(CanonicalJsonValue::String(text)) => Some(text),
        _ => None,
    }
}

/// Sets a text.
pub(super) fn set_text(content: &mut CanonicalJsonObject, key: &str, text: impl Into<String>) {
    content.insert(key.to_owned(), CanonicalJsonValue::String(text.into()));
}

/// Sets a text that may not be there.
pub(super) fn set_optional(content: &mut CanonicalJsonObject, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        set_text(content, key, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_objects_are_contents() {
        let parse = |text: &str| parse(&RawValue::from_string(text.to_owned()).unwrap());
        for good in ["{}", r#"{"a":9007199254740991,"b":[null,true,{"c":""}]}"#] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "[]",
            "1",
            r#""text""#,
            "null",
            r#"{"a":1.5}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":1e400}"#,
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.kind(), Some(&ruma::api::error::ErrorKind::BadJson), "{bad}");
        }
    }
}
