//! The events that are still to be received, as rows.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId};
use wick_core::{BackOff, Position, Result, Timestamp};
use wick_database::{
    Batch, Database, Range, Read,
    schema::inbound::{QUEUED_BY_EVENT, QUEUED_BY_ROOM, QueuedEvent},
};

/// The wait after something that an event needs could not be had.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(60), Duration::from_secs(6 * 3600));

/// How often an event is tried. With the waits between this is about a day.
const MAX_ATTEMPTS: u32 = 12;

/// When events are tried again that wait for the room's policy server: at the next whole minute, all together and in their order,
/// as one that follows on another cannot be received before it.
const POLICY_WAIT: Duration = Duration::from_secs(60);

/// For how many such minutes an event waits: a week.
const MAX_UNANSWERED: u32 = 7 * 24 * 60;

/// How many events of a room wait to be tried again, of all servers and of one: what a server sends that cannot be
/// received holds up no other one.
const MAX_POSTPONED: usize = 500;
const MAX_POSTPONED_OF_SERVER: usize = 100;

/// A row of the queue.
pub(crate) type Queued = (Position, QueuedEvent);

/// What an event waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Events, states or keys of other servers.
    Others,
    /// The answer of the room's policy server.
    PolicyServer,
}

/// Puts an event at the end of its room's queue. One that waits there already is tried again at once.
pub(crate) fn push(
    batch: &mut Batch,
    room_id: &RoomId,
    (origin, event_id): (OwnedServerName, OwnedEventId),
    json: String,
) -> Result<()> {
    let key = (room_id.to_owned(), event_id.clone());
    if let Some(position) = batch.read_for_update(&QUEUED_BY_EVENT, &key)? {
        let row = (room_id.to_owned(), position);
        batch.update(&QUEUED_BY_ROOM, &row, |queued: Option<QueuedEvent>| {
            queued.map(|queued| QueuedEvent { origin, retry_at: Timestamp(0), ..queued })
        })?;
        return Ok(());
    }
    let retry_at = Timestamp(0);
    let queued = QueuedEvent { origin, event_id, json, attempts: 0, retry_at, unanswered: 0 };
    let slot = batch.reserve_position();
    let room = room_id.to_owned();
    batch.put_at(slot, &QUEUED_BY_ROOM, move |position| ((room, position), queued));
    batch.put_at(slot, &QUEUED_BY_EVENT, move |position| (key, position));
    Ok(())
}

/// How many bytes of events are taken from the queue at once, so that they fit into one batch.
const PORTION_BYTES: usize = 512 << 10;

