//! Presence: the state that users set, and what is visible of it to others.
//!
//! A device is present while it waits in a sync and for [`GONE_AFTER`] after the last one; a user is as present
//! as the most present of their devices, and `unavailable` once they have not been active for [`IDLE_AFTER`].
//! Activity is an event that the user sends, or a change to `online`. An event makes a user `online` who is
//! `unavailable`; `offline` they stay until a client of theirs sets another state, by a request or by a sync.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#presence>
//!
//! Invariants: what others see is in rows. A row has the time until which its state holds without a request of the
//! user, so a state also ends if the server that wrote it has stopped. The devices in memory decide what
//! is written next; a client that only polls hardly ever writes, and wakes no other client.

mod devices;
mod rows;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedDeviceId, UserId};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::ephemeral::{ACTIVITY_BY_USER, PRESENCE_BY_USER, PresenceKind, PresenceRow},
};
use wick_room::{Appended, Graph, Placement, Projection, shared_rooms::joined_rooms};
use wick_runtime::{Limit, Resources, Supervisor};

use self::{devices::Devices, rows::Change};
use crate::deadlines::Deadlines;

pub use self::rows::shares_room;
pub use wick_database::schema::ephemeral::PresenceKind as Kind;

/// The longest status message, in bytes.
const MAX_STATUS_BYTES: usize = 4_096;

/// For how long a device is present after its last sync.
const GONE_AFTER: Duration = Duration::from_secs(30);

/// For how long a user is `online` without activity.
const IDLE_AFTER: Duration = Duration::from_secs(5 * 60);

/// By how much a row is written to hold for longer than the devices of a user are known to be there: so
/// that not every sync writes one.
const HOLDS_LONGER_BY: Duration = Duration::from_secs(60);

/// For how long the state of a user of another server holds unless it is sent again.
const REMOTE_HOLDS_FOR: Duration = Duration::from_secs(30 * 60);

/// In how many rooms of a user of another server a local user is looked for.
const ROOMS_LOOKED_AT: usize = 100;

/// A user's presence as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The presence state.
    pub kind: PresenceKind,
    /// The status message.
    pub status_msg: Option<String>,
    /// The time since the user's last activity, if that is known.
    pub active_ago: Option<Duration>,
}

/// The presence of local users.
pub struct Presence {
    resources: Resources,
    devices: Arc<Mutex<Devices>>,
    /// When a user's row may have to change next.
    deadlines: Arc<Deadlines<ShortUserId>>,
}

/// A device that waits in a sync; it is present as long as this exists.
pub struct Connected {
    presence: Arc<Presence>,
    user: ShortUserId,
    device_id: OwnedDeviceId,
}

