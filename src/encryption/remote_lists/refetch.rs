//! Fetches lists again that miss updates, and deletes those of users who share no room any more.
//!
//! Invariant: a list that misses an update keeps its row until it was fetched, however often that fails.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use ruma::OwnedUserId;
use ruma_federation_api::device::get_devices::v1::{Request, Response};
use tokio_util::sync::CancellationToken;
use wick_core::{BackOff, Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Durability, Range, Read,
    schema::{
        device_lists::DEVICE_LIST_CHANGE_BY_USER,
        remote_devices::{REFETCH_BY_TIME, REMOTE_LIST_BY_USER, RemoteList},
    },
};
use wick_runtime::Supervisor;

use super::{Asked, PORTION, REFETCHES, RemoteLists, forget, put_list, sharing::is_with, store};
use crate::remote_lists::UserKeys;

/// Lists that are fetched at the same time.
const AT_ONCE: usize = 10;

/// The wait after a list could not be fetched.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(60), Duration::from_secs(6 * 3_600));

/// How often the lists of users who share no room any more are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3_600);

impl RemoteLists {
    /// Starts to fetch lists again, and to delete what is not needed any more.
    pub fn start(self: &Arc<Self>, supervisor: &Supervisor) {
        let (lists, stopping) = (Arc::clone(self), supervisor.stopping().clone());
        supervisor.spawn("missed updates of device lists", move || {
            let (lists, stopping) = (Arc::clone(&lists), stopping.clone());
            async move { lists.refetch_all(&stopping).await }
        });
        let lists = Arc::clone(self);
        supervisor.spawn_periodic("unneeded device lists", SWEEP_EVERY, move || {
            let lists = Arc::clone(&lists);
            async move { lists.sweep().await }
        });
    }

    async fn refetch_all(&self, stopping: &CancellationToken) {
        let clock = &self.resources.clock;
        let mut watch = self.resources.database.watch().topic(REFETCHES);
        while !stopping.is_cancelled() {
            let wait = match stopping.run_until_cancelled(self.refetch_due()).await {
                None => return,
                Some(Ok(Some(at))) => at.since(clock.now()),
                Some(Ok(None)) => BACK_OFF.longest(),
                Some(Err(error)) => {
                    tracing::error!(%error, "cannot fetch device lists of other servers again");
                    BACK_OFF.first()
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = clock.sleep_until(clock.monotonic() + wait) => {}
                () = watch.changed() => {}
            }
        }
    }

    /// Fetches a portion of what is due. Returns when the next one is.
    async fn refetch_due(&self) -> Result<Option<Timestamp>> {
        let now = self.resources.clock.now();
        let read = self.resources.database.published();
        let (mut due, mut next) = (Vec::new(), None);
        for key in read.scan(&REFETCH_BY_TIME, Range::all()).keys().take(PORTION) {
            let (at, user) = key?;
            if at > now {
                next = Some(at);
                break;
            }
            due.push(user);
        }
        if due.len() == PORTION {
            next = Some(now);
        }
        drop(read);
        let mut fetched =
            stream::iter(due.into_iter().map(|user| self.refetch(user))).buffer_unordered(AT_ONCE);
        while let Some(fetched) = fetched.next().await {
            if let Some(at) = fetched? {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        Ok(next)
    }

    /// Fetches one list. Returns when it is to be tried again.
    async fn refetch(&self, user: ShortUserId) -> Result<Option<Timestamp>> {
        let read = self.resources.database.published();
        let user_id = self.resources.database.intern().user_id(&read, user)?;
        let user_id = user_id.ok_or_else(|| Error::corrupt("a user has no user id"))?;
        let own_name = &self.resources.config.server.name;
        if !is_with(&read, user, own_name)? {
            self.resources.change(|batch| forget(user, batch)).await?;
            return Ok(None);
        }
        let changed = read.get(&DEVICE_LIST_CHANGE_BY_USER, &user)?;
        let asked = Asked { since: read.position(), changed };
        drop(read);
        let response =
            self.federation.request(user_id.server_name(), Request::new(user_id.clone())).await;
        let (stream_id, keys) = match response {
            Ok(response) if response.user_id == user_id => self.read(user_id, response).await?,
            Ok(_) => return self.postpone(user).await,
            Err(error) => {
                tracing::debug!(user = %user_id, %error, "a device list cannot be fetched again");
                return self.postpone(user).await;
            }
        };
        let now = self.resources.clock.now();
        self.resources
            .change(|batch| {
                let Some(old) = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)? else {
                    return Ok(None);
                };
                if store(user, (asked, Some(stream_id)), &keys, batch)? {
                    return Ok(None);
                }
                let new = RemoteList { refetch_at: Some(now), ..old.clone() };
                put_list(user, (Some(&old), &new), batch);
                Ok(Some(now))
            })
            .await
    }

    async fn read(&self, user_id: OwnedUserId, response: Response) -> Result<(u64, UserKeys)> {
        let server = user_id.server_name().to_owned();
        self.resources
            .workers
            .run(&server, move || {
                let devices = response.devices.into_iter();
                let devices = devices
                    .map(|device| (device.device_id, device.keys, device.device_display_name));
                let keys = (response.master_key.as_ref(), response.self_signing_key.as_ref());
                Ok((response.stream_id.into(), UserKeys::check(&user_id, devices, keys)))
            })
            .await
    }

    async fn postpone(&self, user: ShortUserId) -> Result<Option<Timestamp>> {
        let now = self.resources.clock.now();
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let Some(old) = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)? else {
                    return Ok(None);
                };
                let refetch_at = Some(now.after(BACK_OFF.after(old.failures)));
                let failures = old.failures.saturating_add(1);
                let new = RemoteList { refetch_at, failures, ..old.clone() };
                put_list(user, (Some(&old), &new), batch);
                Ok(refetch_at)
            })
            .await
    }

    /// Deletes the lists of users who are in no room with a local user.
    async fn sweep(&self) -> Result<()> {
        let own_name = &self.resources.config.server.name;
        let mut range = Range::all();
        loop {
            let read = self.resources.database.latest();
            let users = read.scan(&REMOTE_LIST_BY_USER, range).keys().take(PORTION);
            let users = users.collect::<Result<Vec<_>, _>>()?;
            let Some(last) = users.last() else { return Ok(()) };
            range = Range::after(last);
            for user in users {
                if is_with(&read, user, own_name)? {
                    continue;
                }
                self.resources
                    .change(|batch| match is_with(batch, user, own_name)? {
                        true => Ok(()),
                        false => forget(user, batch),
                    })
                    .await?;
            }
        }
    }
}
