//! What administrators do with media of this server and of others: lists, deletion, quarantine.
//!
//! Invariant: media goes with everything that was made of it; a file goes with the last media that refers to it.

use ruma::{OwnedServerName, api::error::ErrorKind};
use serde::Serialize;
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::media::{
        FILE_BY_HASH, FileHash, HASH_BY_FILE_NAME, MEDIA_BY_ID, MEDIA_BY_OWNER,
        PENDING_MEDIA_BY_OWNER, QUARANTINE_BY_HASH, REMOTE_MEDIA_BY_ID, StoredFile,
        THUMBNAIL_BY_FILE, USAGE_BY_OWNER,
    },
};

use crate::{
    MediaRepository,
    kind::{Facts, Kind, Own, Remote},
    pending,
    repository::is_quarantined,
};

/// How many media one batch deletes.
pub(crate) const PORTION: usize = 100;

/// Media as administrators see it.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its server.
    pub server_name: OwnedServerName,
    /// The media id.
    pub media_id: String,
    /// The user who uploaded it, if it is of this server.
    #[serde(skip)]
    pub owner: Option<ShortUserId>,
    /// When it was uploaded, or fetched.
    pub uploaded: Timestamp,
    /// Its size in bytes.
    pub size: u64,
    /// The content type, as the client or the server named it.
    pub content_type: Option<String>,
    /// The file's name, as the client or the server named it.
    pub file_name: Option<String>,
    /// Whether it is not served.
    pub quarantined: bool,
}

/// Which media to list.
#[derive(Clone, Debug)]
pub enum Which {
    /// That of this server.
    Own,
    /// That of a user.
    Of(ShortUserId),
    /// That of other servers which is kept here.
    Remote,
    /// That of another server which is kept here.
    From(OwnedServerName),
}

/// What is done with media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delete it. Media of other servers can be fetched again.
    Delete,
    /// Stop serving its content under every media id.
    Quarantine,
    /// Serve it again.
    Release,
}

/// A server and a media id.
pub type MediaName = (OwnedServerName, String);

impl MediaRepository {
    /// Media in the order of their servers and media ids; at most `limit`, above `after`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(
        &self,
        which: &Which,
        after: Option<&MediaName>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let read = self.resources.database.published();
        let after_id = after.map_or("", |(_, media_id)| media_id);
        let after_all = after.map_or_else(Range::all, Range::after);
        match which {
            Which::Own => self.rows::<Own>(Range::after(after_id), limit),
            Which::Remote => self.rows::<Remote>(after_all, limit),
            Which::From(server) => {
                self.rows::<Remote>(Range::prefix((&**server,)).and(after_all), limit)
            }
            Which::Of(owner) => {
                let range = Range::prefix((*owner,)).and(Range::after(&(*owner, after_id)));
                let mut listed = Vec::new();
                for key in read.scan(&MEDIA_BY_OWNER, range).keys().take(limit) {
                    let (_, media_id) = key?;
                    let Some(media) = read.get(&MEDIA_BY_ID, &media_id)? else { continue };
                    listed.push(self.listed::<Own>(&read, &media_id, media)?);
                }
                Ok(listed)
            }
        }
    }

    /// Those of `media` that are there.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn those_of(&self, media: &[MediaName]) -> Result<Vec<Listed>> {
        let read = self.resources.database.published();
        let mut listed = Vec::new();
        for key in media {
            let (server_name, media_id) = key;
            if !self.is_own(server_name) {
                if let Some(row) = read.get(&REMOTE_MEDIA_BY_ID, key)? {
                    listed.push(self.listed::<Remote>(&read, key, row)?);
                }
            } else if let Some(row) = read.get(&MEDIA_BY_ID, media_id)? {
                listed.push(self.listed::<Own>(&read, media_id, row)?);
            }
        }
        Ok(listed)
    }

    fn rows<K: Kind>(&self, range: Range<K::Key>, limit: usize) -> Result<Vec<Listed>> {
        let read = self.resources.database.published();
        let rows = read.scan(K::table(), range).take(limit);
        rows.map(|row| {
            let (key, row) = row?;
            self.listed::<K>(&read, &key, row)
        })
        .collect()
    }

    fn listed<K: Kind>(&self, read: &impl Read, key: &K::Key, row: K::Row) -> Result<Listed> {
        let Facts { owner, stored, file, size, content_type, file_name } = K::facts(row);
        let (server_name, media_id) = K::name(key);
        Ok(Listed {
            server_name: server_name.unwrap_or(&self.resources.config.server.name).to_owned(),
            media_id: media_id.to_owned(),
            owner,
            uploaded: stored,
            size,
            content_type,
            file_name,
            quarantined: is_quarantined(read, &file)?,
        })
    }

    /// Bytes of all media of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn usage(&self, owner: ShortUserId) -> Result<u64> {
        let usage = self.resources.database.published().get(&USAGE_BY_OWNER, &owner)?;
        Ok(usage.unwrap_or_default())
    }

    /// Does something with media. Returns how many of them there were.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn act(&self, action: Action, media: &[MediaName]) -> Result<usize> {
        let (own, remote): (Vec<_>, Vec<_>) =
            media.iter().cloned().partition(|(server_name, _)| self.is_own(server_name));
        let own: Vec<_> = own.into_iter().map(|(_, media_id)| media_id).collect();
        let own = self.act_on::<Own>(action, &own).await?;
        Ok(own.saturating_add(self.act_on::<Remote>(action, &remote).await?))
    }

    async fn act_on<K: Kind>(&self, action: Action, keys: &[K::Key]) -> Result<usize> {
        let mut done = 0_usize;
        for portion in keys.chunks(PORTION) {
            done = done.saturating_add(match action {
                Action::Delete => self.delete_all::<K>(portion).await?,
                Action::Quarantine => self.quarantine::<K>(portion, false).await?,
                Action::Release => self.quarantine::<K>(portion, true).await?,
            });
        }
        Ok(done)
    }

    /// Deletes all media of a user, and what is reserved for uploads. Returns how many media there were.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn delete_all_of(&self, owner: ShortUserId) -> Result<usize> {
        self.resources
            .change(|batch| {
                let reserved = batch.scan(&PENDING_MEDIA_BY_OWNER, Range::prefix((owner,))).keys();
                for (_, media_id) in reserved.collect::<Result<Vec<_>, _>>()? {
                    pending::forget(batch, owner, &media_id);
                }
                Ok(())
            })
            .await?;
        let mut deleted = 0_usize;
        loop {
            let portion: Vec<_> = {
                let read = self.resources.database.latest();
                let keys = read.scan(&MEDIA_BY_OWNER, Range::prefix((owner,))).keys().take(PORTION);
                keys.map(|key| key.map(|(_, media_id)| media_id)).collect::<Result<_, _>>()?
            };
            if portion.is_empty() {
                return Ok(deleted);
            }
            deleted = deleted.saturating_add(self.delete_all::<Own>(&portion).await?);
        }
    }

    /// Stops serving the content of media under every media id, or serves it again; returns how many of them there were.
    async fn quarantine<K: Kind>(&self, keys: &[K::Key], is_served: bool) -> Result<usize> {
        let now = self.now();
        self.resources
            .change(|batch| {
                let mut found = 0_usize;
                for key in keys {
                    let Some(row) = batch.get(K::table(), key)? else { continue };
                    let file = K::facts(row).file;
                    if is_served {
                        batch.delete(&QUARANTINE_BY_HASH, &file);
                    } else {
                        batch.put(&QUARANTINE_BY_HASH, &file, &now);
                    }
                    found = found.saturating_add(1);
                }
                Ok(found)
            })
            .await
    }

    /// Deletes a portion of media; returns how many of them there were.
    pub(crate) async fn delete_all<K: Kind>(&self, keys: &[K::Key]) -> Result<usize> {
        let (deleted, files) = self
            .resources
            .change(|batch| {
                let (mut deleted, mut files) = (0_usize, Vec::new());
                for key in keys {
                    if remove::<K>(batch, key, &mut files)? {
                        deleted = deleted.saturating_add(1);
                    }
                }
                Ok((deleted, files))
            })
            .await?;
        self.discard(&files).await;
        Ok(deleted)
    }
}

