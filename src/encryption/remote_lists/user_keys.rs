//! The keys of one user of another server, as that server has them.
//!
//! Invariant: the keys name their user and their device, and a self-signing key is signed by the master key beside it;
//! what is otherwise is left out.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    DeviceId, OwnedDeviceId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde_json::value::{RawValue, to_raw_value};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::{
        cross_signing::{CROSS_SIGNING_KEY_BY_USAGE, SIGNATURE_BY_KEY},
        device_keys::KEYS_BY_DEVICE,
    },
};

use crate::{
    cross_signing::{Usage, check_cross_signing_key, drop_device_signatures, drop_signatures},
    device_keys::{Shown, Unsigned, check_device_keys, sent_name},
    signed_json::SignedJson,
};

/// Devices of one user that are heeded.
const MAX_DEVICES: usize = 1_000;

/// A device with its display name, if its server shows that.
#[derive(Clone)]
pub(super) struct RemoteDevice {
    keys: SignedJson,
    name: Option<String>,
}

impl RemoteDevice {
    /// Reads the keys of a device with the name that is sent beside them. `None` if they are not in order.
    pub(super) fn check(
        device: (&UserId, &DeviceId),
        keys: &Raw<DeviceKeys>,
        name: Option<String>,
    ) -> Option<Self> {
        let name = sent_name(name, keys);
        let keys = check_device_keys(device, keys).inspect_err(|error| {
            let (user, device) = device;
            tracing::debug!(%user, %device, %error, "a device of another server is left out");
        });
        Some(Self { keys: keys.ok()?, name })
    }

    /// The device as it is stored and shown.
    pub(super) fn to_json(&self) -> Result<Box<RawValue>> {
        match &self.name {
            None => self.keys.to_json(),
            Some(name) => {
                let unsigned = Unsigned { device_display_name: Some(name.clone()) };
                self.keys.to_json_with(Some(&unsigned))
            }
        }
    }
}

/// The keys of a user.
#[derive(Clone)]
pub(crate) struct UserKeys {
    devices: BTreeMap<OwnedDeviceId, RemoteDevice>,
    master: Option<SignedJson>,
    self_signing: Option<SignedJson>,
}

impl UserKeys {
    /// Reads what a server responded about one of its users.
    pub(crate) fn check(
        user_id: &UserId,
        devices: impl IntoIterator<Item = (OwnedDeviceId, Raw<DeviceKeys>, Option<String>)>,
        (master, self_signing): (Option<&Raw<CrossSigningKey>>, Option<&Raw<CrossSigningKey>>),
    ) -> Self {
        let devices =
            devices.into_iter().take(MAX_DEVICES).filter_map(|(device_id, keys, name)| {
                let device = RemoteDevice::check((user_id, &device_id), &keys, name)?;
                Some((device_id, device))
            });
        let master = master.and_then(|key| checked(user_id, Usage::Master, key));
        let public_key = master.as_ref().and_then(SignedJson::public_key);
        let self_signing = self_signing
            .and_then(|key| checked(user_id, Usage::SelfSigning, key))
            .filter(|key| public_key.is_some_and(|master| key.is_signed_by(user_id, &master)));
        Self { devices: devices.collect(), master, self_signing }
    }

    /// Stores them in place of those that are stored. Returns whether they differ. All that stores keys of users of other
    /// servers reads their list for update.
    pub(super) fn put(&self, user: ShortUserId, batch: &mut Batch) -> Result<bool> {
        let stored = batch.scan(&KEYS_BY_DEVICE, Range::prefix((user,)));
        let stored = stored.map(|row| row.map(|((_, id), keys)| (id, keys)));
        let stored = stored.collect::<Result<BTreeMap<_, _>, _>>()?;
        let gone: Vec<_> =
            stored.keys().filter(|id| !self.devices.contains_key(*id)).cloned().collect();
        let mut is_changed = !gone.is_empty();
        for device_id in &gone {
            batch.delete(&KEYS_BY_DEVICE, &(user, device_id));
        }
        drop_device_signatures(user, &gone, batch)?;
        for (device_id, keys) in &self.devices {
            let keys = keys.to_json()?;
            if stored.get(device_id).is_none_or(|stored| stored.get() != keys.get()) {
                batch.put(&KEYS_BY_DEVICE, &(user, device_id), &keys);
                is_changed = true;
            }
        }
        is_changed |= put_cross_signing(user, Usage::Master, self.master.as_ref(), batch)?;
        is_changed |=
            put_cross_signing(user, Usage::SelfSigning, self.self_signing.as_ref(), batch)?;
        Ok(is_changed)
    }

