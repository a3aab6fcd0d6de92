//! The rows of presence, and which users' presence is visible to which others.

use std::collections::HashSet;

use wick_core::{Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Pending, Range, Read, Topic,
    schema::{
        ephemeral::{PRESENCE_BY_USER, PRESENCE_CHANGE_BY_POSITION, PresenceKind, PresenceRow},
        room::{MEMBER_BY_USER, Membership},
    },
};
use wick_runtime::Resources;

/// Writes a user's presence and wakes those that may see it. `status` is the status message as set by the
/// user: it replaces the stored one and is written even if nothing changed. Without it nothing is written
/// if the row has this state already.
pub(super) fn put(
    resources: &Resources,
    user: ShortUserId,
    state: PresenceKind,
    status: Option<Option<String>>,
    active: Option<Timestamp>,
) -> Result<Option<Pending>> {
    let mut batch = resources.database.batch();
    let old = batch.get(&PRESENCE_BY_USER, &user)?;
    let is_said = status.is_some();
    let kept = old.as_ref().and_then(|old| old.status_msg.clone());
    let status_msg = status.unwrap_or(kept);
    if !is_said && old.as_ref().is_some_and(|old| old.state == state) {
        return Ok(None);
    }
    let before = old.as_ref().map_or(Timestamp::default(), |old| old.last_active);
    let last_active = active.unwrap_or_default().max(before);
    replace(&mut batch, user, old.as_ref(), (state, status_msg, last_active));
    for room in joined(&resources.database.latest(), user) {
        batch.wake(Topic::Room(room?));
    }
    batch.wake(Topic::User(user));
    Ok(Some(resources.database.write(batch, Durability::Flushed)?))
}

/// Sets all users offline.
pub(super) fn put_all_offline(resources: &Resources) -> Result<Option<Pending>> {
    let mut batch = resources.database.batch();
    for row in resources.database.latest().scan(&PRESENCE_BY_USER, Range::all()) {
        let (user, row) = row?;
        if row.state != PresenceKind::Offline {
            let now = (PresenceKind::Offline, row.status_msg.clone(), row.last_active);
            replace(&mut batch, user, Some(&row), now);
        }
    }
    if batch.is_empty() {
        return Ok(None);
    }
    Ok(Some(resources.database.write(batch, Durability::Flushed)?))
}

fn replace(
    batch: &mut Batch,
    user: ShortUserId,
    old: Option<&PresenceRow>,
    (state, status_msg, last_active): (PresenceKind, Option<String>, Timestamp),
) {
    if let Some(old) = old {
        batch.delete(&PRESENCE_CHANGE_BY_POSITION, &old.position);
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &PRESENCE_BY_USER, move |position| {
        (user, PresenceRow { position, state, status_msg, last_active })
    });
    batch.put_at(slot, &PRESENCE_CHANGE_BY_POSITION, move |position| (position, user));
}

fn joined<R: Read>(
    read: &R,
    user: ShortUserId,
) -> impl Iterator<Item = Result<ShortRoomId>> + use<'_, R> {
    read.scan(&MEMBER_BY_USER, Range::prefix((user,))).filter_map(|row| match row {
        Ok(((_, room), member)) => (member.membership == Membership::Join).then_some(Ok(room)),
        Err(error) => Some(Err(error.into())),
    })
}

/// Whether a user is in one of these rooms.
pub fn shares_room(
    read: &impl Read,
    rooms: &HashSet<ShortRoomId>,
    user: ShortUserId,
) -> Result<bool> {
    for room in joined(read, user) {
        if rooms.contains(&room?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two users are in the same room.
pub(super) fn share_room(read: &impl Read, one: ShortUserId, other: ShortUserId) -> Result<bool> {
    let rooms = joined(read, one).collect::<Result<HashSet<_>>>()?;
    shares_room(read, &rooms, other)
}
