//! Forgetting a room that was left.

use ruma::{RoomId, api::error::ErrorKind};
use wick_account::Session;
use wick_core::{Error, Result};
use wick_database::{
    Read,
    schema::room::{MEMBER_BY_USER, MemberRow, Membership},
};

use super::Rooms;

impl Rooms {
    /// Forgets a room: its history is no longer visible to the user, until they join again. A room
    /// that is unknown to them counts as forgotten.
    ///
    /// # Errors
    /// `M_UNKNOWN` if they have not left it.
    pub async fn forget(&self, session: &Session, room_id: &RoomId) -> Result<()> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(()) };
        if self.graph.head(&read, room)?.is_none() {
            return Ok(());
        }
        // Under the room's lock, so that it cannot be joined again in between.
        self.graph
            .transact(room_id, |room| {
                let key = (session.user, room.room());
                let batch = room.batch();
                match batch.get(&MEMBER_BY_USER, &key)? {
                    None => Ok(()),
                    Some(row) if matches!(row.membership, Membership::Leave | Membership::Ban) => {
                        batch.put(&MEMBER_BY_USER, &key, &MemberRow { forgotten: true, ..row });
                        Ok(())
                    }
                    Some(_) => Err(Error::refused(ErrorKind::Unknown, "leave the room first")),
                }
            })
            .await
    }
}
