//! Forgetting: finalised events after a while, and everything of deactivated accounts.

use std::{sync::Arc, time::Duration};

use ruma::RoomId;
use wick_account::Session;
use wick_core::{Result, ShortUserId, TimerId, Timestamp};
use wick_database::{
    Durability, Range, Read,
    schema::{
        delayed::{FINALISED_BY_OWNER, FINALISED_BY_TIMER},
        room::{MEMBER_BY_USER, Membership},
        timer::{Feature, TIMER_BY_ID},
    },
};
use wick_room::delayed;
use wick_runtime::Supervisor;

use super::Delayed;

/// How long a finalised event is kept for its owner to see.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// How many of them.
const KEPT_PER_OWNER: usize = 1_000;

/// How often those that are too old or too many are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// How many are forgotten in one batch.
const CHUNK: usize = 1_000;

impl Delayed {
    /// Starts to sweep.
    pub fn start(self: &Arc<Self>, supervisor: &Arc<Supervisor>) {
        let delayed = Arc::clone(self);
        supervisor.spawn_periodic("finalised delayed events", SWEEP_EVERY, move || {
            let delayed = Arc::clone(&delayed);
            async move { delayed.sweep().await }
        });
    }

    async fn sweep(&self) -> Result<()> {
        let now = self.resources.clock.now();
        let (mut forgotten, mut theirs) = (Vec::new(), Vec::new());
        let mut owner = None;
        for row in self.timers.latest().scan(&FINALISED_BY_OWNER, Range::all()) {
            let ((of, at, timer), ()) = row?;
            if owner != Some(of) {
                forgotten.extend(superfluous(now, &theirs));
                theirs.clear();
                owner = Some(of);
            }
            theirs.push((at, timer));
            if forgotten.len() >= CHUNK {
                self.erase_finalised(&std::mem::take(&mut forgotten)).await?;
            }
        }
        forgotten.extend(superfluous(now, &theirs));
        self.erase_finalised(&forgotten).await
    }

    async fn erase_finalised(&self, timers: &[TimerId]) -> Result<()> {
        for chunk in timers.chunks(CHUNK) {
            let mut batch = self.resources.database.batch();
            for timer in chunk {
                let Some(row) = batch.get(&FINALISED_BY_TIMER, timer)? else { continue };
                let belongs_to = (row.timer.owner, row.timer.room);
                delayed::erase(&mut batch, self.graph.intern(), *timer, belongs_to)?;
            }
            if !batch.is_empty() {
                self.resources.database.commit(batch, Durability::Flushed).await?;
            }
        }
        Ok(())
    }

    /// Forgets all delayed events of an account that goes away; those that are scheduled are not sent.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn erase_all_of(&self, owner: ShortUserId) -> Result<()> {
        for timer in self.timers.of_owner(Feature::Delay, owner) {
            self.cancel(timer).await?;
        }
        let range = Range::prefix((owner,));
        let latest = self.timers.latest();
        let finalised = latest.scan(&FINALISED_BY_OWNER, range);
        let timers = finalised.map(|row| row.map(|((_, _, timer), ())| timer));
        let timers = timers.collect::<Result<Vec<_>, _>>()?;
        self.erase_finalised(&timers).await
    }

    /// Cancels what the session's user has scheduled in a room that they left, and are about to forget.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn cancel_in_left(&self, session: &Session, room_id: &RoomId) -> Result<()> {
        let latest = self.timers.latest();
        let Some(room) = self.graph.short(&latest, room_id)? else { return Ok(()) };
        let member = latest.get(&MEMBER_BY_USER, &(session.user, room))?;
        let has_left =
            member.is_some_and(|row| matches!(row.membership, Membership::Leave | Membership::Ban));
        if !has_left {
            return Ok(());
        }
        for timer in self.timers.of_owner(Feature::Delay, session.user) {
            if latest.get(&TIMER_BY_ID, &timer)?.is_some_and(|row| row.room == room) {
                self.cancel(timer).await?;
            }
        }
        Ok(())
    }
}

/// Which of one owner's, oldest first, are too old or too many.
fn superfluous(now: Timestamp, theirs: &[(Timestamp, TimerId)]) -> Vec<TimerId> {
    let too_many = theirs.len().saturating_sub(KEPT_PER_OWNER);
    let too_old = theirs.partition_point(|(at, _)| now.since(*at) > KEPT_FOR);
    theirs.iter().take(too_many.max(too_old)).map(|(_, timer)| *timer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_are_kept_for_seven_days() {
        let day = 86_400_000;
        let rows = |count: u64, at: u64| -> Vec<_> {
            (0..count).map(|number| (Timestamp(at), TimerId(number))).collect()
        };
        assert!(superfluous(Timestamp(7 * day), &rows(1_000, 0)).is_empty());
        assert_eq!(superfluous(Timestamp(7 * day + 1), &rows(1_000, 0)).len(), 1_000);
        let three: Vec<_> = (0..3).map(TimerId).collect();
        assert_eq!(superfluous(Timestamp(0), &rows(1_003, 0)), three);
    }
}