impl Presence {
    /// Presence without any device.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources, devices: Arc::default(), deadlines: Arc::default() }
    }

    /// Reads which states hold, and until when, and starts watching the time.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn start(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        if !self.enabled() {
            return Ok(());
        }
        let latest = self.resources.database.latest();
        for row in latest.scan(&PRESENCE_BY_USER, Range::all()) {
            let (user, row) = row?;
            if row.state != PresenceKind::Offline {
                let active = latest.get(&ACTIVITY_BY_USER, &user)?.unwrap_or_default();
                self.restore(user, &row, self.resources.clock.now().since(active));
            }
        }
        let presence = Arc::clone(self);
        self.deadlines.watch((supervisor, "presence"), &self.resources.clock, move |user| {
            let presence = Arc::clone(&presence);
            async move { presence.refresh(user).await }
        });
        Ok(())
    }

    /// Takes up the state of a row: it ends at the time in the row, unless a device of the user connects before.
    fn restore(&self, user: ShortUserId, row: &PresenceRow, inactive: Duration) {
        let clock = &self.resources.clock;
        let now = clock.monotonic();
        // The wall clock may have been set back since.
        let longest = self.resources.config.sync.max_timeout.0 + GONE_AFTER + HOLDS_LONGER_BY;
        let until = now + row.until.since(clock.now()).min(longest);
        let idle_at = now + IDLE_AFTER.saturating_sub(inactive);
        let mut devices = self.devices();
        devices.restore(user, row.requested, until, idle_at);
        self.deadlines.set(user, devices.next_change(user, now));
    }

    /// Whether users see each other's presence at all.
    pub fn enabled(&self) -> bool {
        self.resources.config.presence.enabled
    }

    /// Sets a user's presence as requested.
    ///
    /// # Errors
    /// `M_TOO_LARGE` if the message is longer than 4 KiB, `M_LIMIT_EXCEEDED`.
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
        let user = session.user;
        self.resources.limits.ensure(Limit::Presence, &user)?;
        let now = self.resources.clock.monotonic();
        {
            let mut devices = self.devices();
            if kind == PresenceKind::Offline {
                devices.set_offline(user);
            } else {
                devices.seen(user, &session.device_id, kind, now + GONE_AFTER);
            }
            if kind == PresenceKind::Online {
                devices.active(user, now);
            }
        }
        let change = Change {
            status_msg: Some(status_msg),
            is_active: kind == PresenceKind::Online,
            is_suppressed: kind == PresenceKind::Offline,
        };
        self.write(user, &change).await
    }

    /// Takes in the presence of a user of another server who shares a room with a local user. It ends by itself after
    /// half an hour.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn receive(&self, graph: &Graph, user_id: &UserId, status: Status) -> Result<()> {
        let database = &self.resources.database;
        let read = database.published();
        let Some(user) = database.intern().lookup_user(&read, user_id)? else { return Ok(()) };
        if !self.enabled() || !has_local_company(graph, &read, user)? {
            return Ok(());
        }
        let clock = &self.resources.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let Status { kind, status_msg, active_ago } = status;
        let status_msg = status_msg.filter(|status| status.len() <= MAX_STATUS_BYTES);
        let active = now.before(active_ago.unwrap_or_default());
        let until = monotonic + REMOTE_HOLDS_FOR;
        let put = |batch: &mut Batch| {
            let old = batch.read_for_update(&PRESENCE_BY_USER, &user)?;
            let position = old.as_ref().map(|old| old.position).unwrap_or_default();
            let new = PresenceRow {
                position,
                state: kind,
                status_msg: status_msg.clone(),
                requested: kind,
                until: now.after(REMOTE_HOLDS_FOR),
            };
            rows::put(batch, user, old.as_ref(), new)?;
            batch.put(&ACTIVITY_BY_USER, &user, &active);
            let (devices, deadlines) = (Arc::clone(&self.devices), Arc::clone(&self.deadlines));
            batch.on_applied(move || {
                if kind == PresenceKind::Offline {
                    lock(&devices).remove(user);
                    deadlines.set(user, None);
                } else {
                    lock(&devices).restore(user, kind, until, until);
                    deadlines.set(user, Some(until));
                }
            });
            Ok(())
        };
        self.resources.change_with(Durability::Flushed, put).await
    }

    /// A device begins to wait for news, at most for `timeout`, and is present as long as it does. A change of
    /// presence beyond the limit is left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn connect(
        self: &Arc<Self>,
        session: &Session,
        kind: PresenceKind,
        timeout: Duration,
    ) -> Result<Option<Connected>> {
        if !self.enabled() || kind == PresenceKind::Offline {
            return Ok(None);
        }
        let (user, device_id) = (session.user, session.device_id.clone());
        let is_change = self.devices().requested(user, &device_id) != Some(kind);
        if is_change && self.resources.limits.ensure(Limit::Presence, &user).is_err() {
            return Ok(None);
        }
        let now = self.resources.clock.monotonic();
        let is_active = {
            let mut devices = self.devices();
            let is_active = kind == PresenceKind::Online && !devices.is_online(user);
            devices.seen(user, &device_id, kind, now + timeout + GONE_AFTER);
            devices.begin_waiting(user, &device_id);
            if is_active {
                devices.active(user, now);
            }
            is_active
        };
        let connected = Connected { presence: Arc::clone(self), user, device_id };
        self.write(user, &Change { is_active, ..Change::default() }).await?;
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
        let Some(row) = row else {
            let kind = PresenceKind::Offline;
            return Ok(Some(Status { kind, status_msg: None, active_ago: None }));
        };
        self.status_of(&read, user, row).map(Some)
    }

    /// The presence in a row, with the user's last activity.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn status_of(
        &self,
        read: &impl Read,
        user: ShortUserId,
        row: PresenceRow,
    ) -> Result<Status> {
        let active = read.get(&ACTIVITY_BY_USER, &user)?;
        let active_ago = active.map(|active| self.resources.clock.now().since(active));
        Ok(Status { kind: row.state, status_msg: row.status_msg, active_ago })
    }

    /// The users with a device that is present; others are offline.
    pub fn users(&self) -> Vec<ShortUserId> {
        self.devices().users()
    }

    /// Brings a user's row in line with what their devices do by now.
    async fn refresh(&self, user: ShortUserId) -> Result<()> {
        self.devices().forget_gone(user, self.resources.clock.monotonic());
        self.write(user, &Change::default()).await
    }

    /// Writes a user's row if it has to change, and sets when it may have to change next.
    async fn write(&self, user: ShortUserId, change: &Change) -> Result<()> {
        let now = self.resources.clock.monotonic();
        self.deadlines.set(user, self.devices().next_change(user, now));
        let stored = self.resources.database.latest().get(&PRESENCE_BY_USER, &user)?;
        if change.is_active || self.next_row(user, stored.as_ref(), change).is_some() {
            let written = self
                .resources
                .change_with(Durability::Flushed, |batch| self.put(batch, user, change))
                .await;
            if written.is_err() {
                // The row is not what the devices amount to.
                self.deadlines.retry(user, now);
                return written;
            }
        }
        self.devices().forget_user(user);
        Ok(())
    }

    fn put(&self, batch: &mut Batch, user: ShortUserId, change: &Change) -> Result<()> {
        let clock = &self.resources.clock;
        let old = batch.read_for_update(&PRESENCE_BY_USER, &user)?;
        if let Some(new) = self.next_row(user, old.as_ref(), change) {
            let held_until = clock.monotonic() + new.until.since(clock.now());
            rows::put(batch, user, old.as_ref(), new)?;
            let devices = Arc::clone(&self.devices);
            batch.on_applied(move || lock(&devices).held(user, held_until));
        }
        if change.is_active {
            batch.put(&ACTIVITY_BY_USER, &user, &clock.now());
        }
        Ok(())
    }

    /// The row of a user as it has to be; `None` if it is so.
    fn next_row(
        &self,
        user: ShortUserId,
        old: Option<&PresenceRow>,
        change: &Change,
    ) -> Option<PresenceRow> {
        let clock = &self.resources.clock;
        let summary = self.devices().summary(user, clock.monotonic());
        rows::next(old, summary, change, clock.now())
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        lock(&self.devices)
    }
}

