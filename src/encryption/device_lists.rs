//! Device lists: noting whose keys changed, and looking up who that is since a position.
//!
//! Invariant: a note is in the batch of the change it is about, and wakes everybody who shares a room
//! with the user.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#tracking-the-device-list-for-a-user>

use wick_core::{Result, ShortUserId};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::{
        device_lists::{
            DEVICE_LIST_CHANGE_BY_POSITION, DEVICE_LIST_CHANGE_BY_USER,
            SIGNATURE_CHANGE_BY_POSITION, SIGNATURE_CHANGE_BY_USER,
        },
        room::{MEMBER_BY_USER, Membership},
    },
};

/// Notes that a user's devices, their keys or the user's cross-signing keys changed. Once per batch.
///
/// # Errors
/// If the database cannot be read.
pub fn note_change(user: ShortUserId, batch: &mut Batch) -> Result<()> {
    let last = batch.get(&DEVICE_LIST_CHANGE_BY_USER, &user)?;
    batch.require(&DEVICE_LIST_CHANGE_BY_USER, &user, last.as_ref());
    if let Some(last) = last {
        batch.delete(&DEVICE_LIST_CHANGE_BY_POSITION, &last);
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &DEVICE_LIST_CHANGE_BY_USER, move |position| (user, position));
    batch.put_at(slot, &DEVICE_LIST_CHANGE_BY_POSITION, move |position| (position, user));
    let mut rooms = Vec::new();
    for row in batch.scan(&MEMBER_BY_USER, Range::prefix((user,))) {
        let ((_, room), member) = row?;
        if member.membership == Membership::Join {
            rooms.push(room);
        }
    }
    batch.wake(Topic::User(user));
    rooms.into_iter().for_each(|room| batch.wake(Topic::Room(room)));
    Ok(())
}

/// Notes that the signatures that `viewer` sees on the keys of `user` changed, for nobody else. Once per
/// batch and pair.
pub(crate) fn note_signature(
    viewer: ShortUserId,
    user: ShortUserId,
    batch: &mut Batch,
) -> Result<()> {
    let last = batch.get(&SIGNATURE_CHANGE_BY_USER, &(viewer, user))?;
    batch.require(&SIGNATURE_CHANGE_BY_USER, &(viewer, user), last.as_ref());
    if let Some(last) = last {
        batch.delete(&SIGNATURE_CHANGE_BY_POSITION, &(viewer, last));
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &SIGNATURE_CHANGE_BY_USER, move |position| ((viewer, user), position));
    batch.put_at(slot, &SIGNATURE_CHANGE_BY_POSITION, move |position| ((viewer, position), user));
    Ok(())
}

/// Deletes what was noted for one user alone.
pub(crate) fn drop_signature_changes(viewer: ShortUserId, batch: &mut Batch) -> Result<()> {
    batch.delete_range(&SIGNATURE_CHANGE_BY_USER, Range::prefix((viewer,)))?;
    Ok(batch.delete_range(&SIGNATURE_CHANGE_BY_POSITION, Range::prefix((viewer,)))?)
}
