//! A room as another server has it, at the event by which a user of this server joined: the state before that event
//! was stored before, the event and all that it makes current is one batch.
//!
//! Invariant: a room in which this server has members keeps its history and its forward extremities.

use ruma::{RoomId, RoomVersionId, events::StateEventType};
use wick_core::{Error, Result, StateRoot, rules};

use super::{Incoming, Received, Verified, auth, judge, store};
use crate::{Assembly, Graph, graph::unless_conflict};

/// A room at one event.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The room's version.
    pub version: RoomVersionId,
    /// The state before the event, by [`Graph::state_of`].
    pub state: StateRoot,
    /// The event.
    pub event: Verified,
}

impl Graph {
    /// Makes the room at a snapshot the room as it is here. If the room is here and has members of this
    /// server, the event is received as any other, and its state resolved with what is there. If the event is accepted,
    /// `with` writes further rows in the same batch.
    ///
    /// # Errors
    /// Those of `with`; `M_BAD_JSON` if the state has no create event of the room's version; `M_UNSUPPORTED_ROOM_VERSION`; a database
    /// error.
    pub async fn receive_snapshot(
        &self,
        room_id: &RoomId,
        snapshot: &Snapshot,
        mut with: impl FnMut(&mut Assembly<'_>) -> Result<()>,
    ) -> Result<Received> {
        let mut attempt = 1;
        loop {
            let lock = self.locks.take(room_id).await;
            let mut room = match Assembly::open(self, room_id)? {
                Some(room) => room,
                None => self.new_room(room_id, snapshot)?,
            };
            room.attempt = attempt;
            let received = room.receive_snapshot(snapshot)?;
            if room.head.extremities.is_empty() {
                // Nothing came of it, and the room is not here.
                return Ok(received);
            }
            if let Received::Accepted(_) = received {
                with(&mut room)?;
            }
            let written = unless_conflict(room.write(), attempt)?;
            drop(lock);
            if let Some(pending) = written {
                pending.await?;
                return Ok(received);
            }
            attempt += 1;
        }
    }

    fn new_room(&self, room_id: &RoomId, snapshot: &Snapshot) -> Result<Assembly<'_>> {
        let version_rules = rules::version_rules(&snapshot.version)?;
        let latest = self.db.latest();
        let create = StateEventType::RoomCreate;
        let create = self.state_event_at(&latest, snapshot.state, &create, "")?;
        let create = create.ok_or_else(|| Error::bad_json("the state has no create event"))?;
        let create = self.events.load(&latest, create)?;
        auth::check_create(&create, &snapshot.version, &version_rules).map_err(Error::bad_json)?;
        Assembly::new(self, (room_id, &create.event_id), &snapshot.version, version_rules)
    }
}

impl Assembly<'_> {
    fn receive_snapshot(&mut self, snapshot: &Snapshot) -> Result<Received> {
        let Snapshot { event, state, .. } = snapshot;
        let incoming = Incoming { event: event.clone(), state: Some(*state) };
        if self.rooms.has_local_member(&self.batch, self.room)? {
            return self.receive(&incoming);
        }
        let judged = match judge::judge(self, &incoming)? {
            Ok(judged) => judged,
            Err(received) => return Ok(received),
        };
        if let Some(reason) = judged.rejected {
            return Ok(Received::Dropped(event.event_id().to_owned(), reason));
        }
        // What this server knew of the room is from before its last member left.
        self.head.extremities.clear();
        store::accept(self, judged, None).map(Received::Accepted)
    }
}
