//! From a draft to an authorized event: its `prev_events`, its `auth_events`, its hashes and signature.
//!
//! Invariant: an event is authorized after the auth rules agreed, never before.

use std::collections::BTreeMap;

use ruma::{
    EventId, RoomId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use wick_core::{Draft, Error, Pdu, Result, ShortEventId, Timestamp, event::pdu::SharedPdu, rules};

use crate::{Assembly, Graph, assembly::share, stage::Authorized};

/// How many forward extremities a new event refers to at most.
///
/// <https://spec.matrix.org/v1.18/rooms/v12/#event-format>
const MAX_PREV_EVENTS: usize = 20;

/// Builds a create event; its room is made from it.
pub(crate) fn create(
    rooms: &Graph,
    draft: Draft,
    version: &RoomVersionRules,
) -> Result<Authorized> {
    let by_hash = rules::room_id_is_create_hash(version);
    let parents = Parents::default();
    let mut object = to_object(rooms, &draft, &parents, !by_hash)?;
    let event_id =
        rules::hash_and_sign(&mut object, version, &rooms.server, &rooms.keys.current())?;
    let room_id =
        if by_hash { rules::room_id_of_create(&event_id)? } else { draft.room_id.clone() };
    let pdu = parse((&event_id, &room_id), &object, version)?;
    rules::check_state_independent(version, &pdu, |_| None).map_err(Error::forbidden)?;
    Ok(Authorized { pdu: share(pdu), prev: Vec::new() })
}

/// Builds an event on the room's head.
pub(crate) fn build(room: &Assembly<'_>, draft: Draft) -> Result<Authorized> {
    if draft.event_type == TimelineEventType::RoomCreate {
        return Err(Error::forbidden("a room is created once"));
    }
    let allowing = allowing_events(room, &draft)?;
    let parents = Parents {
        prev: room.head.extremities.iter().copied().take(MAX_PREV_EVENTS).collect(),
        depth: room.head.depth,
        prev_ids: Vec::new(),
        auth_ids: allowing.auth_event_ids(&room.rules),
    };
    let parents = Parents { prev_ids: event_ids(room, &parents.prev)?, ..parents };
    let mut object = to_object(room.rooms, &draft, &parents, true)?;
    place_redacts(&mut object, &draft, &room.rules);
    let event_id = rules::hash_and_sign(
        &mut object,
        &room.rules,
        &room.rooms.server,
        &room.rooms.keys.current(),
    )?;
    let pdu = parse((&event_id, &room.room_id), &object, &room.rules)?;
    authorize(room, &pdu, &allowing)?;
    Ok(Authorized { pdu: share(pdu), prev: parents.prev })
}

#[derive(Default)]
struct Parents {
    prev: Vec<ShortEventId>,
    prev_ids: Vec<ruma::OwnedEventId>,
    auth_ids: Vec<ruma::OwnedEventId>,
    depth: u64,
}

/// The state events that decide about a draft.
struct Allowing {
    by_tuple: BTreeMap<(String, String), SharedPdu>,
}

impl Allowing {
    fn get(&self, event_type: &StateEventType, state_key: &str) -> Option<SharedPdu> {
        self.by_tuple.get(&(event_type.to_string(), state_key.to_owned())).cloned()
    }

    fn auth_event_ids(&self, rules: &RoomVersionRules) -> Vec<ruma::OwnedEventId> {
        let omit_create = rules::room_id_is_create_hash(rules);
        self.by_tuple
            .iter()
            .filter(|((event_type, _), _)| !(omit_create && event_type == "m.room.create"))
            .map(|(_, pdu)| pdu.event_id.clone())
            .collect()
    }
}

fn allowing_events(room: &Assembly<'_>, draft: &Draft) -> Result<Allowing> {
    let content = serde_json::value::to_raw_value(&draft.content)
        .map_err(|error| Error::internal("could not serialize a content", error))?;
    let mut tuples = rules::auth_types(
        &draft.event_type,
        &draft.sender,
        draft.state_key.as_deref(),
        &content,
        &room.rules,
    )?;
    // Version 12 events do not refer to the create event, and are judged by it all the same.
    if !tuples.iter().any(|(event_type, _)| *event_type == StateEventType::RoomCreate) {
        tuples.push((StateEventType::RoomCreate, String::new()));
    }
    let mut by_tuple = BTreeMap::new();
    for (event_type, state_key) in tuples {
        if let Some(pdu) = room.state_event(&event_type, &state_key)? {
            by_tuple.insert((event_type.to_string(), state_key), pdu);
        }
    }
    Ok(Allowing { by_tuple })
}

fn authorize(room: &Assembly<'_>, pdu: &Pdu, allowing: &Allowing) -> Result<()> {
    let fetch_by_id =
        |id: &EventId| allowing.by_tuple.values().find(|pdu| pdu.event_id == id).cloned();
    rules::check_state_independent(&room.rules, pdu, fetch_by_id).map_err(Error::forbidden)?;
    rules::check_state_dependent(&room.rules, pdu, |event_type, state_key| {
        allowing.get(event_type, state_key)
    })
    .map_err(Error::forbidden)
}

fn event_ids(room: &Assembly<'_>, shorts: &[ShortEventId]) -> Result<Vec<ruma::OwnedEventId>> {
    shorts
        .iter()
        .map(|short| {
            room.rooms
                .intern()
                .event_id(&room.batch, *short)?
                .ok_or_else(|| Error::corrupt("a forward extremity has no event id"))
        })
        .collect()
}

fn parse(
    (event_id, room_id): (&EventId, &RoomId),
    object: &CanonicalJsonObject,
    version: &RoomVersionRules,
) -> Result<Pdu> {
    let json = rules::to_json(object)?;
    Pdu::parse(event_id.to_owned(), room_id.to_owned(), json, &version.redaction)
        .map_err(|error| Error::internal("a built event cannot be parsed", error))
}

fn to_object(
    rooms: &Graph,
    draft: &Draft,
    parents: &Parents,
    with_room_id: bool,
) -> Result<CanonicalJsonObject> {
    let now = draft.origin_server_ts.unwrap_or_else(|| rooms.clock.now());
    let depth = parents.depth.saturating_add(1).min(MAX_INTEGER);
    let ids = |ids: &[ruma::OwnedEventId]| {
        CanonicalJsonValue::Array(
            ids.iter().map(|id| CanonicalJsonValue::String(id.to_string())).collect(),
        )
    };
    let mut object = CanonicalJsonObject::new();
    let mut set = |name: &str, value| object.insert(name.to_owned(), value);
    set("type", CanonicalJsonValue::String(draft.event_type.to_string()));
    set("sender", CanonicalJsonValue::String(draft.sender.to_string()));
    set("content", CanonicalJsonValue::Object(draft.content.clone()));
    set("origin_server_ts", integer(now.min(Timestamp(MAX_INTEGER)).0)?);
    set("depth", integer(depth)?);
    set("prev_events", ids(&parents.prev_ids));
    set("auth_events", ids(&parents.auth_ids));
    if with_room_id {
        set("room_id", CanonicalJsonValue::String(draft.room_id.to_string()));
    }
    if let Some(state_key) = &draft.state_key {
        set("state_key", CanonicalJsonValue::String(state_key.clone()));
    }
    if let Some(duration) = draft.sticky_duration {
        let sticky = [("duration_ms".to_owned(), integer(duration)?)];
        let sticky = CanonicalJsonValue::Object(CanonicalJsonObject::from(sticky));
        object.insert("msc4354_sticky".to_owned(), sticky);
    }
    Ok(object)
}

/// The greatest integer of canonical JSON: 2^53 - 1.
const MAX_INTEGER: u64 = (1 << 53) - 1;

fn integer(value: u64) -> Result<CanonicalJsonValue> {
    let value = i64::try_from(value)
        .ok()
        .and_then(|value| ruma::Int::try_from(value).ok())
        .ok_or_else(|| Error::corrupt("a number is beyond canonical JSON"))?;
    Ok(CanonicalJsonValue::Integer(value))
}

/// Up to version 10 the target of a redaction is a top-level field, since 11 it is content.
fn place_redacts(object: &mut CanonicalJsonObject, draft: &Draft, rules: &RoomVersionRules) {
    let Some(target) = &draft.redacts else { return };
    let target = CanonicalJsonValue::String(target.to_string());
    if rules.redaction.content_field_redacts {
        if let Some(CanonicalJsonValue::Object(content)) = object.get_mut("content") {
            content.insert("redacts".to_owned(), target);
        }
    } else {
        object.insert("redacts".to_owned(), target);
    }
}
