//! Events that this server missed, from before it was in the room or in a gap of the timeline: they go into the history, and are
//! no news.

use ruma::RoomId;
use wick_core::{Error, Result};
use wick_database::schema::room::{GAP_BY_PLACE, HISTORY_BY_ROOM, TimelineGap};

use super::{Incoming, Received, judge, store};
use crate::{Assembly, Graph};

impl Graph {
    /// Receives events of the history, the oldest first, in one batch. They get places before all events that are
    /// there, or in the `gap` before the event at this place, and change neither the current state nor the forward extremities.
    /// The caller bounds how many.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here or has no such gap. A database error.
    pub async fn receive_history(
        &self,
        room_id: &RoomId,
        gap: Option<i64>,
        events: &[Incoming],
    ) -> Result<Vec<Received>> {
        self.transact(room_id, |room| room.receive_history(gap, events)).await
    }
}

impl Assembly<'_> {
    fn receive_history(&mut self, gap: Option<i64>, events: &[Incoming]) -> Result<Vec<Received>> {
        // Also for those in a gap: no two batches may look up at once what the other one brings.
        let last = self.batch.read_for_update(&HISTORY_BY_ROOM, &self.room)?.unwrap_or_default();
        let gap = gap.map(|place| self.gap_at(place)).transpose()?;
        let events = match &gap {
            // There are places for the newest ones.
            Some((_, TimelineGap { floor, lowest })) => {
                let free = usize::try_from(lowest.saturating_sub(*floor).saturating_sub(1));
                let free = free.unwrap_or_default().min(events.len());
                events.split_at(events.len().saturating_sub(free)).1
            }
            None => events,
        };
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let first = gap.map_or(last, |(_, gap)| gap.lowest).saturating_sub(count);
        let mut received = Vec::with_capacity(events.len());
        for (event, place) in events.iter().zip(first..) {
            received.push(self.receive_at(event, place)?);
        }
        if received.iter().any(|received| matches!(received, Received::Accepted(_))) {
            self.batch.put(&HISTORY_BY_ROOM, &self.room, &last.saturating_sub(count));
            if let Some((place, gap)) = gap {
                let gap = TimelineGap { lowest: first, ..gap };
                self.batch.put(&GAP_BY_PLACE, &(self.room, place), &gap);
            }
        }
        Ok(received)
    }

    fn gap_at(&mut self, place: i64) -> Result<(i64, TimelineGap)> {
        let gap = self.batch.read_for_update(&GAP_BY_PLACE, &(self.room, place))?;
        let gap = gap.ok_or_else(|| Error::not_found("there is no gap at this place"))?;
        Ok((place, gap))
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
        store::accept(self, judged, Some(place)).map(Received::Accepted)
    }
}
