//! Sticky events (MSC4354): events that members get for a time whatever their timelines show. Written by `room::commit`
//! with the event.
//!
//! Invariant: each row of [`STICKY_BY_ROOM`] has its row of [`STICKY_BY_END`], and the reverse. Both go when the event is
//! redacted, or some time after its end: readers compare the end with the clock.

use serde::{Deserialize, Serialize};
use wick_core::{ShortEventId, ShortRoomId, ShortUserId, Timestamp};

use crate::postcard_value;

/// A sticky event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyRow {
    /// The event.
    pub event: ShortEventId,
    /// Its sender.
    pub sender: ShortUserId,
    /// Until when it is sticky.
    pub until: Timestamp,
}
postcard_value!(StickyRow, version = 1);

tables! {
    /// By room and place in the timeline: the sticky event. Read by sync, wherever the event is shown, and to count
    /// those of a sender. Rebuilt from nothing: the time of arrival is known here alone.
    STICKY_BY_ROOM: (ShortRoomId, i64) => StickyRow, Sequential, wakes_table;
    /// By end, room and place: a sticky event, to be deleted once it has ended (`wick_rooms`).
    STICKY_BY_END: (Timestamp, ShortRoomId, i64) => (), Small;
}
