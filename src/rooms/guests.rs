//! Guests leave a room when guests can no longer join it.
//!
//! Invariants: what decides is the room's state when a guest leaves, not the event that was seen; a crash only
//! delays it, since the stream is followed by a cursor.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#server-behaviour-16>

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{TryStreamExt, stream};
use ruma::events::TimelineEventType;
use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{room::Membership, stream::StreamEntry, users::GUEST_BY_USER},
};
use wick_room::Graph;
use wick_runtime::{Consumer, Follower, Resources, Span, Supervisor};

use crate::{
    Memberships,
    member_events::{AT_ONCE, MemberEvents},
    rooms::guests_can_join,
};

/// The name of the follower.
const TASK: &str = "guest-access";

/// Removes guests from rooms that guests can no longer join.
#[derive(Clone)]
pub struct GuestRemoval {
    resources: Resources,
    graph: Arc<Graph>,
    member_events: Arc<MemberEvents>,
}

impl GuestRemoval {
    /// Guests in these rooms.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>, memberships: &Memberships) -> Self {
        Self { resources, graph, member_events: Arc::clone(&memberships.member_events) }
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
            .try_for_each_concurrent(AT_ONCE, |guest| async move {
                self.member_events.settle(room, guest).await.map(drop)
            })
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
