//! Running timers for administrators: list those of a room or of a user, end one.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Serialize;
use wick_core::{Error, Result, TimerId, Timestamp};
use wick_database::{
    Range, Read,
    schema::timer::{TIMER_BY_ID, TimerKind, TimerRow},
};
use wick_room::Outcome;

use super::Expiry;

/// A timer as an administrator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct RunningTimer {
    /// Its id, which gives no right to anything but to an administrator.
    pub timer: TimerId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that will end.
    pub event_id: OwnedEventId,
    /// Whose it is.
    pub owner: OwnedUserId,
    /// When it ends unless it is refreshed, in milliseconds since the epoch.
    pub deadline: Timestamp,
    /// What a refresh gives it, in milliseconds.
    pub duration: u64,
}

impl Expiry {
    /// Running timers, by room or by user if either is given, at most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn list(
        &self,
        room_id: Option<&RoomId>,
        user: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<RunningTimer>> {
        let read = self.latest();
        let intern = self.graph.intern();
        let room = match room_id {
            Some(room_id) => match intern.lookup_room(&read, room_id)? {
                Some(room) => Some(room),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let wanted = |row: &TimerRow| room.is_none_or(|room| row.room == room);
        let mut found = Vec::new();
        if let Some(user) = user {
            let Some(owner) = intern.lookup_user(&read, user)? else { return Ok(found) };
            let mut timers = self.timers.of_owner(owner);
            timers.sort_unstable();
            for timer in timers {
                if let Some(row) = read.get(&TIMER_BY_ID, &timer)?.filter(&wanted) {
                    found.push(self.show(timer, &row)?);
                }
            }
            found.truncate(limit);
            return Ok(found);
        }
        for row in read.scan(&TIMER_BY_ID, Range::all()) {
            let (timer, row) = row?;
            if wanted(&row) {
                found.push(self.show(timer, &row)?);
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// How many timers run.
    #[must_use]
    pub fn running_total(&self) -> usize {
        self.timers.len()
    }

    /// Ends a timer as if its owner had.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it does not run.
    pub async fn end_by_id(&self, timer: TimerId) -> Result<()> {
        if self.latest().get(&TIMER_BY_ID, &timer)?.is_none() {
            return Err(Error::not_found("no such timer runs"));
        }
        self.finish(timer, Outcome::Ended).await
    }

    fn show(&self, timer: TimerId, row: &TimerRow) -> Result<RunningTimer> {
        let read = self.latest();
        let TimerKind::Expire(event) = row.kind;
        let intern = self.graph.intern();
        Ok(RunningTimer {
            timer,
            room_id: intern
                .room_id(&read, row.room)?
                .ok_or_else(|| Error::corrupt("a timer's room has no id"))?,
            event_id: intern
                .event_id(&read, event)?
                .ok_or_else(|| Error::corrupt("a timer's event has no id"))?,
            owner: self.graph.user_id(&read, row.owner)?,
            deadline: row.deadline,
            duration: row.duration,
        })
    }
}
