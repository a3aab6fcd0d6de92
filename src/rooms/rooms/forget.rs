//! Forgetting a room that was left.

use ruma::{RoomId, api::error::ErrorKind};
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Batch, Read,
    schema::{
        remote::REMOTE_BY_MEMBER,
        room::{MEMBER_BY_USER, MemberRow, Membership},
    },
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
        self.forget_remote((session.user, room)).await?;
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

    /// Forgets an invite or a knock in a room that is not here, if it has ended.
    async fn forget_remote(&self, key: (ShortUserId, ShortRoomId)) -> Result<()> {
        if !self.resources.database.latest().contains(&REMOTE_BY_MEMBER, &key)? {
            return Ok(());
        }
        let forget = |batch: &mut Batch| match batch.read_for_update(&REMOTE_BY_MEMBER, &key)? {
            Some(row) if matches!(row.membership, Membership::Invite | Membership::Knock) => {
                Err(Error::refused(ErrorKind::Unknown, "leave the room first"))
            }
            Some(_) => {
                batch.delete(&REMOTE_BY_MEMBER, &key);
                Ok(())
            }
            None => Ok(()),
        };
        self.resources.change(forget).await
    }
}
