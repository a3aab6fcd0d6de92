//! Delegated leaves: delayed events that clients hand over.
//!
//! Invariant: a leave is sent by the timer of its delayed event, which ends once whatever races it; the row of the
//! delegation goes after that, and one that a crash leaves behind is found to be over.

use std::time::Duration;

use wick_core::{Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Durability, Range, Read,
    schema::{
        calls::{DelegatedLeave, PARTICIPANT_BY_IDENTITY, ParticipantRow},
        timer::{Feature, TIMER_BY_ID},
    },
};

use crate::{Calls, participants::Place, presence::Watched};

/// The shortest delay that is taken over: each is restarted after 80 % of it.
const MIN_DELAY: Duration = Duration::from_secs(5);

/// Which part of the delay is left when it is restarted.
const LEAD: u32 = 5;

/// What has become of a delayed event.
pub(crate) enum Kept {
    /// It is restarted after this time.
    For(Duration),
    /// It was sent or cancelled.
    Over,
}

impl Calls {
    /// The delayed event with a delay id, if it is scheduled by this user in this room.
    pub(crate) fn leave_of(
        &self,
        (user, room): (ShortUserId, ShortRoomId),
        delay_id: &str,
    ) -> Result<DelegatedLeave> {
        let unknown = || Error::invalid_param("you have no such delayed event in this room");
        let shown = self.timers.shown(Feature::Delay, delay_id).ok_or_else(unknown)?;
        let row = self
            .timers
            .running(&shown)?
            .filter(|row| (row.owner, row.room) == (user, room))
            .ok_or_else(unknown)?;
        if Duration::from_millis(row.duration) < MIN_DELAY {
            return Err(Error::invalid_param("only delays of 5 seconds or more can be delegated"));
        }
        Ok(DelegatedLeave { timer: shown.timer, nonce: row.nonce })
    }

    /// Follows the participants of earlier runs again.
    pub(crate) fn load(&self) -> Result<()> {
        let now = self.resources.clock.monotonic();
        for row in self.resources.database.latest().scan(&PARTICIPANT_BY_IDENTITY, Range::all()) {
            let ((room, identity), ParticipantRow { delegated, .. }) = row?;
            if let Some(DelegatedLeave { timer, nonce }) = delegated {
                self.watch.add(&room, &identity, Watched::resumed(timer, nonce), now);
            }
        }
        Ok(())
    }

    /// Restarts a delayed event if 80 % of its delay have passed and `may` is set.
    pub(crate) async fn keep(&self, leave: DelegatedLeave, may: bool) -> Result<Kept> {
        let row = self.timers.latest().get(&TIMER_BY_ID, &leave.timer)?;
        let Some(row) = row.filter(|row| row.nonce == leave.nonce) else { return Ok(Kept::Over) };
        let duration = Duration::from_millis(row.duration);
        let lead = duration / LEAD;
        let left = row.deadline.since(self.resources.clock.now()).min(duration);
        if left > lead || !may {
            return Ok(Kept::For(left.saturating_sub(lead)));
        }
        let handle = self.timers.handle(Feature::Delay, leave.timer, leave.nonce);
        let Some(shown) = self.timers.shown(Feature::Delay, &handle) else { return Ok(Kept::Over) };
        let kept = self.timers.keep_alive(&shown).await?;
        Ok(if kept { Kept::For(duration.saturating_sub(lead)) } else { Kept::Over })
    }

    /// Sends the leave of a participant that is gone, and ends the delegation. If the room's rules refuse it, the
    /// delegation ends all the same, and the delay runs out.
    ///
    /// # Errors
    /// If it must be tried again.
    pub(crate) async fn leave(&self, place: &Place, leave: DelegatedLeave) -> Result<()> {
        match self.delayed.send_now(leave.timer).await {
            Ok(()) => metrics::counter!("wick_calls_left_total").increment(1),
            Err(Error::Refused(refusal)) => {
                tracing::info!(%refusal, "a delegated leave was refused");
            }
            Err(error) => return Err(error),
        }
        self.end_delegation(place, leave).await
    }

    /// Removes a delegation, unless another one has taken its place.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn end_delegation(&self, place: &Place, leave: DelegatedLeave) -> Result<()> {
        self.resources
            .change_with(Durability::Flushed, |batch| {
                batch.update(&PARTICIPANT_BY_IDENTITY, &place.key(), |row| {
                    row.map(|row| ParticipantRow {
                        delegated: row.delegated.filter(|delegated| *delegated != leave),
                        ..row
                    })
                })?;
                self.unwatch_in(batch, place, leave);
                Ok(())
            })
            .await
    }
}
