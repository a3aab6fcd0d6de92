//! Guests leave a room when guests can no longer join it.
//!
//! Invariants: what decides is the room's state when a guest leaves, not the event that was seen; a crash only
//! delays it, since the stream is followed by a cursor.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#server-behaviour-16>

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{TryStreamExt, stream};
use ruma::events::{TimelineEventType, room::member::MembershipState};
use wick_core::{Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{room::Membership, stream::StreamEntry, users::GUEST_BY_USER},
};
use wick_people::profile::MemberProfile;
use wick_room::Graph;
use wick_runtime::{Consumer, Follower, Resources, Span, Supervisor};

use crate::{
    memberships::{AT_ONCE, append},
    rooms::guests_can_join,
};

/// The name of the follower.
const TASK: &str = "guest-access";

/// Removes guests from rooms that guests can no longer join.
#[derive(Clone)]
pub struct GuestRemoval {
    resources: Resources,
    graph: Arc<Graph>,
}

impl GuestRemoval {
    /// Guests in these rooms.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>) -> Self {
        Self { resources, graph }
    }

    /// Follows the stream until the server stops.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn start(&self, supervisor: &Supervisor) -> Result<()> {
        let follower = Follower::new(self.resources.clone(), TASK.to_owned(), self.clone());
        follower.start(supervisor, TASK).await
    }

    /// Whether an event can end the access of guests: it sets that, or redacts an event that set it.
    fn concerns_guests(&self, read: &Snapshot, entry: StreamEntry) -> Result<bool> {
        let event = self.graph.load_event(read, entry.event)?;
        if event.is_state(&TimelineEventType::RoomGuestAccess, "") {
            return Ok(true);
        }
        let Some(redacted) = &event.redacts else { return Ok(false) };
        let redacted = self.graph.event_by_id(read, redacted)?;
        Ok(redacted
            .is_some_and(|(_, event)| event.is_state(&TimelineEventType::RoomGuestAccess, "")))
    }

    async fn remove_guests(&self, room: ShortRoomId) -> Result<()> {
        let access = self.clone();
        let guests =
            self.resources.workers.run(&room, move || access.guests_to_remove(room)).await?;
        stream::iter(guests.into_iter().map(Ok))
            .try_for_each_concurrent(AT_ONCE, |guest| self.remove(room, guest))
            .await
    }

    /// The joined guests of a room that guests cannot join.
    fn guests_to_remove(&self, room: ShortRoomId) -> Result<Vec<ShortUserId>> {
        let read = self.resources.database.published();
        let mut guests = Vec::new();
        if guests_can_join(&self.graph, &read, room)? {
            return Ok(guests);
        }
        for guest in read.scan(&GUEST_BY_USER, Range::all()).keys() {
            let guest = guest?;
            let member = self.graph.member(&read, room, guest)?;
            if member.is_some_and(|member| member.membership == Membership::Join) {
                guests.push(guest);
            }
        }
        Ok(guests)
    }

    async fn remove(&self, room: ShortRoomId, guest: ShortUserId) -> Result<()> {
        let read = self.resources.database.published();
        let user_id = self.graph.user_id(&read, guest)?;
        let room_id = self.graph.intern().room_id(&read, room)?;
        let room_id = room_id.ok_or_else(|| Error::corrupt("a room has no room id"))?;
        let left = self
            .graph
            .transact(&room_id, |assembly| {
                let is_joined = assembly.membership(&user_id)? == Some(MembershipState::Join);
                let batch = assembly.batch();
                let is_guest = batch.read_for_update(&GUEST_BY_USER, &guest)?.is_some();
                if !is_joined || !is_guest || guests_can_join(&self.graph, &*batch, room)? {
                    return Ok(());
                }
                append(assembly, &user_id, MembershipState::Leave, &MemberProfile::default())
            })
            .await;
        match left {
            Err(error) if !error.is_internal() => {
                tracing::warn!(%room_id, %error, "a guest cannot leave a room");
                Ok(())
            }
            left => left,
        }
    }
}

impl Consumer for GuestRemoval {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let mut rooms = BTreeSet::new();
        for (_, entry) in span.events()? {
            if !rooms.contains(&entry.room) && self.concerns_guests(&span.read, entry)? {
                rooms.insert(entry.room);
            }
        }
        let is_something = !rooms.is_empty();
        for room in rooms {
            self.remove_guests(room).await?;
        }
        Ok(is_something)
    }
}
