//! History of rooms that began at other servers.

use std::time::Duration;

use ruma::OwnedRoomId;
use wick_account::Session;
use wick_core::Result;
use wick_rooms::history::{AskMessages, Direction, Messages};

use crate::Services;

/// How often other servers are asked on behalf of one page.
const MAX_REQUESTS: usize = 3;

/// How many events one of these requests brings.
const EVENTS: usize = 100;

/// How long a page waits for other servers.
const PATIENCE: Duration = Duration::from_secs(20);

impl Services {
    /// A part of a room's timeline. Where the timeline that is here begins after the room did, other servers are asked for
    /// what comes before, within bounds.
    ///
    /// # Errors
    /// As [`History::messages`](wick_rooms::History::messages).
    pub async fn messages(&self, session: &Session, ask: &AskMessages) -> Result<Messages> {
        let mut messages = self.history.messages(session, ask)?;
        let deadline = self.clock.monotonic() + PATIENCE;
        for _ in 0..MAX_REQUESTS {
            let is_over = ask.direction == Direction::Forward || messages.end.is_some();
            if is_over || self.clock.monotonic() >= deadline {
                break;
            }
            let fetched = tokio::select! {
                biased;
                fetched = self.fetch_history(&ask.room_id) => fetched?,
                () = self.clock.sleep_until(deadline) => 0,
            };
            if fetched == 0 {
                break;
            }
            messages = self.history.messages(session, ask)?;
        }
        Ok(messages)
    }

    /// Fetches history from before the first event that is here. Returns how many events came.
    async fn fetch_history(&self, room_id: &OwnedRoomId) -> Result<usize> {
        match &self.federated {
            Some(federated) => federated.inbound.backfill(room_id, EVENTS).await,
            None => Ok(0),
        }
    }
}
