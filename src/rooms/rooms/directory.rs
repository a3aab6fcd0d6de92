//! The public directory: rooms that want to be found.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#published-room-directory>

use std::cmp::Reverse;

use ruma::{
    RoomId,
    directory::{Filter, PublicRoomsChunk, RoomTypeFilter},
    events::StateEventType,
};
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{Range, Read, schema::directory::LISTED_BY_ROOM};

use super::{Rooms, ensure_joined, power_levels, summary};

/// How many rooms are shown at once if the client does not say.
const USUAL_LIMIT: usize = 100;

/// How many rooms are shown at once at most.
const MAX_LIMIT: usize = 500;

/// Part of the directory.
#[derive(Debug)]
pub struct Page {
    /// The rooms, those with the most members first.
    pub rooms: Vec<PublicRoomsChunk>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// Where the page before begins, if there is one.
    pub previous: Option<String>,
    /// How many rooms there are on all pages.
    pub total: usize,
}

impl Rooms {
    /// A page of the directory.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if `since` is no place in it.
    pub fn public_rooms(
        &self,
        filter: &Filter,
        limit: Option<u64>,
        since: Option<&str>,
    ) -> Result<Page> {
        let begin = match since {
            Some(since) => since
                .parse::<usize>()
                .map_err(|_| Error::invalid_param("since is no place in the directory"))?,
            None => 0,
        };
        let limit = limit.map_or(USUAL_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
        let limit = limit.clamp(1, MAX_LIMIT);
        let read = self.resources.database.published();
        let wanted = Wanted::new(filter);
        let mut rooms = Vec::new();
        for row in read.scan(&LISTED_BY_ROOM, Range::all()) {
            if let Some(room) = summary(&self.graph, &read, row?.0)? {
                let room = PublicRoomsChunk::from(room);
                if wanted.has(&room) {
                    rooms.push(room);
                }
            }
        }
        // By id where the numbers are the same, so that pages fit together.
        rooms.sort_by(|a, b| {
            let key = |room: &PublicRoomsChunk| Reverse(room.num_joined_members);
            key(a).cmp(&key(b)).then_with(|| a.room_id.cmp(&b.room_id))
        });
        let total = rooms.len();
        let end = begin.saturating_add(limit);
        Ok(Page {
            rooms: rooms.into_iter().skip(begin).take(limit).collect(),
            next: (end < total).then(|| end.to_string()),
            previous: (begin > 0).then(|| begin.saturating_sub(limit).to_string()),
            total,
        })
    }

    /// Whether the directory lists a room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here.
    pub fn is_listed(&self, room_id: &RoomId) -> Result<bool> {
        let read = self.resources.database.published();
        let room = self.known(&read, room_id)?;
        Ok(read.contains(&LISTED_BY_ROOM, &room)?)
    }

    /// Has the directory list a room, or not.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is not here, `M_FORBIDDEN` if the session's user could not give it
    /// its main alias, or users may not list rooms here.
    pub async fn list(&self, session: &Session, room_id: &RoomId, listed: bool) -> Result<()> {
        if listed && !self.resources.config.rooms.allow_publication {
            return Err(Error::forbidden("users may not list rooms on this server"));
        }
        self.graph
            .transact(room_id, |room| {
                ensure_joined(room, &session.user_id)?;
                let event_type = StateEventType::RoomCanonicalAlias;
                if !power_levels(room)?.user_can_send_state(&session.user_id, event_type) {
                    return Err(Error::forbidden("you lack the power to list this room"));
                }
                let short = room.room();
                if listed {
                    room.batch().put(&LISTED_BY_ROOM, &short, &());
                } else {
                    room.batch().delete(&LISTED_BY_ROOM, &short);
                }
                Ok(())
            })
            .await
    }

    /// A room that is here.
    pub(super) fn known(&self, read: &impl Read, room_id: &RoomId) -> Result<ShortRoomId> {
        let unknown = || Error::not_found("this server does not know that room");
        let room = self.graph.short(read, room_id)?.ok_or_else(unknown)?;
        self.graph.head(read, room)?.map(|_| room).ok_or_else(unknown)
    }
}

/// What somebody looks for.
struct Wanted<'a> {
    term: Option<String>,
    types: &'a [RoomTypeFilter],
}

impl<'a> Wanted<'a> {
    fn new(filter: &'a Filter) -> Self {
        let term = filter.generic_search_term.as_ref().map(|term| term.trim().to_lowercase());
        Self { term: term.filter(|term| !term.is_empty()), types: &filter.room_types }
    }

    fn has(&self, room: &PublicRoomsChunk) -> bool {
        let kind = room.room_type.as_ref().map(AsRef::as_ref);
        let right_type =
            self.types.is_empty() || self.types.iter().any(|wanted| wanted.as_str() == kind);
        right_type && self.term.as_deref().is_none_or(|term| is_called(room, term))
    }
}

fn is_called(room: &PublicRoomsChunk, term: &str) -> bool {
    let alias = room.canonical_alias.as_ref().map(|alias| alias.as_str());
    [room.name.as_deref(), room.topic.as_deref(), alias]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(term))
}
