//! Pushers, as clients set them. `push` sends what they ask for.
//!
//! Invariant: a pusher ends with the device that set it, and what it was still to send ends with it.

mod owners;

use ruma::{
    DeviceId, OwnedDeviceId,
    api::client::push::{Pusher, PusherIds, PusherKind, set_pusher::v3::PusherAction},
};
use serde::Serialize;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::{
        account_data::{PUSHER_BY_ID, StoredPusher, USER_BY_PUSHER},
        devices::DEVICE_BY_ID,
        push::{PENDING_PUSH_BY_POSITION, PROGRESS_BY_PUSHER, PusherProgress},
    },
};
use wick_runtime::Resources;

use self::owners::Owners;
use crate::Session;

/// The specification's bounds on a pusher's ids.
const MAX_PUSH_KEY_BYTES: usize = 512;
const MAX_APP_ID_CHARS: usize = 64;

const MAX_PUSHER_BYTES: usize = 16_384;

/// The path that the URL of every push gateway has.
///
/// <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>
const GATEWAY_PATH: &str = "_matrix/push/v1/notify";

/// The name of a pusher: its user, app id and push key.
pub type PusherKey = (ShortUserId, String, String);

/// Wakes those that wait for a user to set a pusher.
#[must_use]
pub fn topic(user: ShortUserId) -> Topic {
    Topic::Numbered("pushers", user.0)
}

/// A pusher as its user sees it.
#[derive(Debug, Serialize)]
pub struct ListedPusher {
    /// The pusher.
    #[serde(flatten)]
    pub pusher: Pusher,
    /// Whether notifications are sent to it (MSC3881).
    #[serde(rename = "org.matrix.msc3881.enabled")]
    pub is_enabled: bool,
    /// The device that set it (MSC3881).
    #[serde(rename = "org.matrix.msc3881.device_id")]
    pub device_id: OwnedDeviceId,
}

/// The pushers of local users.
pub struct Pushers {
    resources: Resources,
    owners: Owners,
}

