//! The history that this server missed: from before it was in a room, or in a gap of the timeline.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId};
use wick_core::Result;
use wick_room::{Incoming, Received, Verified, by_prev_events};

use crate::{
    Inbound, Peer,
    events::has_place,
    fetch::{self, Fetch},
    verify,
};

/// How many events one request brings at most.
const MAX_EVENTS: usize = 100;

/// How many event ids a request names.
const MAX_NAMED: usize = 20;

/// How many servers are asked.
const MAX_SERVERS: usize = 5;

/// How many states are fetched for one piece of history.
const MAX_STATES: usize = 5;

impl<P: Peer> Inbound<P> {
    /// Fetches up to `limit` events of the history: from before the first event that is here, or from the `gap` before the
    /// event at this place, the newest that are missing there. Returns how many came; zero if none are missing, or no server of
    /// the room has an answer.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn backfill(
        &self,
        room_id: &OwnedRoomId,
        gap: Option<i64>,
        limit: usize,
    ) -> Result<usize> {
        // Two at the same time would fetch the same.
        let _lock = self.histories.take(room_id.clone()).await;
        let from = self.missing_events(room_id, gap)?;
        if from.is_empty() {
            return Ok(0);
        }
        let Some((version, rules)) = self.version_of(room_id)? else { return Ok(0) };
        for server in self.servers(room_id, MAX_SERVERS)? {
            let limit = limit.min(MAX_EVENTS);
            let answer = self.peer.backfill(&server, room_id.clone(), from.clone(), limit).await;
            let mut answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(room = %room_id, %server, %error, "a server has no history");
                    continue;
                }
            };
            answer.truncate(MAX_EVENTS);
            let room = (&**room_id, &rules);
            let events = verify::good(&self.resources, &self.peer, room, answer).await?;
            let events = connected(events, &from);
            let Some(first) = events.first() else { continue };
            let deadline = self.resources.clock.monotonic() + fetch::LATER_TRY;
            let room = (room_id, &version, &rules);
            let mut fetch = Fetch::new(self, room, &server, first, deadline)?;
            let events = self.with_states(&mut fetch, events).await?;
            let (graph, room) = (Arc::clone(&self.graph), room_id.clone());
            let receive = move || async move { graph.receive_history(&room, gap, &events).await };
            let received = self.on_worker(room_id, receive).await?;
            let came = |received: &&Received| matches!(received, Received::Accepted(_));
            let count = received.iter().filter(came).count();
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    fn missing_events(&self, room_id: &OwnedRoomId, gap: Option<i64>) -> Result<Vec<OwnedEventId>> {
        let read = self.resources.database.latest();
        match self.graph.short(&read, room_id)? {
            Some(room) => self.graph.missing_events(&read, room, gap, MAX_NAMED),
            None => Ok(Vec::new()),
        }
    }

    /// The events with what they need: their auth events, and a state for those before which there is a gap.
    async fn with_states(
        &self,
        fetch: &mut Fetch<'_, P>,
        events: Vec<Verified>,
    ) -> Result<Vec<Incoming>> {
        let mut ready: Vec<Incoming> = Vec::new();
        let mut known: HashSet<OwnedEventId> = HashSet::new();
        let mut states = 0;
        for event in events {
            let prevs = &event.pdu().prev_events;
            let mut is_whole = true;
            for prev in prevs {
                let read = self.resources.database.latest();
                is_whole &= known.contains(prev) || has_place(&self.graph, &read, prev)?;
            }
            if !fetch.has_auth_events(&event).await? {
                continue;
            }
            let mut incoming = Incoming::from(event);
            if !is_whole {
                states += 1;
                if states > MAX_STATES {
                    continue;
                }
                incoming.state = fetch.state_before(&incoming.event).await?;
                if incoming.state.is_none() {
                    continue;
                }
            }
            known.insert(incoming.event.event_id().to_owned());
            ready.push(incoming);
        }
        Ok(ready)
    }
}

/// Those events that come before the missing ones or are such, the oldest first.
fn connected(events: Vec<Verified>, from: &[OwnedEventId]) -> Vec<Verified> {
    let mut wanted: HashSet<OwnedEventId> = from.iter().cloned().collect();
    let mut ordered = by_prev_events(events);
    ordered.reverse();
    ordered.retain(|event| {
        let is_wanted = wanted.contains(event.event_id());
        if is_wanted {
            wanted.extend(event.pdu().prev_events.iter().cloned());
        }
        is_wanted
    });
    ordered.reverse();
    ordered
}
