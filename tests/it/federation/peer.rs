//! A server that answers and signs whatever a test wants.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Json, Router, routing::get};
use http::{Method, Request, header};
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use ruma_federation_api::authentication::{XMatrix, XMatrixSigningInput};
use serde_json::{Value, json};
use wick_harness::{Body, TestNetwork, TestServer};

/// Far beyond what the mock clock shows.
pub(super) const FAR: u64 = 2_000_000_000_000;

/// A server with one key.
pub(super) struct Peer {
    pub(super) name: OwnedServerName,
    pub(super) key: Ed25519KeyPair,
    /// What it publishes as its keys.
    pub(super) published: Arc<Mutex<Value>>,
    /// How often it was asked for them.
    pub(super) asked: Arc<AtomicUsize>,
}

impl Peer {
    /// A server that publishes its key.
    pub(super) async fn join(network: &TestNetwork, name: &str) -> Self {
        Self::join_with(network, name, Router::new()).await
    }

    /// The same with other endpoints.
    pub(super) async fn join_with(network: &TestNetwork, name: &str, others: Router) -> Self {
        Self::join_as(network, name, pair("1"), others).await
    }

    /// The same with this key.
    pub(super) async fn join_as(
        network: &TestNetwork,
        name: &str,
        key: Ed25519KeyPair,
        others: Router,
    ) -> Self {
        let peer = Self {
            name: ServerName::parse(name).unwrap(),
            published: Arc::new(Mutex::new(published(name, &[&key], FAR))),
            key,
            asked: Arc::default(),
        };
        let (published, asked) = (Arc::clone(&peer.published), Arc::clone(&peer.asked));
        let keys = move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let published = published.lock().unwrap().clone();
            async move { Json(published) }
        };
        network.join(name, others.route("/_matrix/key/v2/server", get(keys))).await;
        peer
    }

    /// A request to `destination`, signed with `key`.
    pub(super) fn signed_with(
        &self,
        key: &Ed25519KeyPair,
        (method, path): (Method, &str),
        destination: &str,
        body: &Value,
    ) -> Request<Vec<u8>> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.signed_bytes(key, (method, path), destination, bytes)
    }

    /// The same with a body as it is.
    pub(super) fn signed_bytes(
        &self,
        key: &Ed25519KeyPair,
        (method, path): (Method, &str),
        destination: &str,
        bytes: Vec<u8>,
    ) -> Request<Vec<u8>> {
        let mut request = Request::builder().method(method).uri(path).body(bytes).unwrap();
        let destination = ServerName::parse(destination).unwrap();
        let input = XMatrixSigningInput::new(self.name.clone(), destination, key);
        let signature = XMatrix::sign_http_request(&request, input).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, (&signature).into());
        request
    }

    /// A request to `destination` as it should be.
    pub(super) fn signed(
        &self,
        endpoint: (Method, &str),
        destination: &str,
        body: &Value,
    ) -> Request<Vec<u8>> {
        self.signed_with(&self.key, endpoint, destination, body)
    }
}

/// Status and errcode that `server` answers with.
pub(super) async fn answer(server: &TestServer, request: Request<Vec<u8>>) -> (u16, Value) {
    let answer = server.send(request.map(Body::from)).await;
    (answer.status.as_u16(), answer.body)
}

pub(super) fn pair(version: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
}

pub(super) fn public(key: &Ed25519KeyPair) -> String {
    Base64::<Standard>::new(key.public_key().to_vec()).encode()
}

/// What a server with these keys publishes, signed by the first.
pub(super) fn published(name: &str, keys: &[&Ed25519KeyPair], valid_until: u64) -> Value {
    let id = |key: &Ed25519KeyPair| format!("ed25519:{}", key.version());
    let verify_keys: serde_json::Map<String, Value> =
        keys.iter().map(|key| (id(key), json!({ "key": public(key) }))).collect();
    let value = json!({
        "server_name": name, "valid_until_ts": valid_until,
        "verify_keys": verify_keys, "old_verify_keys": {},
    });
    let mut object: CanonicalJsonObject = serde_json::from_value(value).unwrap();
    sign_json(name, keys[0], &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}
