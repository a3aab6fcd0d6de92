//! Signatures that are added to keys: of the user's own devices, of the user's master key, and of the master
//! keys of others.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{DeviceId, OwnedUserId, api::client::keys::upload_signatures};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::{cross_signing::SIGNATURE_BY_KEY, device_keys::KEYS_BY_DEVICE},
};

use super::{CrossSigning, Usage, device_key, required};
use crate::{
    device_lists::{note_change, note_signature},
    signed_json::SignedJson,
};

/// Keys that one request may sign.
const MAX_SIGNED: usize = 100;

/// Bytes of one signed key.
const MAX_KEY_BYTES: usize = 65_536;

/// What was not taken, by the owner of the key and the key.
pub type SignatureFailures = BTreeMap<OwnedUserId, BTreeMap<String, SignatureFailure>>;

/// Why a signed key was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignatureFailure {
    errcode: &'static str,
    error: &'static str,
}

const BAD_JSON: SignatureFailure =
    SignatureFailure { errcode: "M_BAD_JSON", error: "this is no key with signatures" };
const UNKNOWN_KEY: SignatureFailure = SignatureFailure {
    errcode: "M_NOT_FOUND",
    error: "the user has no such key that can be signed",
};
const UNKNOWN_SIGNER: SignatureFailure =
    SignatureFailure { errcode: "M_NOT_FOUND", error: "the key that signs is unknown" };
const OTHER_KEY: SignatureFailure = SignatureFailure {
    errcode: "M_INVALID_PARAM",
    error: "the signed key is not the one that is stored",
};
const INVALID_SIGNATURE: SignatureFailure =
    SignatureFailure { errcode: "M_INVALID_SIGNATURE", error: "the signature is missing or wrong" };

/// A signature that is right.
struct Signature {
    signing: String,
    signature: String,
}

/// A key with its owner.
struct Signed<'a> {
    session: &'a Session,
    owner: ShortUserId,
    name: &'a str,
}

impl CrossSigning {
    /// Adds signatures to keys. Each key is taken or not by itself.
    ///
    /// # Errors
    /// `M_TOO_LARGE` if too many keys are signed.
    pub async fn sign(
        &self,
        session: &Session,
        request: &upload_signatures::v3::Request,
    ) -> Result<SignatureFailures> {
        let count = request.signed_keys.values().map(|keys| keys.iter().count()).sum::<usize>();
        if count > MAX_SIGNED {
            return Err(Error::too_large("too many signed keys"));
        }
        let (failures, is_new) = self
            .resources
            .change(|batch| {
                let failures = self.put_all(session, request, batch)?;
                Ok((failures, !batch.is_empty()))
            })
            .await?;
        if !is_new {
            self.resources.settle().await?;
        }
        Ok(failures)
    }

    fn put_all(
        &self,
        session: &Session,
        request: &upload_signatures::v3::Request,
        batch: &mut Batch,
    ) -> Result<SignatureFailures> {
        let mut failures = SignatureFailures::new();
        let mut changed = BTreeSet::new();
        for (user_id, keys) in &request.signed_keys {
            let owner = self.resources.database.intern().lookup_user(batch, user_id)?;
            for (name, json) in keys {
                let put = match owner {
                    Some(owner) => Signed { session, owner, name }.put(json, batch)?,
                    None => Err(UNKNOWN_KEY),
                };
                match put {
                    Ok(true) => drop(changed.insert(owner)),
                    Ok(false) => {}
                    Err(failure) => {
                        let failures = failures.entry(user_id.clone()).or_default();
                        failures.insert(name.to_owned(), failure);
                    }
                }
            }
        }
        for owner in changed.into_iter().flatten() {
            if owner == session.user {
                note_change(owner, batch)?;
            } else {
                note_signature(session.user, owner, batch)?;
            }
        }
        Ok(failures)
    }
}

