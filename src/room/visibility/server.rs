//! What another server may see of a room: its users' right to see events, as far as the state at each event gives it.
//!
//! Invariant: an event goes to another server whole only if [`ServerViewer::can_see`] allows it, and redacted otherwise.
//! State and auth events are no secret to a server in the room: without them it could judge nothing.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-event-history>

use std::collections::HashMap;

use ruma::{
    OwnedServerName, ServerName, UserId,
    canonical_json::redact_in_place,
    events::{StateEventType, room::history_visibility::HistoryVisibility},
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_core::{Error, Pdu, Result, StateRoot, rules};
use wick_database::{
    Read,
    schema::room::{Membership, Place},
};

use crate::{Graph, membership};

/// Another server reading one room.
pub struct ServerViewer<'a, R> {
    rooms: &'a Graph,
    read: &'a R,
    rules: RoomVersionRules,
    server: OwnedServerName,
    at_root: HashMap<StateRoot, bool>,
}

impl<'a, R: Read> ServerViewer<'a, R> {
    /// A server that was found to be in the room, whose version has these rules.
    #[must_use]
    pub fn new(
        rooms: &'a Graph,
        read: &'a R,
        rules: RoomVersionRules,
        server: &ServerName,
    ) -> Self {
        Self { rooms, read, rules, server: server.to_owned(), at_root: HashMap::new() }
    }

    /// Whether users of the server may see the event: it is by one of them, or the history visibility before or after
    /// it allows it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn can_see(&mut self, pdu: &Pdu, place: &Place) -> Result<bool> {
        if *pdu.sender.server_name() == *self.server {
            return Ok(true);
        }
        Ok(self.allows(place.before)? || (pdu.state_key.is_some() && self.allows(place.after)?))
    }

    /// The event as the server gets it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn show(&mut self, pdu: &Pdu, place: &Place) -> Result<Box<RawValue>> {
        if self.can_see(pdu, place)? {
            return Ok(pdu.json.clone());
        }
        let mut object = pdu
            .to_canonical_object()
            .map_err(|error| Error::internal("a stored event is not canonical", error))?;
        redact_in_place(&mut object, &self.rules.redaction, None)
            .map_err(|error| Error::internal("a stored event cannot be redacted", error))?;
        rules::to_json(&object)
    }

    fn allows(&mut self, root: StateRoot) -> Result<bool> {
        if let Some(known) = self.at_root.get(&root) {
            return Ok(*known);
        }
        let allows = match self.rooms.visibility_in(self.read, root)? {
            HistoryVisibility::WorldReadable | HistoryVisibility::Shared => true,
            HistoryVisibility::Invited => {
                self.has_member(root, &[Membership::Join, Membership::Invite])?
            }
            _ => self.has_member(root, &[Membership::Join])?,
        };
        self.at_root.insert(root, allows);
        Ok(allows)
    }

    /// Whether a user of the server has one of these memberships in a state.
    fn has_member(&self, root: StateRoot, wanted: &[Membership]) -> Result<bool> {
        for (key, event) in self.rooms.states.collect(self.read, root)? {
            let tuple = self.rooms.intern().state_key_tuple(self.read, key)?;
            let Some((StateEventType::RoomMember, user)) = tuple else { continue };
            let is_theirs = <&UserId>::try_from(user.as_str())
                .is_ok_and(|user| *user.server_name() == *self.server);
            if !is_theirs {
                continue;
            }
            let member = membership::of(&*self.rooms.events.load(self.read, event)?);
            if member.is_some_and(|member| wanted.contains(&member)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
