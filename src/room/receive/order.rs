//! The order in which events can be received: each after those that it refers to.

use std::collections::HashMap;

use ruma::{OwnedEventId, events::TimelineEventType};
use wick_core::Pdu;

use super::Verified;

/// Orders events so that each comes after those of its auth events that are among them. Duplicates are left out.
#[must_use]
pub fn by_auth_events(events: Vec<Verified>) -> Vec<Verified> {
    by_edges(events, |pdu| &pdu.auth_events)
}

/// Orders events so that each comes after those of its prev events that are among them. Duplicates are left out.
#[must_use]
pub fn by_prev_events(events: Vec<Verified>) -> Vec<Verified> {
    by_edges(events, |pdu| &pdu.prev_events)
}

/// The numbers below `count` ordered so that each comes after those that `edges` gives for it, as far as that is possible.
/// Those of `first` come as early as they can.
#[must_use]
pub fn topological_order<E: IntoIterator<Item = usize>>(
    count: usize,
    first: impl IntoIterator<Item = usize>,
    edges: impl Fn(usize) -> E,
) -> Vec<usize> {
    let mut states = vec![Progress::Waiting; count];
    let mut ordered = Vec::with_capacity(count);
    // Depth first, without recursion: chains can be long. Hashes make cycles impossible; one would not make it run longer.
    let mut path = Vec::new();
    for root in first.into_iter().chain(0..count) {
        path.push(root);
        while let Some(number) = path.last().copied() {
            match states.get_mut(number) {
                Some(state @ Progress::Waiting) => {
                    *state = Progress::Entered;
                    path.extend(edges(number));
                }
                Some(state @ Progress::Entered) => {
                    *state = Progress::Ordered;
                    ordered.push(number);
                    path.pop();
                }
                Some(Progress::Ordered) | None => drop(path.pop()),
            }
        }
    }
    ordered
}

/// How far a number is.
#[derive(Clone, Copy)]
enum Progress {
    Waiting,
    Entered,
    Ordered,
}

fn by_edges(events: Vec<Verified>, edges: impl Fn(&Pdu) -> &[OwnedEventId]) -> Vec<Verified> {
    let mut numbers = HashMap::with_capacity(events.len());
    for (number, event) in events.iter().enumerate() {
        numbers.insert(event.pdu().event_id.clone(), number);
    }
    // Since version 12 all events rest on the create event, and do not name it.
    let is_create =
        |(_, event): &(usize, &Verified)| event.pdu().event_type == TimelineEventType::RoomCreate;
    let creates = events.iter().enumerate().filter(is_create).map(|(number, _)| number);
    let order = topological_order(events.len(), creates, |number| {
        let named = events.get(number).map_or(&[][..], |event| edges(event.pdu()));
        named.iter().filter_map(|id| numbers.get(id).copied()).collect::<Vec<_>>()
    });
    // Of duplicates one has a number.
    let mut waiting: HashMap<_, _> = events
        .into_iter()
        .enumerate()
        .filter(|(number, event)| numbers.get(event.event_id()) == Some(number))
        .collect();
    order.into_iter().filter_map(|number| waiting.remove(&number)).collect()
}
