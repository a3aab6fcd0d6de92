//! The rooms that a local user shares with users of other servers.

use std::collections::HashMap;

use ruma::ServerName;
use wick_core::{Position, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{
        remote_devices::{REMOTE_LIST_BY_USER, RemoteList},
        room::{JOINED_BY_SERVER, MEMBER_BY_USER, Membership},
    },
};
use wick_room::shared_rooms::joined_rooms;

/// The rooms that a user has joined.
pub(crate) struct Sharing {
    /// With the positions of the user's member events.
    joined: HashMap<ShortRoomId, Position>,
}

impl Sharing {
    /// The rooms of a local user.
    pub(crate) fn of(read: &impl Read, user: ShortUserId) -> Result<Self> {
        let joined = joined(read, user).collect::<Result<_>>()?;
        Ok(Self { joined })
    }

    /// Whether another user is in one of them.
    pub(crate) fn has(&self, read: &impl Read, other: ShortUserId) -> Result<bool> {
        self.any(read, other, |_| true)
    }

    /// Whether the stored list of a user of another server is complete: no update is missing, and each change since it was
    /// fetched came as an update, because both users have been in one room ever since.
    pub(crate) fn has_list_of(&self, read: &impl Read, other: ShortUserId) -> Result<bool> {
        let Some(list) = read.get(&REMOTE_LIST_BY_USER, &other)? else { return Ok(false) };
        let RemoteList { since, refetch_at, .. } = list;
        Ok(refetch_at.is_none() && self.any(read, other, |joined| joined <= since)?)
    }

    fn any(
        &self,
        read: &impl Read,
        other: ShortUserId,
        is_good: impl Fn(Position) -> bool,
    ) -> Result<bool> {
        for room in joined(read, other) {
            let (room, other) = room?;
            if self.joined.get(&room).is_some_and(|own| is_good((*own).max(other))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn joined<R: Read>(
    read: &R,
    user: ShortUserId,
) -> impl Iterator<Item = Result<(ShortRoomId, Position)>> + use<'_, R> {
    read.scan(&MEMBER_BY_USER, Range::prefix((user,))).filter_map(|row| match row {
        Ok(((_, room), member)) => {
            (member.membership == Membership::Join).then_some(Ok((room, member.position)))
        }
        Err(error) => Some(Err(error.into())),
    })
}

/// Whether a user is in a room with a user of `server`.
pub(super) fn is_with(read: &impl Read, user: ShortUserId, server: &ServerName) -> Result<bool> {
    for room in joined_rooms(read, user) {
        if read.contains(&JOINED_BY_SERVER, &(room?, server))? {
            return Ok(true);
        }
    }
    Ok(false)
}
