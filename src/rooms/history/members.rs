//! The present and past members of a room.

use std::collections::HashSet;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result, ShortEventId, StateRoot};
use wick_database::{
    Read,
    schema::room::{Membership, REDACTION_BY_EVENT},
};
use wick_room::{membership, render::Show, shared_rooms::joined_rooms};

use super::{History, Reader, not_in_room, room_id, token::from_token};

/// All memberships.
const MEMBERSHIPS: [Membership; 5] =
    [Membership::Join, Membership::Invite, Membership::Knock, Membership::Leave, Membership::Ban];

/// Which members.
pub struct AskMembers {
    /// Of which room.
    pub room_id: OwnedRoomId,
    /// At which point; by default the latest that the session's user may see.
    pub at: Option<String>,
    /// Those with this membership.
    pub membership: Option<MembershipState>,
    /// Those with any but this one.
    pub not_membership: Option<MembershipState>,
}

/// A joined member, with the profile from the member event.
pub struct JoinedMember {
    /// The user ID.
    pub user_id: OwnedUserId,
    /// The display name in the room.
    pub display_name: Option<String>,
    /// The avatar in the room.
    pub avatar_url: Option<String>,
}

impl AskMembers {
    /// Either condition is enough if both are given.
    fn wants(&self, membership: Membership) -> bool {
        let is = |state: &MembershipState| membership::from_state(state) == Some(membership);
        match (&self.membership, &self.not_membership) {
            (None, None) => true,
            (Some(only), None) => is(only),
            (None, Some(not)) => !is(not),
            (Some(only), Some(not)) => is(only) || !is(not),
        }
    }
}

impl History {
    /// Member events, now or at some point before.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_INVALID_PARAM` if the token is none.
    pub fn members(&self, session: &Session, ask: &AskMembers) -> Result<Vec<Box<RawValue>>> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, &ask.room_id)?;
        let viewer = &mut reader.viewer;
        let root = match ask.at.as_deref().map(from_token).transpose()? {
            // The token of a sync with all of a room stands before the room's beginning.
            Some(at) => viewer.state_at(at.max(self.graph.first_place(&read, reader.room)?))?,
            None => viewer.latest_state()?,
        };
        let root = root.ok_or_else(not_in_room)?;
        let head = self.graph.head(&read, reader.room)?.ok_or_else(not_in_room)?;
        let events = match root {
            // The index is for the present alone.
            root if root == head.state => reader.members_now(ask)?,
            root => reader.members_at(root, ask)?,
        };
        events.into_iter().map(|event| reader.viewer.show(event, Show::NESTED)).collect()
    }

    /// The rooms that both the session's user and another one are in.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the other one is the same.
    pub fn mutual_rooms(&self, session: &Session, other: &UserId) -> Result<Vec<OwnedRoomId>> {
        if session.user_id == other {
            return Err(Error::invalid_param("the user id is your own"));
        }
        let read = self.resources.database.published();
        let Some(other) = self.graph.intern().lookup_user(&read, other)? else {
            return Ok(Vec::new());
        };
        let own: HashSet<_> = joined_rooms(&read, session.user).collect::<Result<_>>()?;
        let theirs = joined_rooms(&read, other).collect::<Result<_>>()?;
        own.intersection(&theirs).map(|room| room_id(&self.graph, &read, *room)).collect()
    }

    /// The joined members of a room that the session's user is joined to.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user is not joined.
    pub fn joined_members(&self, session: &Session, room_id: &RoomId) -> Result<Vec<JoinedMember>> {
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(not_in_room)?;
        let own = self.graph.member(&read, room, session.user)?;
        if own.is_none_or(|own| own.membership != Membership::Join) {
            return Err(not_in_room());
        }
        let mut members = Vec::new();
        for row in self.graph.members(&read, room, Membership::Join) {
            let (user, event) = row?;
            let mut member = JoinedMember {
                user_id: self.graph.user_id(&read, user)?,
                display_name: None,
                avatar_url: None,
            };
            // A redacted membership is one without a name.
            if !read.contains(&REDACTION_BY_EVENT, &event)? {
                let content = membership::content(&*self.graph.load_event(&read, event)?)?;
                member.display_name = content.displayname().map(str::to_owned);
                member.avatar_url = content.avatar_url().map(str::to_owned);
            }
            members.push(member);
        }
        Ok(members)
    }
}

impl Reader<'_> {
    fn members_now(&self, ask: &AskMembers) -> Result<Vec<ShortEventId>> {
        let mut events = Vec::new();
        for membership in MEMBERSHIPS.into_iter().filter(|membership| ask.wants(*membership)) {
            for row in self.graph.members(self.read, self.room, membership) {
                events.push(row?.1);
            }
        }
        Ok(events)
    }

    fn members_at(&self, root: StateRoot, ask: &AskMembers) -> Result<Vec<ShortEventId>> {
        let mut events = Vec::new();
        for (key, event) in self.graph.states().collect(self.read, root)? {
            let tuple = self
                .graph
                .intern()
                .state_key_tuple(self.read, key)?
                .ok_or_else(|| Error::corrupt(format!("state key {key} has no name")))?;
            if tuple.0 != StateEventType::RoomMember {
                continue;
            }
            let pdu = self.graph.load_event(self.read, event)?;
            if membership::of(&pdu).is_some_and(|membership| ask.wants(membership)) {
                events.push(event);
            }
        }
        Ok(events)
    }
}
