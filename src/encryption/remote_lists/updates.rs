//! The EDUs by which other servers tell of changes: `m.device_list_update` and `m.signing_key_update`.
//!
//! Invariant: an update is put into a stored list only directly after the one before it, or when the list holds it already.
//! After any other one the list is fetched again.

use ruma::{ServerName, UserId};
use ruma_federation_api::transactions::edu::{DeviceListUpdateContent, SigningKeyUpdateContent};
use wick_core::{Result, ShortUserId};
use wick_database::{
    Batch, Read,
    schema::{
        cross_signing::CROSS_SIGNING_KEY_BY_USAGE,
        device_keys::KEYS_BY_DEVICE,
        remote_devices::{REMOTE_LIST_BY_USER, RemoteList},
    },
};

use super::{
    RemoteLists, forget, put_list,
    sharing::is_with,
    user_keys::{RemoteDevice, checked, put_cross_signing},
};
use crate::{
    cross_signing::{Usage, drop_device_signatures},
    device_lists::note_change,
    signed_json::SignedJson,
};

impl RemoteLists {
    /// Takes in a change of a device. One of a user of another server than `origin`, or of one who shares no room with a
    /// local user, changes nothing.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn receive_device(
        &self,
        origin: &ServerName,
        update: &DeviceListUpdateContent,
    ) -> Result<()> {
        let now = self.resources.clock.now();
        self.receive(origin, &update.user_id, |user, batch| {
            let is_unseen = is_unseen(user, update, batch)?;
            let Some(old) = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)? else {
                return if is_unseen { Ok(()) } else { note_change(user, batch) };
            };
            let stream_id = Some(u64::from(update.stream_id));
            let is_next = old.stream_id.is_some_and(|last| {
                !update.prev_id.is_empty() && update.prev_id.iter().all(|id| u64::from(*id) == last)
            });
            let new = if old.refetch_at.is_some() || !(is_next || old.stream_id == stream_id) {
                // Its server is there, so there is nothing to wait for.
                RemoteList { refetch_at: Some(now), failures: 0, ..old.clone() }
            } else {
                // A list that was fetched after the update was sent holds it: putting it in again changes nothing.
                apply(user, update, batch)?;
                RemoteList { stream_id, ..old.clone() }
            };
            put_list(user, (Some(&old), &new), batch);
            if is_unseen { Ok(()) } else { note_change(user, batch) }
        })
        .await
    }

    /// Takes in a change of cross-signing keys, of the same users as [`RemoteLists::receive_device`].
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn receive_signing_keys(
        &self,
        origin: &ServerName,
        update: &SigningKeyUpdateContent,
    ) -> Result<()> {
        self.receive(origin, &update.user_id, |user, batch| {
            if let Some(list) = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)? {
                apply_signing_keys(user, update, batch)?;
                // Whatever stores keys conflicts with whatever else does.
                batch.put(&REMOTE_LIST_BY_USER, &user, &list);
            }
            note_change(user, batch)
        })
        .await
    }

    async fn receive(
        &self,
        origin: &ServerName,
        user_id: &UserId,
        apply: impl Fn(ShortUserId, &mut Batch) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        if user_id.server_name() != origin {
            tracing::debug!(%origin, user = %user_id, "an update of a user of another server is dropped");
            return Ok(());
        }
        let own_name = &self.resources.config.server.name;
        self.resources
            .change(|batch| {
                let user = self.resources.database.intern().lookup_user(batch, user_id)?;
                let Some(user) = user else { return Ok(()) };
                if is_with(batch, user, own_name)? {
                    apply(user, batch)
                } else {
                    forget(user, batch)
                }
            })
            .await
    }
}

fn apply(user: ShortUserId, update: &DeviceListUpdateContent, batch: &mut Batch) -> Result<()> {
    let key = (user, &update.device_id);
    let keys = update.keys.as_ref().filter(|_| update.deleted != Some(true));
    let device = keys.and_then(|keys| {
        let (device, name) = ((&*update.user_id, &*update.device_id), &update.device_display_name);
        RemoteDevice::check(device, keys, name.clone())
    });
    if let Some(device) = device {
        batch.put(&KEYS_BY_DEVICE, &key, &device.to_json()?);
    } else {
        batch.delete(&KEYS_BY_DEVICE, &key);
        drop_device_signatures(user, std::slice::from_ref(&update.device_id), batch)?;
    }
    Ok(())
}

/// Whether clients do not see an update: it is of a device without keys that had none before.
fn is_unseen(user: ShortUserId, update: &DeviceListUpdateContent, batch: &Batch) -> Result<bool> {
    let is_without_keys = update.keys.is_none() && update.deleted != Some(true);
    Ok(is_without_keys && !batch.contains(&KEYS_BY_DEVICE, &(user, &update.device_id))?)
}

fn apply_signing_keys(
    user: ShortUserId,
    update: &SigningKeyUpdateContent,
    batch: &mut Batch,
) -> Result<()> {
    let user_id = &update.user_id;
    let master = update.master_key.as_ref().and_then(|key| checked(user_id, Usage::Master, key));
    if master.is_some() {
        put_cross_signing(user, Usage::Master, master.as_ref(), batch)?;
    }
    let key = update.self_signing_key.as_ref();
    let Some(key) = key.and_then(|key| checked(user_id, Usage::SelfSigning, key)) else {
        return Ok(());
    };
    let stored = batch.get(&CROSS_SIGNING_KEY_BY_USAGE, &(user, Usage::Master.name()))?;
    let stored = stored.map(|stored| SignedJson::stored(&stored)).transpose()?;
    let master = stored.and_then(|stored| stored.public_key());
    if master.is_some_and(|master| key.is_signed_by(user_id, &master)) {
        put_cross_signing(user, Usage::SelfSigning, Some(&key), batch)?;
    }
    Ok(())
}
