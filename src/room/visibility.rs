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
    Snapshot,
    schema::room::{MemberRow, Membership, Place},
};

use crate::{Rooms, assembly::timeline_place, membership};

/// Somebody who reads, in one room, from one snapshot. Remembers what it learned of the room's states,
/// since neighbouring events share them.
pub struct Viewer<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) read: &'a Snapshot,
    pub(crate) user_id: OwnedUserId,
    pub(crate) user: Option<ShortUserId>,
    pub(crate) device_id: Option<OwnedDeviceId>,
    room: ShortRoomId,
    member: Option<MemberRow>,
    left_joined: Option<bool>,
    at_root: HashMap<StateRoot, AtRoot>,
}

/// What of a state decides visibility.
#[derive(Clone)]
struct AtRoot {
    visibility: HistoryVisibility,
    membership: Option<Membership>,
}

#[derive(Deserialize)]
struct VisibilityContent {
    history_visibility: HistoryVisibility,
}

impl<'a> Viewer<'a> {
    /// A viewer of `room`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        rooms: &'a Rooms,
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
            left_joined: None,
            at_root: HashMap::new(),
        })
    }

    /// The viewer's membership row in the room now.
    #[must_use]
    pub fn member(&self) -> Option<&MemberRow> {
        self.member.as_ref()
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
        let Some(member) = &self.member else { return Ok(false) };
        match member.membership {
            Membership::Join => Ok(true),
            Membership::Invite | Membership::Knock => Ok(false),
            Membership::Leave | Membership::Ban => {
                let left_at = timeline_place(member.position);
                if place.position.is_none_or(|position| position > left_at) {
                    return Ok(false);
                }
                self.left_from_joined()
            }
        }
    }

    /// Whether the viewer's last leave ended a join (and not an invite).
    fn left_from_joined(&mut self) -> Result<bool> {
        if let Some(known) = self.left_joined {
            return Ok(known);
        }
        let mut joined = false;
        if let Some(member) = &self.member
            && let Some(place) = self.rooms.place(self.read, member.event)?
        {
            joined = self.at(place.before)?.membership == Some(Membership::Join);
        }
        self.left_joined = Some(joined);
        Ok(joined)
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
