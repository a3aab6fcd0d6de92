//! Events next to a moment that are not here yet.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>

use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use ruma_federation_api::event::get_event_by_timestamp::v1 as get_event_by_timestamp;
use wick_core::{Result, Timestamp};
use wick_room::Direction;

use crate::RemoteRooms;

/// How many servers are asked.
const MAX_SERVERS: usize = 3;

/// How many pieces of history are fetched on the way to the event.
const MAX_PIECES: usize = 5;

/// How many events a piece has.
const EVENTS: usize = 100;

impl RemoteRooms {
    /// Fetches the history up to the event that other servers have next to a moment, within bounds. What they name is not passed
    /// on: whether the user may see an event is known once it is here.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fetch_event_at(
        &self,
        room_id: &OwnedRoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<()> {
        let Some(event) = self.nearest_elsewhere(room_id, at, direction).await? else {
            return Ok(());
        };
        let mut skipped = Vec::new();
        for _ in 0..MAX_PIECES {
            if self.is_placed(&event)? {
                break;
            }
            let parts = self.incomplete_parts(room_id)?;
            let Some(part) = parts.into_iter().find(|part| !skipped.contains(part)) else { break };
            if self.inbound.backfill(room_id, part, EVENTS).await? == 0 {
                skipped.push(part);
            }
        }
        Ok(())
    }

    /// The event next to a moment as the first server has it that has one.
    async fn nearest_elsewhere(
        &self,
        room_id: &OwnedRoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<Option<OwnedEventId>> {
        let direction = match direction {
            Direction::Forward => ruma::api::Direction::Forward,
            Direction::Backward => ruma::api::Direction::Backward,
        };
        for server in self.inbound.servers(room_id, MAX_SERVERS)? {
            let request =
                get_event_by_timestamp::Request::new(room_id.clone(), at.matrix(), direction);
            match self.federation.request(&server, request).await {
                Ok(answer) => return Ok(Some(answer.event_id)),
                Err(error) => {
                    tracing::debug!(%server, room = %room_id, %error, "a server has no event there");
                }
            }
        }
        Ok(None)
    }

    /// The parts of a room's timeline in which events may be missing, the newest first: the gaps before the events at these places,
    /// and what is before all events that are here.
    fn incomplete_parts(&self, room_id: &RoomId) -> Result<Vec<Option<i64>>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let gaps = self.graph.open_gaps(&read, room)?;
        Ok(gaps.iter().rev().map(|gap| Some(gap.place)).chain([None]).collect())
    }

    fn is_placed(&self, event: &EventId) -> Result<bool> {
        let read = self.resources.database.latest();
        let Some((short, _)) = self.graph.event_by_id(&read, event)? else { return Ok(false) };
        Ok(self.graph.place(&read, short)?.is_some_and(|place| place.position.is_some()))
    }
}
