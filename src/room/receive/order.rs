//! The order in which events can be received: each after those that it refers to.

use std::collections::{HashMap, HashSet};

use ruma::{OwnedEventId, events::TimelineEventType};
use wick_core::Pdu;

use super::Verified;

/// Orders events so that each comes after those of its auth events that are among them. Duplicates are left out.
#[must_use]
pub fn by_auth_events(events: Vec<Verified>) -> Vec<Verified> {
    ordered(events, |pdu| &pdu.auth_events)
}

/// Orders events so that each comes after those of its prev events that are among them. Duplicates are left out.
#[must_use]
pub fn by_prev_events(events: Vec<Verified>) -> Vec<Verified> {
    ordered(events, |pdu| &pdu.prev_events)
}

/// Depth first, without recursion: chains can be long. Hashes make cycles impossible; one would not make it run longer.
fn ordered(events: Vec<Verified>, edges: impl Fn(&Pdu) -> &[OwnedEventId]) -> Vec<Verified> {
    let id = |event: &Verified| event.pdu().event_id.clone();
    // Since version 12 all events rest on the create event, and do not name it.
    let is_create = |event: &&Verified| event.pdu().event_type == TimelineEventType::RoomCreate;
    let creates = events.iter().filter(is_create).map(id);
    let roots: Vec<_> = creates.chain(events.iter().map(id)).collect();
    let mut waiting: HashMap<_, _> =
        events.into_iter().map(|event| (event.pdu().event_id.clone(), event)).collect();
    let mut entered = HashSet::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    for root in roots {
        let mut path = vec![root];
        while let Some(id) = path.last() {
            let Some(event) = waiting.get(id) else {
                path.pop();
                continue;
            };
            if entered.insert(id.clone()) {
                path.extend(edges(event.pdu()).iter().cloned());
            } else if let Some(event) = path.pop().and_then(|id| waiting.remove(&id)) {
                ordered.push(event);
            }
        }
    }
    ordered
}
