//! Firing: what a timer sends, in one batch with the timer's removal.
//!
//! Invariant: what is done was decided on a row that the commit requires to be unchanged, so a timer
//! ends once whatever races it: another firing, an end by request, a keep-alive, a newer state event,
//! a redaction.

use std::sync::Arc;

use ruma::{OwnedEventId, RoomId};
use wick_core::{Monotonic, Result, ShortRoomId, TimerId};
use wick_database::{
    Batch, Read,
    schema::timer::{TIMER_BY_ID, TimerRow},
};
use wick_room::{Assembly, Outcome};

use super::Timers;

/// A timer that is to end, and why.
#[derive(Clone, Copy)]
pub struct Firing {
    /// Its id.
    pub timer: TimerId,
    /// Why it ends.
    pub cause: Cause,
}

/// Why a timer ends.
#[derive(Clone, Copy)]
pub enum Cause {
    /// It is due, if it is not renewed meanwhile.
    Due(Monotonic),
    /// A request asked for it, whatever its deadline.
    Asked(Outcome),
}

/// A timer that was decided to end.
pub struct Decided {
    /// Its id.
    pub timer: TimerId,
    /// The row that the decision was made on.
    pub row: TimerRow,
    /// Why it ends.
    pub cause: Cause,
}

/// What came of it.
pub enum Fired {
    /// It ended.
    Ended {
        /// How it ended.
        outcome: Outcome,
        /// The event that it was about or that it became.
        event_id: Option<OwnedEventId>,
    },
    /// Something else ended it before.
    Already,
}

/// What timers do when they fire.
pub trait Fires: Send + Sync {
    /// Sends to a room what the timer is to send, and removes it.
    ///
    /// # Errors
    /// If it must be tried again. What was asked for by hand may also be refused; then it stays.
    fn fire(&self, room: &mut Assembly<'_>, decided: &Decided) -> Result<Fired>;

    /// Removes what belongs to a timer of a room that does not exist any more.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn discard(&self, batch: &mut Batch, decided: &Decided) -> Result<()>;
}

impl Timers {
    /// Ends timers of one room, in their order, in one batch. Those that were kept alive or ended in the
    /// meantime are left alone.
    ///
    /// # Errors
    /// As [`Fires::fire`]; then none of them has ended.
    pub async fn fire(&self, firings: &[Firing], fires: &dyn Fires) -> Result<()> {
        let Some(room) = self.room_of(firings)? else { return Ok(()) };
        let Some(room_id) = self.graph.intern().room_id(&self.latest(), room)? else {
            return self.discard(firings, fires).await;
        };
        let ended =
            self.graph.transact(&room_id, |room| self.fire_in(room, firings, fires)).await?;
        for (decided, fired) in ended {
            self.report(&decided, &room_id, &fired);
        }
        Ok(())
    }

    /// The room of the timers, if one of them runs.
    fn room_of(&self, firings: &[Firing]) -> Result<Option<ShortRoomId>> {
        let latest = self.latest();
        for Firing { timer, .. } in firings {
            if let Some(row) = latest.get(&TIMER_BY_ID, timer)? {
                return Ok(Some(row.room));
            }
            self.queue.stopped(*timer);
        }
        Ok(None)
    }

    /// Ends timers in one batch. Returns what came of those that had to end.
    fn fire_in(
        &self,
        room: &mut Assembly<'_>,
        firings: &[Firing],
        fires: &dyn Fires,
    ) -> Result<Vec<(Decided, Fired)>> {
        let mut ended = Vec::with_capacity(firings.len());
        for firing in firings {
            let row = self.latest().get(&TIMER_BY_ID, &firing.timer)?;
            let Some(decided) = self.decide(*firing, row) else { continue };
            let fired = fires.fire(room, &decided)?;
            ended.push((decided, fired));
        }
        Ok(ended)
    }

    /// Whether a timer with this row has to end. The row is read first and the memory, here, after it: the
    /// other way round than a keep-alive writes them.
    fn decide(&self, Firing { timer, cause }: Firing, row: Option<TimerRow>) -> Option<Decided> {
        let Some(row) = row else {
            self.queue.stopped(timer);
            return None;
        };
        if let Cause::Due(by) = cause
            && self.queue.due(timer).is_some_and(|due| due > by)
        {
            self.queue.requeue(timer);
            return None;
        }
        Some(Decided { timer, row, cause })
    }

    /// Removes the timers of a room that does not exist any more.
    async fn discard(&self, firings: &[Firing], fires: &dyn Fires) -> Result<()> {
        self.resources
            .change(|batch| {
                for firing in firings {
                    let row = batch.read_for_update(&TIMER_BY_ID, &firing.timer)?;
                    let Some(decided) = self.decide(*firing, row) else { continue };
                    batch.delete(&TIMER_BY_ID, &decided.timer);
                    fires.discard(batch, &decided)?;
                    let queue = Arc::clone(&self.queue);
                    batch.on_applied(move || queue.stopped(decided.timer));
                }
                Ok(())
            })
            .await
    }

    fn report(&self, decided: &Decided, room_id: &RoomId, fired: &Fired) {
        let Fired::Ended { outcome, event_id } = fired else { return };
        let kind = decided.row.kind.feature().name();
        if let Cause::Due(_) = decided.cause {
            let late = self.resources.clock.now().since(decided.row.deadline);
            metrics::histogram!("wick_timer_lateness_seconds", "kind" => kind)
                .record(late.as_secs_f64());
        }
        tracing::info!(
            kind,
            %room_id,
            event_id = event_id.as_ref().map(tracing::field::display),
            outcome = outcome.name(),
            "a timer ended"
        );
    }
}
