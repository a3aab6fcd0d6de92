//! The public keys of devices: upload, query, claim.
//!
//! Invariants: an upload is stored wholly or not at all; a one-time key is taken in the batch that
//! answers with it; a key that was claimed does not come back by an upload that is repeated.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#key-management-api>

mod claim;
mod counts;
mod new_keys;
mod public;
mod query;
mod restore;
mod shown;
mod unsigned;

use std::{collections::BTreeMap, sync::Arc};

use ruma::{DeviceId, UserId, api::client::keys::upload_keys};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Range,
    schema::{
        device_keys::{
            ALGORITHMS, FALLBACK_KEY_BY_ALGORITHM, KEYS_BY_DEVICE, ONE_TIME_KEY_BY_AGE,
            ONE_TIME_KEY_BY_ID, ONE_TIME_KEYS_BY_ALGORITHM,
        },
        devices::DEVICE_BY_ID,
    },
};
use wick_federation::Federation;
use wick_room::Graph;
use wick_runtime::{Resources, Supervisor};

use self::shown::LastShown;
pub use self::{counts::KeyCounts, new_keys::NewKeys, public::PublicKeys, shown::QueriedKeys};
pub(crate) use self::{
    new_keys::{check_device_keys, is_one_time_key},
    query::public_keys,
    shown::Shown,
    unsigned::{Unsigned, sent_name},
};
use crate::{RemoteLists, announcements::Announcements};

/// The public keys of devices.
#[derive(Clone)]
pub struct DeviceKeys {
    resources: Resources,
    graph: Arc<Graph>,
    last_shown: Arc<LastShown>,
    remote: Option<Arc<RemoteLists>>,
}

/// A device and its owner.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The user.
    pub user: ShortUserId,
    /// The same user as a user id.
    pub user_id: &'a UserId,
    /// The device.
    pub device_id: &'a DeviceId,
}

impl DeviceKeys {
    /// Keys in the database, and of users of other servers where there is a way to them.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        federation: Option<Arc<Federation>>,
    ) -> Self {
        let remote = federation.map(|federation| RemoteLists::new(resources.clone(), federation));
        let remote = remote.map(Arc::new);
        Self { resources, graph, last_shown: Arc::new(LastShown::new()), remote }
    }

    /// The lists of users of other servers; `None` where there is no way to them.
    #[must_use]
    pub fn remote(&self) -> Option<&Arc<RemoteLists>> {
        self.remote.as_ref()
    }

    /// Starts the tasks that keep lists of devices in step with other servers.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn start(&self, supervisor: &Supervisor) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        remote.start(supervisor);
        let announcements = Announcements::new(self.resources.clone(), Arc::clone(&self.graph));
        announcements.start(supervisor).await
    }

    /// Stores keys of the session's device. Returns how many one-time keys the device has, by algorithm.
    ///
    /// # Errors
    /// As [`NewKeys::check`] and [`NewKeys::put`]; nothing is stored then.
    pub async fn upload(
        &self,
        session: &Session,
        keys: &upload_keys::v3::Request,
    ) -> Result<BTreeMap<&'static str, u64>> {
        let owner =
            Owner { user: session.user, user_id: &session.user_id, device_id: &session.device_id };
        let keys = NewKeys::check(owner, keys)?;
        let (counts, is_new) = self
            .resources
            .change(|batch| {
                let key = (owner.user, owner.device_id);
                if batch.read_for_update(&DEVICE_BY_ID, &key)?.is_none() {
                    return Err(Error::not_found("there is no such device"));
                }
                let counts = keys.put(owner, batch)?;
                Ok((counts, !batch.is_empty()))
            })
            .await?;
        if !is_new {
            // What is stored already may come from a request that is not answered itself yet.
            self.resources.settle().await?;
        }
        Ok(counts)
    }
}

/// Deletes the keys of a device. Returns whether others could see it.
pub(crate) fn drop_keys(
    user: ShortUserId,
    device_id: &DeviceId,
    batch: &mut Batch,
) -> Result<bool> {
    let key = (user, device_id);
    let keys = batch.read_for_update(&KEYS_BY_DEVICE, &key)?;
    batch.delete(&KEYS_BY_DEVICE, &key);
    for algorithm in ALGORITHMS {
        let key = (user, device_id, algorithm);
        // No upload can come between: it changes what is read here.
        batch.update(&ONE_TIME_KEYS_BY_ALGORITHM, &key, |_| None)?;
        batch.update(&FALLBACK_KEY_BY_ALGORITHM, &key, |_| None)?;
    }
    batch.delete_range(&ONE_TIME_KEY_BY_ID, Range::prefix((user, device_id)))?;
    batch.delete_range(&ONE_TIME_KEY_BY_AGE, Range::prefix((user, device_id)))?;
    Ok(keys.is_some())
}
