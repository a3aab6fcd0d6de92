//! Firing: what a timer says, in one batch with the timer's removal.
//!
//! Invariant: what is done was decided on a row that the commit requires to be unchanged, so a timer
//! ends once whatever races it: another firing, somebody who ends it, a keep-alive, a newer state event,
//! a redaction.

use ruma::{OwnedEventId, RoomId};
use wick_core::{Error, Monotonic, Result, TimerId};
use wick_database::{
    Batch, Durability, Read,
    schema::timer::{TIMER_BY_ID, TimerRow},
};
use wick_room::{Assembly, Outcome};
use wick_runtime::is_conflict;

use super::Timers;

/// How often a firing is tried anew because the timer was kept alive in between.
const ATTEMPTS: usize = 16;

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
    /// It is due, if it still is by then.
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
    /// Says in a room what the timer is to say, and removes it.
    ///
    /// # Errors
    /// If it must be tried again. What was asked for by hand may also be refused; then it stays.
    fn fire(&self, room: &mut Assembly<'_>, decided: &Decided) -> Result<Fired>;

    /// Whether what the timer will say depends on what was said just before, or the other way round, so
    /// that it needs a batch of its own: rows that have a position are not seen in theirs.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn stands_alone(&self, decided: &Decided) -> Result<bool>;

    /// Removes what belongs to a timer whose room is gone.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn discard(&self, batch: &mut Batch, decided: &Decided) -> Result<()>;
}

impl Timers {
    /// Ends timers of one room, in their order, in as few batches as can be. Those that were kept alive
    /// or ended in the meantime are left alone.
    ///
    /// # Errors
    /// As [`Fires::fire`]; then those before the one that failed have ended.
    pub async fn fire(&self, firings: &[Firing], fires: &dyn Fires) -> Result<()> {
        let mut rest = firings;
        while !rest.is_empty() {
            let done = self.fire_together(rest, fires).await?;
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends as many of the first as one batch can hold; how many these are.
    async fn fire_together(&self, firings: &[Firing], fires: &dyn Fires) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let (decided, together) = self.decide(firings, fires)?;
            match self.fire_once(&decided, fires).await {
                // One of them was kept alive between our look and the write: look again at all.
                Err(error) if is_conflict(&error) => {}
                result => return result.map(|()| together),
            }
        }
        Err(Error::corrupt("timers changed again and again while they fired"))
    }

    async fn fire_once(&self, decided: &[Decided], fires: &dyn Fires) -> Result<()> {
        let Some(first) = decided.first() else { return Ok(()) };
        let room = first.row.room;
        let latest = self.latest();
        let Some(room_id) = self.graph.intern().room_id(&latest, room)? else {
            return self.discard(decided, fires).await;
        };
        let fired = self
            .graph
            .transact(&room_id, |room| {
                decided.iter().map(|decided| fires.fire(room, decided)).collect::<Result<Vec<_>>>()
            })
            .await?;
        for (decided, fired) in decided.iter().zip(fired) {
            self.tell(decided, &room_id, &fired);
        }
        Ok(())
    }

    /// The first ones that can share a batch, and how many of the firings that takes care of. Reads the
    /// rows first and asks memory after, the other way round than a keep-alive writes.
    fn decide(&self, firings: &[Firing], fires: &dyn Fires) -> Result<(Vec<Decided>, usize)> {
        let latest = self.latest();
        let mut decided = Vec::with_capacity(firings.len());
        for (before, Firing { timer, cause }) in firings.iter().copied().enumerate() {
            let Some(row) = latest.get(&TIMER_BY_ID, &timer)? else {
                self.queue.stopped(timer);
                continue;
            };
            if let Cause::Due(by) = cause
                && self.queue.due(timer).is_some_and(|due| due > by)
            {
                self.queue.requeue(timer);
                continue;
            }
            let next = Decided { timer, row, cause };
            let alone = fires.stands_alone(&next)?;
            if alone && !decided.is_empty() {
                return Ok((decided, before));
            }
            decided.push(next);
            if alone {
                return Ok((decided, before.saturating_add(1)));
            }
        }
        Ok((decided, firings.len()))
    }

    /// Timers of a room that is gone have nothing left to say.
    async fn discard(&self, decided: &[Decided], fires: &dyn Fires) -> Result<()> {
        let mut batch = self.resources.database.batch();
        for decided in decided {
            batch.require(&TIMER_BY_ID, &decided.timer, Some(&decided.row));
            batch.delete(&TIMER_BY_ID, &decided.timer);
            fires.discard(&mut batch, decided)?;
        }
        self.resources.database.commit(batch, Durability::Synced).await?;
        for decided in decided {
            self.queue.stopped(decided.timer);
        }
        Ok(())
    }

    fn tell(&self, decided: &Decided, room_id: &RoomId, fired: &Fired) {
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
