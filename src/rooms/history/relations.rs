//! `/relations`: what relates to an event.
//!
//! The children of one parent by one `rel_type` stand in the order of the timeline; several such lists
//! are merged as they are read.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#relationships-api>

use std::{collections::HashSet, iter::Peekable};

use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Result, ShortEventId};
use wick_database::{
    Range, Read,
    schema::room::{RELATION_BY_PARENT, RelationRow},
};
use wick_room::{Direction, TimelineItem, visibility::Reach};

use super::{
    History, MAX_LIMIT, MAX_SCANNED, Reader,
    token::{from_token, to_token},
    unseen,
};

/// How far to go from relation to relation if asked to.
pub const RECURSION_DEPTH: u8 = 3;

/// How many kinds of relations to one event are looked at.
const MAX_REL_TYPES: usize = 64;

/// How many lists of relations one request merges.
const MAX_LISTS: usize = 500;

/// Which relations.
pub struct AskRelations {
    /// In which room.
    pub room_id: OwnedRoomId,
    /// To which event.
    pub event_id: OwnedEventId,
    /// Of which kind; all if `None`.
    pub rel_type: Option<String>,
    /// By events of which type; any if `None`.
    pub event_type: Option<String>,
    /// Where to begin.
    pub from: Option<String>,
    /// Where to end.
    pub to: Option<String>,
    /// Which way.
    pub direction: Direction,
    /// How many at most.
    pub limit: usize,
    /// Whether to include events that relate to the found ones.
    pub recurse: bool,
}

/// A part of a list.
pub struct Chunk {
    /// The events.
    pub chunk: Vec<Box<RawValue>>,
    /// Where to continue; `None` at the end.
    pub next_batch: Option<String>,
}

type Rows<'a> = Box<dyn Iterator<Item = Result<(i64, RelationRow)>> + 'a>;

impl History {
    /// The events that relate to an event.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_NOT_FOUND` if they may not see
    /// the event, `M_INVALID_PARAM` if a token is none.
    pub fn relations(&self, session: &Session, ask: &AskRelations) -> Result<Chunk> {
        let read = self.resources.database.published();
        let mut reader = self.reader(&read, session, &ask.room_id)?;
        let parent = self.graph.intern().lookup_event(&read, &ask.event_id)?.ok_or_else(unseen)?;
        if !reader.sees(parent)? {
            return Err(unseen());
        }
        let (lower, upper) = reader.bounds(ask)?;
        let mut lists = reader.lists(parent, ask, (lower, upper))?;
        let mut chunk = Chunk { chunk: Vec::new(), next_batch: None };
        // Next to what was read, so that events that come into a gap beyond it are read, too.
        let mut continuation = match ask.direction {
            Direction::Backward => upper,
            Direction::Forward => lower,
        };
        let mut scanned = 0;
        while let Some((place, row)) = next(&mut lists, ask.direction)? {
            if chunk.chunk.len() >= ask.limit.min(MAX_LIMIT) || scanned >= MAX_SCANNED {
                chunk.next_batch = Some(to_token(continuation));
                break;
            }
            continuation = match ask.direction {
                Direction::Backward => place.saturating_sub(1),
                Direction::Forward => place,
            };
            scanned += 1;
            let other_type =
                ask.event_type.as_ref().is_some_and(|wanted| *wanted != row.event_type);
            if other_type || reader.ignored.contains(&row.sender) {
                continue;
            }
            let pdu = self.graph.load_event(&read, row.child)?;
            let shown = reader.shown(TimelineItem { place, event: row.child }, &pdu)?;
            chunk.chunk.extend(shown.map(|shown| shown.json));
        }
        Ok(chunk)
    }
}

