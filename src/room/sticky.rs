//! Reading sticky events (MSC4354).
//!
//! Invariant: an event is sticky until the time in its row, by the clock; one without a row is not.

use std::time::Duration;

use wick_core::{Result, ShortEventId, ShortRoomId};
use wick_database::{
    Range, Read,
    schema::{
        room::{PLACE_BY_EVENT, Place},
        sticky::{STICKY_BY_ROOM, StickyRow},
    },
};

use crate::Graph;

impl Graph {
    /// For how long an event at this place is still sticky; `None` if it is not.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn sticky_left(&self, read: &impl Read, place: &Place) -> Result<Option<Duration>> {
        let Some(position) = place.position else { return Ok(None) };
        let row = read.get(&STICKY_BY_ROOM, &(place.room, position))?;
        let left = row.map(|row| row.until.since(self.clock.now()));
        Ok(left.filter(|left| !left.is_zero()))
    }

    /// The same of an event by its id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn sticky_left_of(
        &self,
        read: &impl Read,
        event: ShortEventId,
    ) -> Result<Option<Duration>> {
        match read.get(&PLACE_BY_EVENT, &event)? {
            Some(place) => self.sticky_left(read, &place),
            None => Ok(None),
        }
    }

    /// The sticky events of a room above one place, up to and including another, oldest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn sticky_events(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        (after, upto): (Option<i64>, i64),
    ) -> Result<Vec<StickyRow>> {
        let now = self.clock.now();
        let mut range = Range::prefix((room,)).and(Range::through(&(room, upto)));
        if let Some(after) = after {
            range = range.and(Range::after(&(room, after)));
        }
        let mut sticky = Vec::new();
        for row in read.scan(&STICKY_BY_ROOM, range) {
            let (_, row) = row?;
            if row.until > now {
                sticky.push(row);
            }
        }
        Ok(sticky)
    }
}
