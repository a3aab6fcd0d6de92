//! State resolution: one state out of the states of several branches.
//!
//! Invariants: the same states resolve to the same state in whatever order they are given; equal states
//! resolve to themselves without a look at any event; the work follows what differs, not what the room holds.

mod conflict;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId, room_version_rules::RoomVersionRules, state_res::StateMap};
use wick_core::{
    Error, Pdu, Result, ShortEventId, ShortRoomId, ShortStateKey, StateKeyTuple, StateRoot,
    event::pdu::SharedPdu,
};
use wick_database::{Batch, Read, schema::state::DISORDER_BY_ROOM};

use self::conflict::{Differing, Source};
use crate::Graph;

/// What sets of states resolved to, by their sorted roots: for each piece of state that differs the event that sets
/// it. Roots name their states for ever, so an entry is never stale. It lets a change that runs again, or that is
/// computed without the room's lock before, resolve once.
pub(crate) type Resolutions = Cache<Vec<StateRoot>, Arc<StateMap<OwnedEventId>>>;

/// Resolves states of one room. What is new of the answer is written into `batch`.
///
/// # Errors
/// If the storage fails, or an event cannot be read that the room must have.
pub(crate) fn resolve(
    rooms: &Graph,
    batch: &mut Batch,
    room: (ShortRoomId, &RoomVersionRules),
    roots: &[StateRoot],
) -> Result<StateRoot> {
    let (room, rules) = room;
    let mut roots = roots.to_vec();
    roots.sort_unstable();
    roots.dedup();
    let (base, others) = match roots.as_slice() {
        [] => return Ok(StateRoot::EMPTY),
        [only] => return Ok(*only),
        [base, others @ ..] => (*base, others),
    };
    let sides = Sides::of(rooms, batch, base, others)?;
    let mut differing = Differing::new();
    for (key, events) in &sides.differing {
        let ids = events.iter().map(|event| event.map(|e| event_id(rooms, batch, e)).transpose());
        differing.insert(key_tuple(rooms, batch, *key)?, ids.collect::<Result<_>>()?);
    }
    let resolved = match rooms.resolutions.get(&roots) {
        Some(known) => known,
        None => {
            let common = Common { sides: &sides, rooms, batch, room };
            let resolved = conflict::resolve(rules, roots.len(), &differing, &common)?;
            let resolved = Arc::new(resolved);
            rooms.resolutions.insert(roots.clone(), Arc::clone(&resolved));
            resolved
        }
    };

    let mut changes: BTreeMap<ShortStateKey, Option<ShortEventId>> =
        sides.differing.keys().map(|key| (*key, None)).collect();
    for ((event_type, state_key), event) in &*resolved {
        let key = rooms.intern().state_key(event_type, state_key, batch)?;
        changes.insert(key, Some(rooms.intern().event(event, batch)?));
    }
    rooms.states().apply(batch, base, changes)
}

/// What several states have in common, and where they differ.
struct Sides {
    base: StateRoot,
    /// For each differing key the event of each side, the base first.
    differing: BTreeMap<ShortStateKey, Vec<Option<ShortEventId>>>,
}

impl Sides {
    fn of(rooms: &Graph, batch: &Batch, base: StateRoot, others: &[StateRoot]) -> Result<Self> {
        let mut differing: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut differences = Vec::with_capacity(others.len());
        for other in others {
            let changes = rooms.states().diff(batch, base, *other)?;
            for change in &changes {
                differing.entry(change.key).or_insert_with(|| vec![change.old]);
            }
            let news: BTreeMap<_, _> = changes.into_iter().map(|c| (c.key, c.new)).collect();
            differences.push(news);
        }
        for (key, events) in &mut differing {
            let old = events.first().copied().flatten();
            events.extend(differences.iter().map(|news| news.get(key).copied().unwrap_or(old)));
        }
        Ok(Self { base, differing })
    }
}

/// The room's events, and the state that no side disputes.
struct Common<'a> {
    sides: &'a Sides,
    rooms: &'a Graph,
    batch: &'a Batch,
    room: ShortRoomId,
}

impl Source for Common<'_> {
    fn event(&self, id: &EventId) -> Result<SharedPdu> {
        let found = self.rooms.events.by_id(self.batch, self.rooms.intern(), id)?;
        let (_, event) = found.ok_or_else(|| {
            Error::corrupt(format!("event {id} decides about a state and is not stored"))
        })?;
        Ok(event)
    }

    fn common(&self, (event_type, state_key): &StateKeyTuple) -> Result<Option<OwnedEventId>> {
        let key = self.rooms.intern().lookup_state_key(self.batch, event_type, state_key)?;
        let Some(key) = key.filter(|key| !self.sides.differing.contains_key(key)) else {
            return Ok(None);
        };
        let event = self.rooms.states().get(self.batch, self.sides.base, key)?;
        event.map(|event| event_id(self.rooms, self.batch, event)).transpose()
    }

    fn common_resting_on(&self, wanted: &HashSet<OwnedEventId>) -> Result<Vec<OwnedEventId>> {
        let oldest = self.oldest(wanted)?;
        let state = self.rooms.states().collect(self.batch, self.sides.base)?;
        let common = state
            .iter()
            .filter(|(key, event)| *event >= oldest && !self.sides.differing.contains_key(key));
        common.map(|(_, event)| event_id(self.rooms, self.batch, *event)).collect()
    }
}

impl Common<'_> {
    /// The smallest short id of these events: none with a smaller one depends on them, unless the room has
    /// events whose short ids are older than those of their auth events.
    fn oldest(&self, events: &HashSet<OwnedEventId>) -> Result<ShortEventId> {
        if self.batch.contains(&DISORDER_BY_ROOM, &self.room)? {
            return Ok(ShortEventId::MIN);
        }
        let mut oldest = ShortEventId::MAX;
        for id in events {
            let short = self.rooms.intern().lookup_event(self.batch, id)?;
            oldest = oldest.min(short.unwrap_or(ShortEventId::MIN));
        }
        Ok(oldest)
    }
}

/// Notes an event whose short id is older than that of one of its auth events, because something referred to it
/// before it was received.
///
/// # Errors
/// If the storage fails.
pub(crate) fn note_order(
    rooms: &Graph,
    batch: &mut Batch,
    room: ShortRoomId,
    (short, event): (ShortEventId, &Pdu),
) -> Result<()> {
    for id in &event.auth_events {
        if rooms.intern().lookup_event(batch, id)?.is_none_or(|auth| auth > short) {
            batch.put(&DISORDER_BY_ROOM, &room, &());
        }
    }
    Ok(())
}

fn event_id(rooms: &Graph, batch: &Batch, event: ShortEventId) -> Result<OwnedEventId> {
    let id = rooms.intern().event_id(batch, event)?;
    id.ok_or_else(|| Error::corrupt(format!("event {event} is in a state and has no id")))
}

fn key_tuple(rooms: &Graph, batch: &Batch, key: ShortStateKey) -> Result<StateKeyTuple> {
    let tuple = rooms.intern().state_key_tuple(batch, key)?;
    tuple.ok_or_else(|| Error::corrupt(format!("state key {key} is in a state and has no name")))
}
