//! Keys that clients look up or claim of users of other servers: one request to each server, in parallel.
//!
//! Invariant: all requests together take no longer than the time given, and a server that does not answer by then is
//! a failure of its own.

use std::{collections::BTreeMap, future::Future, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedServerName, OwnedUserId,
    ServerName, encryption::OneTimeKey, serde::Raw,
};
use ruma_federation_api::{
    authentication::ServerSignatures,
    keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
};
use serde_json::{Value, json};
use wick_account::Session;
use wick_core::{Error, Monotonic, Result};
use wick_database::{Durability, Read, schema::device_lists::DEVICE_LIST_CHANGE_BY_USER};
use wick_federation::Bounds;

use super::{Asked, RemoteLists, Sharing, UserKeys, store};
use crate::device_keys::{Shown, is_one_time_key};

/// Servers that are asked at the same time for one client.
const AT_ONCE: usize = 50;

/// The most bytes of a response.
const MAX_RESPONSE: u64 = 16 << 20;

/// How long a client waits for other servers if it names no time.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// What is asked of each server, by user.
pub(crate) type ByServer<T> = BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>>;

/// Why servers have no answer.
pub(crate) type Failures = serde_json::Map<String, Value>;

type Devices = Vec<OwnedDeviceId>;
type Claims = BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>;
type Claimed = BTreeMap<OwnedDeviceId, BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>>;

impl RemoteLists {
    /// Looks up the keys of users of other servers, and stores the lists of those who share a room with the session's user.
    pub(crate) async fn query(
        &self,
        session: &Session,
        wanted: ByServer<Devices>,
        time: Option<Duration>,
    ) -> (Vec<(OwnedUserId, Shown)>, Failures) {
        let ask = |server, users, until| self.query_server(session, server, users, until);
        self.ask_all(wanted, time, ask).await
    }

    /// Claims one-time keys of users of other servers.
    pub(crate) async fn claim(
        &self,
        wanted: ByServer<Claims>,
    ) -> (Vec<(OwnedUserId, Claimed)>, Failures) {
        let ask = |server, users, until| self.claim_at_server(server, users, until);
        self.ask_all(wanted, None, ask).await
    }

