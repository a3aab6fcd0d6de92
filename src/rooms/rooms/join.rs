//! Joining.

use ruma::{RoomId, canonical_json::CanonicalJsonObject, events::room::member::MembershipState};
use wick_account::Session;
use wick_core::Result;

use super::{Rooms, content, follow};

impl Rooms {
    /// Joins a room. `extra` becomes part of the member event. Nothing happens to somebody who is
    /// joined already, unless they say something new.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here, `M_FORBIDDEN` if its rules do not let the user in.
    pub async fn join(
        &self,
        session: &Session,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        let user_id = &*session.user_id;
        let mut content = extra;
        let says_more = !content.is_empty();
        content::set_text(&mut content, "membership", MembershipState::Join.as_str());
        self.fill_in_profile(&mut content, user_id)?;
        let predecessor = self
            .graph
            .transact(room_id, |room| {
                let joined = room.membership(user_id)? == Some(MembershipState::Join);
                if joined && !says_more {
                    return Ok(None);
                }
                self.append_member(room, user_id, user_id, content.clone())?;
                if joined { Ok(None) } else { follow::predecessor(room) }
            })
            .await?;
        if let Some(old) = predecessor {
            self.follow(session.user, user_id, &old, room_id).await;
        }
        Ok(())
    }
}
