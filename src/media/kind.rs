//! The two kinds of media that are kept, of this server and of others: where their rows are, and what goes with them.
//!
//! Invariant: what is done with media of either kind is written once, for a [`Kind`].

use std::fmt::Debug;

use ruma::{OwnedServerName, ServerName};
use wick_core::{Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Key, Read, Table, Value,
    schema::media::{
        ACCESS_BY_MEDIA, FileHash, MEDIA_BY_ID, MEDIA_BY_OWNER, MEDIA_COUNT_BY_OWNER, Media,
        REMOTE_MEDIA_BY_ID, RemoteMedia, USAGE_BY_OWNER,
    },
};

/// A kind of media.
pub(crate) trait Kind {
    /// What identifies a piece of media.
    type Key: Key + Clone + Debug + Send + Sync + 'static;
    /// Its row.
    type Row: Value + Send + Sync + 'static;

    /// The table of the rows.
    fn table() -> &'static Table<Self::Key, Self::Row>;

    /// The key of a media id of a server.
    fn key(server_name: &ServerName, media_id: &str) -> Self::Key;

    /// The server, if it is another one, and the media id.
    fn name(key: &Self::Key) -> (Option<&ServerName>, &str);

    /// What is known of media.
    fn facts(row: Self::Row) -> Facts;

    /// When media was accessed last; it counts as accessed when it was stored.
    fn accessed(read: &impl Read, key: &Self::Key, row: &Self::Row) -> Result<Timestamp>;

    /// Adds to a batch that media is accessed.
    fn set_accessed(batch: &mut Batch, key: &Self::Key, row: Self::Row, now: Timestamp);

    /// Removes what goes with the row of media, besides its file.
    fn remove_indexes(batch: &mut Batch, key: &Self::Key, row: &Self::Row) -> Result<()>;
}

/// What is known of media of either kind.
pub(crate) struct Facts {
    /// The user who uploaded it, if it is of this server.
    pub(crate) owner: Option<ShortUserId>,
    /// When it was uploaded, or fetched.
    pub(crate) stored: Timestamp,
    pub(crate) file: FileHash,
    /// The size of the file in bytes.
    pub(crate) size: u64,
    pub(crate) content_type: Option<String>,
    pub(crate) file_name: Option<String>,
}

/// Media of this server.
pub(crate) struct Own;

/// Media of other servers.
pub(crate) struct Remote;

impl Kind for Own {
    type Key = String;
    type Row = Media;

    fn table() -> &'static Table<String, Media> {
        &MEDIA_BY_ID
    }

    fn key(_: &ServerName, media_id: &str) -> String {
        media_id.to_owned()
    }

    fn name(key: &String) -> (Option<&ServerName>, &str) {
        (None, key)
    }

    fn facts(row: Media) -> Facts {
        let Media { owner, uploaded, file, size, content_type, file_name } = row;
        Facts { owner: Some(owner), stored: uploaded, file, size, content_type, file_name }
    }

    fn accessed(read: &impl Read, key: &String, row: &Media) -> Result<Timestamp> {
        let accessed = read.get(&ACCESS_BY_MEDIA, key)?;
        Ok(accessed.map_or(row.uploaded, |accessed| accessed.max(row.uploaded)))
    }

    fn set_accessed(batch: &mut Batch, key: &String, _: Media, now: Timestamp) {
        batch.put(&ACCESS_BY_MEDIA, key, &now);
    }

    fn remove_indexes(batch: &mut Batch, key: &String, row: &Media) -> Result<()> {
        batch.delete(&MEDIA_BY_OWNER, &(row.owner, &**key));
        batch.delete(&ACCESS_BY_MEDIA, key);
        batch.update(&USAGE_BY_OWNER, &row.owner, |used| {
            used.and_then(|used| used.checked_sub(row.size)).filter(|used| *used > 0)
        })?;
        batch.update(&MEDIA_COUNT_BY_OWNER, &row.owner, |count| {
            count.and_then(|count| count.checked_sub(1)).filter(|count| *count > 0)
        })?;
        Ok(())
    }
}

impl Kind for Remote {
    type Key = (OwnedServerName, String);
    type Row = RemoteMedia;

    fn table() -> &'static Table<Self::Key, RemoteMedia> {
        &REMOTE_MEDIA_BY_ID
    }

    fn key(server_name: &ServerName, media_id: &str) -> Self::Key {
        (server_name.to_owned(), media_id.to_owned())
    }

    fn name((server_name, media_id): &Self::Key) -> (Option<&ServerName>, &str) {
        (Some(server_name), media_id)
    }

    fn facts(row: RemoteMedia) -> Facts {
        let RemoteMedia { fetched, file, size, content_type, file_name, .. } = row;
        Facts { owner: None, stored: fetched, file, size, content_type, file_name }
    }

    fn accessed(_: &impl Read, _: &Self::Key, row: &RemoteMedia) -> Result<Timestamp> {
        Ok(row.accessed)
    }

    fn set_accessed(batch: &mut Batch, key: &Self::Key, row: RemoteMedia, now: Timestamp) {
        batch.put(&REMOTE_MEDIA_BY_ID, key, &RemoteMedia { accessed: now, ..row });
    }

    fn remove_indexes(_: &mut Batch, _: &Self::Key, _: &RemoteMedia) -> Result<()> {
        Ok(())
    }
}