impl Signed<'_> {
    /// Puts what is right of the signatures. Returns whether that changes anything.
    fn put(&self, json: &RawValue, batch: &mut Batch) -> Result<Result<bool, SignatureFailure>> {
        if json.get().len() > MAX_KEY_BYTES {
            return Ok(Err(BAD_JSON));
        }
        let Ok(key) = SignedJson::parse(json) else { return Ok(Err(BAD_JSON)) };
        let right = if self.owner != self.session.user {
            self.of_other(&key, batch)?
        } else {
            self.of_self(&key, batch)?
        };
        let right = match right {
            Ok(right) => right,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut is_new = false;
        for Signature { signing, signature } in right {
            let row = (self.owner, self.session.user, self.name, &*signing);
            if batch.get(&SIGNATURE_BY_KEY, &row)?.as_ref() != Some(&signature) {
                if self.owner != self.session.user {
                    // What an earlier user-signing key signed.
                    let earlier = (self.owner, self.session.user, self.name);
                    batch.delete_range(&SIGNATURE_BY_KEY, Range::prefix(earlier))?;
                }
                batch.put(&SIGNATURE_BY_KEY, &row, &signature);
                is_new = true;
            }
        }
        Ok(Ok(is_new))
    }

    /// The master key of another user is signed by the user-signing key.
    fn of_other(
        &self,
        key: &SignedJson,
        batch: &mut Batch,
    ) -> Result<Result<Vec<Signature>, SignatureFailure>> {
        let Some(master) = required(batch, self.owner, Usage::Master)?
            .filter(|master| master.public_key().as_deref() == Some(self.name))
        else {
            return Ok(Err(UNKNOWN_KEY));
        };
        if !master.is_same(key) {
            return Ok(Err(OTHER_KEY));
        }
        self.by(key, Usage::UserSigning, batch)
    }

    /// A device of the user's own is signed by the self-signing key, the master key by devices.
    fn of_self(
        &self,
        key: &SignedJson,
        batch: &mut Batch,
    ) -> Result<Result<Vec<Signature>, SignatureFailure>> {
        let device_id = <&DeviceId>::from(self.name);
        let device = batch.read_for_update(&KEYS_BY_DEVICE, &(self.owner, device_id))?;
        if let Some(device) = device {
            if !SignedJson::stored(&device)?.is_same(key) {
                return Ok(Err(OTHER_KEY));
            }
            return self.by(key, Usage::SelfSigning, batch);
        }
        let Some(master) = required(batch, self.owner, Usage::Master)?
            .filter(|master| master.public_key().as_deref() == Some(self.name))
        else {
            return Ok(Err(UNKNOWN_KEY));
        };
        if !master.is_same(key) {
            return Ok(Err(OTHER_KEY));
        }
        self.by_devices(key, &master, batch)
    }

    /// The signature that a key of the session's user made.
    fn by(
        &self,
        key: &SignedJson,
        usage: Usage,
        batch: &mut Batch,
    ) -> Result<Result<Vec<Signature>, SignatureFailure>> {
        let signer = required(batch, self.session.user, usage)?;
        let Some(public_key) = signer.and_then(|signer| signer.public_key()) else {
            return Ok(Err(UNKNOWN_SIGNER));
        };
        let signing = format!("ed25519:{public_key}");
        let signature = key.signature(&self.session.user_id, &signing);
        let right = signature.filter(|signature| key.is_signature(signature, &public_key));
        Ok(right
            .map(|signature| vec![Signature { signing, signature: signature.to_owned() }])
            .ok_or(INVALID_SIGNATURE))
    }

    /// The signatures that devices of the session's user made, all of which must be right. Those that are
    /// part of the key as it is stored are passed over.
    fn by_devices(
        &self,
        key: &SignedJson,
        stored: &SignedJson,
        batch: &mut Batch,
    ) -> Result<Result<Vec<Signature>, SignatureFailure>> {
        let user_id = &self.session.user_id;
        let mut right = Vec::new();
        for (signing, signature) in key.signatures.get(user_id).into_iter().flatten() {
            if stored.signature(user_id, signing) == Some(signature) {
                continue;
            }
            let device_id = signing.strip_prefix("ed25519:").unwrap_or_default();
            let Some(public_key) = device_key(batch, self.session.user, device_id)? else {
                return Ok(Err(UNKNOWN_SIGNER));
            };
            if !key.is_signature(signature, &public_key) {
                return Ok(Err(INVALID_SIGNATURE));
            }
            right.push(Signature { signing: signing.clone(), signature: signature.clone() });
        }
        let is_signed = key.signatures.get(user_id).is_some_and(|by_user| !by_user.is_empty());
        Ok(if is_signed { Ok(right) } else { Err(INVALID_SIGNATURE) })
    }
}
