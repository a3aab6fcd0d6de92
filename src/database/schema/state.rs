//! The versions of the rooms' states, as trees that share what they have in common.

use wick_core::ShortRoomId;

tables! {
    /// A node of a state tree by the first half of the SHA-256 of its bytes. Never changed.
    /// Written and read by `room::state`; rebuilt by resolving the rooms' states again.
    STATE_NODE_BY_HASH: [u8; 16] => Vec<u8>, Random;
    /// That a room has events whose short ids are older than those of events that allow them.
    /// Written by `room::receive`, read by state resolution, which may then not go by their order;
    /// rebuilt from the events.
    DISORDER_BY_ROOM: ShortRoomId => (), Small;
}
