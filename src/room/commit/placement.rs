//! Where an event goes in its room's timeline: to the end of it, or into what is missing from it.

use wick_database::{Batch, Key, Slot, Table, Value};

use crate::assembly::timeline_place;

/// Where an event goes in its room's timeline.
#[derive(Clone, Copy, Debug)]
pub enum Placement {
    /// To its end, with a position of the stream.
    End(Slot),
    /// Into the history from before this server was in the room, at a place below zero, or into a gap, at a place that was
    /// left free. Such an event is no news: it is not in the stream, and changes neither the current state nor the forward
    /// extremities.
    History(i64),
}

impl Placement {
    /// Writes a row that has the event's place in its key or value. `row` can run twice, as for
    /// [`Batch::put_at`].
    pub fn put<K: Key, V: Value>(
        self,
        batch: &mut Batch,
        table: &Table<K, V>,
        row: impl FnOnce(i64) -> (K, V) + Clone + Send + Sync + 'static,
    ) {
        match self {
            Self::End(slot) => {
                batch.put_at(slot, table, move |position| row(timeline_place(position)));
            }
            Self::History(place) => {
                let (key, value) = row(place);
                batch.put(table, &key, &value);
            }
        }
    }
}
