//! Cross-signing: a user's master, self-signing and user-signing keys, and the signatures made with them.
//!
//! Invariants: a self-signing or user-signing key is signed by the master key that is stored beside it; a
//! signature that was added to a key after its upload was verified; what a key that was replaced has signed
//! goes with it, on the user's own keys.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#cross-signing>

mod new_keys;
mod signatures;

use std::collections::BTreeSet;

use ruma::{DeviceId, OwnedDeviceId, api::client::keys::upload_signing_keys};
use wick_account::{Proof, Session};
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::{
        confirmations::UiaOutcome,
        cross_signing::{CROSS_SIGNING_KEY_BY_USAGE, SIGNATURE_BY_KEY},
        device_keys::KEYS_BY_DEVICE,
        devices::DEVICE_BY_ID,
    },
};
use wick_runtime::Resources;

use self::new_keys::NewKeys;
pub(crate) use self::new_keys::check as check_cross_signing_key;
pub use self::signatures::SignatureFailures;
use crate::{
    device_lists::{note_change, note_signature},
    signed_json::SignedJson,
};

/// The cross-signing keys of local users.
pub struct CrossSigning {
    resources: Resources,
}

/// What became of an upload of cross-signing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The keys are stored.
    Done,
    /// Nothing is stored: keys would be replaced, for which the user has to authenticate again.
    NeedsConfirmation,
}

/// What a cross-signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Master,
    SelfSigning,
    UserSigning,
}

impl CrossSigning {
    /// Keys in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Stores cross-signing keys. If the user has a master key, keys that are not stored already need a
    /// proof, which is spent with them.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` or `M_BAD_JSON` if a key is malformed, `M_MISSING_PARAM` if there is no master key
    /// for the others, `M_INVALID_SIGNATURE` if a signature is missing or wrong, `M_FORBIDDEN` if a key has
    /// the name of a device.
    pub async fn upload(
        &self,
        session: &Session,
        keys: &upload_signing_keys::v3::Request,
        proof: Option<&Proof>,
    ) -> Result<Uploaded> {
        let new = NewKeys::check(&session.user_id, keys)?;
        let (uploaded, is_new) = self
            .resources
            .change(|batch| {
                let uploaded = put_keys(session, &new, proof.is_some(), batch)?;
                let is_new = !batch.is_empty();
                if let (true, Some(proof)) = (is_new, proof) {
                    proof.spend(UiaOutcome::Done, batch)?;
                }
                Ok((uploaded, is_new))
            })
            .await?;
        if !is_new {
            // What is stored already may come from a request that is not answered itself yet.
            self.resources.settle().await?;
        }
        Ok(uploaded)
    }
}

impl Usage {
    const ALL: [Self; 3] = [Self::Master, Self::SelfSigning, Self::UserSigning];

    /// Its name in keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// A user's key for a usage, which the change is decided on.
fn required(batch: &mut Batch, user: ShortUserId, usage: Usage) -> Result<Option<SignedJson>> {
    let key = batch.read_for_update(&CROSS_SIGNING_KEY_BY_USAGE, &(user, usage.name()))?;
    key.map(|key| SignedJson::stored(&key)).transpose()
}

/// The ed25519 key of a user's device, which the change is decided on.
fn device_key(batch: &mut Batch, user: ShortUserId, device_id: &str) -> Result<Option<String>> {
    let id = <&DeviceId>::from(device_id);
    let Some(keys) = batch.read_for_update(&KEYS_BY_DEVICE, &(user, id))? else { return Ok(None) };
    Ok(SignedJson::stored(&keys)?.key(&format!("ed25519:{device_id}")))
}

/// A user's keys that are there, as a change is decided on them.
struct Old(Vec<(Usage, SignedJson)>);

impl Old {
    fn require(user: ShortUserId, batch: &mut Batch) -> Result<Self> {
        let mut old = Vec::new();
        for usage in Usage::ALL {
            old.extend(required(batch, user, usage)?.map(|key| (usage, key)));
        }
        Ok(Self(old))
    }

    fn get(&self, usage: Usage) -> Option<&SignedJson> {
        self.0.iter().find(|(of, _)| *of == usage).map(|(_, key)| key)
    }

