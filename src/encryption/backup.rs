//! Server-side backups of room keys: versions, and the sessions in the newest of them.
//!
//! Invariants: versions of a user ascend and are never used twice; sessions are written to the newest version
//! alone; of two backups of one session the better one is kept; count and etag change in the batch
//! that changes the sessions. What is stored is encrypted by the client and never logged.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#server-side-key-backups>

mod deletion;
mod session;

use std::sync::Arc;

use ruma::{
    RoomId,
    api::error::{ErrorKind, WrongRoomKeysVersionErrorData},
};
use serde_json::value::RawValue;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::backups::{
        BACKED_UP_SESSION_BY_ID, BACKUP_BY_VERSION, BackupVersion, DELETED_BACKUP_BY_STORE,
        LAST_BACKUP_BY_USER, LastBackup,
    },
};
use wick_runtime::{Resources, Supervisor};

use self::deletion::DELETIONS;
pub use self::session::UploadedSession;

/// Versions that a user may have at a time.
const MAX_VERSIONS: usize = 100;

/// Sessions that one version may hold.
const MAX_SESSIONS: u64 = 5_000_000;

/// Bytes of an algorithm's name, and of what the algorithm needs.
const MAX_ALGORITHM_BYTES: usize = 255;
const MAX_AUTH_DATA_BYTES: usize = 65_536;

/// The backups of local users.
pub struct Backups {
    resources: Resources,
}

/// A version of a backup.
#[derive(Debug)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// Its algorithm, and what its sessions amount to.
    pub row: BackupVersion,
}

/// What a change of sessions is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The number of sessions.
    pub count: u64,
    /// Changes whenever a session does.
    pub etag: u64,
}

/// Which sessions of a version are meant.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// All.
    All,
    /// Those of a room.
    Room(&'a RoomId),
    /// One session of a room.
    Session(&'a RoomId, &'a str),
}

/// The algorithm of a version with what it needs.
#[derive(Debug)]
pub struct Algorithm<'a> {
    /// Its name.
    pub name: &'a str,
    /// A JSON object.
    pub auth_data: &'a RawValue,
}

impl Backups {
    /// Backups in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Starts to delete the sessions of deleted backups in the background.
    pub fn start(self: &Arc<Self>, supervisor: &Supervisor) {
        let backups = Arc::clone(self);
        let stopping = supervisor.stopping().clone();
        supervisor.spawn("deletion of backups", move || {
            let (backups, stopping) = (Arc::clone(&backups), stopping.clone());
            async move { backups.delete_in_background(&stopping).await }
        });
    }

    /// Creates a version, which is the current one from then on.
    ///
    /// # Errors
    /// `M_TOO_LARGE`, also if the user has too many versions.
    pub async fn create(&self, user: ShortUserId, algorithm: &Algorithm<'_>) -> Result<u64> {
        algorithm.ensure_size()?;
        self.resources
            .change(|batch| {
                let existing = batch.scan(&BACKUP_BY_VERSION, Range::prefix((user,))).keys();
                if existing.take(MAX_VERSIONS).count() == MAX_VERSIONS {
                    return Err(Error::too_large(
                        "too many versions of the backup: delete older ones",
                    ));
                }
                let last = next_store(user, batch)?;
                let last = LastBackup { version: last.version.saturating_add(1), ..last };
                batch.put(&LAST_BACKUP_BY_USER, &user, &last);
                let row = BackupVersion {
                    store: last.store,
                    algorithm: algorithm.name.to_owned(),
                    auth_data: algorithm.auth_data.get().to_owned(),
                    etag: 0,
                    count: 0,
                };
                batch.put(&BACKUP_BY_VERSION, &(user, last.version), &row);
                Ok(last.version)
            })
            .await
    }

