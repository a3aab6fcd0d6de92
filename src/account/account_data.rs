//! What clients keep on the server for themselves, globally and by room, and the tags of rooms.
//!
//! Invariants: `m.push_rules` and `m.fully_read` are written by the server alone; each piece has
//! exactly one row in the index of changes, at the position of its last change. Deleted data
//! (MSC3391) is `{}` in the next sync and otherwise absent.

mod tags;
mod total;

use std::collections::{BTreeMap, HashSet};

use ruma::{DeviceId, OwnedUserId, RoomId, UserId, api::error::ErrorKind};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use wick_core::{Error, Position, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::account_data::{
        ACCOUNT_DATA_BY_TYPE, ACCOUNT_DATA_CHANGE_BY_POSITION, AccountDataName, AccountDataTotal,
        AccountDatum,
    },
};
use wick_runtime::Resources;

/// Types that clients cannot write.
const SERVER_TYPES: [&str; 2] = ["m.push_rules", "m.fully_read"];

/// Settings of one device's notifications (MSC3890), by the device's id.
const NOTIFICATION_SETTINGS: [&str; 2] =
    ["org.matrix.msc3890.local_notification_settings.", "m.local_notification_settings."];

/// An empty content deletes (MSC3391).
const EMPTY: &str = "{}";

const MAX_TYPE_BYTES: usize = 255;

/// A piece of account data that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The room it is about; `None` for global account data.
    pub room: Option<ShortRoomId>,
    /// Its type.
    pub event_type: String,
    /// Its content as JSON text; `{}` if it was deleted.
    pub content: String,
}

/// Account data of local users.
pub struct AccountData {
    resources: Resources,
}

impl AccountData {
    /// Account data in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// The content of one type as JSON, global if no room is given.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(
        &self,
        user: ShortUserId,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Option<Box<RawValue>>> {
        let read = self.resources.database.published();
        let room = match room_id {
            Some(room_id) => match self.resources.database.intern().lookup_room(&read, room_id)? {
                Some(room) => Some(room),
                None => return Ok(None),
            },
            None => None,
        };
        match content(&read, user, room, event_type)? {
            Some(content) => RawValue::from_string(content)
                .map(Some)
                .map_err(|error| Error::internal("stored account data", error)),
            None => Ok(None),
        }
    }

    /// Sets one type, as its user wishes. An empty object deletes it.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no object, and with status 405 if the type is the server's to write.
    pub async fn set(
        &self,
        user: ShortUserId,
        room_id: Option<&RoomId>,
        event_type: &str,
        content: &RawValue,
    ) -> Result<()> {
        ensure_writable(event_type)?;
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(content.get())
                .map_err(|_| Error::bad_json("account data is a JSON object"))?;
        let content = (!object.is_empty()).then(|| content.get().to_owned());
        self.write(user, room_id, event_type, content).await
    }

    /// Deletes one type (MSC3391). If it is not there, nothing happens.
    ///
    /// # Errors
    /// As [`AccountData::set`].
    pub async fn delete(
        &self,
        user: ShortUserId,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<()> {
        ensure_writable(event_type)?;
        self.write(user, room_id, event_type, None).await
    }

    async fn write(
        &self,
        user: ShortUserId,
        room_id: Option<&RoomId>,
        event_type: &str,
        content: Option<String>,
    ) -> Result<()> {
        self.resources
            .change(|batch| {
                let room = room_id.map(|room_id| self.intern(room_id, batch));
                let room = room.transpose()?;
                self.within_total(user, batch, |batch| {
                    put(user, room, event_type, content.clone(), batch)
                })
            })
            .await
    }

    /// Refuses what takes account data beyond the user's total. What was deleted makes room first.
    fn within_total(
        &self,
        user: ShortUserId,
        batch: &mut Batch,
        write: impl FnOnce(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        let before = total::read(user, batch)?;
        write(batch)?;
        let config = &self.resources.config.accounts;
        let is_beyond = |total: AccountDataTotal| {
            let bytes = u64::from(config.max_account_data_kilobytes).saturating_mul(1024);
            (total.rows > before.rows && total.rows > u64::from(config.max_account_data))
                || (total.bytes > before.bytes && total.bytes > bytes)
        };
        if is_beyond(total::read(user, batch)?) && is_beyond(total::drop_deleted(user, batch)?) {
            return Err(Error::too_large("this user has too much account data"));
        }
        Ok(())
    }

    fn intern(&self, room_id: &RoomId, batch: &mut Batch) -> Result<ShortRoomId> {
        Ok(self.resources.database.intern().room(room_id, batch)?)
    }
}

/// The content of one type as JSON text.
///
/// # Errors
/// If the database cannot be read.
pub fn content(
    read: &impl Read,
    user: ShortUserId,
    room: Option<ShortRoomId>,
    event_type: &str,
) -> Result<Option<String>> {
    Ok(read.get(&ACCOUNT_DATA_BY_TYPE, &(user, room, event_type))?.and_then(|datum| datum.content))
}

/// The users that the session's user ignores, never that user.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#ignoring-users>
///
/// # Errors
/// If the database cannot be read.
pub fn ignored_users(
    read: &impl Read,
    user: ShortUserId,
    user_id: &UserId,
) -> Result<HashSet<OwnedUserId>> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: BTreeMap<String, IgnoredAny>,
    }
    let content = content(read, user, None, "m.ignored_user_list")?;
    // Clients can store any content there: one that is not a list of users counts as an empty list.
    let content = content.and_then(|content| serde_json::from_str::<Content>(&content).ok());
    let users = content.map(|content| content.ignored_users).unwrap_or_default();
    let users = users.into_keys().filter_map(|user_id| OwnedUserId::try_from(user_id).ok());
    Ok(users.filter(|ignored| ignored != user_id).collect())
}

