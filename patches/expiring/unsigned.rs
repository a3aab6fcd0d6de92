//! The status in `unsigned` of the events in a response.
//!
//! Invariants: nothing inside an event's `content` is touched, whatever it looks like; a response
//! without an event that can expire is left as it is.

use std::collections::BTreeMap;

use ruma::{EventId, OwnedEventId};
use serde_json::{Map, Value};

use super::wire::{ExpireUnsigned, WILL_EXPIRE};

/// Whether a response may hold an event that can expire. Cheap, and never wrongly `false`: the server
/// writes the key of a stored content as it is.
pub fn may_concern(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| text.contains(WILL_EXPIRE))
}

/// The ids of the events in `value` that can expire.
pub fn events(value: &Value) -> Vec<OwnedEventId> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

/// Writes the known statuses into the events of `value`.
pub fn annotate(value: &mut Value, statuses: &BTreeMap<OwnedEventId, ExpireUnsigned>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| annotate(value, statuses)),
        Value::Object(object) => {
            let status = expiring(object).and_then(|event_id| statuses.get(&event_id).cloned());
            if let Some(status) = status.and_then(|status| serde_json::to_value(status).ok()) {
                match object.get_mut("unsigned") {
                    Some(Value::Object(unsigned)) => {
                        unsigned.insert(WILL_EXPIRE.to_owned(), status);
                    }
                    _ => {
                        let unsigned = Map::from_iter([(WILL_EXPIRE.to_owned(), status)]);
                        object.insert("unsigned".to_owned(), Value::Object(unsigned));
                    }
                }
            }
            let event = is_event(object);
            for (_, value) in object.iter_mut().filter(|(key, _)| may_hold_events(event, key)) {
                annotate(value, statuses);
            }
        }
        _ => {}
    }
}

fn collect(value: &Value, found: &mut Vec<OwnedEventId>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(object) => {
            found.extend(expiring(object));
            let event = is_event(object);
            for (_, value) in object.iter().filter(|(key, _)| may_hold_events(event, key)) {
                collect(value, found);
            }
        }
        _ => {}
    }
}

/// Whether events may be found below a member of an object: of an event, in `unsigned` alone
/// (aggregations).
fn may_hold_events(in_event: bool, key: &str) -> bool {
    if in_event { key == "unsigned" } else { key != "prev_content" }
}

/// Account data and ephemeral events count, too: their contents belong to clients as well.
fn is_event(object: &Map<String, Value>) -> bool {
    object.get("type").is_some_and(Value::is_string) && object.contains_key("content")
}

/// The id of an event that can expire.
fn expiring(object: &Map<String, Value>) -> Option<OwnedEventId> {
    if !is_event(object) || !object.get("content")?.get(WILL_EXPIRE)?.is_string() {
        return None;
    }
    EventId::parse(object.get("event_id")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use ruma::event_id;
    use serde_json::json;

    use super::*;

    fn event(id: &str, content: &Value) -> Value {
        json!({ "type": "m.room.message", "event_id": id, "sender": "@a:b", "content": content })
    }

    fn running(id: &str) -> BTreeMap<OwnedEventId, ExpireUnsigned> {
        [(EventId::parse(id).unwrap(), ExpireUnsigned::running())].into()
    }

    #[test]
    fn events_are_found_wherever_a_response_has_them() {
        let here = event("$here", &json!({ "m.will_expire": "running" }));
        let plain = event("$plain", &json!({ "body": "m.will_expire" }));
        let mut holder = plain.clone();
        holder["unsigned"] =
            json!({ "age": 1, "m.relations": { "m.thread": { "latest_event": here } } });
        for (mut response, pointer) in [
            (here.clone(), ""),
            (json!([plain, here]), "/1"),
            (json!({ "chunk": [here], "prev_content": 1 }), "/chunk/0"),
            (
                json!({ "rooms": { "join": { "!r:b": { "timeline": { "events": [here] } } } } }),
                "/rooms/join/!r:b/timeline/events/0",
            ),
            (holder, "/unsigned/m.relations/m.thread/latest_event"),
        ] {
            assert!(may_concern(response.to_string().as_bytes()));
            assert_eq!(events(&response), [event_id!("$here")]);
            annotate(&mut response, &running("$here"));
            let event = response.pointer(pointer).unwrap();
            assert_eq!(event["unsigned"], json!({ "m.will_expire": { "status": "running" } }));
        }
    }

    #[test]
    fn what_is_in_unsigned_already_stays() {
        let mut response = event("$here", &json!({ "m.will_expire": "running" }));
        response["unsigned"] = json!({ "age": 7 });
        annotate(&mut response, &running("$here"));
        let unsigned = json!({ "age": 7, "m.will_expire": { "status": "running" } });
        assert_eq!(response["unsigned"], unsigned);
    }

    #[test]
    fn a_content_that_looks_like_an_event_is_not_touched() {
        let forged = event("$here", &json!({ "m.will_expire": "running" }));
        for response in [
            event("$other", &json!({ "event": forged })),
            json!({ "type": "org.example.data", "content": forged }),
            json!({ "prev_content": forged }),
            event("$here", &json!({ "m.will_expire": 10 })),
            json!({ "type": "a", "event_id": "here", "content": { "m.will_expire": "running" } }),
        ] {
            let mut changed = response.clone();
            assert_eq!(events(&response), Vec::<OwnedEventId>::new());
            annotate(&mut changed, &running("$here"));
            assert_eq!(changed, response);
        }
        assert!(!may_concern(b"{}"));
    }
}