    /// A version, or the current one if none is named.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub fn version(&self, user: ShortUserId, version: Option<&str>) -> Result<Version> {
        let read = self.resources.database.published();
        match version {
            None => current(&read, user)?.ok_or_else(no_version),
            Some(version) => existing(&read, user, version),
        }
    }

    /// Replaces what the algorithm of a version needs, such as its signatures.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_INVALID_PARAM` if the algorithm is another one or `named`, the version in the
    /// body, is not `version`.
    pub async fn update(
        &self,
        user: ShortUserId,
        version: &str,
        named: Option<&str>,
        algorithm: &Algorithm<'_>,
    ) -> Result<()> {
        algorithm.ensure_size()?;
        if named.is_some_and(|named| named != version) {
            return Err(Error::invalid_param("the version in the body is another one"));
        }
        self.resources
            .change(|batch| {
                let key = (user, number(version)?);
                let row = batch.read_for_update(&BACKUP_BY_VERSION, &key)?;
                let row = row.ok_or_else(no_version)?;
                if row.algorithm != algorithm.name {
                    return Err(Error::invalid_param("the algorithm of a backup does not change"));
                }
                let auth_data = algorithm.auth_data.get().to_owned();
                batch.put(&BACKUP_BY_VERSION, &key, &BackupVersion { auth_data, ..row });
                Ok(())
            })
            .await
    }

    /// Deletes a version with its sessions. Does nothing if it was deleted before.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there never was such a version.
    pub async fn delete(&self, user: ShortUserId, version: &str) -> Result<()> {
        self.resources
            .change(|batch| {
                let version = number(version)?;
                let key = (user, version);
                let Some(row) = batch.read_for_update(&BACKUP_BY_VERSION, &key)? else {
                    let last = batch.get(&LAST_BACKUP_BY_USER, &user)?.unwrap_or_default();
                    let existed = (1..=last.version).contains(&version);
                    return if existed { Ok(()) } else { Err(no_version()) };
                };
                batch.delete(&BACKUP_BY_VERSION, &key);
                delete_store(batch, user, row.store);
                Ok(())
            })
            .await
    }

    /// Backs up sessions in the current version, each unless a better backup of it exists.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no version, `M_WRONG_ROOM_KEYS_VERSION` if `version` is not the current
    /// one, `M_TOO_LARGE` if the backup is full.
    pub async fn put(
        &self,
        user: ShortUserId,
        version: &str,
        sessions: &[UploadedSession],
    ) -> Result<Contents> {
        self.resources
            .change(|batch| {
                let Version { version, row } = writable(batch, user, version)?;
                let (mut added, mut changed) = (0, false);
                for session in sessions {
                    let key = (user, row.store, &*session.room_id, &*session.session_id);
                    match batch.get(&BACKED_UP_SESSION_BY_ID, &key)? {
                        Some(stored) if !session::is_better(&session.session, &stored) => continue,
                        Some(_) => {}
                        None => added += 1,
                    }
                    changed = true;
                    batch.put(&BACKED_UP_SESSION_BY_ID, &key, &session.session);
                }
                if !changed {
                    return Ok(contents(&row));
                }
                let count = row.count.saturating_add(added);
                if count > MAX_SESSIONS {
                    return Err(Error::too_large("the backup is full"));
                }
                Ok(put_contents(batch, (user, version), row, count))
            })
            .await
    }

    /// Sessions of a version, by room and session id; JSON as it was uploaded. A named session that is not
    /// there is not listed.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such version.
    pub fn get(
        &self,
        user: ShortUserId,
        version: &str,
        part: Part<'_>,
    ) -> Result<Vec<(ruma::OwnedRoomId, String, Box<RawValue>)>> {
        let read = self.resources.database.published();
        let store = existing(&read, user, version)?.row.store;
        let mut sessions = Vec::new();
        let mut list = |room_id, session_id, json| {
            let json = RawValue::from_string(json)
                .map_err(|error| Error::internal("a backed-up session", error))?;
            sessions.push((room_id, session_id, json));
            Ok::<_, Error>(())
        };
        let range = match part {
            Part::All => Range::prefix((user, store)),
            Part::Room(room_id) => Range::prefix((user, store, room_id)),
            Part::Session(room_id, session_id) => {
                let key = (user, store, room_id, session_id);
                if let Some(session) = read.get(&BACKED_UP_SESSION_BY_ID, &key)? {
                    list(room_id.to_owned(), session_id.to_owned(), session.json)?;
                }
                return Ok(sessions);
            }
        };
        for row in read.scan(&BACKED_UP_SESSION_BY_ID, range) {
            let ((_, _, room_id, session_id), session) = row?;
            list(room_id, session_id, session.json)?;
        }
        Ok(sessions)
    }

    /// Deletes sessions of the current version.
    ///
    /// # Errors
    /// As [`Backups::put`].
    pub async fn delete_sessions(
        &self,
        user: ShortUserId,
        version: &str,
        part: Part<'_>,
    ) -> Result<Contents> {
        self.resources
            .change(|batch| {
                let Version { version, row } = writable(batch, user, version)?;
                let mut deleted = 0_u64;
                let range = match part {
                    Part::All if row.count == 0 => return Ok(contents(&row)),
                    Part::All => {
                        delete_store(batch, user, row.store);
                        let last = next_store(user, batch)?;
                        batch.put(&LAST_BACKUP_BY_USER, &user, &last);
                        let empty = BackupVersion { store: last.store, ..row };
                        return Ok(put_contents(batch, (user, version), empty, 0));
                    }
                    Part::Room(room_id) => Range::prefix((user, row.store, room_id)),
                    Part::Session(room_id, session_id) => {
                        let key = (user, row.store, room_id, session_id);
                        Range::from(&key).and(Range::through(&key))
                    }
                };
                let keys = batch.scan(&BACKED_UP_SESSION_BY_ID, range).keys();
                for key in keys.collect::<Result<Vec<_>, _>>()? {
                    batch.delete(&BACKED_UP_SESSION_BY_ID, &key);
                    deleted = deleted.saturating_add(1);
                }
                if deleted == 0 {
                    return Ok(contents(&row));
                }
                let count = row.count.saturating_sub(deleted);
                Ok(put_contents(batch, (user, version), row, count))
            })
            .await
    }
}

