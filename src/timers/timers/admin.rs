//! Running timers for administrators: those of a room or of a user.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Serialize;
use wick_core::{Error, Result, TimerId, Timestamp};
use wick_database::{
    Range, Read,
    schema::{
        delayed::DELAYED_BY_TIMER,
        timer::{Feature, TIMER_BY_ID, TimerKind, TimerRow},
    },
};

use super::Timers;

/// A timer as an administrator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct RunningTimer {
    /// Its id, which gives no right to anything but to an administrator.
    pub timer: TimerId,
    /// `expiry` or `delay`.
    pub kind: &'static str,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that will expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<OwnedEventId>,
    /// The type of the event that will be sent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Its state key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// The owner.
    pub owner: OwnedUserId,
    /// When it fires unless it is kept alive, in milliseconds since the epoch.
    pub deadline: Timestamp,
    /// What a keep-alive gives it, in milliseconds.
    pub duration: u64,
}

impl Timers {
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
            let mut timers = self.of_owner(Feature::Expiry, owner);
            timers.extend(self.of_owner(Feature::Delay, owner));
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

    /// What a timer that runs is for.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it does not run.
    pub fn feature_of(&self, timer: TimerId) -> Result<Feature> {
        let row = self.latest().get(&TIMER_BY_ID, &timer)?;
        row.map(|row| row.kind.feature()).ok_or_else(|| Error::not_found("no such timer runs"))
    }

    fn show(&self, timer: TimerId, row: &TimerRow) -> Result<RunningTimer> {
        let read = self.latest();
        let intern = self.graph.intern();
        let event_id = match row.kind {
            TimerKind::Expire(event) => intern.event_id(&read, event)?,
            TimerKind::Send => None,
        };
        let delayed = match row.kind {
            TimerKind::Expire(_) => None,
            TimerKind::Send => read.get(&DELAYED_BY_TIMER, &timer)?,
        };
        let (event_type, state_key) =
            delayed.map_or((None, None), |event| (Some(event.event_type), event.state_key));
        Ok(RunningTimer {
            timer,
            kind: row.kind.feature().name(),
            room_id: intern
                .room_id(&read, row.room)?
                .ok_or_else(|| Error::corrupt("a timer's room has no id"))?,
            event_id,
            event_type,
            state_key,
            owner: self.graph.user_id(&read, row.owner)?,
            deadline: row.deadline,
            duration: row.duration,
        })
    }
}
