//! `/timestamp_to_event`: the event next to a moment.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use ruma::{OwnedEventId, RoomId};
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId, Timestamp};
use wick_database::Read;
use wick_room::Direction;

use super::{History, MAX_SCANNED};

/// The event next to a moment, as far as the room is here.
#[derive(Debug)]
pub struct Nearest {
    /// The event with its time; `None` if there is none that the user may see.
    pub event: Option<(OwnedEventId, Timestamp)>,
    /// Whether no event that is missing here can be nearer.
    pub is_certain: bool,
}

impl Nearest {
    /// The event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none.
    pub fn found(self) -> Result<(OwnedEventId, Timestamp)> {
        let unseen = || Error::not_found("there is no event that you may see in this direction");
        self.event.ok_or_else(unseen)
    }
}

impl History {
    /// The first event at or after a moment, or the last one at or before it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room.
    pub fn event_at(
        &self,
        session: &Session,
        room_id: &RoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<Nearest> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, room_id)?;
        let events = self.graph.timeline_by_time(&read, reader.room, at, direction);
        for event in events.take(MAX_SCANNED) {
            let event = event?;
            let pdu = self.graph.load_event(&read, event)?;
            let Some(place) = self.graph.place(&read, event)? else { continue };
            if reader.viewer.can_see(&pdu, &place)? {
                let is_certain = pdu.origin_server_ts == at
                    || self.is_next(&read, reader.room, place.position, (at, direction))?;
                let event = Some((pdu.event_id.clone(), pdu.origin_server_ts));
                return Ok(Nearest { event, is_certain });
            }
        }
        let is_certain = self.graph.is_whole(&read, reader.room)?;
        Ok(Nearest { event: None, is_certain })
    }

    /// Whether the event at a place follows directly on one from the other side of a moment, so that nothing is missing in between.
    fn is_next(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        place: Option<i64>,
        (at, direction): (Timestamp, Direction),
    ) -> Result<bool> {
        if self.graph.is_whole(read, room)? {
            return Ok(true);
        }
        let Some(place) = place else { return Ok(false) };
        let (from, towards) = match direction {
            Direction::Forward => (place.saturating_sub(1), Direction::Backward),
            Direction::Backward => (place, Direction::Forward),
        };
        let neighbour = self.graph.timeline(read, room, from, towards).next().transpose()?;
        let Some(neighbour) = neighbour else {
            // There are newer events than those that are here only if the server has left the room.
            return Ok(direction == Direction::Backward);
        };
        let time = self.graph.load_event(read, neighbour.event)?.origin_server_ts;
        let is_beyond = match direction {
            Direction::Forward => time <= at,
            Direction::Backward => time >= at,
        };
        let (low, high) = (place.min(neighbour.place), place.max(neighbour.place));
        let gaps = self.graph.open_gaps(read, room)?;
        Ok(is_beyond && !gaps.iter().any(|gap| gap.is_between(low, high)))
    }
}
