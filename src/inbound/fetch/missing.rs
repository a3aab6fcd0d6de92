//! The events between those that are here and one that came, breadth first.

use std::collections::{BTreeSet, HashMap};

use ruma::OwnedEventId;
use wick_core::Result;
use wick_room::Verified;

use super::Fetch;
use crate::{MissingEvents, Peer, events::has_place};

/// How often the next events before those found are asked for. Longer gaps are bridged by a state.
const ROUNDS: usize = 5;

/// How many events one request brings.
const LIMIT: usize = 20;

/// How many events servers give at least if they have them: the default of the specification. Fewer are all there are.
const LEAST_LIMIT: usize = 10;

/// How many event ids a request names.
const MAX_NAMED: usize = 20;

impl<P: Peer> Fetch<'_, P> {
    /// The events before `event` that are not here, as far as they can be had. `missing` are the nearest of them.
    pub(super) async fn missing_events(
        &mut self,
        event: &Verified,
        missing: &[OwnedEventId],
    ) -> Result<Vec<Verified>> {
        let earliest = self.extremities()?;
        let mut latest = vec![event.event_id().to_owned()];
        let mut wanted: BTreeSet<OwnedEventId> = missing.iter().cloned().collect();
        let mut found: HashMap<OwnedEventId, Verified> = HashMap::new();
        for _ in 0..ROUNDS {
            let (answer, is_full) = self.ask_for_missing(&earliest, &latest).await?;
            let before = found.len();
            self.connect(answer, &mut wanted, &mut found)?;
            if found.len() == before || wanted.is_empty() || !is_full {
                break;
            }
            latest = found
                .values()
                .filter(|event| event.pdu().prev_events.iter().any(|id| wanted.contains(id)))
                .map(|event| event.event_id().to_owned())
                .take(MAX_NAMED)
                .collect();
        }
        Ok(found.into_values().collect())
    }

    /// Asks one server after another, until one has something. Returns whether it may have more.
    async fn ask_for_missing(
        &mut self,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
    ) -> Result<(Vec<Verified>, bool)> {
        for server in self.servers.clone() {
            let wanted = MissingEvents {
                room_id: self.room_id.clone(),
                earliest: earliest.to_vec(),
                latest: latest.to_vec(),
                limit: LIMIT,
            };
            let peer = &self.inbound.peer;
            let Some(mut answer) = self.ask(peer.missing_events(&server, wanted)).await else {
                continue;
            };
            answer.truncate(LIMIT);
            if !answer.is_empty() {
                let is_full = answer.len() >= LEAST_LIMIT;
                return Ok((self.verified(answer).await?, is_full));
            }
        }
        Ok((Vec::new(), false))
    }

    /// Keeps those events of an answer that one found before refers to.
    fn connect(
        &self,
        answer: Vec<Verified>,
        wanted: &mut BTreeSet<OwnedEventId>,
        found: &mut HashMap<OwnedEventId, Verified>,
    ) -> Result<()> {
        let graph = &self.inbound.graph;
        let read = self.inbound.resources.database.latest();
        let mut loose: HashMap<_, _> =
            answer.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();
        let mut open: Vec<_> = wanted.iter().cloned().collect();
        while let Some(id) = open.pop() {
            let Some(event) = loose.remove(&id) else { continue };
            wanted.remove(&id);
            for prev in &event.pdu().prev_events {
                if !found.contains_key(prev) && !has_place(graph, &read, prev)? {
                    wanted.insert(prev.clone());
                    open.push(prev.clone());
                }
            }
            found.insert(id, event);
        }
        Ok(())
    }

    /// Forward extremities of the room as it is here.
    fn extremities(&self) -> Result<Vec<OwnedEventId>> {
        let graph = &self.inbound.graph;
        let read = self.inbound.resources.database.latest();
        let Some(room) = graph.short(&read, self.room_id)? else { return Ok(Vec::new()) };
        let Some(head) = graph.head(&read, room)? else { return Ok(Vec::new()) };
        let mut ids = Vec::new();
        for event in head.extremities.iter().rev().take(MAX_NAMED) {
            ids.push(graph.load_event(&read, *event)?.event_id.clone());
        }
        Ok(ids)
    }
}
