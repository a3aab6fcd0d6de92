//! Keys as clients make them: of devices, for cross-signing, for one use.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::StatusCode;
use ruma::{
    canonical_json::CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

pub(crate) const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
pub(crate) const QUERY: &str = "/_matrix/client/v3/keys/query";
pub(crate) const CLAIM: &str = "/_matrix/client/v3/keys/claim";
pub(crate) const ALGORITHM: &str = "signed_curve25519";

/// An ed25519 key.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) public_key: String,
}

impl Signer {
    /// The key of a device, whose id is the device's.
    pub(crate) fn of_device(user: &User) -> Self {
        Self::named(|_| user.device_id.to_string())
    }

    /// A key whose id is its public part.
    pub(crate) fn of_user() -> Self {
        Self::named(str::to_owned)
    }

    fn named(id: impl FnOnce(&str) -> String) -> Self {
        let der = Ed25519KeyPair::generate().to_vec();
        let pair = Ed25519KeyPair::from_der(&der, String::new()).unwrap();
        let public_key = Base64::<Standard, _>::new(pair.public_key().to_vec()).encode();
        let pair = Ed25519KeyPair::from_der(&der, id(&public_key)).unwrap();
        Self { pair, public_key }
    }

    /// The object with a signature more.
    pub(crate) fn sign(&self, user: &User, object: &Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
        sign_json(user.user_id.as_str(), &self.pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    /// The keys of the user's device, signed.
    pub(crate) fn device_keys(&self, user: &User) -> Value {
        let device_id = &user.device_id;
        let keys = json!({
            "user_id": user.user_id, "device_id": device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                format!("ed25519:{device_id}"): self.public_key,
                format!("curve25519:{device_id}"): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
            },
        });
        self.sign(user, &keys)
    }

    /// A cross-signing key of the user's.
    pub(crate) fn cross_signing_key(&self, user: &User, usage: &str) -> Value {
        json!({
            "user_id": user.user_id, "usage": [usage],
            "keys": { format!("ed25519:{}", self.public_key): self.public_key },
        })
    }
}

/// A one-time or fallback key. `number` distinguishes it from others.
pub(crate) fn key(number: usize) -> Value {
    json!({
        "key": Base64::<Standard, _>::new(format!("{number:032}")).encode(),
        "signatures": { "@alice:localhost": { "ed25519:DEVICE": "a signature" } },
    })
}

/// One-time keys with these numbers, by id.
pub(crate) fn keys(numbers: impl IntoIterator<Item = usize>) -> Value {
    numbers.into_iter().map(|number| (format!("{ALGORITHM}:{number}"), key(number))).collect()
}

/// Uploads the keys of the user's device.
pub(crate) async fn upload_device_keys(server: &TestServer, user: &User) -> Signer {
    let signer = Signer::of_device(user);
    upload(server, user, json!({ "device_keys": signer.device_keys(user) })).await;
    signer
}

/// Uploads keys. Returns how many one-time keys there are then.
pub(crate) async fn upload(server: &TestServer, user: &User, body: Value) -> Value {
    let (status, body) = server.post(UPLOAD, &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["one_time_key_counts"].clone()
}

/// What `viewer` sees of the keys of `users`.
pub(crate) async fn query(server: &TestServer, viewer: &User, users: &[&User]) -> Value {
    let wanted: Value = users.iter().map(|user| (user.user_id.to_string(), json!([]))).collect();
    let (status, body) = server.post(QUERY, &viewer.token, json!({ "device_keys": wanted })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

/// Claims a key of a device: the key by its id, or null.
pub(crate) async fn claim(server: &TestServer, claimer: &User, of: &User) -> Value {
    let (status, body) = try_claim(server, claimer, of).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["one_time_keys"][of.user_id.as_str()][of.device_id.as_str()].clone()
}

/// The same, with whatever is answered.
pub(crate) async fn try_claim(
    server: &TestServer,
    claimer: &User,
    of: &User,
) -> (StatusCode, Value) {
    let wanted = json!({ of.user_id.as_str(): { of.device_id.as_str(): ALGORITHM } });
    server.post(CLAIM, &claimer.token, json!({ "one_time_keys": wanted })).await
}
