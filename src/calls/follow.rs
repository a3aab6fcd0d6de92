//! The task that asks LiveKit for the participants of calls with delegated timers: at once after news, and
//! regularly, for web hooks can be lost.
//!
//! Invariant: a room is asked about by one check at a time; a few rooms are checked side by side, so that an
//! answer that does not come holds up no other room for longer than a request may take.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use wick_core::{Monotonic, Result};
use wick_database::schema::calls::DelegatedTimer;
use wick_runtime::Supervisor;

use crate::{Calls, delegation::Kept, participants::Place, watch::POLL_SOON};

/// How many rooms are asked about at a time.
const MOST_CHECKS: usize = 8;

impl Calls {
    /// Follows participants until the server stops.
    pub(crate) fn follow(self: &Arc<Self>, supervisor: &Supervisor) {
        let stopping = supervisor.stopping().clone();
        let calls = Arc::clone(self);
        supervisor.spawn("delegated leaves", move || {
            let (calls, stopping) = (Arc::clone(&calls), stopping.clone());
            async move {
                stopping.run_until_cancelled(calls.check_due()).await.unwrap_or_default();
            }
        });
    }

    async fn check_due(&self) {
        let clock = &self.resources.clock;
        self.watch.resume(clock.monotonic());
        let mut checks = FuturesUnordered::new();
        loop {
            let news = self.watch.news();
            while checks.len() < MOST_CHECKS
                && let Some(room) = self.watch.take_due(clock.monotonic())
            {
                checks.push(self.check(room));
            }
            let due = if checks.len() < MOST_CHECKS { self.watch.next_due() } else { None };
            let until_due = async {
                match due {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = checks.next(), if !checks.is_empty() => {}
                () = until_due => {}
                () = news => {}
            }
        }
    }

    /// Asks LiveKit about a room, and does what follows for its participants.
    async fn check(&self, room: String) {
        let clock = &self.resources.clock;
        let answer = self.livekit.participants(&room).await;
        if let Err(failure) = &answer {
            tracing::warn!(%failure, "a call could not be looked at");
        }
        let now = clock.monotonic();
        let findings = self.watch.observe(&room, now, answer.as_deref());
        if findings.is_empty && !findings.staying.is_empty() {
            // A LiveKit that was restarted knows no rooms, and clients may not make them.
            if let Err(failure) = self.livekit.create_room(&room).await {
                tracing::warn!(%failure, "a call could not be made anew");
            }
        }
        let mut next = now + findings.next;
        for (identity, watched) in findings.left {
            let place = Place { room: room.clone(), identity };
            for delegated in watched.timers {
                if let Err(error) = self.end(&place, delegated).await {
                    tracing::error!(%error, "a delegated timer could not be ended and will be tried again");
                    next = next.min(now + POLL_SOON);
                }
            }
        }
        for (identity, watched) in findings.staying {
            let place = Place { room: room.clone(), identity };
            for delegated in watched.timers {
                let may = findings.keeps_alive;
                next = next.min(self.keep_or_forget(&place, delegated, may, now).await);
            }
        }
        self.watch.checked(&room, (clock.monotonic(), next));
    }

    /// Keeps a timer of a participant alive. Returns when it is to be looked at again.
    async fn keep_or_forget(
        &self,
        place: &Place,
        delegated: DelegatedTimer,
        may: bool,
        now: Monotonic,
    ) -> Monotonic {
        let ended: Result<()> = match self.keep(delegated, may).await {
            Ok(Kept::For(time)) => return now + if may { time } else { POLL_SOON },
            Ok(Kept::Over) => self.end_delegation(place, delegated).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a delegated timer could not be kept alive");
        }
        now + POLL_SOON
    }
}
