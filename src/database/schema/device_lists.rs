//! When the devices of each user last changed.
//!
//! Invariant: of each user, and of each pair of users, the index by position has exactly one row: the
//! newest change.

use wick_core::{Position, ShortUserId};

tables! {
    /// When a user's devices, their keys or the user's cross-signing keys last changed for all
    /// users who share a room with the user. Written with the change; rebuilt from nothing else.
    DEVICE_LIST_CHANGE_BY_USER: ShortUserId => Position, Random;

    /// The users of [`DEVICE_LIST_CHANGE_BY_USER`] in stream order. Written with it and can be rebuilt
    /// from it; read by sync and `GET /keys/changes`.
    DEVICE_LIST_CHANGE_BY_POSITION: Position => ShortUserId, Sequential, wakes_table;

    /// When a user's devices without keys last changed, if other servers have not been sent that yet. Written with the change,
    /// deleted by the announcements of device lists; a lost row delays the update until the next change.
    UNSEEN_DEVICE_CHANGE_BY_USER: ShortUserId => Position, Small;

    /// When the signatures that the first user sees on the keys of the second last changed for the
    /// first user alone. Written by `POST /keys/signatures/upload` and with a user-signing key; rebuilt
    /// from nothing else.
    SIGNATURE_CHANGE_BY_USER: (ShortUserId, ShortUserId) => Position, Random;

    /// The second users of [`SIGNATURE_CHANGE_BY_USER`] in stream order. Written with it and can be
    /// rebuilt from it; read by sync and `GET /keys/changes`.
    SIGNATURE_CHANGE_BY_POSITION: (ShortUserId, Position) => ShortUserId, Sequential, wakes_user;
}
