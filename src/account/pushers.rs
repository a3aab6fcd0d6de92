//! Pushers, as clients set them. They are stored and listed; nothing is pushed.
//!
//! Invariant: a pusher ends with the device that set it.

use ruma::{
    DeviceId,
    api::client::push::{Pusher, PusherIds, set_pusher::v3::PusherAction},
};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::{
        account_data::{PUSHER_BY_ID, StoredPusher, USER_BY_PUSHER},
        devices::DEVICE_BY_ID,
    },
};
use wick_runtime::Resources;

use crate::Session;

/// The specification's bounds on a pusher's ids.
const MAX_PUSH_KEY_BYTES: usize = 512;
const MAX_APP_ID_CHARS: usize = 64;

const MAX_PUSHER_BYTES: usize = 16_384;

/// The pushers of local users.
pub struct Pushers {
    resources: Resources,
}

impl Pushers {
    /// Pushers in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// The pushers of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, user: ShortUserId) -> Result<Vec<Pusher>> {
        let read = self.resources.database.published();
        let mut pushers = Vec::new();
        for row in read.scan(&PUSHER_BY_ID, Range::prefix((user,))) {
            let (_, stored) = row?;
            // Set at the very moment at which its device went.
            if !read.contains(&DEVICE_BY_ID, &(user, &stored.device_id))? {
                continue;
            }
            let pusher = serde_json::from_str(&stored.json)
                .map_err(|error| Error::internal("stored pusher", error))?;
            pushers.push(pusher);
        }
        Ok(pushers)
    }

    /// Sets or deletes a pusher. Unless `append` is set, the same pusher of other users ends.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if its ids are too long, `M_TOO_LARGE` if it is too large or the user has too
    /// many.
    pub async fn set(&self, session: &Session, action: &PusherAction) -> Result<()> {
        let (ids, append, stored) = match action {
            PusherAction::Post(data) => (&data.pusher.ids, data.append, Some(&data.pusher)),
            PusherAction::Delete(ids) => (ids, true, None),
            _ => return Err(Error::invalid_param("unknown kind of pusher")),
        };
        ensure_ids(ids)?;
        let stored = match stored {
            Some(pusher) => {
                Some(StoredPusher { device_id: session.device_id.clone(), json: to_json(pusher)? })
            }
            None => None,
        };
        self.resources
            .change(|batch| {
                if !append {
                    drop_others(session.user, ids, batch)?;
                }
                match &stored {
                    Some(stored) => {
                        put_pusher(session.user, ids, stored, batch);
                        self.ensure_within(session.user, batch)
                    }
                    None => {
                        drop_pusher(session.user, &ids.app_id, &ids.pushkey, batch);
                        Ok(())
                    }
                }
            })
            .await
    }

    fn ensure_within(&self, user: ShortUserId, batch: &Batch) -> Result<()> {
        let most = usize::try_from(self.resources.config.accounts.max_pushers);
        let pushers = batch.scan(&PUSHER_BY_ID, Range::prefix((user,))).keys();
        if pushers.count() > most.unwrap_or(usize::MAX) {
            return Err(Error::too_large("this user has too many pushers"));
        }
        Ok(())
    }
}

fn to_json(pusher: &Pusher) -> Result<String> {
    let json = serde_json::to_string(pusher).map_err(|error| Error::internal("pusher", error))?;
    if json.len() > MAX_PUSHER_BYTES {
        return Err(Error::too_large("a pusher has at most 16 KiB"));
    }
    Ok(json)
}

/// Deletes the pushers that a device set.
pub(crate) fn drop_device(
    user: ShortUserId,
    device_id: &DeviceId,
    batch: &mut Batch,
) -> Result<()> {
    let mut dropped = Vec::new();
    for row in batch.scan(&PUSHER_BY_ID, Range::prefix((user,))) {
        let ((_, app_id, push_key), stored) = row?;
        if stored.device_id == device_id {
            dropped.push((app_id, push_key));
        }
    }
    for (app_id, push_key) in dropped {
        drop_pusher(user, &app_id, &push_key, batch);
    }
    Ok(())
}

fn put_pusher(user: ShortUserId, ids: &PusherIds, stored: &StoredPusher, batch: &mut Batch) {
    batch.put(&PUSHER_BY_ID, &(user, &ids.app_id, &ids.pushkey), stored);
    batch.put(&USER_BY_PUSHER, &(&ids.app_id, &ids.pushkey, user), &());
}

fn drop_pusher(user: ShortUserId, app_id: &str, push_key: &str, batch: &mut Batch) {
    batch.delete(&PUSHER_BY_ID, &(user, app_id, push_key));
    batch.delete(&USER_BY_PUSHER, &(app_id, push_key, user));
}

fn drop_others(user: ShortUserId, ids: &PusherIds, batch: &mut Batch) -> Result<()> {
    let mut others = Vec::new();
    for row in batch.scan(&USER_BY_PUSHER, Range::prefix((&ids.app_id, &ids.pushkey))) {
        let ((_, _, other), ()) = row?;
        if other != user {
            others.push(other);
        }
    }
    for other in others {
        drop_pusher(other, &ids.app_id, &ids.pushkey, batch);
    }
    Ok(())
}

fn ensure_ids(ids: &PusherIds) -> Result<()> {
    if ids.pushkey.is_empty() || ids.pushkey.len() > MAX_PUSH_KEY_BYTES {
        return Err(Error::invalid_param("the pushkey has 1 to 512 bytes"));
    }
    if ids.app_id.is_empty() || ids.app_id.chars().count() > MAX_APP_ID_CHARS {
        return Err(Error::invalid_param("the app_id has 1 to 64 characters"));
    }
    Ok(())
}
