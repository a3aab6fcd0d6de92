//! Keys that a client uploads: what is wrong with them, and storing them.

use std::collections::BTreeMap;

use ruma::{
    DeviceId, OwnedOneTimeKeyId, UserId,
    api::{client::keys::upload_keys, error::ErrorKind},
    canonical_json::CanonicalJsonValue,
    encryption::{DeviceKeys, OneTimeKey, SignedKey},
    serde::Raw,
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use wick_core::{Error, Result};
use wick_database::{
    Batch, Range, Read,
    schema::{
        cross_signing::SIGNATURE_BY_KEY,
        device_keys::{
            ALGORITHMS, FALLBACK_KEY_BY_ALGORITHM, FallbackKey, KEYS_BY_DEVICE,
            ONE_TIME_KEY_BY_AGE, ONE_TIME_KEY_BY_ID, ONE_TIME_KEYS_BY_ALGORITHM,
            OneTimeKey as OneTimeKeyRow,
        },
    },
};

use super::{Owner, counts::one_time_keys};
use crate::{device_lists::note_change, signed_json::SignedJson};

/// One-time keys that a device may have of each algorithm.
const MAX_ONE_TIME_KEYS: u64 = 500;

/// Bytes of the keys of a device, and of a one-time or fallback key.
const MAX_DEVICE_KEYS_BYTES: usize = 32_768;
const MAX_KEY_BYTES: usize = 4_096;

/// Keys of one device that have the right form.
pub struct NewKeys {
    device_keys: Option<SignedJson>,
    one_time_keys: Vec<NewKey>,
    fallback_keys: Vec<NewKey>,
}

/// A one-time or fallback key.
struct NewKey {
    algorithm: &'static str,
    id: String,
    json: String,
    canonical: String,
}

impl NewKeys {
    /// Checks the keys that the owner uploads.
    ///
    /// # Errors
    /// `M_BAD_JSON` or `M_INVALID_PARAM` if they are malformed, of an unknown algorithm, or those of another
    /// device; `M_TOO_LARGE`.
    pub fn check(owner: Owner<'_>, keys: &upload_keys::v3::Request) -> Result<Self> {
        let device_keys = keys.device_keys.as_ref();
        let check_all = |keys: &BTreeMap<_, _>| {
            keys.iter().map(|(id, key)| NewKey::check(id, key)).collect::<Result<Vec<_>>>()
        };
        let fallback_keys = check_all(&keys.fallback_keys)?;
        // They are in the order of their ids, which begin with the algorithm.
        let is_same =
            |pair: &[NewKey]| matches!(pair, [one, next] if one.algorithm == next.algorithm);
        if fallback_keys.windows(2).any(is_same) {
            return Err(Error::invalid_param("there can be one fallback key for each algorithm"));
        }
        Ok(Self {
            device_keys: device_keys
                .map(|keys| check_device_keys((owner.user_id, owner.device_id), keys))
                .transpose()?,
            one_time_keys: check_all(&keys.one_time_keys)?,
            fallback_keys,
        })
    }

    /// Stores the keys. Returns how many one-time keys the device has then, by algorithm. The batch stays
    /// empty if all of them are stored already. The caller requires the device to exist.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if a one-time key's id is taken by another key; 400 `M_TOO_LARGE` if there would be
    /// too many.
    pub fn put(&self, owner: Owner<'_>, batch: &mut Batch) -> Result<BTreeMap<&'static str, u64>> {
        if let Some(keys) = &self.device_keys {
            put_device_keys(owner, keys, batch)?;
        }
        for key in &self.fallback_keys {
            put_fallback_key(owner, key, batch)?;
        }
        for algorithm in ALGORITHMS {
            let keys = self.one_time_keys.iter().filter(|key| key.algorithm == algorithm);
            put_one_time_keys(owner, algorithm, keys, batch)?;
        }
        one_time_keys(batch, owner.user, owner.device_id)
    }
}

impl NewKey {
    fn check(id: &OwnedOneTimeKeyId, key: &Raw<OneTimeKey>) -> Result<Self> {
        let named = id.algorithm();
        let algorithm = ALGORITHMS
            .into_iter()
            .find(|algorithm| *algorithm == named.as_ref())
            .ok_or_else(|| Error::invalid_param("unknown algorithm of a one-time key"))?;
        let json = key.json().get();
        if json.len() > MAX_KEY_BYTES || id.as_str().len() > MAX_KEY_BYTES {
            return Err(Error::too_large("a one-time key is too large"));
        }
        let bad = |_| Error::bad_json("a one-time key does not have the form of its algorithm");
        if algorithm == "signed_curve25519" {
            serde_json::from_str::<SignedKey>(json).map(drop).map_err(bad)?;
        } else {
            serde_json::from_str::<String>(json).map(drop).map_err(bad)?;
        }
        let id = id.key_name().as_str().to_owned();
        let canonical = canonical(json).map_err(bad)?;
        Ok(Self { algorithm, id, json: json.to_owned(), canonical })
    }

    /// Distinguishes the key from all others that were claimed.
    fn digest(&self) -> u64 {
        digest(&self.id, &self.canonical)
    }
}

/// Whether a key has the form of its algorithm.
pub(crate) fn is_one_time_key(id: &OwnedOneTimeKeyId, key: &Raw<OneTimeKey>) -> bool {
    NewKey::check(id, key).is_ok()
}

/// What of a claimed one-time key is remembered.
pub(super) fn digest_of_stored(id: &str, key: &OneTimeKeyRow) -> Result<u64> {
    if let Some(digest) = key.digest {
        return Ok(digest);
    }
    let canonical =
        canonical(&key.json).map_err(|error| Error::internal("a stored one-time key", error))?;
    Ok(digest(id, &canonical))
}

fn digest(id: &str, canonical: &str) -> u64 {
    let digest =
        Sha256::new().chain_update(id).chain_update([0]).chain_update(canonical).finalize();
    digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// What two equal keys have in common: canonical JSON without `unsigned`.
fn canonical(json: &str) -> serde_json::Result<String> {
    let mut value: CanonicalJsonValue = serde_json::from_str(json)?;
    if let CanonicalJsonValue::Object(object) = &mut value {
        object.remove("unsigned");
    }
    Ok(value.to_string())
}

/// Reads the keys of a device.
///
/// # Errors
/// `M_BAD_JSON` or `M_TOO_LARGE` if they are malformed, or another device's.
pub(crate) fn check_device_keys(
    (user_id, device_id): (&UserId, &DeviceId),
    keys: &Raw<DeviceKeys>,
) -> Result<SignedJson> {
    let json: &RawValue = keys.json();
    if json.get().len() > MAX_DEVICE_KEYS_BYTES {
        return Err(Error::too_large("the keys of a device are too large"));
    }
    let read = keys
        .deserialize()
        .map_err(|error| Error::bad_json(format!("malformed device keys: {error}")))?;
    if read.user_id != user_id || read.device_id != device_id {
        return Err(Error::bad_json("these are the keys of another device"));
    }
    if read.keys.keys().any(|id| id.key_name() != device_id) {
        return Err(Error::bad_json("the id of a key does not name the device"));
    }
    let mut keys = SignedJson::parse(json)?;
    // Signatures of others come by `/keys/signatures/upload`, where they are verified.
    keys.signatures.retain(|signer, _| signer == user_id);
    Ok(keys)
}

fn put_device_keys(owner: Owner<'_>, keys: &SignedJson, batch: &mut Batch) -> Result<()> {
    let key = (owner.user, owner.device_id);
    if let Some(old) = &batch.read_for_update(&KEYS_BY_DEVICE, &key)? {
        let stored = SignedJson::stored(old)?;
        let is_same = stored.is_same(keys);
        if is_same && stored.signatures == keys.signatures {
            return Ok(());
        }
        if !is_same {
            tracing::info!(user = %owner.user_id, device = %owner.device_id, "a device changed its keys");
            drop_signatures(owner, batch)?;
        }
    }
    batch.put(&KEYS_BY_DEVICE, &key, &keys.to_json()?);
    note_change(owner.user, batch)
}

/// Deletes the signatures that were added to the keys of a device.
fn drop_signatures(owner: Owner<'_>, batch: &mut Batch) -> Result<()> {
    let prefix = (owner.user, owner.user, owner.device_id.as_str());
    Ok(batch.delete_range(&SIGNATURE_BY_KEY, Range::prefix(prefix))?)
}

fn put_fallback_key(owner: Owner<'_>, new: &NewKey, batch: &mut Batch) -> Result<()> {
    let key = (owner.user, owner.device_id, new.algorithm);
    if let Some(old) = batch.read_for_update(&FALLBACK_KEY_BY_ALGORITHM, &key)?
        && old.id == new.id
        && canonical(&old.json).is_ok_and(|old| old == new.canonical)
    {
        return Ok(());
    }
    let row = FallbackKey { id: new.id.clone(), json: new.json.clone(), used: false };
    batch.put(&FALLBACK_KEY_BY_ALGORITHM, &key, &row);
    Ok(())
}

fn put_one_time_keys<'a>(
    owner: Owner<'_>,
    algorithm: &'static str,
    keys: impl Iterator<Item = &'a NewKey>,
    batch: &mut Batch,
) -> Result<()> {
    let all_key = (owner.user, owner.device_id, algorithm);
    let all = batch.read_for_update(&ONE_TIME_KEYS_BY_ALGORITHM, &all_key)?;
    let mut all = all.unwrap_or_default();
    let mut new = Vec::new();
    for key in keys {
        let id = (owner.user, owner.device_id, algorithm, &key.id);
        if let Some(stored) = batch.get(&ONE_TIME_KEY_BY_ID, &id)? {
            ensure_same(key, &stored)?;
            continue;
        }
        let digest = key.digest();
        if !all.claimed.contains(&digest) {
            new.push((key, digest));
            all.count = all.count.saturating_add(1);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    if all.count > MAX_ONE_TIME_KEYS {
        return Err(Error::refused_with(
            400,
            ErrorKind::TooLarge,
            "the device has too many one-time keys",
        ));
    }
    batch.put(&ONE_TIME_KEYS_BY_ALGORITHM, &all_key, &all);
    let slot = batch.reserve_position();
    for (NewKey { id, json, .. }, digest) in new {
        let (user, device_id) = (owner.user, owner.device_id.to_owned());
        let key = (user, device_id.clone(), algorithm.to_owned(), id.clone());
        let json = json.clone();
        batch.put_at(slot, &ONE_TIME_KEY_BY_ID, move |uploaded| {
            (key, OneTimeKeyRow { uploaded, json, digest: Some(digest) })
        });
        let id = id.clone();
        batch.put_at(slot, &ONE_TIME_KEY_BY_AGE, move |uploaded| {
            ((user, device_id, algorithm.to_owned(), uploaded, id), ())
        });
    }
    Ok(())
}

fn ensure_same(key: &NewKey, stored: &OneTimeKeyRow) -> Result<()> {
    if canonical(&stored.json).is_ok_and(|stored| stored == key.canonical) {
        return Ok(());
    }
    let message = format!("another one-time key {}:{} exists already", key.algorithm, key.id);
    Err(Error::invalid_param(message))
}
