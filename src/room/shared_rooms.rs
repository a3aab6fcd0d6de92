//! The rooms that a user is in, and the waiting syncs of users that share one.
//!
//! Invariant: a wake costs no more for a user in very many rooms than for one in [`FEW_ROOMS`].

use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::room::{MEMBER_BY_USER, Membership},
};

/// In how many rooms a user is at most whose rooms are woken one by one.
pub const FEW_ROOMS: usize = 100;

/// What is woken for a user in more rooms: every sync that waits listens to it.
pub const MANY_ROOMS: Topic = Topic::Named("a user in many rooms");

/// The rooms that a user is in.
pub fn joined_rooms<R: Read>(
    read: &R,
    user: ShortUserId,
) -> impl Iterator<Item = Result<ShortRoomId>> + use<'_, R> {
    read.scan(&MEMBER_BY_USER, Range::prefix((user,))).filter_map(|row| match row {
        Ok(((_, room), member)) => (member.membership == Membership::Join).then_some(Ok(room)),
        Err(error) => Some(Err(error.into())),
    })
}

/// Wakes the waiting syncs of a user and of users that share a room, for something that is not
/// written in their rooms.
///
/// # Errors
/// If the database cannot be read.
pub fn wake_sharing(user: ShortUserId, batch: &mut Batch) -> Result<()> {
    batch.wake_only(Topic::User(user));
    let rooms: Vec<_> = joined_rooms(batch, user).take(FEW_ROOMS + 1).collect::<Result<_>>()?;
    if rooms.len() > FEW_ROOMS {
        batch.wake_only(MANY_ROOMS);
    } else {
        rooms.into_iter().for_each(|room| batch.wake_only(Topic::Room(room)));
    }
    Ok(())
}
