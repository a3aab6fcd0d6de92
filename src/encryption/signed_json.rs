//! A JSON object with signatures: the keys of a device, or a cross-signing key.
//!
//! Invariant: the fields are kept as they were signed; `unsigned` is not kept.
//!
//! <https://spec.matrix.org/v1.18/appendices/#signing-json>

use std::collections::BTreeMap;

use ruma::{
    OwnedUserId, SigningKeyAlgorithm, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    serde::{Base64, base64::Standard},
    signatures::verify_canonical_json_bytes,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use wick_core::{Error, Result};

/// Signatures by user and id of the signing key.
pub(crate) type Signatures = BTreeMap<OwnedUserId, BTreeMap<String, String>>;

/// A JSON object with signatures.
#[derive(Clone)]
pub(crate) struct SignedJson {
    fields: BTreeMap<String, Box<RawValue>>,
    /// The signatures.
    pub(crate) signatures: Signatures,
}

impl SignedJson {
    /// Reads an object that a client uploaded.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no object that can be signed, or its signatures are none.
    pub(crate) fn parse(json: &RawValue) -> Result<Self> {
        let bad = |_| Error::bad_json("this is no object that can be signed");
        let signed = Self::read(json).map_err(bad)?;
        signed.payload().map_err(bad)?;
        Ok(signed)
    }

    /// Reads an object that was stored.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn stored(json: &RawValue) -> Result<Self> {
        Self::read(json).map_err(|error| Error::internal("a stored key cannot be read", error))
    }

    fn read(json: &RawValue) -> serde_json::Result<Self> {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json.get())?;
        fields.remove("unsigned");
        let signatures = match fields.remove("signatures") {
            Some(signatures) => serde_json::from_str(signatures.get())?,
            None => Signatures::new(),
        };
        Ok(Self { fields, signatures })
    }

    /// What is signed: canonical JSON without `signatures` and `unsigned`.
    ///
    /// # Errors
    /// If there is no such form of it.
    pub(crate) fn payload(&self) -> serde_json::Result<String> {
        let object: CanonicalJsonObject =
            serde_json::from_str(&serde_json::to_string(&self.fields)?)?;
        Ok(CanonicalJsonValue::Object(object).to_string())
    }

    /// Whether it is the same object, signatures aside.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        matches!((self.payload(), other.payload()), (Ok(one), Ok(other)) if one == other)
    }

    /// The public key of a cross-signing key, which has one.
    pub(crate) fn public_key(&self) -> Option<String> {
        self.keys()?.into_values().next()
    }

    /// One of the public keys of a device.
    pub(crate) fn key(&self, id: &str) -> Option<String> {
        self.keys()?.remove(id)
    }

    fn keys(&self) -> Option<BTreeMap<String, String>> {
        serde_json::from_str(self.fields.get("keys")?.get()).ok()
    }

    /// The signature that a user made with a key.
    pub(crate) fn signature(&self, signer: &UserId, id: &str) -> Option<&String> {
        self.signatures.get(signer)?.get(id)
    }

    /// Whether `signature` of the payload was made with the private part of `public_key`, an unpadded
    /// Base64 ed25519 key.
    pub(crate) fn is_signature(&self, signature: &str, public_key: &str) -> bool {
        let decode = |text: &str| Base64::<Standard>::parse(text).ok();
        let (Some(signature), Some(public_key)) = (decode(signature), decode(public_key)) else {
            return false;
        };
        let algorithm = SigningKeyAlgorithm::Ed25519;
        self.payload().is_ok_and(|payload| {
            let (key, signature) = (public_key.as_bytes(), signature.as_bytes());
            verify_canonical_json_bytes(&algorithm, key, signature, payload.as_bytes()).is_ok()
        })
    }

    /// Whether `signer` signed it with the key `ed25519:{public_key}`.
    pub(crate) fn is_signed_by(&self, signer: &UserId, public_key: &str) -> bool {
        self.signature(signer, &format!("ed25519:{public_key}"))
            .is_some_and(|signature| self.is_signature(signature, public_key))
    }

    /// The object as it is stored.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn to_json(&self) -> Result<Box<RawValue>> {
        self.to_json_with(None::<&()>)
    }

    /// The object as it is shown, with something unsigned.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn to_json_with(&self, unsigned: Option<&impl Serialize>) -> Result<Box<RawValue>> {
        let broken = |error| Error::internal("a key cannot be written", error);
        let signatures = to_raw_value(&self.signatures).map_err(broken)?;
        let unsigned = unsigned.map(to_raw_value).transpose().map_err(broken)?;
        let mut fields: BTreeMap<&str, &RawValue> =
            self.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        fields.insert("signatures", &signatures);
        if let Some(unsigned) = &unsigned {
            fields.insert("unsigned", unsigned);
        }
        to_raw_value(&fields).map_err(broken)
    }
}
