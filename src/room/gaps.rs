//! Reading where a room's timeline is incomplete. How gaps come about and are filled: [`commit::gaps`](crate::commit).

use ruma::OwnedEventId;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::{
    Range, Read,
    schema::room::{EVENT_BY_POSITION, GAP_BY_PLACE, MISSING_BY_CHILD, TimelineGap},
};

use crate::Graph;

/// How many gaps of a room are looked at.
const MAX_GAPS: usize = 100;

/// A gap of a timeline in which events are missing. What came of them stands directly before the event after the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// The place of the event after the gap.
    pub place: i64,
    /// The last place below the gap.
    pub floor: i64,
}

impl OpenGap {
    /// Whether it is between two places of the timeline.
    #[must_use]
    pub fn is_between(&self, low: i64, high: i64) -> bool {
        low <= self.floor && self.floor < high
    }
}

impl Graph {
    /// The gaps of a timeline in which events are missing that there are places for, from old to new. Each costs two reads.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn open_gaps(&self, read: &impl Read, room: ShortRoomId) -> Result<Vec<OpenGap>> {
        let mut gaps = Vec::new();
        let mut missing = Range::prefix((room,));
        for _ in 0..MAX_GAPS {
            let Some(((_, child, _), ())) = read.first(&MISSING_BY_CHILD, missing)? else { break };
            let above = Range::prefix((room,)).and(Range::from(&(room, child)));
            let Some(((_, place), gap)) = read.first(&GAP_BY_PLACE, above)? else { break };
            let is_below = child <= gap.floor;
            if !is_below && has_free_places(&gap) {
                gaps.push(OpenGap { place, floor: gap.floor });
            }
            let next = if is_below { gap.floor } else { place };
            missing = children(room, (next, i64::MAX));
        }
        Ok(gaps)
    }

    /// Whether no event is missing, neither in gaps nor from before all that are here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_whole(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        Ok(read.first(&MISSING_BY_CHILD, Range::prefix((room,)))?.is_none())
    }

    /// Whether the event at a place came into a gap: long after it was sent, so it causes no notification.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_in_gap(&self, read: &impl Read, room: ShortRoomId, place: i64) -> Result<bool> {
        is_in_gap(read, room, place)
    }

    /// The nearest missing events of the gap before the event at a place, or of what is before all events that are here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn missing_events(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        gap: Option<i64>,
        limit: usize,
    ) -> Result<Vec<OwnedEventId>> {
        let (low, high) = match gap {
            Some(place) => {
                let gap = read.get(&GAP_BY_PLACE, &(room, place))?;
                let Some(gap) = gap.filter(has_free_places) else { return Ok(Vec::new()) };
                (gap.floor, place)
            }
            None => {
                let first = read.first(&EVENT_BY_POSITION, Range::prefix((room,)))?;
                let Some(((_, first), _)) = first else { return Ok(Vec::new()) };
                (i64::MIN, first.max(0))
            }
        };
        let rows = read.scan(&MISSING_BY_CHILD, children(room, (low, high))).keys();
        rows.take(limit).map(|key| key.map(|(.., id)| id).map_err(Error::from)).collect()
    }

    /// The place of the newest event up to `upto` that a timeline of `/sync` begins with: what is here from before it does not
    /// follow on it, or came later than it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn newest_gap(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        upto: i64,
    ) -> Result<Option<i64>> {
        let gaps = Range::prefix((room,)).and(Range::through(&(room, upto)));
        for row in read.scan_back(&GAP_BY_PLACE, gaps).take(MAX_GAPS) {
            let ((_, place), gap) = row?;
            let had_places = gap.floor < place.saturating_sub(1);
            let missing = children(room, (gap.floor, place));
            if had_places || read.first(&MISSING_BY_CHILD, missing)?.is_some() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

/// As [`Graph::is_in_gap`].
pub(crate) fn is_in_gap(read: &impl Read, room: ShortRoomId, place: i64) -> Result<bool> {
    let above = Range::prefix((room,)).and(Range::after(&(room, place)));
    let gap = read.first(&GAP_BY_PLACE, above)?;
    Ok(gap.is_some_and(|(_, gap)| gap.lowest <= place))
}

fn has_free_places(gap: &TimelineGap) -> bool {
    gap.floor < gap.lowest.saturating_sub(1)
}

/// The rows of events that those above one place, up to another one, refer to.
fn children(
    room: ShortRoomId,
    (above, upto): (i64, i64),
) -> Range<(ShortRoomId, i64, OwnedEventId)> {
    let [from, end] = [above, upto].map(|place| (room, place.saturating_add(1)));
    Range::prefix((room,)).and(Range::from_prefix(from)).and(Range::upto_prefix(end))
}
