//! Server-side backups of room keys.
//!
//! Invariant: `count` of a version is the number of its sessions, and its etag changes exactly when they do.

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};
use wick_core::ShortUserId;

use crate::postcard_value;

/// A version of a user's backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVersion {
    /// Where its sessions are; another one after all of them were deleted at once.
    pub store: u64,
    /// The algorithm that the sessions are encrypted with.
    pub algorithm: String,
    /// What the algorithm needs, as JSON text.
    pub auth_data: String,
    /// Changes whenever a session does.
    pub etag: u64,
    /// The number of sessions.
    pub count: u64,
}

/// The last numbers given out to a user's backups; none is used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// The last version, deleted or not.
    pub version: u64,
    /// The last store of sessions.
    pub store: u64,
}

/// A backed-up session, with what decides which of two is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpSession {
    /// Whether the device that uploaded it verified the device that the key is from.
    pub is_verified: bool,
    /// The index of the first message that it decrypts.
    pub first_message_index: u64,
    /// How often the key was forwarded.
    pub forwarded_count: u64,
    /// The session as it was uploaded, JSON text.
    pub json: String,
}

postcard_value!(BackupVersion, version = 1);
postcard_value!(LastBackup, version = 1);
postcard_value!(BackedUpSession, version = 1);

tables! {
    /// The versions of users' backups that exist. Written by `/room_keys/version` and with sessions; read
    /// by `/room_keys`; deleted by its user and with the account; rebuilt from nothing else.
    BACKUP_BY_VERSION: (ShortUserId, u64) => BackupVersion, Random;

    /// The last version and store of each user. Written with [`BACKUP_BY_VERSION`], kept for as long as
    /// the account: a version is never used twice.
    LAST_BACKUP_BY_USER: ShortUserId => LastBackup, Random;

    /// Backed-up sessions by user, store, room and session id. Written and read by `/room_keys/keys`;
    /// deleted by their user, and in the background where their store has a row in
    /// [`DELETED_BACKUP_BY_STORE`]; rebuilt from nothing else.
    BACKED_UP_SESSION_BY_ID: (ShortUserId, u64, OwnedRoomId, String) => BackedUpSession, Random;

    /// Stores whose sessions are still to be deleted. Written when a version or all its sessions are
    /// deleted; removed once the sessions are gone.
    DELETED_BACKUP_BY_STORE: (ShortUserId, u64) => (), Small;
}
