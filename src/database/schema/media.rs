//! Files that users uploaded, and what was made of them.
//!
//! Invariants: a file has a row in [`FILE_BY_HASH`] exactly as long as media refer to it, with their number; every
//! name of a stored file has a row in [`HASH_BY_FILE_NAME`]; the usage of a user is the size and the number of their media.

use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use wick_core::{ShortUserId, Timestamp};

use crate::postcard_value;

/// The SHA-256 of a file.
pub type FileHash = [u8; 32];

/// A piece of media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// The user who uploaded it.
    pub owner: ShortUserId,
    /// When.
    pub uploaded: Timestamp,
    /// The file.
    pub file: FileHash,
    /// The size of the file in bytes.
    pub size: u64,
    /// The content type, as the client named it.
    pub content_type: Option<String>,
    /// The file's name, as the client named it.
    pub file_name: Option<String>,
}

/// A piece of media of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMedia {
    /// When it was fetched.
    pub fetched: Timestamp,
    /// When it was accessed last, within a day, if the retention needs to know.
    pub accessed: Timestamp,
    /// The file.
    pub file: FileHash,
    /// The size of the file in bytes.
    pub size: u64,
    /// The content type, as the server named it.
    pub content_type: Option<String>,
    /// The file's name, as the server named it.
    pub file_name: Option<String>,
}

/// A media id that is reserved for an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMedia {
    /// The user who may upload.
    pub owner: ShortUserId,
    /// From when on the upload is refused.
    pub expires: Timestamp,
}

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name in the store.
    pub name: String,
    /// How many media refer to it.
    pub references: u64,
}

/// A thumbnail of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredThumbnail {
    /// Its name in the store; `None` if the file itself is small enough.
    pub name: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Its content type.
    pub content_type: String,
}

postcard_value!(Media, version = 1);
postcard_value!(RemoteMedia, version = 1);
postcard_value!(PendingMedia, version = 1);
postcard_value!(StoredFile, version = 1);
postcard_value!(StoredThumbnail, version = 1);

tables! {
    /// Uploaded media by media id. Written by uploads; read by downloads; rebuilt from nothing else.
    MEDIA_BY_ID: String => Media, Random;

    /// Media of other servers that is kept, by server and media id. Written when it is fetched; read by downloads; deleted by
    /// the retention; can be fetched again.
    REMOTE_MEDIA_BY_ID: (OwnedServerName, String) => RemoteMedia, Random;

    /// The media of each user. Written with [`MEDIA_BY_ID`], from which it can be rebuilt; read to list and delete.
    MEDIA_BY_OWNER: (ShortUserId, String) => (), Random;

    /// Bytes of the media of each user. Written with [`MEDIA_BY_ID`], from which it can be rebuilt; read by uploads.
    USAGE_BY_OWNER: ShortUserId => u64, Random;

    /// How many media each user has. Written with [`MEDIA_BY_ID`], from which it can be rebuilt; read by uploads.
    MEDIA_COUNT_BY_OWNER: ShortUserId => u64, Random;

    /// When media was accessed last, within a day. Written by downloads if the retention needs it; may be lost.
    ACCESS_BY_MEDIA: String => Timestamp, Random;

    /// Reserved media ids. Written by `/create`, removed by the upload or when they expire; rebuilt from nothing else.
    PENDING_MEDIA_BY_ID: String => PendingMedia, Small;

    /// The reserved media ids of each user. Written with [`PENDING_MEDIA_BY_ID`]; read to limit their number.
    PENDING_MEDIA_BY_OWNER: (ShortUserId, String) => (), Small;

    /// Stored files by content. Written by uploads and deletions; read by downloads; rebuilt from nothing else.
    FILE_BY_HASH: FileHash => StoredFile, Random;

    /// What each file of the store is, or is made of. Written with [`FILE_BY_HASH`] and [`THUMBNAIL_BY_FILE`], from
    /// which it can be rebuilt; read by the sweep of orphans.
    HASH_BY_FILE_NAME: String => FileHash, Random;

    /// Thumbnails by file, width, height, method (0: crop, 1: scale) and whether they are animated. Written when one is
    /// asked for; read by thumbnail requests; can be made again.
    THUMBNAIL_BY_FILE: (FileHash, u32, u32, u8, bool) => StoredThumbnail, Random;

    /// Contents that are not served, with the time of the decision. Written by administrators; read by downloads; rebuilt
    /// from nothing else.
    QUARANTINE_BY_HASH: FileHash => Timestamp, Small;
}
