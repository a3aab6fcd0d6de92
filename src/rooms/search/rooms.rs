//! Which rooms to search.

use ruma::{OwnedRoomId, RoomId, events::StateEventType};
use serde::Deserialize;
use wick_account::filters;
use wick_core::{Result, ShortRoomId};
use wick_database::schema::room::Membership;
use wick_room::shared_rooms::joined_rooms;

use super::Searching;

/// How many upgrades of a room are followed back.
const MAX_UPGRADES: usize = 20;

/// Rooms that one request searches.
const MAX_ROOMS: usize = 10_000;

#[derive(Deserialize)]
struct CreateContent {
    predecessor: Option<Predecessor>,
}

#[derive(Deserialize)]
struct Predecessor {
    room_id: OwnedRoomId,
}

impl Searching<'_> {
    /// The rooms that the user is in and the filter names, with those they were upgraded from.
    pub(super) fn rooms(&mut self) -> Result<Vec<ShortRoomId>> {
        let mut rooms = Vec::new();
        for room in self.joined_rooms()? {
            let mut next = Some(room);
            for _ in 0..=MAX_UPGRADES {
                let Some(room) = next else { break };
                if self.readers.contains_key(&room) || rooms.len() >= MAX_ROOMS {
                    break;
                }
                let history = self.history;
                let Some(reader) = history.reader_of(self.read, self.session, room)? else { break };
                self.readers.insert(room, reader);
                rooms.push(room);
                next = self.predecessor(room)?;
            }
        }
        Ok(rooms)
    }

    fn joined_rooms(&self) -> Result<Vec<ShortRoomId>> {
        let (graph, filter) = (&self.history.graph, &self.criteria.filter);
        let mut rooms = Vec::new();
        if let Some(only) = &filter.rooms {
            for room_id in only.iter().filter(|id| filters::allows_events_of(filter, id)) {
                let Some(room) = graph.short(self.read, room_id)? else { continue };
                let member = graph.member(self.read, room, self.session.user)?;
                if member.is_some_and(|member| member.membership == Membership::Join) {
                    rooms.push(room);
                }
            }
            return Ok(rooms);
        }
        for room in joined_rooms(self.read, self.session.user) {
            let room = room?;
            if self.is_allowed(room)? {
                rooms.push(room);
            }
        }
        Ok(rooms)
    }

    fn is_allowed(&self, room: ShortRoomId) -> Result<bool> {
        let filter = &self.criteria.filter;
        if filter.not_rooms.is_empty() {
            return Ok(true);
        }
        Ok(filters::allows_events_of(filter, &self.room_id(room)?))
    }

    pub(super) fn room_id(&self, room: ShortRoomId) -> Result<OwnedRoomId> {
        crate::history::room_id(&self.history.graph, self.read, room)
    }

    fn predecessor(&self, room: ShortRoomId) -> Result<Option<ShortRoomId>> {
        let graph = &self.history.graph;
        let create = graph.state_event(self.read, room, &StateEventType::RoomCreate, "")?;
        let content = create.and_then(|create| create.content_as::<CreateContent>().ok());
        let predecessor = content.and_then(|content| content.predecessor);
        let room_id: Option<&RoomId> =
            predecessor.as_ref().map(|predecessor| &*predecessor.room_id);
        room_id.map_or(Ok(None), |room_id| graph.short(self.read, room_id))
    }
}