    /// What a viewer is shown of these devices, or of all. `signatures` are the viewer's own on the user's master key.
    pub(crate) fn shown(
        &self,
        wanted: &[OwnedDeviceId],
        viewer: &UserId,
        signatures: Vec<(String, String)>,
    ) -> Result<Shown> {
        let mut devices = BTreeMap::<&OwnedDeviceId, Box<RawValue>>::new();
        for (device_id, keys) in &self.devices {
            if wanted.is_empty() || wanted.contains(device_id) {
                devices.insert(device_id, keys.to_json()?);
            }
        }
        let devices = to_raw_value(&devices)
            .map_err(|error| Error::internal("the keys of devices cannot be written", error))?;
        let mut master = self.master.clone();
        if let Some(master) = &mut master
            && !signatures.is_empty()
        {
            master.signatures.entry(viewer.to_owned()).or_default().extend(signatures);
        }
        Ok(Shown {
            devices,
            master: master.map(|key| key.to_json()).transpose()?,
            self_signing: self.self_signing.as_ref().map(SignedJson::to_json).transpose()?,
            user_signing: None,
        })
    }

    /// The signatures of a local user on the master key.
    pub(crate) fn signatures_of(
        &self,
        (user, viewer): (ShortUserId, ShortUserId),
        read: &impl Read,
    ) -> Result<Vec<(String, String)>> {
        let Some(key) = self.master.as_ref().and_then(SignedJson::public_key) else {
            return Ok(Vec::new());
        };
        read.scan(&SIGNATURE_BY_KEY, Range::prefix((user, viewer, &*key)))
            .map(|row| row.map(|((.., signing), signature)| (signing, signature)))
            .map(|row| row.map_err(Error::from))
            .collect()
    }
}

/// A cross-signing key if it has the right form.
pub(super) fn checked(
    user_id: &UserId,
    usage: Usage,
    key: &Raw<CrossSigningKey>,
) -> Option<SignedJson> {
    let key = check_cross_signing_key(user_id, usage, key).inspect_err(|error| {
        tracing::debug!(user = %user_id, %error, "a cross-signing key of another server is left out");
    });
    key.ok()
}

/// Stores a cross-signing key, or deletes the stored one. Returns whether that changes anything.
pub(super) fn put_cross_signing(
    user: ShortUserId,
    usage: Usage,
    key: Option<&SignedJson>,
    batch: &mut Batch,
) -> Result<bool> {
    let row = (user, usage.name());
    let stored = batch.read_for_update(&CROSS_SIGNING_KEY_BY_USAGE, &row)?;
    let new = key.map(SignedJson::to_json).transpose()?;
    if stored.as_ref().map(|key| key.get()) == new.as_ref().map(|key| key.get()) {
        return Ok(false);
    }
    match &new {
        Some(new) => batch.put(&CROSS_SIGNING_KEY_BY_USAGE, &row, new),
        None => batch.delete(&CROSS_SIGNING_KEY_BY_USAGE, &row),
    }
    let old = stored.map(|stored| SignedJson::stored(&stored)).transpose()?;
    let old = old.and_then(|old| old.public_key());
    let replaced = old.filter(|old| key.and_then(SignedJson::public_key).as_ref() != Some(old));
    drop_signatures(user, &replaced.into_iter().collect::<BTreeSet<_>>(), batch)?;
    Ok(true)
}
