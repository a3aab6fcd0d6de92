//! All events in the order of their positions, whatever room they are in, and how far each follower of the
//! stream has got.

use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortEventId, ShortRoomId};

use crate::postcard_value;

/// An event of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// The room it is in.
    pub room: ShortRoomId,
    /// The event.
    pub event: ShortEventId,
}

postcard_value!(StreamEntry, version = 1);

tables! {
    /// Every event that has a position, by position. In a database that is older than this table, events
    /// from before are not in it. Written by `room::commit`, read by followers; rebuilt from
    /// [`EVENT_BY_POSITION`](super::room::EVENT_BY_POSITION).
    EVENT_BY_STREAM: Position => StreamEntry, Sequential;

    /// The position up to which a follower has consumed the stream, by the follower's name. Written and read by
    /// `runtime::follower`; rebuilt from nothing else.
    CURSOR_BY_FOLLOWER: String => Position, Small;
}
