//! Dehydrated devices: a device that a user leaves on the server, encrypted, to receive messages while no
//! other device of theirs does (MSC3814).
//!
//! Invariants: a user has one at most; it is a device like any other (listed, addressed, removed) but for its
//! access token, which was not handed out; reading its messages never deletes them.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/3814>

use std::sync::Arc;

use ruma::{
    DeviceId, OwnedDeviceId,
    api::client::{
        dehydrated_device::put_dehydrated_device::unstable::Request as NewDehydratedDevice,
        keys::upload_keys,
    },
};
use wick_account::{Devices, Session, devices::NewDevice};
use wick_core::{Error, Position, Result, ShortUserId, json};
use wick_database::{
    Batch, Read,
    schema::{
        dehydrated::{DEHYDRATED_DEVICE_BY_USER, DehydratedDevice},
        devices::DEVICE_BY_ID,
    },
};
use wick_runtime::Resources;

use crate::{
    device_keys::{NewKeys, Owner},
    to_device::{self, InboxPortion},
};

/// Bytes of the device itself.
const MAX_DEVICE_DATA_BYTES: usize = 65_536;

/// The dehydrated devices of local users.
pub struct DehydratedDevices {
    resources: Resources,
    devices: Arc<Devices>,
}

impl DehydratedDevices {
    /// Dehydrated devices among `devices`.
    #[must_use]
    pub fn new(resources: Resources, devices: Arc<Devices>) -> Self {
        Self { resources, devices }
    }

    /// Puts a dehydrated device in the place of the one that the user has, if any, with all its keys.
    ///
    /// # Errors
    /// As uploading keys; `M_TOO_LARGE`; `M_INVALID_PARAM` if another device of the user has that id.
    pub async fn put(&self, session: &Session, new: NewDehydratedDevice) -> Result<OwnedDeviceId> {
        if !json::is_object(new.device_data.json()) {
            return Err(Error::bad_json("device_data is an object"));
        }
        let device_data = new.device_data.json().get().to_owned();
        if device_data.len() > MAX_DEVICE_DATA_BYTES {
            return Err(Error::too_large("the device is too large"));
        }
        let Session { user, user_id, .. } = session;
        let device_id = new.device_id;
        let mut keys = upload_keys::v3::Request::new();
        keys.device_keys = Some(new.device_keys);
        keys.one_time_keys = new.one_time_keys;
        keys.fallback_keys = new.fallback_keys;
        let owner = Owner { user: *user, user_id, device_id: &device_id };
        let keys = NewKeys::check(owner, &keys)?;
        let device = NewDevice {
            device_id: Some(device_id.clone()),
            display_name: new.initial_device_display_name,
            refresh_token: false,
        };
        self.resources
            .change(|batch| {
                let before = batch.read_for_update(&DEHYDRATED_DEVICE_BY_USER, user)?;
                let is_same = before.as_ref().is_some_and(|before| before.device_id == device_id);
                if !is_same && batch.contains(&DEVICE_BY_ID, &(*user, &device_id))? {
                    return Err(Error::invalid_param("another device has this id"));
                }
                if let Some(before) = before {
                    self.devices.drop_devices(*user, &[before.device_id], batch)?;
                }
                self.devices.put_without_session((*user, user_id), &device, batch)?;
                keys.put(owner, batch)?;
                let row = DehydratedDevice {
                    device_id: device_id.clone(),
                    device_data: device_data.clone(),
                };
                batch.put(&DEHYDRATED_DEVICE_BY_USER, user, &row);
                Ok(())
            })
            .await?;
        Ok(device_id)
    }

    /// The user's dehydrated device.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none.
    pub fn get(&self, user: ShortUserId) -> Result<DehydratedDevice> {
        self.resources
            .database
            .published()
            .get(&DEHYDRATED_DEVICE_BY_USER, &user)?
            .ok_or_else(no_device)
    }

    /// Removes the user's dehydrated device with its keys and its messages. Returns its id.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none.
    pub async fn delete(&self, user: ShortUserId) -> Result<OwnedDeviceId> {
        self.resources
            .change(|batch| {
                let device = batch.read_for_update(&DEHYDRATED_DEVICE_BY_USER, &user)?;
                let device_id = device.ok_or_else(no_device)?.device_id;
                self.devices.drop_devices(user, std::slice::from_ref(&device_id), batch)?;
                Ok(device_id)
            })
            .await
    }

    /// The messages to the dehydrated device behind `from`, the last position of an earlier answer.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the device is not the user's dehydrated one; `M_NOT_FOUND` if there is none;
    /// `M_INVALID_PARAM` if `from` is no position.
    pub fn events(
        &self,
        user: ShortUserId,
        device_id: &DeviceId,
        from: Option<&str>,
    ) -> Result<InboxPortion> {
        let from = match from {
            None => Position(0),
            Some(from) => from
                .parse()
                .map(Position)
                .map_err(|_| Error::invalid_param("this is no token of these messages"))?,
        };
        let read = self.resources.database.published();
        let device = read.get(&DEHYDRATED_DEVICE_BY_USER, &user)?.ok_or_else(no_device)?;
        if device.device_id != device_id {
            return Err(Error::forbidden("this is not the dehydrated device"));
        }
        to_device::deliver(&read, (user, device_id), from)
    }
}

/// Forgets the dehydrated device of a user if it is among devices that are removed.
pub(crate) fn forget(
    user: ShortUserId,
    device_ids: &[OwnedDeviceId],
    batch: &mut Batch,
) -> Result<()> {
    let device = batch.read_for_update(&DEHYDRATED_DEVICE_BY_USER, &user)?;
    if device.is_some_and(|device| device_ids.contains(&device.device_id)) {
        batch.delete(&DEHYDRATED_DEVICE_BY_USER, &user);
    }
    Ok(())
}

fn no_device() -> Error {
    Error::not_found("there is no dehydrated device")
}