/// The next row of all lists.
fn next(
    lists: &mut [Peekable<Rows<'_>>],
    direction: Direction,
) -> Result<Option<(i64, RelationRow)>> {
    let mut best: Option<(usize, i64)> = None;
    for (index, list) in lists.iter_mut().enumerate() {
        let place = match list.peek() {
            Some(Ok((place, _))) => *place,
            // The error is returned by the read below.
            Some(Err(_)) => return list.next().transpose(),
            None => continue,
        };
        let better = best.is_none_or(|(_, known)| match direction {
            Direction::Backward => place > known,
            Direction::Forward => place < known,
        });
        if better {
            best = Some((index, place));
        }
    }
    best.and_then(|(index, _)| lists.get_mut(index)).and_then(Iterator::next).transpose()
}

impl<'a> Reader<'a> {
    fn sees(&mut self, event: ShortEventId) -> Result<bool> {
        let Some(pdu) = self.graph.event(self.read, event)? else { return Ok(false) };
        let place = self.graph.place(self.read, event)?;
        place.map_or(Ok(false), |place| self.viewer.can_see(&pdu, &place))
    }

    /// The places between which to look: above the first, up to the second.
    fn bounds(&self, ask: &AskRelations) -> Result<(i64, i64)> {
        let from = ask.from.as_deref().map(from_token).transpose()?;
        let to = ask.to.as_deref().map(from_token).transpose()?;
        let (lower, upper) = match ask.direction {
            Direction::Backward => (to, from),
            Direction::Forward => (from, to),
        };
        let upper = upper.unwrap_or(i64::MAX);
        let upper = match self.reach {
            Reach::Until(end) => upper.min(end),
            Reach::Live => upper,
        };
        Ok((lower.unwrap_or(i64::MIN), upper))
    }

    fn lists(
        &self,
        parent: ShortEventId,
        ask: &AskRelations,
        bounds: (i64, i64),
    ) -> Result<Vec<Peekable<Rows<'a>>>> {
        let parents = if ask.recurse { self.descendants(parent)? } else { HashSet::from([parent]) };
        let mut lists = Vec::new();
        for parent in parents {
            let rel_types = match &ask.rel_type {
                Some(rel_type) => vec![rel_type.clone()],
                None => self.rel_types(parent)?,
            };
            for rel_type in rel_types {
                lists.push(self.list(parent, rel_type, ask.direction, bounds).peekable());
            }
            if lists.len() >= MAX_LISTS {
                break;
            }
        }
        Ok(lists)
    }

    fn list(
        &self,
        parent: ShortEventId,
        rel_type: String,
        direction: Direction,
        (lower, upper): (i64, i64),
    ) -> Rows<'a> {
        let range = Range::prefix((parent, rel_type.clone()))
            .and(Range::after(&(parent, rel_type.clone(), lower)))
            .and(Range::through(&(parent, rel_type, upper)));
        let rows = match direction {
            Direction::Backward => self.read.scan_back(&RELATION_BY_PARENT, range),
            Direction::Forward => self.read.scan(&RELATION_BY_PARENT, range),
        };
        Box::new(rows.map(|row| Ok(row.map(|((.., place), row)| (place, row))?)))
    }

    /// The kinds of relations to an event, one look each.
    fn rel_types(&self, parent: ShortEventId) -> Result<Vec<String>> {
        let mut rel_types: Vec<String> = Vec::new();
        while rel_types.len() < MAX_REL_TYPES {
            let mut range = Range::prefix((parent,));
            if let Some(last) = rel_types.last() {
                range = range.and(Range::after(&(parent, last.clone(), i64::MAX)));
            }
            let Some(((_, rel_type, _), _)) = self.read.first(&RELATION_BY_PARENT, range)? else {
                break;
            };
            rel_types.push(rel_type);
        }
        Ok(rel_types)
    }

    /// An event with those that relate to it, and to them, as far as [`RECURSION_DEPTH`] goes.
    fn descendants(&self, root: ShortEventId) -> Result<HashSet<ShortEventId>> {
        let mut known = HashSet::from([root]);
        let mut newest = vec![root];
        for _ in 1..RECURSION_DEPTH {
            let mut found = Vec::new();
            for parent in newest {
                let rows = self.read.scan(&RELATION_BY_PARENT, Range::prefix((parent,)));
                for row in rows.take(MAX_SCANNED) {
                    let child = row?.1.child;
                    if known.len() < MAX_LISTS && known.insert(child) {
                        found.push(child);
                    }
                }
            }
            newest = found;
        }
        Ok(known)
    }
}
