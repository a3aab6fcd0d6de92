//! Typing notifications: set until they are stopped or time out.
//!
//! Invariants: a room's row holds the typing users as in memory, and is written before the memory's
//! lock is released, so rows are written in the order of the changes in memory; no user is typing when
//! the server starts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, RoomId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wick_account::Session;
use wick_core::{Error, Monotonic, Result, ShortRoomId};
use wick_database::{
    Durability, Pending, Range, Read,
    schema::{
        ephemeral::{TYPING_BY_ROOM, TypingRow},
        room::Membership,
    },
};
use wick_room::Graph;
use wick_runtime::{Resources, Supervisor};

/// The longest timeout of a typing notification; after it, a new request is needed.
const MOST: Duration = Duration::from_secs(120);

/// The timeout of a request that gives none.
const USUAL: Duration = Duration::from_secs(30);

/// By room: the typing users, with the end of their timeouts.
type Rooms = HashMap<ShortRoomId, BTreeMap<OwnedUserId, Monotonic>>;

/// The typing users of all rooms.
pub struct Typing {
    resources: Resources,
    graph: Arc<Graph>,
    rooms: Mutex<Rooms>,
    /// Notified when a timeout may end sooner than the one that is waited for.
    sooner: Notify,
}

impl Typing {
    /// Starts with no typing users.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph, rooms: Mutex::default(), sooner: Notify::new() }
    }

    /// Clears what an earlier run left, and starts watching the timeouts.
    pub async fn start(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        let latest = self.resources.database.latest();
        let mut batch = self.resources.database.batch();
        for row in latest.scan(&TYPING_BY_ROOM, Range::all()) {
            let (room, row) = row?;
            if !row.users.is_empty() {
                let slot = batch.reserve_position();
                batch.put_at(slot, &TYPING_BY_ROOM, move |position| {
                    (room, TypingRow { position, users: Vec::new() })
                });
            }
        }
        if !batch.is_empty() {
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
        let (typing, stopping) = (Arc::clone(self), supervisor.stopping().clone());
        supervisor.spawn("typing", move || {
            let (typing, stopping) = (Arc::clone(&typing), stopping.clone());
            async move { typing.watch_time(stopping).await }
        });
        Ok(())
    }

    /// Sets a user as typing (for how long, at most) or as not typing any more.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they are not in the room.
    pub async fn set(
        &self,
        session: &Session,
        room_id: &RoomId,
        typing: bool,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let room = self.joined(session, room_id)?;
        let until = self.resources.clock.monotonic() + timeout.unwrap_or(USUAL).min(MOST);
        let pending = {
            let mut rooms = self.rooms();
            let users = rooms.entry(room).or_default();
            let changed = if typing {
                users.insert(session.user_id.clone(), until).is_none()
            } else {
                users.remove(&session.user_id).is_some()
            };
            let pending = if changed { Some(self.write(room, users)?) } else { None };
            if users.is_empty() {
                rooms.remove(&room);
            }
            pending
        };
        self.sooner.notify_one();
        if let Some(pending) = pending {
            pending.await?;
        }
        Ok(())
    }

    fn joined(&self, session: &Session, room_id: &RoomId) -> Result<ShortRoomId> {
        let read = self.resources.database.published();
        if let Some(room) = self.graph.short(&read, room_id)?
            && let Some(member) = self.graph.member(&read, room, session.user)?
            && member.membership == Membership::Join
        {
            return Ok(room);
        }
        Err(Error::forbidden("you are not in this room"))
    }

    fn write(
        &self,
        room: ShortRoomId,
        users: &BTreeMap<OwnedUserId, Monotonic>,
    ) -> Result<Pending> {
        let users = users.keys().cloned().collect();
        let mut batch = self.resources.database.batch();
        let slot = batch.reserve_position();
        batch.put_at(slot, &TYPING_BY_ROOM, move |position| (room, TypingRow { position, users }));
        Ok(self.resources.database.write(batch, Durability::Flushed)?)
    }

    async fn watch_time(&self, stopping: CancellationToken) {
        let clock = &self.resources.clock;
        loop {
            let next = self.rooms().values().flat_map(BTreeMap::values).min().copied();
            let over = async {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.sooner.notified() => {}
                () = over => self.stop_overdue(clock.monotonic()),
            }
        }
    }

    fn stop_overdue(&self, now: Monotonic) {
        self.rooms().retain(|room, users| {
            let before = users.len();
            users.retain(|_, until| *until > now);
            if users.len() < before {
                match self.write(*room, users) {
                    // Not awaited: the commit wakes the syncs that show it.
                    Ok(pending) => drop(pending),
                    Err(error) => tracing::warn!(%error, "cannot note who stopped typing"),
                }
            }
            !users.is_empty()
        });
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
