//! A room's timeline by place.
//!
//! Invariant: a token at place P stands after all events up to and including P: forward from P are
//! those above, backward from P those up to it.

use wick_core::{Error, Position, Result, ShortEventId, ShortRoomId, Timestamp};
use wick_database::{
    Range, Read,
    schema::{lookup::EVENT_BY_TIMESTAMP, room::EVENT_BY_POSITION},
};

use crate::Graph;

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From old to new.
    Forward,
    /// From new to old.
    Backward,
}

/// An event's place in the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineItem {
    /// Its place; as a token it stands after the event.
    pub place: i64,
    /// The event.
    pub event: ShortEventId,
}

/// A position in the stream as a place in a room's timeline.
#[must_use]
pub fn to_place(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

impl Graph {
    /// The events after (forward) or up to (backward) `from`, one after another.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn timeline<'a, R: Read>(
        &self,
        read: &'a R,
        room: ShortRoomId,
        from: i64,
        direction: Direction,
    ) -> impl Iterator<Item = Result<TimelineItem>> + use<'a, R> {
        let scan = match direction {
            Direction::Forward => {
                let range = Range::prefix((room,)).and(Range::after(&(room, from)));
                read.scan(&EVENT_BY_POSITION, range)
            }
            Direction::Backward => {
                let range = Range::prefix((room,)).and(Range::through(&(room, from)));
                read.scan_back(&EVENT_BY_POSITION, range)
            }
        };
        scan.map(|row| {
            row.map(|((_, place), event)| TimelineItem { place, event }).map_err(Error::from)
        })
    }

    /// The events at or after (forward) or at or before (backward) a time, in the order of their `origin_server_ts`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn timeline_by_time<'a, R: Read>(
        &self,
        read: &'a R,
        room: ShortRoomId,
        at: Timestamp,
        direction: Direction,
    ) -> impl Iterator<Item = Result<ShortEventId>> + use<'a, R> {
        let range = Range::prefix((room,));
        let scan = match direction {
            Direction::Forward => {
                read.scan(&EVENT_BY_TIMESTAMP, range.and(Range::from(&(room, at, i64::MIN))))
            }
            Direction::Backward => read
                .scan_back(&EVENT_BY_TIMESTAMP, range.and(Range::through(&(room, at, i64::MAX)))),
        };
        scan.map(|row| row.map(|(_, event)| event).map_err(Error::from))
    }
}
