//! How many keys of devices are left to be claimed: in `/sync` for the device itself, and in the transactions of application
//! services for the devices of their users.

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use wick_core::{Result, ShortUserId};
use wick_database::{
    Read,
    schema::{
        device_keys::{ALGORITHMS, FALLBACK_KEY_BY_ALGORITHM, ONE_TIME_KEYS_BY_ALGORITHM},
        devices::DEVICE_BY_ID,
    },
};

use super::DeviceKeys;

/// The keys of a device that can still be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCounts {
    /// The number of one-time keys by algorithm; `signed_curve25519` is always among them.
    pub one_time_keys: BTreeMap<&'static str, u64>,
    /// The algorithms of the fallback keys that were not claimed yet.
    pub unused_fallback_keys: Vec<&'static str>,
}

impl KeyCounts {
    /// The counts of one device.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of(read: &impl Read, user: ShortUserId, device_id: &DeviceId) -> Result<Self> {
        let mut unused_fallback_keys = Vec::new();
        for algorithm in ALGORITHMS {
            let key = read.get(&FALLBACK_KEY_BY_ALGORITHM, &(user, device_id, algorithm))?;
            if key.is_some_and(|key| !key.used) {
                unused_fallback_keys.push(algorithm);
            }
        }
        let one_time_keys = one_time_keys(read, user, device_id)?;
        Ok(Self { one_time_keys, unused_fallback_keys })
    }
}

impl DeviceKeys {
    /// The counts of several devices at one moment, for a transaction to an application service: its fields
    /// `device_one_time_keys_count` and `device_unused_fallback_key_types` (MSC3202) have this form. Devices that do not exist are left out.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn counts<'a>(
        &self,
        devices: impl IntoIterator<Item = (&'a UserId, &'a DeviceId)>,
    ) -> Result<BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, KeyCounts>>> {
        let read = self.resources.database.published();
        let mut counts = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (user_id, device_id) in devices {
            let Some(user) = self.resources.database.intern().lookup_user(&read, user_id)? else {
                continue;
            };
            if read.contains(&DEVICE_BY_ID, &(user, device_id))? {
                let of_user = counts.entry(user_id.to_owned()).or_default();
                of_user.insert(device_id.to_owned(), KeyCounts::of(&read, user, device_id)?);
            }
        }
        Ok(counts)
    }
}

/// The number of one-time keys of a device by algorithm; `signed_curve25519` is always among them.
pub(super) fn one_time_keys(
    read: &impl Read,
    user: ShortUserId,
    device_id: &DeviceId,
) -> Result<BTreeMap<&'static str, u64>> {
    let mut counts = BTreeMap::new();
    for algorithm in ALGORITHMS {
        let keys = read.get(&ONE_TIME_KEYS_BY_ALGORITHM, &(user, device_id, algorithm))?;
        let count = keys.map_or(0, |keys| keys.count);
        if count > 0 || algorithm == "signed_curve25519" {
            counts.insert(algorithm, count);
        }
    }
    Ok(counts)
}