    fn is_replaced(&self, new: &NewKeys, usage: Usage) -> bool {
        new.get(usage).is_some_and(|new| self.get(usage).is_none_or(|old| !old.is_same(new)))
    }
}

fn put_keys(
    session: &Session,
    new: &NewKeys,
    confirmed: bool,
    batch: &mut Batch,
) -> Result<Uploaded> {
    let user = session.user;
    let old = Old::require(user, batch)?;
    let old_master = old.get(Usage::Master);
    let master = new.public_key(Usage::Master).or(old_master.and_then(SignedJson::public_key));
    new.ensure_signed(&session.user_id, master.as_deref())?;
    for (_, key) in new.iter() {
        ensure_no_device(user, key, batch)?;
    }
    let replaces = Usage::ALL.into_iter().any(|usage| old.is_replaced(new, usage));
    if old_master.is_some() && replaces && !confirmed {
        return Ok(Uploaded::NeedsConfirmation);
    }

    let mut dropped = BTreeSet::new();
    let mut changed = Vec::new();
    for usage in Usage::ALL {
        let row = (user, usage.name());
        if let Some(key) = new.get(usage).filter(|_| old.is_replaced(new, usage)) {
            let mut key = key.clone();
            keep_known_signatures(session, &mut key, master.as_deref(), batch)?;
            batch.put(&CROSS_SIGNING_KEY_BY_USAGE, &row, &key.to_json()?);
        } else if new.get(usage).is_none()
            && old.get(usage).is_some()
            && old.is_replaced(new, Usage::Master)
        {
            // The master key that signed it is replaced.
            batch.delete(&CROSS_SIGNING_KEY_BY_USAGE, &row);
        } else {
            continue;
        }
        changed.push(usage);
        dropped.extend(old.get(usage).and_then(SignedJson::public_key));
    }
    drop_signatures(user, &dropped, batch)?;
    if changed.iter().any(|usage| *usage != Usage::UserSigning) {
        note_change(user, batch)?;
    } else if !changed.is_empty() {
        note_signature(user, user, batch)?;
    }
    Ok(Uploaded::Done)
}

/// A key with the name of a device could not be distinguished from it where signatures are uploaded.
fn ensure_no_device(user: ShortUserId, key: &SignedJson, batch: &mut Batch) -> Result<()> {
    let Some(public_key) = key.public_key() else { return Ok(()) };
    let device_id = <&DeviceId>::from(&*public_key);
    if batch.read_for_update(&DEVICE_BY_ID, &(user, device_id))?.is_some() {
        return Err(Error::forbidden("a device has the name of this key"));
    }
    Ok(())
}

/// Leaves only signatures of the user's own keys, each of which must be right.
fn keep_known_signatures(
    session: &Session,
    key: &mut SignedJson,
    master: Option<&str>,
    batch: &mut Batch,
) -> Result<()> {
    key.signatures.retain(|signer, _| *signer == session.user_id);
    let mut wrong = BTreeSet::new();
    for (id, signature) in key.signatures.values().flatten() {
        let name = id.strip_prefix("ed25519:").unwrap_or_default();
        let signing_key = match master {
            Some(master) if master == name => Some(master.to_owned()),
            _ => device_key(batch, session.user, name)?,
        };
        match signing_key {
            Some(signing_key) if !key.is_signature(signature, &signing_key) => {
                return Err(new_keys::invalid_signature());
            }
            Some(_) => {}
            None => drop(wrong.insert(id.clone())),
        }
    }
    for signatures in key.signatures.values_mut() {
        signatures.retain(|id, _| !wrong.contains(id));
    }
    Ok(())
}

/// Deletes what was signed with keys of a user that are replaced, and the signatures on these keys.
pub(crate) fn drop_signatures(
    user: ShortUserId,
    keys: &BTreeSet<String>,
    batch: &mut Batch,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut dropped = Vec::new();
    for row in batch.scan(&SIGNATURE_BY_KEY, Range::prefix((user,))).keys() {
        let row = row?;
        let (_, signer, signed, signing) = &row;
        let signing = signing.strip_prefix("ed25519:").unwrap_or(signing);
        if keys.contains(signed) || (*signer == user && keys.contains(signing)) {
            dropped.push(row);
        }
    }
    dropped.iter().for_each(|row| batch.delete(&SIGNATURE_BY_KEY, row));
    Ok(())
}

/// Deletes the cross-signing keys of a user whose account ends.
pub(crate) fn drop_keys(user: ShortUserId, batch: &mut Batch) -> Result<()> {
    let mut keys = BTreeSet::new();
    for usage in Usage::ALL {
        if let Some(key) = required(batch, user, usage)? {
            keys.extend(key.public_key());
            batch.delete(&CROSS_SIGNING_KEY_BY_USAGE, &(user, usage.name()));
        }
    }
    drop_signatures(user, &keys, batch)
}

/// Deletes the signatures that devices made and those on their keys.
pub(crate) fn drop_device_signatures(
    user: ShortUserId,
    device_ids: &[OwnedDeviceId],
    batch: &mut Batch,
) -> Result<()> {
    let device_ids: BTreeSet<&str> = device_ids.iter().map(|id| id.as_str()).collect();
    let mut dropped = Vec::new();
    for row in batch.scan(&SIGNATURE_BY_KEY, Range::prefix((user, user))).keys() {
        let row = row?;
        let signing = row.3.strip_prefix("ed25519:").unwrap_or(&row.3);
        if device_ids.contains(&*row.2) || device_ids.contains(signing) {
            dropped.push(row);
        }
    }
    dropped.iter().for_each(|row| batch.delete(&SIGNATURE_BY_KEY, row));
    Ok(())
}