    async fn ask_all<W, T, F>(
        &self,
        wanted: ByServer<W>,
        time: Option<Duration>,
        ask: impl Fn(OwnedServerName, BTreeMap<OwnedUserId, W>, Monotonic) -> F,
    ) -> (Vec<T>, Failures)
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        let longest = self.resources.config.federation.timeout.0;
        let until = self.resources.clock.monotonic() + time.unwrap_or(DEFAULT_TIME).min(longest);
        let requests = wanted.into_iter().map(|(server, users)| {
            let asked = ask(server.clone(), users, until);
            async move { (server, asked.await) }
        });
        let (mut found, mut failures) = (Vec::new(), Failures::new());
        let mut answers = stream::iter(requests).buffer_unordered(AT_ONCE);
        while let Some((server, answer)) = answers.next().await {
            match answer {
                Ok(answer) => found.extend(answer),
                Err(error) => {
                    tracing::debug!(%server, %error, "a server has no keys for a client");
                    failures.insert(server.to_string(), failure(&error));
                }
            }
        }
        (found, failures)
    }

    async fn query_server(
        &self,
        session: &Session,
        server: OwnedServerName,
        wanted: BTreeMap<OwnedUserId, Devices>,
        until: Monotonic,
    ) -> Result<Vec<(OwnedUserId, Shown)>> {
        let asked = self.asked(session, &wanted)?;
        // A list that is stored has to be whole.
        let devices = wanted.iter().map(|(user_id, devices)| {
            let is_kept = asked.contains_key(user_id);
            (user_id.clone(), if is_kept { Vec::new() } else { devices.clone() })
        });
        let request = get_keys::Request::new(devices.collect());
        let response = self.request(&server, request, until).await?;
        let users: Vec<_> = wanted.keys().cloned().collect();
        let checked = self.resources.workers.run(&server, move || Ok(check(users, response)));
        let checked = checked.await?;
        let mut shown = Vec::new();
        for (user_id, keys) in checked {
            if let Some(asked) = asked.get(&user_id) {
                self.keep(&user_id, *asked, &keys).await?;
            }
            let wanted = wanted.get(&user_id).map(Vec::as_slice).unwrap_or_default();
            let keys = self.shown(session, (&user_id, wanted), &keys)?;
            shown.push((user_id, keys));
        }
        Ok(shown)
    }

    /// The users whose lists are to be stored, because they share a room with the session's user.
    fn asked<T>(
        &self,
        session: &Session,
        users: &BTreeMap<OwnedUserId, T>,
    ) -> Result<BTreeMap<OwnedUserId, Asked>> {
        let read = self.resources.database.published();
        let sharing = Sharing::of(&read, session.user)?;
        let mut asked = BTreeMap::new();
        for user_id in users.keys() {
            let Some(user) = self.resources.database.intern().lookup_user(&read, user_id)? else {
                continue;
            };
            if sharing.has(&read, user)? {
                let changed = read.get(&DEVICE_LIST_CHANGE_BY_USER, &user)?;
                asked.insert(user_id.clone(), Asked { since: read.position(), changed });
            }
        }
        Ok(asked)
    }

    /// Stores a list. One that a power failure takes back is only asked for again.
    async fn keep(&self, user_id: &OwnedUserId, asked: Asked, keys: &UserKeys) -> Result<()> {
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let user = self.resources.database.intern().lookup_user(batch, user_id)?;
                let Some(user) = user else { return Ok(()) };
                store(user, (asked, None), keys, batch).map(drop)
            })
            .await
    }

    fn shown(
        &self,
        session: &Session,
        (user_id, wanted): (&OwnedUserId, &[OwnedDeviceId]),
        keys: &UserKeys,
    ) -> Result<Shown> {
        let read = self.resources.database.published();
        let signatures = match self.resources.database.intern().lookup_user(&read, user_id)? {
            Some(user) => keys.signatures_of((user, session.user), &read)?,
            None => Vec::new(),
        };
        keys.shown(wanted, &session.user_id, signatures)
    }

    async fn claim_at_server(
        &self,
        server: OwnedServerName,
        wanted: BTreeMap<OwnedUserId, Claims>,
        until: Monotonic,
    ) -> Result<Vec<(OwnedUserId, Claimed)>> {
        let request = claim_keys::Request::new(wanted.clone());
        let mut response = self.request(&server, request, until).await?;
        let claimed = wanted.into_iter().filter_map(|(user_id, wanted)| {
            let mut devices = response.one_time_keys.remove(&user_id)?;
            devices.retain(|device_id, keys| {
                let Some(algorithm) = wanted.get(device_id) else { return false };
                keys.retain(|id, key| id.algorithm() == *algorithm && is_one_time_key(id, key));
                !keys.is_empty()
            });
            (!devices.is_empty()).then_some((user_id, devices))
        });
        Ok(claimed.collect())
    }

    async fn request<R>(
        &self,
        server: &ServerName,
        request: R,
        until: Monotonic,
    ) -> Result<R::IncomingResponse>
    where
        R: ruma::api::OutgoingRequest<
                Authentication = ServerSignatures,
                PathBuilder = ruma::api::path_builder::SinglePath,
            >,
    {
        let time = until.since(self.resources.clock.monotonic());
        let bounds = Bounds { bytes: MAX_RESPONSE, time };
        self.federation.request_within(server, request, bounds).await
    }
}

/// The keys of those of these users whom the server has.
fn check(
    users: Vec<OwnedUserId>,
    mut response: get_keys::Response,
) -> Vec<(OwnedUserId, UserKeys)> {
    let checked = users.into_iter().filter_map(|user_id| {
        let devices = response.device_keys.remove(&user_id);
        let master = response.master_keys.remove(&user_id);
        let self_signing = response.self_signing_keys.remove(&user_id);
        if devices.is_none() && master.is_none() {
            return None;
        }
        let cross_signing = (master.as_ref(), self_signing.as_ref());
        let devices = devices.unwrap_or_default().into_iter().map(|(id, keys)| (id, keys, None));
        let keys = UserKeys::check(&user_id, devices, cross_signing);
        Some((user_id, keys))
    });
    checked.collect()
}

/// What a client is shown of a server that has no answer.
fn failure(error: &Error) -> Value {
    let message = match error {
        Error::Remote(failure) => failure.message.as_str(),
        _ => "its keys cannot be looked up at present",
    };
    json!({ "errcode": "M_UNKNOWN", "error": message })
}
