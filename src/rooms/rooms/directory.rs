//! The public room directory.
//!
//! Invariant: an entry of the cache counts only as long as nothing was written in its room above the position
//! it was read at; so a request summarises the rooms that changed since the last one, and no others.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#published-room-directory>

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{
    RoomId,
    directory::{Filter, PublicRoomsChunk, RoomTypeFilter},
    events::StateEventType,
};
use wick_account::Session;
use wick_core::{Error, Position, Result, ShortRoomId};
use wick_database::{Range, Read, Snapshot, schema::directory::LISTED_BY_ROOM};
use wick_room::Graph;

use super::{Rooms, ensure_joined, power_levels, summary};

/// How many rooms are returned if the request gives no limit.
const USUAL_LIMIT: usize = 100;

/// How many rooms are returned at most.
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

/// What the directory shows of its rooms, as of the position at which each was read.
#[derive(Clone, Default)]
pub(super) struct Cache {
    entries: Arc<Mutex<Entries>>,
}

/// The listed rooms, each with the position at which it was read.
type Entries = HashMap<ShortRoomId, (Position, Arc<Entry>)>;

/// A room of the directory.
struct Entry {
    chunk: PublicRoomsChunk,
    /// Its name, topic and alias in lower case.
    texts: Vec<String>,
}

impl Cache {
    /// The listed rooms. One request at a time reads what changed; the others wait for it.
    fn listed(&self, graph: &Graph, read: &Snapshot) -> Result<Vec<Arc<Entry>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = std::mem::take(&mut *entries);
        let mut listed = Vec::with_capacity(known.len());
        for row in read.scan(&LISTED_BY_ROOM, Range::all()) {
            let room = row?.0;
            let fresh = known.remove(&room).filter(|(at, _)| {
                *at <= read.position() && !graph.database().is_busy_since(room, *at)
            });
            let entry = match fresh {
                Some(entry) => entry,
                None => match summary(graph, read, room)? {
                    Some(room) => (read.position(), Arc::new(Entry::new(room.into()))),
                    None => continue,
                },
            };
            listed.push(Arc::clone(&entry.1));
            entries.insert(room, entry);
        }
        Ok(listed)
    }
}

impl Entry {
    fn new(chunk: PublicRoomsChunk) -> Self {
        let alias = chunk.canonical_alias.as_ref().map(|alias| alias.as_str());
        let texts = [chunk.name.as_deref(), chunk.topic.as_deref(), alias].into_iter().flatten();
        Self { texts: texts.map(str::to_lowercase).collect(), chunk }
    }
}

impl Rooms {
    /// A page of the directory. Runs on the worker threads, since it looks at every listed room. `asker`:
    /// the user or address that it is scheduled for.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if `since` is no place in it.
    pub async fn public_rooms(
        &self,
        asker: &impl Hash,
        filter: Filter,
        limit: Option<u64>,
        since: Option<String>,
    ) -> Result<Page> {
        let (graph, cache) = (Arc::clone(&self.graph), self.directory.clone());
        let database = self.resources.database.clone();
        let page = move || {
            let read = database.published();
            page(cache.listed(&graph, &read)?, &filter, limit, since.as_deref())
        };
        self.resources.workers.run(asker, page).await
    }

    /// Whether the directory lists a room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown.
    pub fn is_listed(&self, room_id: &RoomId) -> Result<bool> {
        let read = self.resources.database.published();
        let room = self.known(&read, room_id)?;
        Ok(read.contains(&LISTED_BY_ROOM, &room)?)
    }

    /// Has the directory list a room, or not.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if the session's user could not give it
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

/// A page of the rooms that pass a filter.
fn page(
    listed: Vec<Arc<Entry>>,
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
    let wanted = Wanted::new(filter);
    let mut rooms: Vec<_> = listed.into_iter().filter(|entry| wanted.has(entry)).collect();
    // By id where the numbers are the same, so that pages fit together.
    rooms.sort_by(|a, b| {
        let key = |entry: &Entry| Reverse(entry.chunk.num_joined_members);
        key(a).cmp(&key(b)).then_with(|| a.chunk.room_id.cmp(&b.chunk.room_id))
    });
    let total = rooms.len();
    let end = begin.saturating_add(limit);
    let shown = rooms.iter().skip(begin).take(limit);
    Ok(Page {
        rooms: shown.map(|entry| entry.chunk.clone()).collect(),
        next: (end < total).then(|| end.to_string()),
        previous: (begin > 0).then(|| begin.saturating_sub(limit).to_string()),
        total,
    })
}

/// What a filter lets through.
struct Wanted<'a> {
    term: Option<String>,
    types: &'a [RoomTypeFilter],
}

impl<'a> Wanted<'a> {
    fn new(filter: &'a Filter) -> Self {
        let term = filter.generic_search_term.as_ref().map(|term| term.trim().to_lowercase());
        Self { term: term.filter(|term| !term.is_empty()), types: &filter.room_types }
    }

    fn has(&self, room: &Entry) -> bool {
        let kind = room.chunk.room_type.as_ref().map(AsRef::as_ref);
        let right_type =
            self.types.is_empty() || self.types.iter().any(|wanted| wanted.as_str() == kind);
        let has_term = |term: &String| room.texts.iter().any(|text| text.contains(term));
        right_type && self.term.as_ref().is_none_or(has_term)
    }
}
