//! Whom a client meets and whom it loses sight of, by what changed in the rooms.

use std::collections::{BTreeSet, HashSet};

use ruma::{OwnedUserId, UserId, events::StateEventType};
use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::schema::room::Membership;
use wick_people::presence::shares_room;
use wick_room::{membership, state::StateChange};

use super::{builder::Builder, response::DeviceLists};

/// Those whom the client meets, or sees no more, with this answer.
#[derive(Default)]
pub(super) struct RosterChanges {
    /// The rooms the user is in.
    pub(super) joined: HashSet<ShortRoomId>,
    /// Rooms among them that are new to a client that has synced before.
    pub(super) rooms: Vec<ShortRoomId>,
    /// Rooms that the user is not in any more.
    pub(super) left_rooms: Vec<ShortRoomId>,
    /// Users who came into a room that it has.
    pub(super) users: BTreeSet<ShortUserId>,
    /// Users who left one.
    pub(super) left: BTreeSet<ShortUserId>,
}

impl Builder<'_> {
    /// Takes note of a member event that changed in a room that the client has.
    pub(super) fn meet(
        &self,
        roster: &mut RosterChanges,
        user_id: &str,
        change: &StateChange,
    ) -> Result<()> {
        let Ok(user_id) = <&UserId>::try_from(user_id) else { return Ok(()) };
        let (before, now) = (self.is_join(change.old)?, self.is_join(change.new)?);
        if before == now {
            return Ok(());
        }
        let user = self.graph.intern().lookup_user(&self.read, user_id)?;
        if now {
            roster.users.extend(user);
        } else {
            roster.left.extend(user);
        }
        Ok(())
    }

    fn is_join(&self, event: Option<ShortEventId>) -> Result<bool> {
        let Some(event) = event else { return Ok(false) };
        let pdu = self.graph.load_event(&self.read, event)?;
        Ok(membership::of(&pdu) == Some(Membership::Join))
    }

    /// Whose devices a client that has synced before has to ask for, and whose it may forget. In rooms
    /// that come and go whole only encryption makes it worth to name everybody.
    ///
    /// <https://spec.matrix.org/v1.18/client-server-api/#tracking-the-device-list-for-a-user>
    pub(super) fn device_lists(&self, roster: &RosterChanges) -> Result<DeviceLists> {
        let (mut changed, mut left) = (roster.users.clone(), roster.left.clone());
        if self.since.is_none() {
            return Ok(DeviceLists::default());
        }
        for (rooms, users) in [(&roster.rooms, &mut changed), (&roster.left_rooms, &mut left)] {
            for room in rooms {
                if self.is_encrypted(*room)? {
                    for member in self.graph.members(&self.read, *room, Membership::Join) {
                        users.insert(member?.0);
                    }
                }
            }
        }
        let mut gone = Vec::new();
        for user in left {
            if user != self.session.user && !shares_room(&self.read, &roster.joined, user)? {
                gone.push(user);
            }
        }
        Ok(DeviceLists { changed: self.user_ids(changed)?, left: self.user_ids(gone)? })
    }

    fn is_encrypted(&self, room: ShortRoomId) -> Result<bool> {
        let event =
            self.graph.state_event_short(&self.read, room, &StateEventType::RoomEncryption, "")?;
        Ok(event.is_some())
    }

    fn user_ids(&self, users: impl IntoIterator<Item = ShortUserId>) -> Result<Vec<OwnedUserId>> {
        users.into_iter().map(|user| self.graph.user_id(&self.read, user)).collect()
    }
}
