//! The public keys of devices: identity keys, one-time keys, fallback keys.
//!
//! Invariants: a device that has a row here is in
//! [`DEVICE_BY_ID`](super::devices::DEVICE_BY_ID); each one-time key has one row in
//! [`ONE_TIME_KEY_BY_ID`] and one in [`ONE_TIME_KEY_BY_AGE`], and is counted once in
//! [`ONE_TIME_KEYS_BY_ALGORITHM`], which every change of them requires and rewrites.

use std::collections::VecDeque;

use ruma::OwnedDeviceId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wick_core::{Position, ShortUserId};

use crate::postcard_value;

/// The algorithms of one-time and fallback keys
/// (<https://spec.matrix.org/v1.18/client-server-api/#key-algorithms>).
pub const ALGORITHMS: [&str; 2] = ["signed_curve25519", "curve25519"];

/// A one-time key that waits to be claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeKey {
    /// When it was uploaded.
    pub uploaded: Position,
    /// The key as it was uploaded.
    pub json: String,
    /// What distinguishes it from other keys; `None` if it was stored before that was computed at the upload.
    pub digest: Option<u64>,
}

/// The same as it was stored without its digest.
#[derive(Deserialize)]
struct OneTimeKeyWithoutDigest {
    uploaded: Position,
    json: String,
}

impl From<OneTimeKeyWithoutDigest> for OneTimeKey {
    fn from(OneTimeKeyWithoutDigest { uploaded, json }: OneTimeKeyWithoutDigest) -> Self {
        Self { uploaded, json, digest: None }
    }
}

/// The one-time keys of one algorithm of a device, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeKeys {
    /// How many wait to be claimed.
    pub count: u64,
    /// Digests of those claimed last, the latest at the end: an upload that comes again does not
    /// bring them back.
    #[serde(with = "digests")]
    pub claimed: Vec<u64>,
    /// The position and the id of the last one that was claimed: the next one comes after it.
    pub last: Option<(Position, String)>,
    /// The positions and the ids of some that follow on it, in their order: not all, and perhaps none.
    pub next: VecDeque<(Position, String)>,
}

/// Digests as bytes, eight for each: they are read and written as a whole.
mod digests {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(digests: &[u64], to: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_be_bytes()).collect();
        to.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        match bytes.as_chunks() {
            (digests, []) => Ok(digests.iter().copied().map(u64::from_be_bytes).collect()),
            _ => Err(D::Error::invalid_length(bytes.len(), &"eight bytes for each digest")),
        }
    }
}

/// The same as it was stored before it held those that are next.
#[derive(Deserialize)]
struct OneTimeKeysWithoutNext {
    count: u64,
    claimed: Vec<u64>,
    last: Option<(Position, String)>,
}

impl From<OneTimeKeysWithoutNext> for OneTimeKeys {
    fn from(OneTimeKeysWithoutNext { count, claimed, last }: OneTimeKeysWithoutNext) -> Self {
        Self { count, claimed, last, next: VecDeque::new() }
    }
}

/// The same as it was stored before it held the last one.
#[derive(Deserialize)]
struct OneTimeKeysWithoutLast {
    count: u64,
    claimed: Vec<u64>,
}

impl From<OneTimeKeysWithoutLast> for OneTimeKeys {
    fn from(OneTimeKeysWithoutLast { count, claimed }: OneTimeKeysWithoutLast) -> Self {
        Self { count, claimed, ..Self::default() }
    }
}

/// The key that is handed out when there is no one-time key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackKey {
    /// Its id without the algorithm.
    pub id: String,
    /// The key as it was uploaded.
    pub json: String,
    /// Whether it was handed out since it was uploaded.
    pub used: bool,
}

postcard_value!(OneTimeKey, version = 2, older = [1 => OneTimeKeyWithoutDigest]);
postcard_value!(
    OneTimeKeys,
    version = 3,
    older = [1 => OneTimeKeysWithoutLast, 2 => OneTimeKeysWithoutNext]
);
postcard_value!(FallbackKey, version = 1);

tables! {
    /// The identity keys of devices, as their clients signed them and without `unsigned`. Written by
    /// `POST /keys/upload` and by what ends a device; read by `POST /keys/query`; rebuilt from nothing else.
    KEYS_BY_DEVICE: (ShortUserId, OwnedDeviceId) => Box<RawValue>, Random;

    /// One-time keys by user, device, algorithm and key id. Written by `POST /keys/upload`; removed by
    /// the claim and with the device; rebuilt from nothing else.
    ONE_TIME_KEY_BY_ID: (ShortUserId, OwnedDeviceId, String, String) => OneTimeKey, Random;

    /// The ids of one-time keys in the order of their uploads, by user, device and algorithm. Written
    /// with [`ONE_TIME_KEY_BY_ID`], from which it can be rebuilt; read by `POST /keys/claim`.
    ONE_TIME_KEY_BY_AGE: (ShortUserId, OwnedDeviceId, String, Position, String) => (), Random;

    /// The counts of one-time keys by user, device and algorithm, with what was claimed last. Written
    /// with [`ONE_TIME_KEY_BY_ID`]; read by sync and by every change of one-time keys; the count can be
    /// rebuilt from there.
    ONE_TIME_KEYS_BY_ALGORITHM: (ShortUserId, OwnedDeviceId, String) => OneTimeKeys, Random;

    /// Fallback keys by user, device and algorithm. Written by `POST /keys/upload` and by the first
    /// claim; read by `POST /keys/claim` and sync; rebuilt from nothing else.
    FALLBACK_KEY_BY_ALGORITHM: (ShortUserId, OwnedDeviceId, String) => FallbackKey, Random;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn counts_of_older_formats_are_read() {
        let counts = OneTimeKeys { count: 2, claimed: vec![7], ..OneTimeKeys::default() };
        assert_eq!(OneTimeKeys::decode(&[1, 2, 1, 7]).unwrap(), counts);
        let last = Some((Position(5), "A".to_owned()));
        let counts = OneTimeKeys { last, ..counts };
        assert_eq!(OneTimeKeys::decode(&[2, 2, 1, 7, 1, 5, 1, b'A']).unwrap(), counts);
        let next = [(Position(300), "B".to_owned())].into();
        let counts = OneTimeKeys { claimed: vec![7, u64::MAX], next, ..counts };
        assert_eq!(OneTimeKeys::decode(&counts.encode()).unwrap(), counts);
    }

    #[test]
    fn keys_without_a_digest_are_read() {
        let key = OneTimeKey { uploaded: Position(5), json: "{}".to_owned(), digest: None };
        assert_eq!(OneTimeKey::decode(&[1, 5, 2, b'{', b'}']).unwrap(), key);
        let key = OneTimeKey { digest: Some(u64::MAX), ..key };
        assert_eq!(OneTimeKey::decode(&key.encode()).unwrap(), key);
    }
}
