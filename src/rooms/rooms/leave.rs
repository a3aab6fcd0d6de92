//! Leaving: a room, an invitation, a knock.

use ruma::{RoomId, UserId, events::room::member::MembershipState};
use wick_core::Result;

use super::{Rooms, not_joined};

impl Rooms {
    /// Leaves a room, rejects an invite, retracts a knock. Does nothing if the user has left
    /// already.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if the user never was in it or is banned.
    pub async fn leave(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
        reason: Option<&str>,
    ) -> Result<()> {
        let content = self.member_content(MembershipState::Leave, user_id, reason)?;
        self.graph
            .transact(room_id, |room| match room.membership(user_id)? {
                None => Err(not_joined()),
                Some(MembershipState::Leave) => Ok(()),
                Some(_) => self.append_member(room, user_id, user_id, content.clone()).map(drop),
            })
            .await
    }
}
