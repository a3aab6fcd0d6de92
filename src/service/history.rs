//! History of rooms that began, or went on, at other servers.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId};
use wick_account::Session;
use wick_core::{Result, Timestamp};
use wick_rooms::history::{AskMessages, Direction, Messages};

use crate::Services;

/// How often other servers are asked on behalf of one page.
const MAX_REQUESTS: usize = 3;

/// How many events one of these requests brings.
const EVENTS: usize = 100;

/// How long a page waits for other servers.
const PATIENCE: Duration = Duration::from_secs(20);

impl Services {
    /// A part of a room's timeline. Where the timeline that is here has gaps, or begins after the room did, other servers are
    /// asked for what is missing, within bounds. If they do not have it now, the gaps are passed over.
    ///
    /// # Errors
    /// As [`History::messages`](wick_rooms::History::messages).
    pub async fn messages(&self, session: &Session, mut ask: AskMessages) -> Result<Messages> {
        let mut messages = self.history.messages(session, &ask)?;
        let deadline = self.clock.monotonic() + PATIENCE;
        for _ in 0..MAX_REQUESTS {
            let is_at_beginning = ask.direction == Direction::Backward && messages.end.is_none();
            let is_incomplete = messages.gap.is_some() || is_at_beginning;
            if !is_incomplete || self.clock.monotonic() >= deadline {
                break;
            }
            let fetched = tokio::select! {
                biased;
                fetched = self.fetch_history(&ask.room_id, messages.gap) => fetched?,
                () = self.clock.sleep_until(deadline) => 0,
            };
            if fetched == 0 && messages.gap.is_none() {
                break;
            }
            ask.skips_gaps |= fetched == 0;
            messages = self.history.messages(session, &ask)?;
        }
        Ok(messages)
    }

    /// The event next to a moment. Where events are missing that may be nearer, other servers are asked, and what they name is
    /// fetched, within bounds.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may not read the room, `M_NOT_FOUND` if there is no such event that they may see.
    pub async fn event_at(
        &self,
        session: &Session,
        room_id: &OwnedRoomId,
        at: Timestamp,
        direction: Direction,
    ) -> Result<(OwnedEventId, Timestamp)> {
        let nearest = self.history.event_at(session, room_id, at, direction)?;
        let Some(federated) = self.federated.as_ref().filter(|_| !nearest.is_certain) else {
            return nearest.found();
        };
        let deadline = self.clock.monotonic() + PATIENCE;
        tokio::select! {
            biased;
            fetched = federated.rooms.fetch_event_at(room_id, at, direction) => fetched?,
            () = self.clock.sleep_until(deadline) => {}
        }
        self.history.event_at(session, room_id, at, direction)?.found()
    }

    /// Fetches what is missing in a gap, or from before the first event that is here. Returns how many events came.
    async fn fetch_history(&self, room_id: &OwnedRoomId, gap: Option<i64>) -> Result<usize> {
        match &self.federated {
            Some(federated) => federated.inbound.backfill(room_id, gap, EVENTS).await,
            None => Ok(0),
        }
    }
}
