//! Where the events of a file are and which of them others rest on.
//!
//! Invariant: an event id is held as a hash of 128 bits with a key of this process, so that none is taken for another one,
//! whatever ids a server makes up.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use ruma::{
    EventId, RoomId, canonical_json::CanonicalJsonValue, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_database::first_portion;
use wick_room::{Formatted, topological_order};

use super::{PORTION, Record};

/// Where an event is in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(super) at: u64,
    pub(super) length: u32,
}

impl Place {
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.length.into())
    }
}

/// An event without its text.
struct Entry {
    place: Place,
    is_state: bool,
    is_create: bool,
    /// Which of the edges are its own.
    edges: Range<usize>,
}

/// All events of a file that have the format of their room version, each once.
#[derive(Default)]
pub(crate) struct Index {
    hashers: [RandomState; 2],
    /// By event id.
    numbers: HashMap<u128, usize>,
    entries: Vec<Entry>,
    /// The ids of auth events.
    edges: Vec<u128>,
}

impl Index {
    /// Notes an event, unless it is malformed or of another room.
    pub(super) fn note(&mut self, record: Record, room_id: &RoomId, rules: &RoomVersionRules) {
        let Record { place, is_state, json } = record;
        let Ok(json) = serde_json::from_slice::<&RawValue>(&json) else { return };
        let event = match Formatted::check(json, Some(room_id), rules) {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(room = %room_id, %error, "an event of an answer is dropped");
                return;
            }
        };
        let id = self.hash(event.event_id().as_str());
        if let Some(known) = self.numbers.get(&id).and_then(|known| self.entries.get_mut(*known)) {
            known.is_state |= is_state;
            return;
        }
        let field = |name| event.object().get(name);
        let auth_events = field("auth_events").and_then(CanonicalJsonValue::as_array);
        let named = auth_events.into_iter().flatten().filter_map(CanonicalJsonValue::as_str);
        let named: Vec<_> = named.map(|id| self.hash(id)).collect();
        let first = self.edges.len();
        self.edges.extend(named);
        let edges = first..self.edges.len();
        let event_type = field("type").and_then(CanonicalJsonValue::as_str);
        let is_create = event_type == Some("m.room.create");
        self.numbers.insert(id, self.entries.len());
        self.entries.push(Entry { place, is_state, is_create, edges });
    }

    fn hash(&self, id: &str) -> u128 {
        let [first, second] = self.hashers.each_ref().map(|hasher| hasher.hash_one(id));
        (u128::from(first) << 64) | u128::from(second)
    }

    /// Whether an event is one of the state.
    pub(crate) fn is_state(&self, id: &EventId) -> bool {
        let entry = self.numbers.get(&self.hash(id.as_str())).and_then(|at| self.entries.get(*at));
        entry.is_some_and(|entry| entry.is_state)
    }

    /// Portions of the events, each event behind those of its auth events that are among them.
    pub(crate) fn portions(&self) -> Vec<Vec<Place>> {
        let entries = self.entries.iter().enumerate();
        // Since version 12 all events rest on the create event, and do not name it.
        let creates = entries.filter(|(_, entry)| entry.is_create).map(|(number, _)| number);
        let order = topological_order(self.entries.len(), creates, |number| {
            let edges = self.entries.get(number).and_then(|entry| {
                let edges = self.edges.get(entry.edges.clone())?;
                Some(edges.iter().filter_map(|id| self.numbers.get(id).copied()))
            });
            edges.into_iter().flatten()
        });
        let places = order.into_iter().filter_map(|number| Some(self.entries.get(number)?.place));
        let places: Vec<_> = places.collect();
        let mut portions = Vec::new();
        for portion in places.chunks(PORTION) {
            let mut rest = portion;
            while !rest.is_empty() {
                let length = |place: &Place| usize::try_from(place.length).unwrap_or(usize::MAX);
                let (first, others) = first_portion(rest, length);
                portions.push(first.to_vec());
                rest = others;
            }
        }
        portions
    }
}
