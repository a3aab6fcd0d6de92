//! Removes participants from LiveKit whose membership in the room has ended.
//!
//! Invariants: it follows the stream by a durable cursor and notes each removal in a row, so each end of a membership
//! is acted on, whatever crashes; a room at LiveKit that cannot be reached holds up no other one.

use std::{sync::Arc, time::Duration};

use ruma::events::TimelineEventType;
use wick_core::{Monotonic, Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Durability, Range, Read,
    schema::{
        calls::{ISSUED_BY_PARTICIPANT, PARTICIPANT_BY_IDENTITY, REMOVAL_BY_PARTICIPANT},
        room::{MEMBER_BY_USER, Membership},
        stream::StreamEntry,
    },
};
use wick_runtime::{Consumer, Follower, Span, Supervisor};

use crate::{Calls, participants::Place};

/// Under which name the cursor is stored.
const CURSOR: &str = "calls";

/// The task that removes, in logs and metrics.
const REMOVING: &str = "removals from calls";

/// In how many rooms at LiveKit participants are removed at a time.
const MOST_ROOMS: usize = 4;

/// The wait after LiveKit did not answer; doubled each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(300);

/// How long a removal is tried. Tokens do not last as long.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(86_400);

/// A follower that records which participants are to be removed.
pub(crate) fn follower(calls: &Arc<Calls>) -> Follower<Removal> {
    let removal = Removal { calls: Arc::clone(calls) };
    Follower::new(calls.resources.clone(), CURSOR.to_owned(), removal)
}

pub(crate) struct Removal {
    calls: Arc<Calls>,
}

impl Consumer for Removal {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let mut places = Vec::new();
        for (_, StreamEntry { room, event }) in span.events()? {
            let Some(event) = self.calls.graph.event(&span.read, event)? else { continue };
            if event.event_type != TimelineEventType::RoomMember {
                continue;
            }
            let Some(user_id) = event.state_key.as_deref().and_then(|key| key.try_into().ok())
            else {
                continue;
            };
            let Some(user) = self.calls.graph.intern().lookup_user(&span.read, user_id)? else {
                continue;
            };
            places.extend(self.calls.places_unless_joined(room, user)?);
        }
        if places.is_empty() {
            return Ok(false);
        }
        self.calls.note_removals(&places).await?;
        Ok(true)
    }
}

impl Calls {
    /// Starts to remove.
    pub(crate) fn remove_regularly(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        let now = self.resources.clock.monotonic();
        for row in
            self.resources.database.latest().scan(&REMOVAL_BY_PARTICIPANT, Range::all()).keys()
        {
            let (room, _) = row?;
            self.removals.add(room, now);
        }
        self.spawn(supervisor, REMOVING, |calls| async move {
            let remove = |room| calls.remove_in(room);
            calls.removals.work_off(&*calls.resources.clock, (REMOVING, MOST_ROOMS), remove).await;
        });
        Ok(())
    }

    /// The places of a user in a room; none if the user is joined to it.
    fn places_unless_joined(&self, room: ShortRoomId, user: ShortUserId) -> Result<Vec<Place>> {
        let latest = self.resources.database.latest();
        let member = latest.get(&MEMBER_BY_USER, &(user, room))?;
        if member.is_none_or(|member| member.membership == Membership::Join) {
            return Ok(Vec::new());
        }
        // Their rows stay: the tokens may be used again until they have expired.
        let issued = latest.scan(&ISSUED_BY_PARTICIPANT, Range::prefix((room, user)));
        issued
            .keys()
            .map(|key| {
                let (.., room, identity) = key?;
                Ok(Place { room, identity })
            })
            .collect()
    }

    async fn note_removals(&self, places: &[Place]) -> Result<()> {
        let now = self.now();
        self.resources
            .change_with(Durability::Flushed, |batch| {
                for place in places {
                    batch.put(&REMOVAL_BY_PARTICIPANT, &place.key(), &now.wall);
                    let (removals, room) = (Arc::clone(&self.removals), place.room.clone());
                    batch.on_applied(move || removals.add(room, now.monotonic));
                }
                Ok(())
            })
            .await
    }

    /// Removes the recorded participants of a room from LiveKit. Returns when to try again, if some are left.
    async fn remove_in(&self, room: String) -> Option<Monotonic> {
        let noted: Result<Vec<_>> = {
            let latest = self.resources.database.latest();
            let rows = latest.scan(&REMOVAL_BY_PARTICIPANT, Range::prefix((&*room,)));
            rows.map(|row| Ok(row?)).collect()
        };
        let mut waited = Duration::ZERO;
        let removed = async {
            for ((room, identity), since) in noted? {
                waited = waited.max(self.resources.clock.now().since(since));
                self.remove_noted(&Place { room, identity }, since).await?;
            }
            Ok(())
        };
        let removed: Result<()> = removed.await;
        let error = removed.err()?;
        let back_off = waited.clamp(FIRST_BACK_OFF, LAST_BACK_OFF);
        tracing::warn!(%error, ?back_off, "a participant could not be removed and will be tried again");
        Some(self.resources.clock.monotonic() + back_off)
    }

    async fn remove_noted(&self, place: &Place, since: Timestamp) -> Result<()> {
        let is_old = self.resources.clock.now().since(since) > GIVEN_UP_AFTER;
        if !is_old && !self.may_stay(place)? {
            self.livekit.remove(&place.room, &place.identity).await?;
            let now = self.resources.clock.monotonic();
            self.watch.report(place, now, |watched| watched.removed());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let noted = batch.read_for_update(&REMOVAL_BY_PARTICIPANT, &place.key())?;
                if noted == Some(since) {
                    batch.delete(&REMOVAL_BY_PARTICIPANT, &place.key());
                }
                Ok(())
            })
            .await
    }

    /// Whether a participant's user is joined to the room, or the participant is unknown.
    pub(crate) fn may_stay(&self, place: &Place) -> Result<bool> {
        let latest = self.resources.database.latest();
        let Some(row) = latest.get(&PARTICIPANT_BY_IDENTITY, &place.key())? else {
            return Ok(true);
        };
        let member = self.graph.member(&latest, row.room, row.user)?;
        Ok(member.is_some_and(|member| member.membership == Membership::Join))
    }
}
