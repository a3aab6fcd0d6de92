//! Rooms in spaces that this server is not in, as other servers describe them.

use std::collections::{BTreeMap, HashMap};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId,
    room::{RoomSummary, RoomType},
};
use serde_json::value::RawValue;

/// How many rooms are asked for at once.
const MAX_WANTED: usize = 50;

/// A room as another server described it.
pub struct RemoteRoom {
    /// The room.
    pub summary: RoomSummary,
    /// Its `m.space.child` events.
    pub children_state: Vec<Box<RawValue>>,
}

/// What other servers said of rooms during one walk, and what they are to be asked.
#[derive(Default)]
pub struct Elsewhere {
    /// `None` for those that no server shows to this one.
    rooms: HashMap<OwnedRoomId, Option<RemoteRoom>>,
    wanted: BTreeMap<OwnedRoomId, Vec<OwnedServerName>>,
}

impl Elsewhere {
    /// The rooms that a walk came to and knows nothing of, with servers that may be in them.
    pub fn take_wanted(&mut self) -> BTreeMap<OwnedRoomId, Vec<OwnedServerName>> {
        std::mem::take(&mut self.wanted)
    }

    /// Notes what a server said of a room.
    pub fn put(&mut self, room_id: OwnedRoomId, room: Option<RemoteRoom>) {
        self.rooms.insert(room_id, room);
    }

    /// Notes what a server said of a child of the room that it was asked for: for a space, it said nothing of its children.
    pub fn put_child(&mut self, summary: RoomSummary) {
        if summary.room_type != Some(RoomType::Space) {
            let room = RemoteRoom { summary, children_state: Vec::new() };
            self.rooms.entry(room.summary.room_id.clone()).or_insert(Some(room));
        }
    }

    /// What is known of a room. If nothing is, its servers are wanted.
    pub(super) fn find(
        &mut self,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Option<&RemoteRoom> {
        if !self.rooms.contains_key(room_id) && self.wanted.len() < MAX_WANTED && !via.is_empty() {
            self.wanted.insert(room_id.to_owned(), via.to_vec());
        }
        self.rooms.get(room_id)?.as_ref()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.wanted.is_empty()
    }
}
