//! The rows of presence, and which users' presence is visible to which others.

use std::collections::HashSet;

use wick_core::{Position, Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Read,
    schema::ephemeral::{PRESENCE_BY_USER, PRESENCE_CHANGE_BY_POSITION, PresenceKind, PresenceRow},
};
use wick_room::shared_rooms::{joined_rooms, wake_sharing};

use super::{HOLDS_LONGER_BY, devices::Summary};

/// What a request changes besides the devices.
#[derive(Default)]
pub(super) struct Change {
    /// The status message that replaces the stored one.
    pub(super) status_msg: Option<Option<String>>,
    /// Whether it is an activity of the user.
    pub(super) is_active: bool,
    /// Whether the user set `offline`.
    pub(super) is_suppressed: bool,
}

/// The row that follows from what a user's devices amount to; `None` if it is the stored one.
pub(super) fn next(
    old: Option<&PresenceRow>,
    devices: Summary,
    change: &Change,
    now: Timestamp,
) -> Option<PresenceRow> {
    let old = old.cloned().unwrap_or(PresenceRow {
        position: Position::default(),
        state: PresenceKind::Offline,
        status_msg: None,
        requested: PresenceKind::Online,
        until: Timestamp::default(),
    });
    let mut new = PresenceRow { state: devices.state, ..old.clone() };
    if let Some(status_msg) = &change.status_msg {
        new.status_msg.clone_from(status_msg);
    }
    if change.is_suppressed {
        new.requested = PresenceKind::Offline;
    } else if let Some(requested) = devices.requested {
        new.requested = requested;
    }
    let until = now.after(devices.holds_for);
    if new.state != PresenceKind::Offline && new.until < until {
        new.until = until.after(HOLDS_LONGER_BY);
    }
    (new != old).then_some(new)
}

/// Writes a user's row. If it differs for others, it gets a position, and users that share a room are woken.
pub(super) fn put(
    batch: &mut Batch,
    user: ShortUserId,
    old: Option<&PresenceRow>,
    new: PresenceRow,
) -> Result<()> {
    if old.is_some_and(|old| old.state == new.state && old.status_msg == new.status_msg) {
        batch.put(&PRESENCE_BY_USER, &user, &new);
        return Ok(());
    }
    if let Some(old) = old {
        batch.delete(&PRESENCE_CHANGE_BY_POSITION, &old.position);
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &PRESENCE_BY_USER, move |position| (user, PresenceRow { position, ..new }));
    batch.put_at(slot, &PRESENCE_CHANGE_BY_POSITION, move |position| (position, user));
    wake_sharing(user, batch)
}

/// Whether a user is in one of these rooms.
pub fn shares_room(
    read: &impl Read,
    rooms: &HashSet<ShortRoomId>,
    user: ShortUserId,
) -> Result<bool> {
    for room in joined_rooms(read, user) {
        if rooms.contains(&room?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two users are in the same room.
pub(super) fn share_room(read: &impl Read, one: ShortUserId, other: ShortUserId) -> Result<bool> {
    let rooms = joined_rooms(read, one).collect::<Result<HashSet<_>>>()?;
    shares_room(read, &rooms, other)
}
