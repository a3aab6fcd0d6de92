//! Sticky events (MSC4354): how many there may be, and their end.

use wick_core::{Error, Result};
use wick_database::{
    Durability, Range, Read,
    schema::sticky::{STICKY_BY_END, STICKY_BY_ROOM},
};
use wick_room::Assembly;
use wick_runtime::Resources;

/// How many sticky events a user may have in a room, and a room in all.
const MAX_OF_USER: usize = 100;
const MAX_OF_ROOM: usize = 1_000;

/// How many are deleted in one batch.
const CHUNK: usize = 1_000;

/// Refuses one more sticky event where there are too many.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` with the time until the next one ends.
pub(super) fn ensure_few(
    resources: &Resources,
    room: &mut Assembly<'_>,
    sender: wick_core::ShortUserId,
) -> Result<()> {
    let now = resources.clock.now();
    let in_room = Range::prefix((room.room(),));
    let mut ends = Vec::new();
    let mut own = 0;
    for row in room.batch().scan(&STICKY_BY_ROOM, in_room) {
        let (_, row) = row?;
        if row.until > now {
            ends.push(row);
            own += usize::from(row.sender == sender);
        }
    }
    let is_full = ends.len() >= MAX_OF_ROOM;
    if !is_full && own < MAX_OF_USER {
        return Ok(());
    }
    let counted = ends.iter().filter(|row| is_full || row.sender == sender);
    let next = counted.map(|row| row.until.since(now)).min().unwrap_or_default();
    Err(Error::limit_exceeded(next))
}

/// Deletes what has ended.
///
/// # Errors
/// If the database refuses.
pub(super) async fn prune(resources: &Resources) -> Result<()> {
    let now = resources.clock.now();
    loop {
        let mut batch = resources.database.batch();
        let latest = resources.database.latest();
        for key in latest.scan(&STICKY_BY_END, Range::all()).keys().take(CHUNK) {
            let (until, room, place) = key?;
            if until > now {
                break;
            }
            batch.delete(&STICKY_BY_END, &(until, room, place));
            batch.delete(&STICKY_BY_ROOM, &(room, place));
        }
        if batch.is_empty() {
            return Ok(());
        }
        resources.database.commit(batch, Durability::Flushed).await?;
    }
}
