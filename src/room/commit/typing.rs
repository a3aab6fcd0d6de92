//! Typing notifications end with the membership of their user.

use ruma::UserId;
use wick_core::Result;
use wick_database::{
    Slot, Topic,
    schema::ephemeral::{TYPING_BY_ROOM, TypingRow},
};

use crate::Assembly;

/// Ends the typing notification of a user who is not in the room any more.
pub(super) fn stop(room: &mut Assembly<'_>, slot: Slot, user_id: &UserId) -> Result<()> {
    let id = room.room;
    let row = room.batch.read_for_update(&TYPING_BY_ROOM, &id)?.unwrap_or_default();
    let users: Vec<_> = row.users.iter().filter(|user| user.user_id != user_id).cloned().collect();
    if users.len() < row.users.len() {
        room.batch.wake(Topic::Room(id));
        room.batch
            .put_at(slot, &TYPING_BY_ROOM, move |position| (id, TypingRow { position, users }));
    }
    Ok(())
}
