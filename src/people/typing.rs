//! Typing notifications: set until they are stopped, time out, or their user leaves the room.
//!
//! Invariants: a room's row is the truth, timeouts included, so a notification survives a restart and ends when
//! it would have. The end of a membership ends it in the membership's own batch (`room::commit`).

use std::{sync::Arc, time::Duration};

use ruma::{OwnedUserId, RoomId};
use ruma_federation_api::transactions::edu::{Edu, TypingContent};
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Range, Read, Topic,
    schema::{
        ephemeral::{TYPING_BY_ROOM, TypingRow, TypingUser},
        room::{MEMBER_BY_USER, Membership},
    },
};
use wick_federation::{Keep, queue_edu};
use wick_room::Graph;
use wick_runtime::{Resources, Supervisor};

use crate::deadlines::Deadlines;

/// The longest timeout of a typing notification; after it, a new request is needed.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// The timeout of a notification of another server, which gives none.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout of a request that gives none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The typing users of all rooms.
pub struct Typing {
    resources: Resources,
    graph: Arc<Graph>,
    /// The first timeout of each room with typing users.
    deadlines: Arc<Deadlines<ShortRoomId>>,
}

impl Typing {
    /// Typing notifications in these rooms.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph, deadlines: Arc::default() }
    }

    /// Reads the timeouts, once, and starts watching them.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn start(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        for row in self.resources.database.latest().scan(&TYPING_BY_ROOM, Range::all()) {
            let (room, row) = row?;
            self.watch_room(room, &row.users);
        }
        let typing = Arc::clone(self);
        self.deadlines.watch((supervisor, "typing"), &self.resources.clock, move |room| {
            let typing = Arc::clone(&typing);
            async move { typing.time_out(room).await }
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
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
        self.change((session.user, &session.user_id), room_id, typing.then_some(timeout)).await
    }

    /// Takes in the typing notification of a user of another server.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they are not in the room.
    pub async fn receive(
        &self,
        user_id: &OwnedUserId,
        room_id: &RoomId,
        typing: bool,
    ) -> Result<()> {
        let read = self.resources.database.published();
        let user = self.graph.intern().lookup_user(&read, user_id)?.ok_or_else(not_joined)?;
        self.change((user, user_id), room_id, typing.then_some(REMOTE_TIMEOUT)).await
    }

    /// Sets for how long a user is typing; `None` for not at all.
    async fn change(
        &self,
        (user, user_id): (ShortUserId, &OwnedUserId),
        room_id: &RoomId,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let room = self.graph.short(&self.resources.database.published(), room_id)?;
        let room = room.ok_or_else(not_joined)?;
        let until = timeout.map(|timeout| self.resources.clock.now().after(timeout));
        self.resources
            .change_with(Durability::Flushed, |batch| {
                ensure_joined(batch, user, room)?;
                let row = batch.read_for_update(&TYPING_BY_ROOM, &room)?.unwrap_or_default();
                let mut users = row.users.clone();
                set_user(&mut users, user_id, until);
                if users != row.users {
                    self.send_to_servers(batch, room, user_id, until.is_some())?;
                }
                self.put(batch, room, &row, users);
                Ok(())
            })
            .await
    }

    /// Ends what has timed out in a room.
    async fn time_out(&self, room: ShortRoomId) -> Result<()> {
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let row = batch.read_for_update(&TYPING_BY_ROOM, &room)?.unwrap_or_default();
                let now = self.resources.clock.now();
                let (users, over): (Vec<_>, Vec<_>) =
                    row.users.iter().cloned().partition(|user| remaining(user, now).is_some());
                if over.is_empty() {
                    self.watch_room(room, &users);
                    return Ok(());
                }
                for user in over {
                    self.send_to_servers(batch, room, &user.user_id, false)?;
                }
                self.put(batch, room, &row, users);
                Ok(())
            })
            .await
    }

    /// Sends a local user's typing to the other servers in a room that its ACL allows.
    fn send_to_servers(
        &self,
        batch: &mut Batch,
        room: ShortRoomId,
        user_id: &OwnedUserId,
        typing: bool,
    ) -> Result<()> {
        let (own, graph) = (self.graph.server_name(), &self.graph);
        if !self.resources.config.federation.enabled || user_id.server_name() != own {
            return Ok(());
        }
        let mut others = graph.servers_in(batch, room)?;
        let acl = graph.acl(batch, room)?;
        others.retain(|server| server != own && acl.allows(server));
        let Some(room_id) = graph.intern().room_id(batch, room)? else { return Ok(()) };
        let edu = Edu::Typing(TypingContent::new(room_id, user_id.clone(), typing));
        queue_edu(batch, others, &edu, Keep::WhileReachable)
    }

    /// Writes the users of a room, and wakes its readers if they are others than before.
    fn put(&self, batch: &mut Batch, room: ShortRoomId, old: &TypingRow, users: Vec<TypingUser>) {
        let ids = |users: &[TypingUser]| -> Vec<OwnedUserId> {
            users.iter().map(|user| user.user_id.clone()).collect()
        };
        if users == old.users {
            return;
        }
        if ids(&users) == ids(&old.users) {
            let row = TypingRow { position: old.position, users: users.clone() };
            batch.put(&TYPING_BY_ROOM, &room, &row);
        } else {
            let (slot, users) = (batch.reserve_position(), users.clone());
            batch.wake(Topic::Room(room));
            batch.put_at(slot, &TYPING_BY_ROOM, move |position| {
                (room, TypingRow { position, users })
            });
        }
        let (deadlines, due) = (Arc::clone(&self.deadlines), self.first_due(&users));
        batch.on_applied(move || deadlines.set(room, due));
    }

    fn watch_room(&self, room: ShortRoomId, users: &[TypingUser]) {
        self.deadlines.set(room, self.first_due(users));
    }

    /// When the first of the notifications times out.
    fn first_due(&self, users: &[TypingUser]) -> Option<wick_core::Monotonic> {
        let now = self.resources.clock.now();
        let first = users.iter().map(|user| remaining(user, now).unwrap_or_default()).min()?;
        Some(self.resources.clock.monotonic() + first)
    }
}

/// For how long a notification still runs; `None` if it is over. One that would run for longer than it can is
/// over, too: the clock was set back.
fn remaining(user: &TypingUser, now: Timestamp) -> Option<Duration> {
    let left = user.until.since(now);
    (!left.is_zero() && left <= MAX_TIMEOUT).then_some(left)
}

/// Sets until when a user is typing; `None` for not at all.
fn set_user(users: &mut Vec<TypingUser>, user_id: &OwnedUserId, until: Option<Timestamp>) {
    let place = users.binary_search_by(|user| user.user_id.cmp(user_id));
    match (place, until) {
        (Ok(place), Some(until)) => {
            if let Some(user) = users.get_mut(place) {
                user.until = until;
            }
        }
        (Ok(place), None) => drop(users.remove(place)),
        (Err(place), Some(until)) => {
            users.insert(place, TypingUser { user_id: user_id.clone(), until });
        }
        (Err(_), None) => {}
    }
}

/// Makes the user's being in the room a condition of the batch.
fn ensure_joined(batch: &mut Batch, user: ShortUserId, room: ShortRoomId) -> Result<()> {
    let member = batch.read_for_update(&MEMBER_BY_USER, &(user, room))?;
    match member {
        Some(member) if member.membership == Membership::Join => Ok(()),
        _ => Err(not_joined()),
    }
}

fn not_joined() -> Error {
    Error::forbidden("you are not in this room")
}