/// The first events of a room that are due by now.
pub(crate) fn due(
    read: &impl Read,
    room_id: &RoomId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Queued>> {
    let mut due = Vec::new();
    let mut bytes = 0_usize;
    for row in read.scan(&QUEUED_BY_ROOM, Range::prefix((room_id.to_owned(),))) {
        let ((_, position), queued) = row?;
        if queued.retry_at <= now {
            bytes = bytes.saturating_add(queued.json.len());
            due.push((position, queued));
        }
        if due.len() >= limit || bytes >= PORTION_BYTES {
            break;
        }
    }
    Ok(due)
}

/// How many events a room's queue has, up to `limit`.
pub(crate) fn length(read: &impl Read, room_id: &RoomId, limit: usize) -> usize {
    let rows = read.scan(&QUEUED_BY_ROOM, Range::prefix((room_id.to_owned(),)));
    rows.keys().take(limit).count()
}

/// The rooms that have events waiting.
pub(crate) fn rooms(database: &Database) -> Result<BTreeSet<OwnedRoomId>> {
    let read = database.latest();
    let mut rooms = BTreeSet::new();
    let mut range = Range::all();
    // One step a room, however many events it has.
    while let Some(((room, _), _)) = read.first(&QUEUED_BY_ROOM, range)? {
        range = Range::after(&(room.clone(), Position(u64::MAX)));
        rooms.insert(room);
    }
    Ok(rooms)
}

/// Takes an event out of the queue.
pub(crate) fn remove(batch: &mut Batch, room_id: &RoomId, (position, queued): &Queued) {
    batch.delete(&QUEUED_BY_ROOM, &(room_id.to_owned(), *position));
    batch.delete(&QUEUED_BY_EVENT, &(room_id.to_owned(), queued.event_id.clone()));
}

/// The events of a room that wait to be tried again, by the servers that sent them.
#[derive(Default)]
pub(crate) struct Postponed {
    by_server: HashMap<OwnedServerName, usize>,
    total: usize,
}

impl Postponed {
    /// Counts them.
    pub(crate) fn count(batch: &Batch, room_id: &RoomId) -> Result<Self> {
        let mut postponed = Self::default();
        for row in batch.scan(&QUEUED_BY_ROOM, Range::prefix((room_id.to_owned(),))) {
            let (_, queued) = row?;
            if queued.is_postponed() {
                postponed.add(queued.origin);
            }
        }
        Ok(postponed)
    }

    fn add(&mut self, origin: OwnedServerName) {
        self.total += 1;
        *self.by_server.entry(origin).or_default() += 1;
    }

    fn is_full_for(&self, origin: &OwnedServerName) -> bool {
        let of_server = self.by_server.get(origin).copied().unwrap_or_default();
        self.total >= MAX_POSTPONED || of_server >= MAX_POSTPONED_OF_SERVER
    }
}

/// Leaves an event in the queue for later. One that was tried too often, or that comes when too many wait, is taken out,
/// which is logged: an event that refers to it brings it again.
pub(crate) fn postpone(
    batch: &mut Batch,
    room_id: &RoomId,
    (queued, need): (&Queued, Need),
    now: Timestamp,
    postponed: &mut Postponed,
) -> Result<()> {
    let (position, event) = queued;
    let is_new = !event.is_postponed();
    let later =
        later(event, need, now).filter(|_| !is_new || !postponed.is_full_for(&event.origin));
    let Some((attempts, unanswered, retry_at)) = later else {
        tracing::warn!(
            room = %room_id, event = %event.event_id, origin = %event.origin, ?need,
            "an event is given up, because what it needs cannot be had"
        );
        metrics::counter!("wick_inbound_given_up_total").increment(1);
        remove(batch, room_id, queued);
        return Ok(());
    };
    if is_new {
        postponed.add(event.origin.clone());
    }
    batch.update(
        &QUEUED_BY_ROOM,
        &(room_id.to_owned(), *position),
        |row: Option<QueuedEvent>| {
            row.map(|row| QueuedEvent { attempts, unanswered, retry_at, ..row })
        },
    )?;
    Ok(())
}

/// How often an event was tried in vain, by need, and when it is tried again; `None` if that was often enough.
fn later(event: &QueuedEvent, need: Need, now: Timestamp) -> Option<(u32, u32, Timestamp)> {
    let QueuedEvent { attempts, unanswered, .. } = *event;
    match need {
        Need::Others => {
            let retry_at = now.after(BACK_OFF.after(attempts));
            let attempts = attempts.saturating_add(1);
            (attempts < MAX_ATTEMPTS).then_some((attempts, unanswered, retry_at))
        }
        Need::PolicyServer => {
            let unanswered = unanswered.saturating_add(1);
            let retry_at = now.next_multiple_of(POLICY_WAIT);
            (unanswered < MAX_UNANSWERED).then_some((attempts, unanswered, retry_at))
        }
    }
}

/// When the first event of a room is due.
pub(crate) fn next_retry(read: &impl Read, room_id: &RoomId) -> Result<Option<Timestamp>> {
    let mut next: Option<Timestamp> = None;
    for row in read.scan(&QUEUED_BY_ROOM, Range::prefix((room_id.to_owned(),))) {
        let (_, queued) = row?;
        next = Some(next.map_or(queued.retry_at, |next| next.min(queued.retry_at)));
    }
    Ok(next)
}
