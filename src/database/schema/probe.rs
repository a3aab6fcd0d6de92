//! Tables that only this crate's tests have.

use wick_core::{Position, ShortRoomId, ShortUserId};

tables! {
    /// A number by name. Written and read by tests.
    NUMBER_BY_NAME: String => u64, Random;
    /// A name by place in a room. Written and read by tests.
    NAME_BY_PLACE: (ShortRoomId, Position) => String, Sequential, wakes_room;
    /// A number by device. Written and read by tests.
    NUMBER_BY_DEVICE: (ShortUserId, String) => u64, Small, wakes_user;
    /// Bytes by number. Written and read by tests.
    BYTES_BY_NUMBER: u64 => Vec<u8>, Blob;
}
