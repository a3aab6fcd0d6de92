//! Cross-signing keys that a client uploads, and what is wrong with them.

use ruma::{
    UserId,
    api::{client::keys::upload_signing_keys, error::ErrorKind},
    encryption::{CrossSigningKey, KeyUsage},
    serde::{Base64, Raw, base64::Standard},
};
use wick_core::{Error, Result};

use super::Usage;
use crate::signed_json::SignedJson;

/// Bytes of one key.
const MAX_KEY_BYTES: usize = 32_768;

/// Keys that have the right form.
pub(super) struct NewKeys(Vec<(Usage, SignedJson)>);

impl NewKeys {
    /// # Errors
    /// `M_BAD_JSON`, `M_INVALID_PARAM` or `M_TOO_LARGE` if a key is malformed.
    pub(super) fn check(user_id: &UserId, keys: &upload_signing_keys::v3::Request) -> Result<Self> {
        let mut new = Vec::new();
        for (usage, key) in [
            (Usage::Master, &keys.master_key),
            (Usage::SelfSigning, &keys.self_signing_key),
            (Usage::UserSigning, &keys.user_signing_key),
        ] {
            if let Some(key) = key {
                new.push((usage, check(user_id, usage, key)?));
            }
        }
        Ok(Self(new))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Usage, &SignedJson)> {
        self.0.iter().map(|(usage, key)| (*usage, key))
    }

    pub(super) fn get(&self, usage: Usage) -> Option<&SignedJson> {
        self.iter().find(|(of, _)| *of == usage).map(|(_, key)| key)
    }

    pub(super) fn public_key(&self, usage: Usage) -> Option<String> {
        self.get(usage).and_then(SignedJson::public_key)
    }

    /// The master key signs the others.
    ///
    /// # Errors
    /// `M_MISSING_PARAM` if there is none, `M_INVALID_SIGNATURE` if it does not.
    pub(super) fn ensure_signed(&self, user_id: &UserId, master: Option<&str>) -> Result<()> {
        for (_, key) in self.iter().filter(|(usage, _)| *usage != Usage::Master) {
            let master = master.ok_or_else(|| {
                Error::refused(ErrorKind::MissingParam, "there is no master key for this key")
            })?;
            if !key.is_signed_by(user_id, master) {
                return Err(invalid_signature());
            }
        }
        Ok(())
    }
}

/// `M_INVALID_SIGNATURE`, 400.
pub(super) fn invalid_signature() -> Error {
    // An errcode that ruma has no name for.
    let kind = serde_json::from_str(r#"{"errcode":"M_INVALID_SIGNATURE"}"#);
    let kind = kind.unwrap_or(ErrorKind::InvalidParam);
    Error::refused(kind, "a signature of this key is missing or wrong")
}

/// Reads a key of a user.
///
/// # Errors
/// `M_BAD_JSON`, `M_INVALID_PARAM` or `M_TOO_LARGE` if it is malformed, or another user's.
pub(crate) fn check(
    user_id: &UserId,
    usage: Usage,
    key: &Raw<CrossSigningKey>,
) -> Result<SignedJson> {
    if key.json().get().len() > MAX_KEY_BYTES {
        return Err(Error::too_large("a cross-signing key is too large"));
    }
    let read = key
        .deserialize()
        .map_err(|error| Error::bad_json(format!("malformed cross-signing key: {error}")))?;
    if read.user_id != user_id {
        return Err(Error::invalid_param("this is the key of another user"));
    }
    if !read.usage.contains(&KeyUsage::from(usage.name())) {
        return Err(Error::invalid_param("the key has another usage"));
    }
    let mut keys = read.keys.iter();
    let (Some((id, public_key)), None) = (keys.next(), keys.next()) else {
        return Err(Error::invalid_param("a cross-signing key has one public key"));
    };
    let is_key = Base64::<Standard>::parse(public_key).is_ok_and(|key| key.as_bytes().len() == 32);
    if !is_key || id.as_str().strip_prefix("ed25519:") != Some(public_key) {
        return Err(Error::invalid_param("the public key is none, or its id is another"));
    }
    SignedJson::parse(key.json())
}
