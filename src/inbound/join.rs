//! A room that a user of this server joins over another server.
//!
//! Invariant: while a room is being joined, its events are kept in the queue, and are received once the room is here.

use std::sync::Arc;

use ruma::{EventId, OwnedRoomId, RoomVersionId, events::room::member::MembershipState};
use serde_json::value::RawValue;
use wick_core::{Error, Result, rules};
use wick_room::{Appended, Assembly, Received, Snapshot};
use wick_rooms::rooms::note_predecessor;

use crate::{
    EventSpool, Inbound, Peer,
    members::check_member_event,
    verify::{self, Check},
};

/// A join that is under way. Begins before the join is sent: from then on other servers send the room's events.
pub struct Joining<P: Peer> {
    inbound: Arc<Inbound<P>>,
    room_id: OwnedRoomId,
    version: RoomVersionId,
}

impl<P: Peer> Inbound<P> {
    /// Begins a join. The room's events are kept until the value is dropped.
    #[must_use]
    pub fn joining(self: &Arc<Self>, room_id: OwnedRoomId, version: RoomVersionId) -> Joining<P> {
        self.begin_join(&room_id, &version);
        Joining { inbound: Arc::clone(self), room_id, version }
    }
}

impl<P: Peer> Drop for Joining<P> {
    fn drop(&mut self) {
        self.inbound.end_join(&self.room_id);
    }
}

impl<P: Peer> Joining<P> {
    /// A spool for the state before the join and its auth chain.
    #[must_use]
    pub fn spool(&self) -> EventSpool {
        EventSpool::new(&self.inbound.resources, &self.room_id)
    }

    /// Makes the room as a server answered the room as it is here: `event` is the join with all signatures that it needs,
    /// with the id of the join that was sent, `events` are the state before it and what that rests on. Events of the state that are forged, or whose auth chain is
    /// not whole, are left out; whether the join is allowed is judged without them. `None` if the join is here already.
    /// If it breaks off, nothing of the room can be seen, and it can be repeated.
    ///
    /// The events are stored in batches of portions, outside of the timeline, where only what refers to them finds them. All
    /// that shows the room is one batch after that, of some rows for each piece of state.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the join is not allowed in that state, `M_BAD_JSON` if the answer is to another join or makes no room
    /// of the version,
    /// `M_UNSUPPORTED_ROOM_VERSION`; a database error.
    pub async fn enter(
        &self,
        (event_id, event): (&EventId, Box<RawValue>),
        events: EventSpool,
    ) -> Result<Option<Appended>> {
        let Inbound { resources, graph, peer, .. } = &*self.inbound;
        let rules = Arc::new(rules::version_rules(&self.version)?);
        let room = (&*self.room_id, &*rules);
        let event = verify::check_all(resources, peer, room, vec![event]).await?.pop();
        let Some(Check::Good(event)) = event else {
            return Err(Error::forbidden("the join is not signed by those that had to"));
        };
        if event.event_id() != event_id {
            return Err(Error::bad_json("the answer is to another join"));
        }
        check_member_event(event.pdu(), graph.server_name(), &MembershipState::Join)?;
        let room = (&self.room_id, &self.version, &rules);
        let state = self.inbound.store_spooled(room, events).await?;
        let state = self.inbound.state_of(&self.room_id, state).await?;
        let snapshot = Snapshot { version: self.version.clone(), state, event };
        let (graph, room_id) = (Arc::clone(graph), self.room_id.clone());
        let user = snapshot.event.pdu().sender.clone();
        let follow = move |room: &mut Assembly<'_>| note_predecessor(room, &user).map(drop);
        let enter = || async move { graph.receive_snapshot(&room_id, &snapshot, follow).await };
        match self.inbound.on_worker(&self.room_id, enter).await? {
            Received::Accepted(appended) => Ok(Some(appended)),
            Received::Known(_) => Ok(None),
            Received::Dropped(_, reason) | Received::Rejected(_, reason) => {
                Err(Error::forbidden(format!("the room does not allow the join: {reason}")))
            }
            Received::SoftFailed(_) => {
                Err(Error::forbidden("the room as it is here does not allow the join"))
            }
            Received::Missing(_) | Received::Later(_) | Received::Outlier(_) => {
                Err(Error::bad_json("the answer lacks what the join rests on"))
            }
        }
    }
}
