//! The auth rules: by the event's own auth events, and by a state.

use std::{collections::HashMap, sync::Arc};

use ruma::{
    EventId, OwnedEventId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use wick_core::{Error, Pdu, Result, StateKeyTuple, StateRoot, event::pdu::SharedPdu, rules};
use wick_database::Batch;

use super::Verified;
use crate::{Assembly, Graph, stage::Authorized};

/// The answer of the auth rules: the reason if they refuse.
pub(super) type Verdict = Result<(), String>;

/// The create event of a room that is to be made here.
pub(super) fn create(
    verified: Verified,
    version: &RoomVersionId,
    version_rules: &RoomVersionRules,
) -> Result<Authorized> {
    let pdu = verified.into_pdu();
    if !pdu.is_state(&TimelineEventType::RoomCreate, "") {
        return Err(Error::forbidden("the first event of a room is its create event"));
    }
    check_create(&pdu, version, version_rules).map_err(Error::forbidden)?;
    Ok(Authorized { pdu, prev: Vec::new() })
}

/// Whether a create event is one that a room of this version can begin with.
pub(super) fn check_create(
    pdu: &Pdu,
    version: &RoomVersionId,
    version_rules: &RoomVersionRules,
) -> Verdict {
    #[derive(serde::Deserialize)]
    struct Content {
        room_version: Option<String>,
    }
    let claimed = pdu.content_as::<Content>().ok().and_then(|content| content.room_version);
    if claimed.as_deref().unwrap_or("1") != version.as_str() {
        return Err("the create event is of another room version".to_owned());
    }
    rules::check_state_independent(version_rules, pdu, |_| None)
}

/// Judges events by the auth events that they name.
pub(super) struct Chain<'a> {
    pub(super) rooms: &'a Graph,
    pub(super) batch: &'a Batch,
    pub(super) rules: &'a RoomVersionRules,
}

impl Chain<'_> {
    /// Judges an event whose auth events are all stored. Events of other rooms, and rejected ones, allow nothing
    /// (MSC4307).
    pub(super) fn judge(&self, pdu: &Pdu) -> Result<Verdict> {
        if pdu.event_type == TimelineEventType::RoomCreate {
            // The rules alone would let a second one pass, since they ask it for nothing.
            return Ok(Err("a room is created once".to_owned()));
        }
        let mut by_id: HashMap<OwnedEventId, SharedPdu> = HashMap::new();
        let mut state: HashMap<StateKeyTuple, SharedPdu> = HashMap::new();
        for id in &pdu.auth_events {
            let known = self.rooms.events.by_id(self.batch, self.rooms.intern(), id)?;
            let Some((_, event)) = known else { continue };
            if let Some(tuple) = event.state_tuple() {
                state.insert(tuple, Arc::clone(&event));
            }
            by_id.insert(id.clone(), event);
        }
        if rules::room_id_is_create_hash(self.rules) {
            let create = rules::create_of_room(&pdu.room_id)?;
            let known = self.rooms.events.by_id(self.batch, self.rooms.intern(), &create)?;
            if let Some((_, event)) = known {
                let tuple = (StateEventType::RoomCreate, String::new());
                state.insert(tuple, Arc::clone(&event));
                by_id.insert(create, event);
            }
        }
        let fetch = |id: &EventId| by_id.get(id).cloned();
        if let Err(reason) = rules::check_state_independent(self.rules, pdu, fetch) {
            return Ok(Err(reason));
        }
        Ok(rules::check_state_dependent(self.rules, pdu, |event_type, state_key| {
            state.get(&(event_type.clone(), state_key.to_owned())).cloned()
        }))
    }
}

/// The rules by a version of the room's state. By the current one, this is the check for soft failure: a ban on one
/// branch also applies to events that are sent on another branch to evade it.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#soft-failure>
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
