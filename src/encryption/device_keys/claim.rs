//! Handing out one-time keys.

use std::collections::{BTreeMap, VecDeque};

use ruma::{
    DeviceId, OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, UserId,
    api::client::keys::claim_keys, encryption::OneTimeKey, serde::Raw,
};
use wick_core::{Error, Position, Result, ShortUserId};
use wick_database::{
    Batch, Range, Read,
    schema::device_keys::{
        ALGORITHMS, FALLBACK_KEY_BY_ALGORITHM, FallbackKey, ONE_TIME_KEY_BY_AGE,
        ONE_TIME_KEY_BY_ID, ONE_TIME_KEYS_BY_ALGORITHM,
    },
};

use super::{DeviceKeys, new_keys::digest_of_stored, query::unreachable};
use crate::remote_lists::ByServer;

/// Devices whose keys are taken in one batch: what it requires is read again under the commit lock, and with
/// what is remembered of claimed keys it stays far below 1 MiB.
const PORTION: usize = 100;

/// Claimed keys that are remembered for each algorithm of a device: more than a client uploads at once.
const REMEMBERED: usize = 200;

/// Keys whose order is read at once, for as many claims.
const READ_AT_ONCE: usize = 20;

/// Which keys are claimed, by user and device.
type Wanted = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

/// A device whose key is claimed.
struct Target<'a> {
    user_id: &'a UserId,
    user: ShortUserId,
    device_id: &'a DeviceId,
    algorithm: &'static str,
}

impl DeviceKeys {
    /// Takes one key of each device of local users, as [`DeviceKeys::claim_for_server`] does, and claims those of other
    /// users from their servers. Servers without an answer are in `failures`.
    ///
    /// # Errors
    /// If the database refuses, and no key was taken before.
    pub async fn claim(&self, wanted: &Wanted) -> Result<claim_keys::v3::Response> {
        let mut response = self.claim_for_server(wanted).await?;
        let mut elsewhere = ByServer::new();
        for (user_id, devices) in wanted.iter().filter(|(user_id, _)| !self.is_local(user_id)) {
            let users = elsewhere.entry(user_id.server_name().to_owned()).or_default();
            users.insert(user_id.clone(), devices.clone());
        }
        match &self.remote {
            _ if elsewhere.is_empty() => {}
            Some(remote) => {
                let (claimed, failures) = remote.claim(elsewhere).await;
                response.one_time_keys.extend(claimed);
                response.failures.extend(failures);
            }
            None => {
                let servers = elsewhere.into_keys();
                response.failures.extend(servers.map(|server| (server.into(), unreachable())));
            }
        }
        Ok(response)
    }

    /// Takes one key of each device: the one-time key that was uploaded first, or else the fallback key.
    /// Devices that do not exist or have neither are left out, and so are users of other servers.
    /// Keys of many devices are taken in portions. If a later portion fails, the response has the keys that
    /// were taken until then, which no other response will have, and this server is in `failures`.
    ///
    /// # Errors
    /// If the database refuses, and no key was taken before.
    pub async fn claim_for_server(&self, wanted: &Wanted) -> Result<claim_keys::v3::Response> {
        let mut response = claim_keys::v3::Response::new(BTreeMap::new());
        for portion in self.targets(wanted)?.chunks(PORTION) {
            let take_all = |batch: &mut Batch| {
                portion.iter().map(|target| target.take(batch)).collect::<Result<Vec<_>>>()
            };
            let taken = match self.resources.change(take_all).await {
                Ok(taken) => taken,
                Err(error) if response.one_time_keys.is_empty() => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "cannot claim all keys of a request");
                    let server = self.resources.config.server.name.to_string();
                    response.failures.insert(server, incomplete());
                    break;
                }
            };
            for (target, key) in portion.iter().zip(taken) {
                if let Some((id, key)) = key {
                    let devices =
                        response.one_time_keys.entry(target.user_id.to_owned()).or_default();
                    devices.entry(target.device_id.to_owned()).or_default().insert(id, key);
                }
            }
        }
        Ok(response)
    }

    fn targets<'a>(&self, wanted: &'a Wanted) -> Result<Vec<Target<'a>>> {
        let read = self.resources.database.published();
        let mut targets = Vec::new();
        for (user_id, devices) in wanted.iter().filter(|(user_id, _)| self.is_local(user_id)) {
            let Some(user) = self.resources.database.intern().lookup_user(&read, user_id)? else {
                continue;
            };
            for (device_id, algorithm) in devices {
                let known = ALGORITHMS.into_iter().find(|known| *known == algorithm.as_ref());
                targets.extend(known.map(|algorithm| Target {
                    user_id,
                    user,
                    device_id,
                    algorithm,
                }));
            }
        }
        Ok(targets)
    }
}

