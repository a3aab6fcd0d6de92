//! Short ids for the long names that everything else refers to.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, events::StateEventType};
use wick_core::{ShortEventId, ShortRoomId, ShortStateKey, ShortUserId};

tables! {
    /// The short id of a room.
    /// Written by the interner in the batch that first names the room; rebuilt from `room_by_short`.
    SHORT_BY_ROOM: OwnedRoomId => ShortRoomId, Random;
    /// The room of a short id.
    /// Written by the interner in the batch that first names the room; rebuilt from `short_by_room`.
    ROOM_BY_SHORT: ShortRoomId => OwnedRoomId, Random;
    /// The short id of a user.
    /// Written by the interner in the batch that first names the user; rebuilt from `user_by_short`.
    SHORT_BY_USER: OwnedUserId => ShortUserId, Random;
    /// The user of a short id.
    /// Written by the interner in the batch that first names the user; rebuilt from `short_by_user`.
    USER_BY_SHORT: ShortUserId => OwnedUserId, Random;
    /// The short id of a pair of event type and state key.
    /// Written by the interner in the batch that first names the pair; rebuilt from `state_key_by_short`.
    SHORT_BY_STATE_KEY: (StateEventType, String) => ShortStateKey, Random;
    /// The pair of event type and state key of a short id.
    /// Written by the interner in the batch that first names the pair; rebuilt from `short_by_state_key`.
    STATE_KEY_BY_SHORT: ShortStateKey => (StateEventType, String), Random;
    /// The short id of an event. That an event has one does not mean that the event itself is stored.
    /// Written by the interner in the batch that first names the event; rebuilt from `event_by_short`.
    SHORT_BY_EVENT: OwnedEventId => ShortEventId, Random;
    /// The event id of a short id.
    /// Written by the interner in the batch that first names the event; rebuilt from `short_by_event`.
    EVENT_BY_SHORT: ShortEventId => OwnedEventId, Random;
}
