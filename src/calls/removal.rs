//! Removes participants from LiveKit whose membership in the room has ended.
//!
//! Invariant: it follows the stream by a durable cursor, so each end of a membership is acted on, whatever crashes.

use std::sync::Arc;

use ruma::events::TimelineEventType;
use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{
        calls::ISSUED_BY_PARTICIPANT,
        room::{MEMBER_BY_USER, Membership},
        stream::StreamEntry,
    },
};
use wick_runtime::{Consumer, Follower, Span};

use crate::{Calls, participants::Place};

/// Under which name the cursor is stored.
const CURSOR: &str = "calls";

/// A follower that removes participants.
pub(crate) fn follower(calls: &Arc<Calls>) -> Follower<Removal> {
    let removal = Removal { calls: Arc::clone(calls) };
    Follower::new(calls.resources.clone(), CURSOR.to_owned(), removal)
}

pub(crate) struct Removal {
    calls: Arc<Calls>,
}

impl Consumer for Removal {
    async fn consume(&self, span: &Span) -> Result<bool> {
        let mut has_removed = false;
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
            has_removed |= self.remove_unless_joined(room, user).await?;
        }
        Ok(has_removed)
    }
}

impl Removal {
    /// Returns whether there was something to remove.
    async fn remove_unless_joined(&self, room: ShortRoomId, user: ShortUserId) -> Result<bool> {
        let latest = self.calls.resources.database.latest();
        let member = latest.get(&MEMBER_BY_USER, &(user, room))?;
        if member.is_none_or(|member| member.membership == Membership::Join) {
            return Ok(false);
        }
        let mut has_removed = false;
        for row in latest.scan(&ISSUED_BY_PARTICIPANT, Range::prefix((room, user))).keys() {
            let (.., room, identity) = row?;
            let place = Place { room, identity };
            // The row stays: the token may be used again until it has expired.
            self.calls.livekit.remove(&place.room, &place.identity).await?;
            has_removed = true;
        }
        Ok(has_removed)
    }
}
