//! Events from before this server was in the room: they go into the history, and are no news.

use ruma::RoomId;
use wick_core::Result;
use wick_database::schema::room::HISTORY_BY_ROOM;

use super::{Incoming, Received, judge, store};
use crate::{Assembly, Graph, Placement};

impl Graph {
    /// Receives events of the history, the oldest first, in one batch. They get places before all events that are
    /// there, and change neither the current state nor the forward extremities. The caller bounds how many.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here. A database error.
    pub async fn receive_history(
        &self,
        room_id: &RoomId,
        events: &[Incoming],
    ) -> Result<Vec<Received>> {
        self.transact(room_id, |room| room.receive_history(events)).await
    }
}

impl Assembly<'_> {
    fn receive_history(&mut self, events: &[Incoming]) -> Result<Vec<Received>> {
        let last = self.batch.read_for_update(&HISTORY_BY_ROOM, &self.room)?.unwrap_or_default();
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let first = last.saturating_sub(count);
        let mut received = Vec::with_capacity(events.len());
        for (event, place) in events.iter().zip(first..) {
            received.push(self.receive_at(event, place)?);
        }
        if received.iter().any(|received| matches!(received, Received::Accepted(_))) {
            self.batch.put(&HISTORY_BY_ROOM, &self.room, &first);
        }
        Ok(received)
    }

    fn receive_at(&mut self, incoming: &Incoming, place: i64) -> Result<Received> {
        let event_id = incoming.event.event_id().to_owned();
        let mut judged = match judge::judge(self, incoming)? {
            Ok(judged) => judged,
            Err(received) => return Ok(received),
        };
        if judge::is_create(self, &judged.pdu)? {
            judged.rejected = None;
        }
        if let Some(reason) = judged.rejected.clone() {
            store::reject(self, judged)?;
            return Ok(Received::Rejected(event_id, reason));
        }
        store::accept(self, judged, Placement::History(place)).map(Received::Accepted)
    }
}
