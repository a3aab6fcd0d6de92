//! The auth rules: by the event's own auth events, and by a state.

use std::{collections::HashMap, sync::Arc};

use ruma::{
    EventId, OwnedEventId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use wick_core::{Error, Pdu, Result, StateKeyTuple, StateRoot, event::pdu::SharedPdu, rules};

use super::Verified;
use crate::{Assembly, stage::Authorized};

/// The answer of the auth rules: the reason if they refuse.
pub(super) type Verdict = Result<(), String>;

/// The create event of a room that is to be made here.
pub(super) fn create(
    verified: Verified,
    version: &RoomVersionId,
    version_rules: &RoomVersionRules,
) -> Result<Authorized> {
    #[derive(serde::Deserialize)]
    struct Content {
        room_version: Option<String>,
    }
    let pdu = verified.pdu;
    if !pdu.is_state(&TimelineEventType::RoomCreate, "") {
        return Err(Error::forbidden("the first event of a room is its create event"));
    }
    let claimed = pdu.content_as::<Content>().ok().and_then(|content| content.room_version);
    if claimed.as_deref().unwrap_or("1") != version.as_str() {
        return Err(Error::forbidden("the create event is of another room version"));
    }
    rules::check_state_independent(version_rules, &pdu, |_| None).map_err(Error::forbidden)?;
    Ok(Authorized { pdu: Arc::new(pdu), prev: Vec::new() })
}

/// The rules by the auth events that the event names.
pub(super) fn by_auth_events(room: &Assembly<'_>, pdu: &Pdu) -> Result<Verdict> {
    if pdu.event_type == TimelineEventType::RoomCreate {
        // The rules alone would let a second one pass, since they ask it for nothing.
        return Ok(Err("a room is created once".to_owned()));
    }
    let mut by_id: HashMap<OwnedEventId, SharedPdu> = HashMap::new();
    let mut state: HashMap<StateKeyTuple, SharedPdu> = HashMap::new();
    for id in &pdu.auth_events {
        let known = room.rooms.events.by_id(&room.batch, room.rooms.intern(), id)?;
        let Some((_, event)) = known else { continue };
        if let Some(tuple) = event.state_tuple() {
            state.insert(tuple, Arc::clone(&event));
        }
        by_id.insert(id.clone(), event);
    }
    if rules::room_id_is_create_hash(&room.rules) {
        let create = room.rooms.events.load(&room.batch, room.head.create)?;
        state.insert((StateEventType::RoomCreate, String::new()), Arc::clone(&create));
        by_id.insert(create.event_id.clone(), create);
    }
    let fetch = |id: &EventId| by_id.get(id).cloned();
    if let Err(reason) = rules::check_state_independent(&room.rules, pdu, fetch) {
        return Ok(Err(reason));
    }
    Ok(rules::check_state_dependent(&room.rules, pdu, |event_type, state_key| {
        state.get(&(event_type.clone(), state_key.to_owned())).cloned()
    }))
}

/// The rules by a version of the room's state.
pub(super) fn by_state(room: &Assembly<'_>, pdu: &Pdu, root: StateRoot) -> Result<Verdict> {
    let asked = rules::auth_types(
        &pdu.event_type,
        &pdu.sender,
        pdu.state_key.as_deref(),
        &pdu.content,
        &room.rules,
    );
    let mut asked = match asked {
        Ok(asked) => asked,
        Err(malformed) => return Ok(Err(malformed.to_string())),
    };
    // Events since version 12 do not name the create event, and are judged by it all the same.
    asked.push((StateEventType::RoomCreate, String::new()));
    let mut state: HashMap<StateKeyTuple, SharedPdu> = HashMap::new();
    for tuple in asked {
        let intern = room.rooms.intern();
        let key = intern.lookup_state_key(&room.batch, &tuple.0, &tuple.1)?;
        let Some(key) = key else { continue };
        if let Some(event) = room.rooms.states.get(&room.batch, root, key)? {
            state.insert(tuple, room.rooms.events.load(&room.batch, event)?);
        }
    }
    Ok(rules::check_state_dependent(&room.rules, pdu, |event_type, state_key| {
        state.get(&(event_type.clone(), state_key.to_owned())).cloned()
    }))
}