/// Everything a user has for one room, or globally, for a sync from the beginning.
///
/// # Errors
/// If the database cannot be read.
pub fn all(read: &impl Read, user: ShortUserId, room: Option<ShortRoomId>) -> Result<Vec<Changed>> {
    let mut all = Vec::new();
    for row in read.scan(&ACCOUNT_DATA_BY_TYPE, Range::prefix((user, room))) {
        let ((_, room, event_type), datum) = row?;
        if let Some(content) = datum.content {
            all.push(Changed { room, event_type, content });
        }
    }
    Ok(all)
}

/// What changed after `since`, up to and including `upto`, in the order of the changes.
///
/// # Errors
/// If the database cannot be read.
pub fn changed(
    read: &impl Read,
    user: ShortUserId,
    since: Position,
    upto: Position,
) -> Result<Vec<Changed>> {
    let range = Range::between(&(user, since.next()), &(user, upto.next()));
    let mut changed = Vec::new();
    for row in read.scan(&ACCOUNT_DATA_CHANGE_BY_POSITION, range) {
        let ((_, position), AccountDataName { room, event_type }) = row?;
        let datum = read
            .get(&ACCOUNT_DATA_BY_TYPE, &(user, room, &event_type))?
            .ok_or_else(|| Error::corrupt("changed account data is not there"))?;
        if datum.position == position {
            let content = datum.content.unwrap_or_else(|| EMPTY.to_owned());
            changed.push(Changed { room, event_type, content });
        }
    }
    Ok(changed)
}

/// Replaces one type, whatever its content is. `None` deletes. A content that is computed from the
/// stored one is written with [`update`].
///
/// # Errors
/// If the database cannot be read.
pub fn put(
    user: ShortUserId,
    room: Option<ShortRoomId>,
    event_type: &str,
    content: Option<String>,
    batch: &mut Batch,
) -> Result<()> {
    let old = batch.read_for_update(&ACCOUNT_DATA_BY_TYPE, &(user, room, event_type))?;
    if content.is_some() || old.as_ref().is_some_and(|old| old.content.is_some()) {
        replace((user, room, event_type), old, content, batch)?;
    }
    Ok(())
}

/// Computes the content of one type from the stored one; `None` is a type that is not there. If it stays
/// the same, nothing is written. The batch requires the content that `change` was given.
///
/// # Errors
/// The error of `change`, or if the database cannot be read.
pub fn update(
    user: ShortUserId,
    room: Option<ShortRoomId>,
    event_type: &str,
    batch: &mut Batch,
    change: impl FnOnce(Option<&str>) -> Result<Option<String>>,
) -> Result<()> {
    let old = batch.read_for_update(&ACCOUNT_DATA_BY_TYPE, &(user, room, event_type))?;
    let before = old.as_ref().and_then(|old| old.content.as_deref());
    let content = change(before)?;
    if content.as_deref() != before {
        replace((user, room, event_type), old, content, batch)?;
    }
    Ok(())
}

fn replace(
    (user, room, event_type): (ShortUserId, Option<ShortRoomId>, &str),
    old: Option<AccountDatum>,
    content: Option<String>,
    batch: &mut Batch,
) -> Result<()> {
    total::change(user, event_type, old.as_ref(), content.as_deref(), batch)?;
    if let Some(old) = old {
        batch.delete(&ACCOUNT_DATA_CHANGE_BY_POSITION, &(user, old.position));
    }
    let slot = batch.reserve_position();
    let name = AccountDataName { room, event_type: event_type.to_owned() };
    let key = (user, room, event_type.to_owned());
    batch.put_at(slot, &ACCOUNT_DATA_BY_TYPE, move |position| {
        (key, AccountDatum { position, content })
    });
    batch.put_at(slot, &ACCOUNT_DATA_CHANGE_BY_POSITION, move |position| ((user, position), name));
    Ok(())
}

/// Deletes what is kept for a device that goes.
pub(crate) fn drop_device(
    user: ShortUserId,
    device_id: &DeviceId,
    batch: &mut Batch,
) -> Result<()> {
    for prefix in NOTIFICATION_SETTINGS {
        put(user, None, &format!("{prefix}{device_id}"), None, batch)?;
    }
    Ok(())
}

fn ensure_writable(event_type: &str) -> Result<()> {
    if SERVER_TYPES.contains(&event_type) {
        let message = "this type is controlled by the server";
        return Err(Error::refused_with(405, ErrorKind::BadJson, message));
    }
    if event_type.is_empty() || event_type.len() > MAX_TYPE_BYTES {
        return Err(Error::invalid_param("the type is empty or too long"));
    }
    Ok(())
}