/// Removes media, if it is there, and adds the names of files that nothing refers to any more: they are to be discarded once
/// the batch is written. Returns whether it was there.
pub(crate) fn remove<K: Kind>(
    batch: &mut Batch,
    key: &K::Key,
    files: &mut Vec<String>,
) -> Result<bool> {
    let Some(row) = batch.read_for_update(K::table(), key)? else { return Ok(false) };
    batch.delete(K::table(), key);
    K::remove_indexes(batch, key, &row)?;
    release(batch, &K::facts(row).file, files)?;
    Ok(true)
}

/// Counts one reference to a file less, and removes its rows with the last one.
fn release(batch: &mut Batch, file: &FileHash, files: &mut Vec<String>) -> Result<()> {
    let stored = batch
        .read_for_update(&FILE_BY_HASH, file)?
        .ok_or_else(|| Error::corrupt("media refers to a file that has no row"))?;
    if stored.references > 1 {
        let references = stored.references.saturating_sub(1);
        batch.put(&FILE_BY_HASH, file, &StoredFile { references, ..stored });
        return Ok(());
    }
    batch.delete(&FILE_BY_HASH, file);
    batch.delete(&HASH_BY_FILE_NAME, &stored.name);
    files.push(stored.name);
    remove_thumbnails(batch, file, files)
}

fn remove_thumbnails(batch: &mut Batch, file: &FileHash, files: &mut Vec<String>) -> Result<()> {
    // One that is stored meanwhile would stay.
    for (key, thumbnail) in batch.scan_for_update(&THUMBNAIL_BY_FILE, Range::prefix((*file,)))? {
        batch.delete(&THUMBNAIL_BY_FILE, &key);
        if let Some(name) = thumbnail.name {
            batch.delete(&HASH_BY_FILE_NAME, &name);
            files.push(name);
        }
    }
    Ok(())
}

/// `M_UNKNOWN`, 400: what cannot be done with a file.
pub(crate) fn unsuitable(message: &'static str) -> Error {
    Error::refused(ErrorKind::Unknown, message)
}
