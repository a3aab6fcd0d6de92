//! Places in timelines as tokens, of the form that [`SyncToken`](wick_core::SyncToken) has.

/// The token of a place in a timeline.
#[must_use]
pub fn to_token(place: i64) -> String {
    format!("s{place}")
}
