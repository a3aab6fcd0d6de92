//! `/timestamp_to_event`: the event next to a moment.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use ruma::{OwnedEventId, RoomId};
use wick_account::Session;
use wick_core::{Error, Result, Timestamp};
use wick_room::Direction;

use super::{History, MAX_SCANNED};

impl History {
    /// The first event at or after a moment, or the last one at or before it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_NOT_FOUND` if there is no such
    /// event that they may see.
    pub fn event_at(
        &self,
        session: &Session,
        room_id: &RoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<(OwnedEventId, Timestamp)> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, room_id)?;
        let events = self.graph.timeline_by_time(&read, reader.room, at, direction);
        for event in events.take(MAX_SCANNED) {
            let event = event?;
            let pdu = self.graph.load_event(&read, event)?;
            let Some(place) = self.graph.place(&read, event)? else { continue };
            if reader.viewer.can_see(&pdu, &place)? {
                return Ok((pdu.event_id.clone(), pdu.origin_server_ts));
            }
        }
        Err(Error::not_found("there is no event that you may see in this direction"))
    }
}