impl Pushers {
    /// Pushers in the database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(resources: Resources) -> Result<Self> {
        let owners = Owners::read(&resources.database)?;
        Ok(Self { resources, owners })
    }

    /// Whether a user may have pushers. Costs no read of the database.
    #[must_use]
    pub fn may_have(&self, user: ShortUserId) -> bool {
        self.owners.contains(user)
    }

    /// Users that may have pushers. Costs no read of the database.
    #[must_use]
    pub fn owners(&self) -> Vec<ShortUserId> {
        self.owners.list()
    }

    /// The names of a user's pushers.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn keys(&self, read: &impl Read, user: ShortUserId) -> Result<Vec<PusherKey>> {
        let keys = read.scan(&PUSHER_BY_ID, Range::prefix((user,))).keys();
        let keys = keys.collect::<std::result::Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            self.owners.prune(user, &self.resources.database)?;
        }
        Ok(keys)
    }

    /// Deletes a pusher that its gateway rejected, unless it was set anew since `rejected` was read.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn reject(&self, key: &PusherKey, rejected: &StoredPusher) -> Result<()> {
        self.resources
            .change(|batch| {
                if batch.read_for_update(&PUSHER_BY_ID, key)?.as_ref() == Some(rejected) {
                    drop_pusher(key.0, &key.1, &key.2, batch)?;
                }
                Ok(())
            })
            .await
    }

    /// The pushers of a user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(&self, user: ShortUserId) -> Result<Vec<ListedPusher>> {
        let read = self.resources.database.published();
        let mut pushers = Vec::new();
        for row in read.scan(&PUSHER_BY_ID, Range::prefix((user,))) {
            let (_, StoredPusher { device_id, json, is_enabled }) = row?;
            // Set at the very moment at which its device was removed.
            if !read.contains(&DEVICE_BY_ID, &(user, &device_id))? {
                continue;
            }
            let pusher = serde_json::from_str(&json)
                .map_err(|error| Error::internal("stored pusher", error))?;
            pushers.push(ListedPusher { pusher, is_enabled, device_id });
        }
        Ok(pushers)
    }

    /// Sets or deletes a pusher. Unless `append` is set, the same pusher of other users ends. A request that
    /// changes nothing but `is_enabled` can come from any device: the pusher stays with the device that set it
    /// (MSC3881).
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if its ids are too long, `M_TOO_LARGE` if it is too large or the user has too
    /// many.
    pub async fn set(
        &self,
        session: &Session,
        action: &PusherAction,
        is_enabled: bool,
    ) -> Result<()> {
        let (ids, append, stored) = match action {
            PusherAction::Post(data) => (&data.pusher.ids, data.append, Some(&data.pusher)),
            PusherAction::Delete(ids) => (ids, true, None),
            _ => return Err(Error::invalid_param("unknown kind of pusher")),
        };
        ensure_ids(ids)?;
        let stored = match stored {
            Some(pusher) => {
                self.ensure_gateway(&pusher.kind)?;
                let device_id = session.device_id.clone();
                Some(StoredPusher { device_id, json: to_json(pusher)?, is_enabled })
            }
            None => None,
        };
        self.resources
            .change(|batch| {
                // A log-out at the same time takes the pusher with it.
                let device = (session.user, &session.device_id);
                if batch.read_for_update(&DEVICE_BY_ID, &device)?.is_none() {
                    return Err(Error::forbidden("the device is logged out"));
                }
                if !append {
                    drop_others(session.user, ids, batch)?;
                }
                match &stored {
                    Some(stored) => {
                        self.put(session.user, ids, stored, batch)?;
                        self.ensure_within(session.user, batch)
                    }
                    None => drop_pusher(session.user, &ids.app_id, &ids.pushkey, batch),
                }
            })
            .await
    }

    /// Refuses what is no push gateway.
    fn ensure_gateway(&self, kind: &PusherKind) -> Result<()> {
        let PusherKind::Http(data) = kind else {
            return Err(Error::invalid_param("this server supports pushers of kind http alone"));
        };
        let allow_http = self.resources.config.push.allow_http;
        let rest = data.url.strip_prefix("https://");
        let rest = rest.or_else(|| data.url.strip_prefix("http://").filter(|_| allow_http));
        let is_host = |host: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            !host.is_empty() && host.bytes().all(is_part)
        };
        match rest.and_then(|rest| rest.split_once('/')) {
            Some((host, GATEWAY_PATH)) if is_host(host) => Ok(()),
            _ => Err(Error::invalid_param(
                "the url of a push gateway is https://, a host and /_matrix/push/v1/notify",
            )),
        }
    }

    fn put(
        &self,
        user: ShortUserId,
        ids: &PusherIds,
        stored: &StoredPusher,
        batch: &mut Batch,
    ) -> Result<()> {
        let key = (user, ids.app_id.clone(), ids.pushkey.clone());
        let known = batch.read_for_update(&PUSHER_BY_ID, &key)?;
        let was_disabled = known.as_ref().is_some_and(|known| !known.is_enabled);
        let toggled = known
            .filter(|known| known.json == stored.json && known.is_enabled != stored.is_enabled);
        let stored = match toggled {
            Some(known) => StoredPusher { is_enabled: stored.is_enabled, ..known },
            None => stored.clone(),
        };
        batch.put(&PUSHER_BY_ID, &key, &stored);
        batch.put(&USER_BY_PUSHER, &(&ids.app_id, &ids.pushkey, user), &());
        let progress = batch.read_for_update(&PROGRESS_BY_PUSHER, &key)?;
        // What came before a pusher was set, or while it was disabled, is not sent.
        if progress.is_none() || was_disabled && stored.is_enabled {
            let set_at = self.resources.clock.now();
            let progress = progress.unwrap_or(PusherProgress { set_at, ..Default::default() });
            let slot = batch.reserve_position();
            batch.put_at(slot, &PROGRESS_BY_PUSHER, move |upto| {
                (key, PusherProgress { upto, ..progress })
            });
        }
        self.owners.add(user, batch);
        batch.wake(topic(user));
        Ok(())
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
        drop_pusher(user, &app_id, &push_key, batch)?;
    }
    Ok(())
}

/// Deletes a pusher, and with the last one of its user what is still to be sent.
fn drop_pusher(user: ShortUserId, app_id: &str, push_key: &str, batch: &mut Batch) -> Result<()> {
    batch.delete(&PUSHER_BY_ID, &(user, app_id, push_key));
    batch.delete(&USER_BY_PUSHER, &(app_id, push_key, user));
    batch.delete(&PROGRESS_BY_PUSHER, &(user, app_id, push_key));
    if batch.first(&PUSHER_BY_ID, Range::prefix((user,)))?.is_none() {
        batch.delete_range(&PENDING_PUSH_BY_POSITION, Range::prefix((user,)))?;
    }
    Ok(())
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
        drop_pusher(other, &ids.app_id, &ids.pushkey, batch)?;
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