/// The failure of this server when it answers with some of the keys.
fn incomplete() -> serde_json::Value {
    serde_json::json!({ "errcode": "M_UNKNOWN", "error": "the keys of some devices cannot be claimed now" })
}

impl Target<'_> {
    /// Takes the next key, with its id.
    fn take(&self, batch: &mut Batch) -> Result<Option<(OwnedOneTimeKeyId, Raw<OneTimeKey>)>> {
        let of = (self.user, self.device_id, self.algorithm);
        let taken = match take_one_time_key(of, batch)? {
            Some(taken) => Some(taken),
            None => take_fallback_key(of, batch)?,
        };
        let Some((id, json)) = taken else { return Ok(None) };
        let id = format!("{}:{id}", self.algorithm);
        let id = id.try_into().map_err(|error| Error::internal("the id of a stored key", error))?;
        let json = Raw::from_json_string(json)
            .map_err(|error| Error::internal("a stored one-time key", error))?;
        Ok(Some((id, json)))
    }
}

type Of<'a> = (ShortUserId, &'a DeviceId, &'static str);

fn take_one_time_key(of: Of<'_>, batch: &mut Batch) -> Result<Option<(String, String)>> {
    let (user, device_id, algorithm) = of;
    let all = batch.read_for_update(&ONE_TIME_KEYS_BY_ALGORITHM, &of)?;
    let Some(mut all) = all.filter(|all| all.count > 0) else { return Ok(None) };
    if all.next.is_empty() {
        all.next = following(of, all.last.as_ref(), batch)?;
    }
    let (uploaded, id) = all
        .next
        .pop_front()
        .ok_or_else(|| Error::corrupt("a one-time key is counted and not there"))?;
    let key = (user, device_id, algorithm, &id);
    let row = batch
        .get(&ONE_TIME_KEY_BY_ID, &key)?
        .ok_or_else(|| Error::corrupt("a one-time key is listed and not there"))?;
    batch.delete(&ONE_TIME_KEY_BY_AGE, &(user, device_id, algorithm, uploaded, &id));
    batch.delete(&ONE_TIME_KEY_BY_ID, &key);
    all.count = all.count.saturating_sub(1);
    all.claimed.push(digest_of_stored(&id, &row)?);
    let forgotten = all.claimed.len().saturating_sub(REMEMBERED);
    all.claimed.drain(..forgotten);
    all.last = Some((uploaded, id.clone()));
    batch.put(&ONE_TIME_KEYS_BY_ALGORITHM, &of, &all);
    Ok(Some((id, row.json)))
}

/// The positions and ids of the first keys after the one that was claimed last.
fn following(
    of: Of<'_>,
    last: Option<&(Position, String)>,
    batch: &Batch,
) -> Result<VecDeque<(Position, String)>> {
    let (user, device_id, algorithm) = of;
    let mut left = Range::prefix(of);
    if let Some((uploaded, id)) = last {
        // What was deleted before it is not gone through again.
        left = left.and(Range::after(&(user, device_id, algorithm, *uploaded, id)));
    }
    let keys = batch.scan(&ONE_TIME_KEY_BY_AGE, left).keys().take(READ_AT_ONCE);
    keys.map(|key| key.map(|(_, _, _, uploaded, id)| (uploaded, id)).map_err(Error::from)).collect()
}

fn take_fallback_key(of: Of<'_>, batch: &mut Batch) -> Result<Option<(String, String)>> {
    let key = batch.read_for_update(&FALLBACK_KEY_BY_ALGORITHM, &of)?;
    let Some(key) = key else { return Ok(None) };
    if !key.used {
        batch.put(&FALLBACK_KEY_BY_ALGORITHM, &of, &FallbackKey { used: true, ..key.clone() });
    }
    Ok(Some((key.id, key.json)))
}
