//! Places in timelines as tokens, of the form that [`SyncToken`](wick_core::SyncToken) has.

use wick_core::Position;

/// The token of a place in a timeline.
#[must_use]
pub fn to_token(place: i64) -> String {
    format!("s{place}")
}

/// A position as a place in a room's timeline.
#[must_use]
pub fn to_place(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}
