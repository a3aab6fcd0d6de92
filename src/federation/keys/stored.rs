//! The published keys of other servers: verified, and stored.

use std::{collections::BTreeMap, time::Duration};

use ruma::{
    CanonicalJsonObject, ServerName, SigningKeyAlgorithm,
    canonical_json::CanonicalJsonValue,
    serde::{Base64, Raw},
    signatures::{PublicKeyMap, PublicKeySet, verify_json},
};
use ruma_federation_api::discovery::ServerSigningKeys;
use wick_core::{Result, Timestamp};
use wick_database::schema::federation::{
    PUBLISHED_KEYS_BY_SERVER, PublishedKeys, StoredVerifyKey, VERIFY_KEY_BY_ID,
};

use super::ServerKeys;

/// How long a key is good at most after it was fetched, whatever its server declares (room version 5).
const LONGEST_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);

/// The most keys of one server in one response.
const MAX_KEYS: usize = 100;

/// Keys that their own server signed.
pub(crate) struct Verified {
    json: String,
    keys: ServerSigningKeys,
}

impl Verified {
    /// The ids of the keys that sign now.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.verify_keys.keys().map(|id| id.as_str())
    }

    /// Until when they are valid.
    pub(crate) fn valid_until(&self) -> Timestamp {
        self.keys.valid_until_ts.into()
    }
}

/// The keys in a response, if `server` signed it with one of them.
pub(super) fn verify(
    server: &ServerName,
    raw: &Raw<ServerSigningKeys>,
) -> Result<Verified, &'static str> {
    let unreadable = |_| "the response has no keys";
    let keys = raw.deserialize().map_err(unreadable)?;
    let mut object: CanonicalJsonObject = raw.deserialize_as_unchecked().map_err(unreadable)?;
    if keys.server_name != *server {
        return Err("the response has the keys of another server");
    }
    if keys.verify_keys.len().saturating_add(keys.old_verify_keys.len()) > MAX_KEYS {
        return Err("the response has too many keys");
    }
    let current = keys.verify_keys.iter().filter(|(_, key)| is_public_key(&key.key));
    let set: PublicKeySet = current.map(|(id, key)| (id.to_string(), key.key.clone())).collect();
    // The signatures of notaries do not count here.
    if let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") {
        signatures.retain(|signer, _| signer == server.as_str());
    }
    let by_server = PublicKeyMap::from([(server.to_string(), set)]);
    let is_signed = keys.signatures.contains_key(server);
    if !is_signed || verify_json(&by_server, &object).is_err() {
        return Err("the response is not signed by any of its keys");
    }
    Ok(Verified { json: raw.json().get().to_owned(), keys })
}

fn is_public_key(key: &Base64) -> bool {
    key.as_bytes().len() == 32
}

impl ServerKeys {
    /// Stores the keys of a server. An id that stands for another key already is passed over.
    pub(super) async fn store(&self, server: &ServerName, verified: &Verified) -> Result<()> {
        let fetched = self.resources.clock.now();
        let keys = found(&verified.keys, fetched);
        let valid_until = verified.valid_until();
        let published = PublishedKeys { json: verified.json.clone(), fetched, valid_until };
        self.resources
            .change(|batch| {
                batch.put(&PUBLISHED_KEYS_BY_SERVER, &server, &published);
                for (id, key) in &keys {
                    let stored = batch.read_for_update(&VERIFY_KEY_BY_ID, &(server, id))?;
                    if stored.is_some_and(|stored: StoredVerifyKey| stored.key != key.key) {
                        tracing::warn!(%server, id, "a server gave the id of a key to another one");
                        continue;
                    }
                    batch.put(&VERIFY_KEY_BY_ID, &(server, id), key);
                }
                Ok(())
            })
            .await
    }
}

