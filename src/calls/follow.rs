//! The tasks that follow participants with delegated timers: one keeps the timers alive, one asks LiveKit for the
//! participants of each call, at once after news, and regularly, for web hooks can be lost.
//!
//! Invariants: keeping alive waits for no answer of LiveKit; a room is asked about by one check at a time; a few rooms
//! are checked side by side, so that an answer that does not come holds up no other room for longer than a request may
//! take.

use std::{future::Future, sync::Arc};

use wick_core::{Monotonic, Result};
use wick_database::{Durability, schema::calls::PARTICIPANT_BY_IDENTITY};
use wick_runtime::Supervisor;

use crate::{
    Calls,
    delegation::Kept,
    participants::Place,
    presence::{Absent, Now},
    watch::{Findings, Found, POLL_SOON},
};

/// The tasks, in logs and metrics.
const KEEPING: &str = "delegated timers";
const CHECKING: &str = "participants of calls";

/// How many rooms are asked about at a time.
const MOST_CHECKS: usize = 8;

/// How many participants' timers are kept alive at a time.
const MOST_KEPT: usize = 32;

impl Calls {
    /// Follows participants until the server stops.
    pub(crate) fn follow(self: &Arc<Self>, supervisor: &Supervisor) {
        self.spawn(supervisor, KEEPING, |calls| async move {
            let keep = |place| calls.keep_all(place);
            calls.watch.keeps.work_off(&*calls.resources.clock, (KEEPING, MOST_KEPT), keep).await;
        });
        self.spawn(supervisor, CHECKING, |calls| async move {
            let check = |room| calls.check(room);
            calls
                .watch
                .asks
                .work_off(&*calls.resources.clock, (CHECKING, MOST_CHECKS), check)
                .await;
        });
    }

    /// What the clocks show.
    pub(crate) fn now(&self) -> Now {
        let clock = &self.resources.clock;
        Now { monotonic: clock.monotonic(), wall: clock.now() }
    }

    /// Asks LiveKit about a room, and does what follows for its participants. Returns when to ask again, if at all.
    async fn check(&self, room: String) -> Option<Monotonic> {
        let replaced = self.watch.replaced(&room)?;
        self.have_ended(replaced);
        let answer = self.livekit.participants(&room).await;
        match &answer {
            Ok(listed) => {
                if let Err(error) = self.remove_strangers(&room, listed).await {
                    tracing::warn!(%error, "former members could not be removed from a call");
                }
            }
            Err(failure) => tracing::warn!(%failure, "a call could not be looked at"),
        }
        let now = self.now();
        let Findings { left, changed, is_missing, next } =
            self.watch.observe(&room, now.monotonic, answer.as_deref());
        self.have_ended(left);
        if is_missing {
            // A LiveKit that was restarted knows no rooms, and clients may not make them.
            if let Err(failure) = self.livekit.create_room(&room).await {
                tracing::warn!(%failure, "a call could not be made anew");
            }
        }
        let noted = self.note_absences(&room, &changed, now).await;
        if let Err(error) = &noted {
            tracing::warn!(%error, "the absence of participants could not be stored");
        }
        Some(now.monotonic + if noted.is_ok() { next } else { next.min(POLL_SOON) })
    }

    fn have_ended(&self, found: Vec<Found>) {
        let now = self.resources.clock.monotonic();
        for Found { room, place } in found {
            self.ending.add(room, place, now);
        }
    }

    /// Stores the absences of participants that have changed.
    async fn note_absences(
        &self,
        room: &str,
        changed: &[(String, Option<Absent>)],
        now: Now,
    ) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                for (identity, absence) in changed {
                    let place = Place { room: room.to_owned(), identity: identity.clone() };
                    let row = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?;
                    let Some(mut row) = row else { continue };
                    row.absence = absence.map(|absent| absent.row(now));
                    batch.put(&PARTICIPANT_BY_IDENTITY, &place.key(), &row);
                    let (watch, absence) = (self.watch.clone(), *absence);
                    batch.on_applied(move || watch.set_absence(&place, absence));
                }
                Ok(())
            })
            .await
    }

    /// Keeps the timers of a participant alive. Returns when they are to be looked at again, if at all.
    async fn keep_all(&self, place: Place) -> Option<Monotonic> {
        let now = self.resources.clock.monotonic();
        let (timers, may) = self.watch.to_keep(&place, now)?;
        let mut next = None::<Monotonic>;
        for delegated in timers {
            let kept = match self.keep(delegated, may).await {
                Ok(Kept::Over) => self.end_delegation(&place, delegated).await.map(|()| None),
                Ok(Kept::For(time)) => Ok(Some(now + if may { time } else { POLL_SOON })),
                Err(error) => Err(error),
            };
            let again = kept.unwrap_or_else(|error| {
                tracing::warn!(%error, "a delegated timer could not be kept alive");
                Some(now + POLL_SOON)
            });
            next = next.into_iter().chain(again).min();
        }
        next
    }

    /// Starts a task that runs until the server stops.
    pub(crate) fn spawn<T>(
        self: &Arc<Self>,
        supervisor: &Supervisor,
        task: &'static str,
        run: impl Fn(Arc<Self>) -> T + Copy + Send + 'static,
    ) where
        T: Future<Output = ()> + Send + 'static,
    {
        let stopping = supervisor.stopping().clone();
        let calls = Arc::clone(self);
        supervisor.spawn(task, move || {
            let (calls, stopping) = (Arc::clone(&calls), stopping.clone());
            async move {
                stopping.run_until_cancelled(run(calls)).await.unwrap_or_default();
            }
        });
    }
}
