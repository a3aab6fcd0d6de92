//! The devices and keys of users of other servers.
//!
//! Invariants: a stored list is used only for users who have shared a room with its user since it was fetched, and not
//! while an update is missing; a missing update is noted durably until the list has been fetched again; nothing
//! is stored of a user who shares no room with a local user.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

mod ask;
mod refetch;
mod sharing;
mod updates;
mod user_keys;

use std::sync::Arc;

use wick_core::{Position, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read, Topic,
    schema::{
        cross_signing::CROSS_SIGNING_KEY_BY_USAGE,
        device_keys::KEYS_BY_DEVICE,
        device_lists::DEVICE_LIST_CHANGE_BY_USER,
        remote_devices::{REFETCH_BY_TIME, REMOTE_LIST_BY_USER, RemoteList},
    },
};
use wick_federation::Federation;
use wick_runtime::Resources;

pub(crate) use self::{ask::ByServer, sharing::Sharing, user_keys::UserKeys};
use crate::device_lists::note_change;

/// Lists that are handled together.
const PORTION: usize = 100;

/// What wakes the task that fetches lists again.
const REFETCHES: Topic = Topic::Named("device lists to be fetched again");

/// The device lists of users of other servers.
pub struct RemoteLists {
    resources: Resources,
    federation: Arc<Federation>,
}

/// What was known of a list when its server was asked for it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Everything up to it was visible.
    since: Position,
    /// The last change of the list.
    changed: Option<Position>,
}

impl RemoteLists {
    /// Lists that are fetched by way of `federation`.
    #[must_use]
    pub fn new(resources: Resources, federation: Arc<Federation>) -> Self {
        Self { resources, federation }
    }
}

impl RemoteLists {
    /// Deletes all lists, for the first start from a backup: updates that came after it are missing. Can be repeated.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn forget_all(&self) -> Result<()> {
        loop {
            let lists = self.resources.database.latest();
            let lists = lists.scan(&REMOTE_LIST_BY_USER, Range::all()).keys().take(PORTION);
            let users = lists.collect::<Result<Vec<_>, _>>()?;
            if users.is_empty() {
                return Ok(());
            }
            let forget = |batch: &mut Batch| users.iter().try_for_each(|user| forget(*user, batch));
            self.resources.change(forget).await?;
        }
    }
}

/// Writes the row of a list, and when it is fetched again.
fn put_list(user: ShortUserId, (old, new): (Option<&RemoteList>, &RemoteList), batch: &mut Batch) {
    move_refetch(user, (old.and_then(|old| old.refetch_at), new.refetch_at), batch);
    batch.put(&REMOTE_LIST_BY_USER, &user, new);
}

fn move_refetch(
    user: ShortUserId,
    (old, new): (Option<Timestamp>, Option<Timestamp>),
    batch: &mut Batch,
) {
    if old == new {
        return;
    }
    if let Some(at) = old {
        batch.delete(&REFETCH_BY_TIME, &(at, user));
    }
    if let Some(at) = new {
        batch.put(&REFETCH_BY_TIME, &(at, user), &());
        batch.wake(REFETCHES);
    }
}

/// Stores a fetched list, unless an update came after its server was asked. Returns whether it is stored.
fn store(
    user: ShortUserId,
    (asked, stream_id): (Asked, Option<u64>),
    keys: &UserKeys,
    batch: &mut Batch,
) -> Result<bool> {
    if batch.read_for_update(&DEVICE_LIST_CHANGE_BY_USER, &user)? != asked.changed {
        return Ok(false);
    }
    let old = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)?;
    let is_changed = keys.put(user, batch)?;
    if is_changed && old.is_some() {
        note_change(user, batch)?;
    }
    let new = RemoteList { since: asked.since, stream_id, refetch_at: None, failures: 0 };
    put_list(user, (old.as_ref(), &new), batch);
    Ok(true)
}

/// Deletes the list of a user who shares no room any more.
fn forget(user: ShortUserId, batch: &mut Batch) -> Result<()> {
    let Some(old) = batch.read_for_update(&REMOTE_LIST_BY_USER, &user)? else { return Ok(()) };
    move_refetch(user, (old.refetch_at, None), batch);
    batch.delete(&REMOTE_LIST_BY_USER, &user);
    batch.delete_range(&KEYS_BY_DEVICE, Range::prefix((user,)))?;
    batch.delete_range(&CROSS_SIGNING_KEY_BY_USAGE, Range::prefix((user,)))?;
    Ok(())
}