/// The rows that follow from published keys.
fn found(keys: &ServerSigningKeys, fetched: Timestamp) -> BTreeMap<String, StoredVerifyKey> {
    let until = Timestamp::from(keys.valid_until_ts).min(fetched.after(LONGEST_VALIDITY));
    let current = keys.verify_keys.iter().map(|(id, key)| (id, &key.key, until, false));
    let old = keys
        .old_verify_keys
        .iter()
        .map(|(id, key)| (id, &key.key, Timestamp::from(key.expired_ts).min(fetched), true));
    // A key that is listed as both is a current one.
    old.chain(current)
        .filter(|(id, key, ..)| {
            id.algorithm() == SigningKeyAlgorithm::Ed25519 && is_public_key(key)
        })
        .map(|(id, key, valid_until, is_old)| {
            (id.to_string(), StoredVerifyKey { key: key.clone(), valid_until, is_old })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ruma::{
        server_name,
        signatures::{Ed25519KeyPair, sign_json},
    };
    use serde_json::{Value, json};

    use super::*;

    fn pair(version: &str) -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
    }

    fn public(pair: &Ed25519KeyPair) -> String {
        Base64::<ruma::serde::base64::Standard>::new(pair.public_key().to_vec()).encode()
    }

    fn signed(mut value: Value, server: &str, pair: &Ed25519KeyPair) -> Raw<ServerSigningKeys> {
        let mut object: CanonicalJsonObject = serde_json::from_value(value.take()).unwrap();
        sign_json(server, pair, &mut object).unwrap();
        Raw::from_json_string(serde_json::to_string(&object).unwrap()).unwrap()
    }

    fn keys_of(name: &str, pair: &Ed25519KeyPair) -> Value {
        let id = format!("ed25519:{}", pair.version());
        json!({
            "server_name": name, "valid_until_ts": 5_000,
            "verify_keys": { id: { "key": public(pair) } }, "old_verify_keys": {},
        })
    }

    fn problem(raw: &Raw<ServerSigningKeys>) -> Option<&'static str> {
        verify(server_name!("a.test"), raw).err()
    }

    #[test]
    fn keys_are_believed_only_if_their_own_server_signed_them() {
        let (own, other) = (pair("1"), pair("1"));
        let keys = keys_of("a.test", &own);
        assert_eq!(problem(&signed(keys.clone(), "a.test", &own)), None);
        let not_signed = Some("the response is not signed by any of its keys");
        assert_eq!(problem(&signed(keys.clone(), "a.test", &other)), not_signed);
        assert_eq!(problem(&signed(keys.clone(), "notary.test", &own)), not_signed);
        let unsigned = Raw::from_json_string(keys.to_string()).unwrap();
        assert!(problem(&unsigned).is_some());
        let foreign = signed(keys_of("b.test", &own), "a.test", &own);
        assert_eq!(problem(&foreign), Some("the response has the keys of another server"));
    }

    #[test]
    fn a_notarys_signature_beside_the_servers_own_does_no_harm() {
        let (own, notary) = (pair("1"), pair("n"));
        let raw = signed(keys_of("a.test", &own), "a.test", &own);
        let value: Value = serde_json::from_str(raw.json().get()).unwrap();
        assert_eq!(problem(&signed(value, "notary.test", &notary)), None);
    }

    #[test]
    fn a_key_is_good_for_a_week_at_most_and_an_old_one_until_it_expired() {
        let (own, old) = (pair("1"), pair("0"));
        let mut keys = keys_of("a.test", &own);
        keys["valid_until_ts"] = json!(9_000_000_000_000_u64);
        keys["old_verify_keys"] = json!({ "ed25519:0": { "key": public(&old), "expired_ts": 7 } });
        keys["verify_keys"]["ed25519:short"] = json!({ "key": "AAAA" });
        let verified = verify(server_name!("a.test"), &signed(keys, "a.test", &own)).unwrap();
        let fetched = Timestamp(1_000);
        let found = found(&verified.keys, fetched);
        assert_eq!(found.len(), 2, "{found:?}");
        let current = &found["ed25519:1"];
        assert_eq!((current.valid_until, current.is_old), (fetched.after(LONGEST_VALIDITY), false));
        let old = &found["ed25519:0"];
        assert_eq!((old.valid_until, old.is_old), (Timestamp(7), true));
    }
}
