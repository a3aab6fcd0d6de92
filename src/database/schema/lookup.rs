//! Indexes by which events and users are found: by time, by word. All can be rebuilt from the events
//! and profiles.

use wick_core::{ShortEventId, ShortRoomId, ShortUserId, Timestamp};

use crate::Descending;

tables! {
    /// By room, `origin_server_ts` and place in the timeline: the event. Written with the event; read by
    /// `/timestamp_to_event`; rebuilt from the timeline.
    EVENT_BY_TIMESTAMP: (ShortRoomId, Timestamp, i64) => ShortEventId, Sequential;

    /// By room, word and place, the newest first: an event that contains the word. Written with the event,
    /// removed with its redaction; read by `/search`; rebuilt from the timeline.
    EVENT_BY_WORD: (ShortRoomId, String, Descending<i64>) => ShortEventId, Random;

    /// By room and state key: the room had an `m.space.child` with this key at some time. Written with the
    /// state, also that of a join over another server; read by `/hierarchy`, which asks the current state for each; rebuilt from
    /// the states.
    CHILD_BY_SPACE: (ShortRoomId, String) => (), Random;

    /// By word: a local user with it in their name or user id. Written with accounts and display names;
    /// read by `/user_directory/search`; rebuilt from them.
    USER_BY_WORD: (String, ShortUserId) => (), Random;
}
