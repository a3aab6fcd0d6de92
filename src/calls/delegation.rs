//! Delegated timers: of delayed events, and of events that expire, which clients hand over.
//!
//! Invariant: a timer ends once whatever races it; the row of its delegation goes after that, and one that a crash
//! leaves behind is found to be over.

use std::time::Duration;

use wick_core::{Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Durability, Range, Read,
    schema::{
        calls::{DelegatedTimer, PARTICIPANT_BY_IDENTITY},
        timer::{Feature, TIMER_BY_ID, TimerRow},
    },
};

use crate::{
    Calls,
    participants::Place,
    presence::{Absent, Watched},
};

/// The shortest duration that is taken over: each begins anew after 80 % of it.
const MIN_DELAY: Duration = Duration::from_secs(5);

/// Which part of a duration is left when it begins anew.
const LEAD: u32 = 5;

/// What has become of a timer.
pub(crate) enum Kept {
    /// Its duration begins anew after this time.
    For(Duration),
    /// It has ended.
    Over,
}

/// What a client hands over.
#[derive(Clone, Copy, Default)]
pub struct Handed<'a> {
    /// The delay id of a delayed event, which is sent when the participant is gone.
    pub delay_id: Option<&'a str>,
    /// The refresh token of an event that expires, which ends when the participant is gone.
    pub refresh_token: Option<&'a str>,
}

impl Calls {
    /// The timers of what is handed over, if this user has them in this room.
    pub(crate) fn timers_of(
        &self,
        owner: (ShortUserId, ShortRoomId),
        handed: Handed<'_>,
    ) -> Result<Vec<DelegatedTimer>> {
        let Handed { delay_id, refresh_token } = handed;
        let delayed = delay_id.map(|handle| (Feature::Delay, handle));
        let expiring = refresh_token.map(|handle| (Feature::Expiry, handle));
        let handles = delayed.into_iter().chain(expiring);
        handles.map(|(feature, handle)| self.timer_of(owner, feature, handle)).collect()
    }

    fn timer_of(
        &self,
        (user, room): (ShortUserId, ShortRoomId),
        feature: Feature,
        handle: &str,
    ) -> Result<DelegatedTimer> {
        let unknown = || Error::invalid_param("you have no such timer in this room");
        let shown = self.timers.shown(feature, handle).ok_or_else(unknown)?;
        let row = self
            .timers
            .running(&shown)?
            .filter(|row| (row.owner, row.room) == (user, room))
            .ok_or_else(unknown)?;
        if Duration::from_millis(row.duration) < MIN_DELAY {
            return Err(Error::invalid_param(
                "only durations of 5 seconds or more can be delegated",
            ));
        }
        let expires = feature == Feature::Expiry;
        Ok(DelegatedTimer { timer: shown.timer, nonce: row.nonce, expires })
    }

    /// Follows the participants of earlier runs again.
    pub(crate) fn load(&self) -> Result<()> {
        let now = self.now();
        for row in self.resources.database.latest().scan(&PARTICIPANT_BY_IDENTITY, Range::all()) {
            let ((room, identity), row) = row?;
            if row.has_timers() {
                let absence = row.absence.map(|absence| Absent::load(absence, now));
                let watched = Watched::new(&row, absence);
                self.watch.resume(&Place { room, identity }, watched, now.monotonic);
            }
        }
        Ok(())
    }

    /// Begins a timer's duration anew if 80 % of it have passed and `may` is set. How much is left is what the timers
    /// go by, whatever the wall clock shows.
    pub(crate) async fn keep(&self, delegated: DelegatedTimer, may: bool) -> Result<Kept> {
        let Some(row) = self.running(delegated)? else { return Ok(Kept::Over) };
        let duration = Duration::from_millis(row.duration);
        let lead = duration / LEAD;
        let due = self.timers.due(delegated.timer).unwrap_or_default();
        let left = due.since(self.resources.clock.monotonic());
        if left > lead || !may {
            return Ok(Kept::For(left.saturating_sub(lead)));
        }
        let feature = row.kind.feature();
        let handle = self.timers.handle(feature, delegated.timer, delegated.nonce);
        let Some(shown) = self.timers.shown(feature, &handle) else { return Ok(Kept::Over) };
        let kept = self.timers.keep_alive(&shown).await?;
        Ok(if kept { Kept::For(duration.saturating_sub(lead)) } else { Kept::Over })
    }

    /// The row of a delegated timer, if it runs.
    fn running(&self, delegated: DelegatedTimer) -> Result<Option<TimerRow>> {
        let row = self.timers.latest().get(&TIMER_BY_ID, &delegated.timer)?;
        Ok(row.filter(|row| row.nonce == delegated.nonce))
    }

    /// Ends a timer that a newer one replaced: a delayed event is never sent, an event that expires has ended.
    ///
    /// # Errors
    /// If it must be tried again.
    pub(crate) async fn retire(&self, place: &Place, replaced: DelegatedTimer) -> Result<()> {
        if self.running(replaced)?.is_some() {
            if replaced.expires {
                self.expiry.end_by_id(replaced.timer).await?;
            } else {
                self.delayed.cancel(replaced.timer).await?;
            }
        }
        self.end_delegation(place, replaced).await
    }

    /// Ends a timer of a participant that is gone, and its delegation: a delayed event is sent, an event that expires
    /// has ended. If the room's rules refuse it, the delegation ends all the same, and the duration runs out.
    ///
    /// # Errors
    /// If it must be tried again.
    pub(crate) async fn end(&self, place: &Place, delegated: DelegatedTimer) -> Result<()> {
        let ended = if delegated.expires {
            self.expiry.end_by_id(delegated.timer).await
        } else {
            self.delayed.send_now(delegated.timer).await
        };
        match ended {
            Ok(()) => metrics::counter!("wick_calls_left_total").increment(1),
            Err(Error::Refused(refusal)) => {
                tracing::info!(%refusal, "the end of a delegated timer was refused");
            }
            Err(error) => return Err(error),
        }
        self.end_delegation(place, delegated).await
    }

    /// Removes the delegation of a timer.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn end_delegation(&self, place: &Place, ended: DelegatedTimer) -> Result<()> {
        self.resources
            .change_with(Durability::Flushed, |batch| {
                batch.update(&PARTICIPANT_BY_IDENTITY, &place.key(), |row| {
                    row.map(|mut row| {
                        row.delegated.retain(|delegated| *delegated != ended);
                        row.replaced.retain(|replaced| *replaced != ended);
                        row
                    })
                })?;
                self.unwatch_in(batch, place, ended);
                Ok(())
            })
            .await
    }
}
