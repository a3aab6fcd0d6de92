//! Presence: the state that users set, and what is visible of it to others.
//!
//! A device is here while it waits in a sync and for a while after it did anything; a user is as
//! present as the most present of their devices.
//!
//! Invariants: rows are written under the lock of the memory, so they follow one another as it did;
//! a client that only polls writes nothing; all users are offline when the server starts.

mod here;
mod rows;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedDeviceId, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Pending, Read,
    schema::ephemeral::{PRESENCE_BY_USER, PresenceKind, PresenceRow},
};
use wick_room::{Appended, Projection};
use wick_runtime::{Resources, Supervisor};

use self::here::Here;
pub use self::here::Status;
pub use self::rows::shares_room;
pub use wick_database::schema::ephemeral::PresenceKind as Kind;

/// The longest status message, in bytes.
const MAX_STATUS_BYTES: usize = 4_096;

/// The presence of local users.
pub struct Presence {
    resources: Resources,
    here: Mutex<Here>,
    /// Notified when a device may have to be forgotten sooner than the one that is waited for.
    sooner: Notify,
}

/// A device that waits in a sync; it is here as long as this is.
pub struct Connected {
    presence: Arc<Presence>,
    user: ShortUserId,
    device_id: OwnedDeviceId,
}

impl Presence {
    /// Starts with all users offline.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources, here: Mutex::default(), sooner: Notify::new() }
    }

    /// Clears what an earlier run left, and starts watching the time.
    pub async fn start(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        if !self.enabled() {
            return Ok(());
        }
        if let Some(pending) = rows::put_all_offline(&self.resources)? {
            pending.await?;
        }
        let (presence, stopping) = (Arc::clone(self), supervisor.stopping().clone());
        supervisor.spawn("presence", move || {
            let (presence, stopping) = (Arc::clone(&presence), stopping.clone());
            async move { presence.watch_time(stopping).await }
        });
        Ok(())
    }

    /// Whether users see each other's presence at all.
    pub fn enabled(&self) -> bool {
        self.resources.config.presence.enabled
    }

    /// Sets a user's presence as requested.
    ///
    /// # Errors
    /// `M_TOO_LARGE` if the message is longer than 4 KiB.
    pub async fn set(
        &self,
        session: &Session,
        kind: PresenceKind,
        status_msg: Option<String>,
    ) -> Result<()> {
        if status_msg.as_ref().is_some_and(|status| status.len() > MAX_STATUS_BYTES) {
            return Err(Error::too_large("the status message is too long"));
        }
        if !self.enabled() {
            return Ok(());
        }
        let pending = {
            let mut here = self.here();
            let now = self.resources.clock.monotonic();
            if kind == PresenceKind::Offline {
                here.leave(session.user);
            } else {
                here.seen(session.user, &session.device_id, kind, now);
            }
            self.write(&mut here, session.user, Some(status_msg))?
        };
        self.sooner.notify_one();
        settle(pending).await
    }

    /// A device begins to wait for news, and is here for as long as it does.
    pub async fn connect(
        self: &Arc<Self>,
        session: &Session,
        kind: PresenceKind,
    ) -> Result<Option<Connected>> {
        if !self.enabled() || kind == PresenceKind::Offline {
            return Ok(None);
        }
        let (user, device_id) = (session.user, session.device_id.clone());
        let pending = {
            let mut here = self.here();
            let now = self.resources.clock.monotonic();
            here.seen(user, &device_id, kind, now).waiting += 1;
            self.write(&mut here, user, None)?
        };
        let connected = Connected { presence: Arc::clone(self), user, device_id };
        settle(pending).await?;
        Ok(Some(connected))
    }

    /// The visible presence of a user; `None` if there is no such user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the requesting user shares no room with them.
    pub fn status(&self, session: &Session, user_id: &UserId) -> Result<Option<Status>> {
        let read = self.resources.database.published();
        let Some(user) = self.resources.database.intern().lookup_user(&read, user_id)? else {
            return Ok(None);
        };
        if user != session.user && !rows::share_room(&read, session.user, user)? {
            return Err(Error::forbidden("you share no room with this user"));
        }
        let row = if self.enabled() { read.get(&PRESENCE_BY_USER, &user)? } else { None };
        Ok(Some(self.status_of(user, row)))
    }

    /// The presence in a row, with what is known since.
    pub fn status_of(&self, user: ShortUserId, row: Option<PresenceRow>) -> Status {
        let now = self.resources.clock.now();
        let active = self.here().last_active(user);
        let Some(row) = row else {
            return Status { kind: PresenceKind::Offline, status_msg: None, active_ago: None };
        };
        let last_active = active.unwrap_or_default().max(row.last_active);
        let known = last_active > Timestamp::default();
        let active_ago = known.then(|| now.since(last_active));
        Status { kind: row.state, status_msg: row.status_msg, active_ago }
    }

    /// The users that are here.
    pub fn users(&self) -> Vec<ShortUserId> {
        self.here().users()
    }

    /// Records activity of a user.
    fn act(&self, user: ShortUserId) -> Result<Option<Pending>> {
        let clock = &self.resources.clock;
        let mut here = self.here();
        here.act(user, clock.monotonic(), clock.now());
        self.write(&mut here, user, None)
    }

    /// Writes a user's row if it has to change. `status` replaces the
    /// status message.
    fn write(
        &self,
        here: &mut Here,
        user: ShortUserId,
        status: Option<Option<String>>,
    ) -> Result<Option<Pending>> {
        let kind = here.kind(user);
        if status.is_none() && here.told(user) == kind {
            return Ok(None);
        }
        let active = here.last_active(user);
        let pending = rows::put(&self.resources, user, kind, status, active)?;
        here.tell(user, kind);
        Ok(pending)
    }

    async fn watch_time(&self, stopping: CancellationToken) {
        let clock = &self.resources.clock;
        loop {
            let next = self.here().next_gone();
            let gone = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.sooner.notified() => {}
                () = gone => self.forget_gone(),
            }
        }
    }

    fn forget_gone(&self) {
        let mut here = self.here();
        for user in here.forget_gone(self.resources.clock.monotonic()) {
            // Not awaited: the commit wakes the syncs that show it.
            if let Err(error) = self.write(&mut here, user, None) {
                tracing::warn!(%error, "cannot note who has gone");
            }
        }
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event counts as activity of its sender.
impl Projection for Presence {
    fn project(&self, event: &Appended, batch: &mut Batch) -> Result<()> {
        let pdu = &event.pdu;
        let is_local = pdu.sender.server_name() == self.resources.config.server.name;
        // An event that a timer sends is no activity of its sender.
        if !self.enabled() || !is_local || event.by_timer {
            return Ok(());
        }
        let intern = self.resources.database.intern();
        let Some(user) = intern.lookup_user(batch, &pdu.sender)? else { return Ok(()) };
        if let Err(error) = self.act(user).map(drop) {
            tracing::warn!(%error, "cannot note who is here");
        }
        self.sooner.notify_one();
        Ok(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let now = self.presence.resources.clock.monotonic();
        self.presence.here().stop_waiting(self.user, &self.device_id, now);
        self.presence.sooner.notify_one();
    }
}

async fn settle(pending: Option<Pending>) -> Result<()> {
    if let Some(pending) = pending {
        pending.await?;
    }
    Ok(())
}

/// For how long a device that does nothing is still here.
const GONE_AFTER: Duration = Duration::from_secs(30);
