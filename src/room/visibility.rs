//! What a user may see of a room's history.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-history-visibility>

use std::collections::HashMap;

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType, room::history_visibility::HistoryVisibility},
};
use serde::Deserialize;
use wick_core::{Pdu, Result, ShortRoomId, ShortUserId, StateRoot};
use wick_database::{
    Read, Snapshot,
    schema::room::{MemberRow, Membership, Place},
};

use crate::{Graph, membership};

/// Somebody who reads, in one room, from one snapshot. Remembers what it learned of the room's states,
/// since neighbouring events share them.
pub struct Viewer<'a> {
    pub(crate) rooms: &'a Graph,
    pub(crate) read: &'a Snapshot,
    pub(crate) user_id: OwnedUserId,
    pub(crate) user: Option<ShortUserId>,
    pub(crate) device_id: Option<OwnedDeviceId>,
    room: ShortRoomId,
    member: Option<MemberRow>,
    joined_until: Option<Option<i64>>,
    at_root: HashMap<StateRoot, AtRoot>,
}

/// What of a state decides visibility.
#[derive(Clone)]
struct AtRoot {
    visibility: HistoryVisibility,
    membership: Option<Membership>,
}

/// How far somebody may read a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To its end: they are in it, or everybody may read it.
    Live,
    /// To this place, where they left.
    Until(i64),
}

/// How many memberships of one user are looked at in search of their last join.
const MAX_MEMBERSHIPS: usize = 50;

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: HistoryVisibility,
}

impl Graph {
    /// Whether everybody may read the room now.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_world_readable(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        let event = self.state_event(read, room, &StateEventType::RoomHistoryVisibility, "")?;
        let content = event.and_then(|event| event.content_as::<VisibilityContent>().ok());
        Ok(content
            .is_some_and(|content| content.history_visibility == HistoryVisibility::WorldReadable))
    }
}

impl<'a> Viewer<'a> {
    /// A viewer of `room`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        rooms: &'a Graph,
        read: &'a Snapshot,
        room: ShortRoomId,
        user_id: &UserId,
        device_id: Option<&DeviceId>,
    ) -> Result<Self> {
        let user = rooms.intern().lookup_user(read, user_id)?;
        let member = match user {
            Some(user) => rooms.member(read, room, user)?,
            None => None,
        };
        Ok(Self {
            rooms,
            read,
            user_id: user_id.to_owned(),
            user,
            device_id: device_id.map(ToOwned::to_owned),
            room,
            member,
            joined_until: None,
            at_root: HashMap::new(),
        })
    }

    /// The viewer's membership row in the room now.
    #[must_use]
    pub fn member(&self) -> Option<&MemberRow> {
        self.member.as_ref()
    }

    /// How far the viewer may read the room; `None` if not at all, as in a room they have forgotten.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn reach(&mut self) -> Result<Option<Reach>> {
        let (membership, forgotten) = match &self.member {
            Some(member) => (Some(member.membership), member.forgotten),
            None => (None, false),
        };
        if membership == Some(Membership::Join)
            || self.rooms.is_world_readable(self.read, self.room)?
        {
            return Ok(Some(Reach::Live));
        }
        if forgotten || !matches!(membership, Some(Membership::Leave | Membership::Ban)) {
            return Ok(None);
        }
        Ok(self.joined_until()?.map(Reach::Until))
    }

    /// Whether the viewer may see the event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn can_see(&mut self, pdu: &Pdu, place: &Place) -> Result<bool> {
        if place.soft_failed || pdu.rejected || place.room != self.room {
            return Ok(false);
        }
        let before = self.at(place.before)?;
        // The event that changes one's membership, or the visibility, counts as either side of it.
        let own_membership = pdu.is_state(&TimelineEventType::RoomMember, self.user_id.as_str());
        let is_visibility = pdu.is_state(&TimelineEventType::RoomHistoryVisibility, "");
        if own_membership || is_visibility {
            let after = self.at(place.after)?;
            return Ok(self.allowed(&before, place)?
                || self.allowed(&after, place)?
                || own_membership);
        }
        self.allowed(&before, place)
    }

    /// The viewer's membership at an event, for `unsigned.membership`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership_at(&mut self, pdu: &Pdu, place: &Place) -> Result<Membership> {
        let own = pdu.is_state(&TimelineEventType::RoomMember, self.user_id.as_str());
        let root = if own { place.after } else { place.before };
        Ok(self.at(root)?.membership.unwrap_or(Membership::Leave))
    }

    fn allowed(&mut self, at: &AtRoot, place: &Place) -> Result<bool> {
        if at.visibility == HistoryVisibility::WorldReadable
            || at.membership == Some(Membership::Join)
        {
            return Ok(true);
        }
        match at.visibility {
            HistoryVisibility::Invited if at.membership == Some(Membership::Invite) => Ok(true),
            // Joined at some point afterwards.
            HistoryVisibility::Invited if at.membership == Some(Membership::Knock) => Ok(false),
            HistoryVisibility::Shared => self.joined_after(place),
            _ => Ok(false),
        }
    }

    /// Whether the viewer was joined at some point after the event.
    fn joined_after(&mut self, place: &Place) -> Result<bool> {
        if self.member.as_ref().is_some_and(|member| member.membership == Membership::Join) {
            return Ok(true);
        }
        let Some(until) = self.joined_until()? else { return Ok(false) };
        Ok(place.position.is_some_and(|position| position <= until))
    }

    /// The place of the event that ended the viewer's last join; `None` if they never joined.
    fn joined_until(&mut self) -> Result<Option<i64>> {
        if let Some(known) = self.joined_until {
            return Ok(known);
        }
        let until = self.find_end_of_join()?;
        self.joined_until = Some(until);
        Ok(until)
    }

    /// Goes back from one membership to the one before it: kicked, then invited, then banned.
    fn find_end_of_join(&self) -> Result<Option<i64>> {
        let member = StateEventType::RoomMember;
        let mut event = self.member.as_ref().map(|member| member.event);
        for _ in 0..MAX_MEMBERSHIPS {
            let Some(later) = event else { return Ok(None) };
            let Some(place) = self.rooms.place(self.read, later)? else { return Ok(None) };
            event = self.rooms.state_event_at(
                self.read,
                place.before,
                &member,
                self.user_id.as_str(),
            )?;
            let Some(earlier) = event else { return Ok(None) };
            let earlier = self.rooms.load_event(self.read, earlier)?;
            if membership::of(&earlier) == Some(Membership::Join) {
                return Ok(place.position);
            }
        }
        Ok(None)
    }

    fn at(&mut self, root: StateRoot) -> Result<AtRoot> {
        if let Some(known) = self.at_root.get(&root) {
            return Ok(known.clone());
        }
        let visibility = self
            .rooms
            .state_event_at(self.read, root, &StateEventType::RoomHistoryVisibility, "")?
            .map(|event| self.rooms.load_event(self.read, event))
            .transpose()?
            .and_then(|event| event.content_as::<VisibilityContent>().ok())
            .map_or(HistoryVisibility::Shared, |content| content.history_visibility);
        let membership = self
            .rooms
            .state_event_at(self.read, root, &StateEventType::RoomMember, self.user_id.as_str())?
            .map(|event| self.rooms.load_event(self.read, event))
            .transpose()?
            .and_then(|event| membership::of(&event));
        let at = AtRoot { visibility, membership };
        self.at_root.insert(root, at.clone());
        Ok(at)
    }
}