impl Algorithm<'_> {
    fn ensure_size(&self) -> Result<()> {
        if self.name.len() > MAX_ALGORITHM_BYTES {
            return Err(Error::invalid_param("the algorithm's name is too long"));
        }
        if self.auth_data.get().len() > MAX_AUTH_DATA_BYTES {
            return Err(Error::too_large("auth_data is too large"));
        }
        Ok(())
    }
}

/// Deletes all backups of a user whose account ends.
///
/// # Errors
/// If the database cannot be read.
pub(crate) fn drop_backups(batch: &mut Batch, user: ShortUserId) -> Result<()> {
    let versions = batch.scan(&BACKUP_BY_VERSION, Range::prefix((user,)));
    for (key, row) in versions.collect::<Result<Vec<_>, _>>()? {
        batch.delete(&BACKUP_BY_VERSION, &key);
        delete_store(batch, user, row.store);
    }
    // No version can be created meanwhile: that changes this row.
    Ok(batch.update(&LAST_BACKUP_BY_USER, &user, |_| None)?)
}

/// The current version: the newest that was not deleted.
fn current(read: &impl Read, user: ShortUserId) -> Result<Option<Version>> {
    let newest = read.last(&BACKUP_BY_VERSION, Range::prefix((user,)))?;
    Ok(newest.map(|((_, version), row)| Version { version, row }))
}

fn existing(read: &impl Read, user: ShortUserId, version: &str) -> Result<Version> {
    let version = number(version)?;
    let row = read.get(&BACKUP_BY_VERSION, &(user, version))?.ok_or_else(no_version)?;
    Ok(Version { version, row })
}

/// The current version, if `version` is its number; it is still the current one when the batch is written.
fn writable(batch: &mut Batch, user: ShortUserId, version: &str) -> Result<Version> {
    // Every version that is created changes this row.
    batch.read_for_update(&LAST_BACKUP_BY_USER, &user)?;
    let current = current(batch, user)?.ok_or_else(no_version)?.version;
    let row = batch.read_for_update(&BACKUP_BY_VERSION, &(user, current))?;
    let number = current.to_string();
    if number == version {
        return Ok(Version { version: current, row: row.ok_or_else(no_version)? });
    }
    let data = WrongRoomKeysVersionErrorData::new(number);
    Err(Error::refused(ErrorKind::WrongRoomKeysVersion(data), "this is not the current version"))
}

fn number(version: &str) -> Result<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version).ok_or_else(no_version)
}

/// Numbers for a new store, to be written with whatever the store is for.
fn next_store(user: ShortUserId, batch: &mut Batch) -> Result<LastBackup> {
    let last = batch.read_for_update(&LAST_BACKUP_BY_USER, &user)?.unwrap_or_default();
    Ok(LastBackup { store: last.store.saturating_add(1), ..last })
}

fn delete_store(batch: &mut Batch, user: ShortUserId, store: u64) {
    batch.put(&DELETED_BACKUP_BY_STORE, &(user, store), &());
    batch.wake(Topic::Named(DELETIONS));
}

/// Writes the row of a version whose sessions change.
fn put_contents(
    batch: &mut Batch,
    key: (ShortUserId, u64),
    before: BackupVersion,
    count: u64,
) -> Contents {
    let after = BackupVersion { etag: before.etag.saturating_add(1), count, ..before };
    batch.put(&BACKUP_BY_VERSION, &key, &after);
    contents(&after)
}

fn contents(row: &BackupVersion) -> Contents {
    Contents { count: row.count, etag: row.etag }
}

fn no_version() -> Error {
    Error::not_found("there is no such version of the backup")
}
