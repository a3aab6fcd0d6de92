//! Which servers are in a room, updated with its member rows.
//!
//! Invariant: a server has a row exactly while a user of it is joined; the row counts those users.

use ruma::ServerName;
use wick_core::Result;
use wick_database::{
    Read,
    schema::room::{JOINED_BY_SERVER, Membership, ROOM_BY_SERVER},
};

use crate::Assembly;

/// Counts the change of one user's membership.
pub(super) fn write(
    room: &mut Assembly<'_>,
    server: &ServerName,
    (old, new): (Option<Membership>, Option<Membership>),
) -> Result<()> {
    let [was, is] = [old, new].map(|membership| membership == Some(Membership::Join));
    if was == is {
        return Ok(());
    }
    let (key, by_server) = ((room.room, server), (server, room.room));
    // Nothing else writes these rows, and a batch requires the head of the room that it was built on.
    let before = room.batch.get(&JOINED_BY_SERVER, &key)?.unwrap_or_default();
    let after = if is { before.saturating_add(1) } else { before.saturating_sub(1) };
    if after == 0 {
        room.batch.delete(&JOINED_BY_SERVER, &key);
        room.batch.delete(&ROOM_BY_SERVER, &by_server);
        return Ok(());
    }
    room.batch.put(&JOINED_BY_SERVER, &key, &after);
    if before == 0 {
        room.batch.put(&ROOM_BY_SERVER, &by_server, &());
    }
    Ok(())
}
