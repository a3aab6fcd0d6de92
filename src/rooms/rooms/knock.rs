//! Knocking: requesting an invite.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#knocking-on-rooms>

use ruma::{RoomId, events::room::member::MembershipState};
use wick_account::Session;
use wick_core::Result;

use super::Rooms;

impl Rooms {
    /// Knocks on a room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if its rules do not let the user knock.
    pub async fn knock(
        &self,
        session: &Session,
        room_id: &RoomId,
        reason: Option<&str>,
    ) -> Result<()> {
        let user_id = &*session.user_id;
        let content = self.member_content(MembershipState::Knock, user_id, reason)?;
        self.graph
            .transact(room_id, |room| {
                self.append_member(room, user_id, user_id, content.clone()).map(drop)
            })
            .await
    }
}
