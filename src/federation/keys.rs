//! The signing keys of servers: other servers' fetched, verified and stored, and this server's published.
//!
//! Invariants: a key is accepted only from a response that its own server signed; a key id never comes to mean another
//! key; of one server, one fetch runs at a time, and after a failure it is asked later each time.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

mod attested;
mod fetch;
mod notary;
mod own;
mod stored;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use quick_cache::sync::Cache;
use ruma::{
    CanonicalJsonObject, OwnedServerName, ServerName, ServerSigningKeyId,
    canonical_json::CanonicalJsonValue,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{PublicKeyMap, required_server_signatures_to_verify_event},
};
use tokio::sync::Mutex;
use wick_core::{Result, SigningKeys, Timestamp, signing::KeyStore};
use wick_database::{
    Read,
    schema::federation::{StoredVerifyKey, VERIFY_KEY_BY_ID},
};
use wick_runtime::Resources;

use self::fetch::Attempts;
use crate::transport::Transport;

/// How many servers are remembered as asked lately.
const REMEMBERED: usize = 10_000;

/// How many servers are asked for keys at the same time on behalf of one request.
const AT_ONCE: usize = 16;

/// The signing keys of all servers.
pub struct ServerKeys {
    pub(crate) resources: Resources,
    transport: Arc<Transport>,
    signing: Arc<SigningKeys>,
    store: Arc<dyn KeyStore>,
    attempts: Cache<OwnedServerName, Arc<Mutex<Attempts>>>,
}

/// What a key is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// A request that is made now.
    Request,
    /// An event of this time.
    Event(Timestamp),
    /// An event of a room version that does not care when a key was valid.
    AnyEvent,
}

impl Purpose {
    fn allows(self, key: &StoredVerifyKey, now: Timestamp) -> bool {
        match self {
            Self::Request => !key.is_old && now <= key.valid_until,
            Self::Event(at) => at <= key.valid_until,
            Self::AnyEvent => true,
        }
    }
}

impl ServerKeys {
    pub(crate) fn new(
        resources: Resources,
        transport: Arc<Transport>,
        (signing, store): (Arc<SigningKeys>, Arc<dyn KeyStore>),
    ) -> Self {
        Self { resources, transport, signing, store, attempts: Cache::new(REMEMBERED) }
    }

    /// The key with this id, if `server` signs requests with it now.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub async fn for_request(
        &self,
        server: &ServerName,
        id: &ServerSigningKeyId,
    ) -> Result<Option<Base64>> {
        self.find(server, id.as_str(), Purpose::Request).await
    }

    /// For each event the keys of the servers that had to sign it, as far as it names them, they are known or can be
    /// fetched, and were valid when it was made. Servers are asked at the same time, each within ten seconds.
    ///
    /// The keys are what [`ruma::signatures::verify_event`] takes. An event whose key is not there cannot be verified
    /// now; that does not mean that it is forged.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub async fn for_events(
        &self,
        events: &[&CanonicalJsonObject],
        rules: &RoomVersionRules,
    ) -> Result<Vec<PublicKeyMap>> {
        let wanted: Vec<_> = events.iter().map(|event| wanted_by(event, rules)).collect();
        let mut keys: Vec<_> = wanted.iter().flatten().collect();
        // Of each key the newest event, which needs it to be valid the longest.
        keys.sort_by(|a, b| (&a.server, &a.id, b.purpose).cmp(&(&b.server, &b.id, a.purpose)));
        keys.dedup_by(|a, b| a.server == b.server && a.id == b.id);
        // Fills the table, so that each event below is served from it.
        let fetches: Vec<_> =
            keys.into_iter().map(|key| self.find(&key.server, &key.id, key.purpose)).collect();
        let mut fetches = stream::iter(fetches).buffer_unordered(AT_ONCE);
        while let Some(fetched) = fetches.next().await {
            fetched?;
        }
        wanted.iter().map(|keys| self.known(keys)).collect()
    }

    /// The keys that are known.
    fn known(&self, wanted: &[Wanted]) -> Result<PublicKeyMap> {
        let mut known = PublicKeyMap::new();
        for Wanted { server, id, purpose } in wanted {
            if let Some(key) = self.stored(server, id, *purpose)? {
                known.entry(server.to_string()).or_default().insert(id.clone(), key);
            }
        }
        Ok(known)
    }

    /// A key that is good for `purpose`, fetched if need be.
    async fn find(
        &self,
        server: &ServerName,
        id: &str,
        purpose: Purpose,
    ) -> Result<Option<Base64>> {
        if let Some(key) = self.stored(server, id, purpose)? {
            return Ok(Some(key));
        }
        if *server == self.resources.config.server.name {
            return Ok(None);
        }
        self.refresh(server).await?;
        self.stored(server, id, purpose)
    }

    fn stored(&self, server: &ServerName, id: &str, purpose: Purpose) -> Result<Option<Base64>> {
        let now = self.resources.clock.now();
        let key = match *server == self.resources.config.server.name {
            true => self.own_key(id),
            false => self.resources.database.latest().get(&VERIFY_KEY_BY_ID, &(server, id))?,
        };
        Ok(key.filter(|key| purpose.allows(key, now)).map(|key| key.key))
    }
}

/// A key that an event is signed with.
struct Wanted {
    server: OwnedServerName,
    id: String,
    purpose: Purpose,
}

/// The most signatures of one server on one event that are looked at.
const MAX_SIGNATURES: usize = 4;

/// The keys that an event names of the servers that had to sign it. None if it is no event.
fn wanted_by(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Vec<Wanted> {
    let Ok(servers) = required_server_signatures_to_verify_event(event, &rules.signatures) else {
        return Vec::new();
    };
    let made = match event.get("origin_server_ts") {
        Some(CanonicalJsonValue::Integer(made)) => u64::try_from(i64::from(*made)).unwrap_or(0),
        _ => 0,
    };
    let purpose = match rules.enforce_key_validity {
        true => Purpose::Event(Timestamp(made)),
        false => Purpose::AnyEvent,
    };
    let signatures = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    let mut wanted = Vec::new();
    for server in servers {
        let of_server = signatures.and_then(|all| all.get(server.as_str()));
        let ids = of_server.and_then(CanonicalJsonValue::as_object).into_iter();
        let ids = ids.flat_map(|of_server| of_server.keys()).take(MAX_SIGNATURES);
        wanted.extend(ids.map(|id| Wanted { server: server.clone(), id: id.clone(), purpose }));
    }
    wanted
}
