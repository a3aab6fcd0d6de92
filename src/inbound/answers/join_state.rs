//! What a server gets of a room that its user joined or knocks on.

use std::collections::{BTreeSet, HashSet};

use ruma::{EventId, OwnedServerName, RoomId, ServerName, UserId, events::TimelineEventType};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortEventId, event::pdu::SharedPdu};
use wick_database::schema::room::Membership;
use wick_room::membership;
use wick_rooms::rooms::stripped_events;

use super::{Access, Answers};

/// What goes with the response to `send_join`.
#[derive(Clone, Debug)]
pub struct JoinState {
    /// The state before the join.
    pub state: Vec<ShortEventId>,
    /// The events that the state and the join rest on; where members are omitted, without those of the state.
    pub auth_chain: Vec<ShortEventId>,
    /// The servers in the room, if the state lacks most of the members.
    pub servers: Option<Vec<OwnedServerName>>,
}

impl Answers {
    /// The state before a join that the server sent just now. With `omit_members`, of the member events only those of the
    /// heroes.
    ///
    /// # Errors
    /// If the join is not here, `M_FORBIDDEN` if the room's ACL denies the server.
    pub async fn join_state(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        join: &EventId,
        omit_members: bool,
    ) -> Result<JoinState> {
        let (answers, owner) = (self.clone(), server.to_owned());
        let (room_id, join) = (room_id.to_owned(), join.to_owned());
        let read = move || answers.access(owner, &room_id)?.join_state(&join, omit_members);
        self.resources.workers.run(&server, read).await
    }

    /// The events that show a room to a user who knocks.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here; a database error.
    pub fn knock_state(&self, room_id: &RoomId) -> Result<Vec<Box<RawValue>>> {
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?;
        let room = room.ok_or_else(|| Error::not_found("this server does not know that room"))?;
        let shown = stripped_events(&self.graph, &read, room)?.into_iter();
        shown.map(|event| Ok(self.graph.load_event(&read, event)?.json.clone())).collect()
    }
}

impl Access {
    fn join_state(&self, join: &EventId, omit_members: bool) -> Result<JoinState> {
        let (short, join, place) = self.event(join)?;
        let mut state = self.state(place.before)?;
        let mut servers = None;
        if omit_members {
            let (kept, of_members) = self.without_members(state, &join)?;
            (state, servers) = (kept, Some(of_members));
        }
        let resting = state.iter().copied().chain([short]);
        let mut auth_chain = self.graph.auth_chain(&self.read, resting)?;
        if omit_members {
            // The answer is to be small.
            let of_state: HashSet<_> = state.iter().collect();
            auth_chain.retain(|event| !of_state.contains(event));
        }
        Ok(JoinState { state, auth_chain, servers })
    }

    /// The events without those of members that are no heroes, and the servers of the joined members.
    fn without_members(
        &self,
        events: Vec<ShortEventId>,
        join: &SharedPdu,
    ) -> Result<(Vec<ShortEventId>, Vec<OwnedServerName>)> {
        let head = self.graph.head(&self.read, self.room)?;
        let joiner = self.graph.intern().lookup_user(&self.read, &join.sender)?;
        let mut heroes = Vec::new();
        if let (Some(head), Some(joiner)) = (head, joiner) {
            heroes = self.graph.heroes(&self.read, self.room, joiner, head.counts)?;
        }
        let (mut kept, mut servers) = (Vec::new(), BTreeSet::new());
        for event in events {
            let pdu = self.graph.load_event(&self.read, event)?;
            let is_member = pdu.event_type == TimelineEventType::RoomMember;
            if !is_member || heroes.iter().any(|(_, hero)| *hero == event) {
                kept.push(event);
            }
            if is_member && membership::of(&pdu) == Some(Membership::Join) {
                let user = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
                servers.extend(user.map(|user| user.server_name().to_owned()));
            }
        }
        Ok((kept, servers.into_iter().collect()))
    }
}
