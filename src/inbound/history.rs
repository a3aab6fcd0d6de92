//! The history from before this server was in a room.

use std::{collections::HashSet, sync::Arc};

use ruma::{OwnedEventId, OwnedRoomId};
use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::room::{CHILD_BY_MISSING, EVENT_BY_POSITION},
};
use wick_room::{Incoming, Received, Verified, by_prev_events};

use crate::{Inbound, Peer, events::has_place, fetch::Fetch, verify};

/// How many events one request brings at most.
const MAX_EVENTS: usize = 100;

/// How many event ids a request names.
const MAX_NAMED: usize = 20;

/// How many servers are asked.
const MAX_SERVERS: usize = 5;

/// How many states are fetched for one piece of history.
const MAX_STATES: usize = 5;

impl<P: Peer> Inbound<P> {
    /// Fetches history from before the first event that is here, up to `limit` events. Returns how many came; zero if
    /// there are none before, or no server of the room has an answer.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn backfill(&self, room_id: &OwnedRoomId, limit: usize) -> Result<usize> {
        let from = self.oldest_missing(room_id)?;
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
            let mut fetch = Fetch::new(self, (room_id, &version, &rules), &server, first)?;
            let events = self.with_states(&mut fetch, events).await?;
            let (graph, room) = (Arc::clone(&self.graph), room_id.clone());
            let receive = || async move { graph.receive_history(&room, &events).await };
            let received = self.on_worker(room_id, receive).await?;
            let came = |received: &&Received| matches!(received, Received::Accepted(_));
            let count = received.iter().filter(came).count();
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// The missing events before the first one that is here.
    fn oldest_missing(&self, room_id: &OwnedRoomId) -> Result<Vec<OwnedEventId>> {
        let read = self.resources.database.latest();
        let Some(room) = self.graph.short(&read, room_id)? else { return Ok(Vec::new()) };
        let first = read.first(&EVENT_BY_POSITION, Range::prefix((room,)))?;
        let Some(((_, first), _)) = first else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for row in read.scan(&CHILD_BY_MISSING, Range::prefix((room,))) {
            let ((_, id), child) = row?;
            if child <= first.max(0) && missing.len() < MAX_NAMED {
                missing.push(id);
            }
        }
        Ok(missing)
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
