//! Device lists: records changes of users' keys, and looks up the users with changes since a position.
//!
//! Invariant: a note is in the batch of the change it is about, and wakes the syncs of all users
//! that share a room with the user.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#tracking-the-device-list-for-a-user>

use wick_core::{Error, Position, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::device_lists::{
        DEVICE_LIST_CHANGE_BY_POSITION, DEVICE_LIST_CHANGE_BY_USER, SIGNATURE_CHANGE_BY_POSITION,
        SIGNATURE_CHANGE_BY_USER, UNSEEN_DEVICE_CHANGE_BY_USER,
    },
};
use wick_room::shared_rooms::wake_sharing;

/// Notes that a user's devices, their keys or the user's cross-signing keys changed.
///
/// # Errors
/// If the database cannot be read.
pub fn note_change(user: ShortUserId, batch: &mut Batch) -> Result<()> {
    if let Some(last) = batch.read_for_update(&DEVICE_LIST_CHANGE_BY_USER, &user)? {
        batch.delete(&DEVICE_LIST_CHANGE_BY_POSITION, &last);
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &DEVICE_LIST_CHANGE_BY_USER, move |position| (user, position));
    batch.put_at(slot, &DEVICE_LIST_CHANGE_BY_POSITION, move |position| (position, user));
    wake_sharing(user, batch)
}

/// Notes a change of a user's devices without keys, which other servers are sent and clients are not.
pub(crate) fn note_unseen_change(user: ShortUserId, batch: &mut Batch) {
    let slot = batch.reserve_position();
    batch.put_at(slot, &UNSEEN_DEVICE_CHANGE_BY_USER, move |position| (user, position));
}

/// Notes that the signatures that `viewer` sees on the keys of `user` changed, for `viewer` alone.
pub(crate) fn note_signature(
    viewer: ShortUserId,
    user: ShortUserId,
    batch: &mut Batch,
) -> Result<()> {
    if let Some(last) = batch.read_for_update(&SIGNATURE_CHANGE_BY_USER, &(viewer, user))? {
        batch.delete(&SIGNATURE_CHANGE_BY_POSITION, &(viewer, last));
    }
    let slot = batch.reserve_position();
    batch.put_at(slot, &SIGNATURE_CHANGE_BY_USER, move |position| ((viewer, user), position));
    batch.put_at(slot, &SIGNATURE_CHANGE_BY_POSITION, move |position| ((viewer, position), user));
    Ok(())
}

/// The users whose devices or keys changed after a position. Filtering them by
/// what a user may see is up to the caller.
///
/// # Errors
/// If the database cannot be read.
pub fn changed_after(read: &impl Read, since: Position) -> Result<Vec<ShortUserId>> {
    read.scan(&DEVICE_LIST_CHANGE_BY_POSITION, Range::after(&since))
        .map(|row| row.map(|(_, user)| user).map_err(Error::from))
        .collect()
}

/// The users on whose keys the signatures that `viewer` sees changed after a position, for `viewer` alone.
///
/// # Errors
/// If the database cannot be read.
pub fn signatures_changed_after(
    read: &impl Read,
    viewer: ShortUserId,
    since: Position,
) -> Result<Vec<ShortUserId>> {
    let range = Range::prefix((viewer,)).and(Range::after(&(viewer, since)));
    read.scan(&SIGNATURE_CHANGE_BY_POSITION, range)
        .map(|row| row.map(|(_, user)| user).map_err(Error::from))
        .collect()
}

/// Deletes what was noted for one user alone.
pub(crate) fn drop_signature_changes(viewer: ShortUserId, batch: &mut Batch) -> Result<()> {
    batch.delete_range(&SIGNATURE_CHANGE_BY_USER, Range::prefix((viewer,)))?;
    Ok(batch.delete_range(&SIGNATURE_CHANGE_BY_POSITION, Range::prefix((viewer,)))?)
}