/// An event counts as activity of its sender. The state that follows from it is written after the event.
impl Projection for Presence {
    fn project(&self, event: &Appended, batch: &mut Batch) -> Result<()> {
        let pdu = &event.pdu;
        let is_local = pdu.sender.server_name() == self.resources.config.server.name;
        // Neither an event that a timer sends nor one of the history is activity of its sender.
        let is_activity = !event.by_timer && matches!(event.placement, Placement::End(_));
        if !self.enabled() || !is_local || !is_activity {
            return Ok(());
        }
        let intern = self.resources.database.intern();
        let Some(user) = intern.lookup_user(batch, &pdu.sender)? else { return Ok(()) };
        batch.put(&ACTIVITY_BY_USER, &user, &self.resources.clock.now());
        let now = self.resources.clock.monotonic();
        let (devices, deadlines) = (Arc::clone(&self.devices), Arc::clone(&self.deadlines));
        batch.on_applied(move || {
            let mut devices = lock(&devices);
            let due =
                if devices.acted(user, now) { Some(now) } else { devices.next_change(user, now) };
            deadlines.set(user, due);
        });
        Ok(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let now = self.presence.resources.clock.monotonic();
        let mut devices = self.presence.devices();
        devices.stop_waiting(self.user, &self.device_id, now);
        self.presence.deadlines.set(self.user, devices.next_change(self.user, now));
    }
}

/// Whether a user is in a room with a user of this server.
fn has_local_company(graph: &Graph, read: &impl Read, user: ShortUserId) -> Result<bool> {
    for room in joined_rooms(read, user).take(ROOMS_LOOKED_AT) {
        if graph.has_local_member(read, room?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock(devices: &Mutex<Devices>) -> MutexGuard<'_, Devices> {
    devices.lock().unwrap_or_else(PoisonError::into_inner)
}
