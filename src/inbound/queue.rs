//! The events that are still to be received, as rows.

mod counts;

use std::{collections::HashMap, time::Duration};

use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use wick_core::{BackOff, Position, Result, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::inbound::{QUEUED_BY_EVENT, QUEUED_BY_ROOM, QueuedEvent},
};

pub(crate) use self::counts::Counts;

/// The wait after something that an event needs could not be had.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(60), Duration::from_secs(6 * 3600));

/// How often an event is tried. With the waits between this is about a day.
const MAX_ATTEMPTS: u32 = 12;

/// When events are tried again that wait for the room's policy server: at the next whole minute, all together and in their order,
/// as one that follows on another cannot be received before it.
const POLICY_WAIT: Duration = Duration::from_secs(60);

/// For how many such minutes an event waits: a week.
const MAX_UNANSWERED: u32 = 7 * 24 * 60;

/// How many events of a room wait to be tried again, of all servers in the room and of one: what a server sends that cannot
/// be received holds up no other one.
const MAX_POSTPONED: usize = 500;
const MAX_POSTPONED_OF_SERVER: usize = 100;

/// How many events of a room wait that servers sent which are not in it: one person can have many of those.
pub(crate) const MAX_OF_OUTSIDERS: usize = 100;

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
    (batch, counts): (&mut Batch, &Counts),
    room_id: &RoomId,
    (origin, event_id): (OwnedServerName, OwnedEventId),
    json: String,
) -> Result<()> {
    let key = (room_id.to_owned(), event_id.clone());
    if let Some(position) = batch.read_for_update(&QUEUED_BY_EVENT, &key)? {
        let row = (room_id.to_owned(), position);
        if let Some(queued) = batch.read_for_update(&QUEUED_BY_ROOM, &row)? {
            counts.less(batch, room_id, &queued.origin);
            counts.more(batch, room_id, &origin);
            let queued = QueuedEvent { origin, retry_at: Timestamp(0), ..queued };
            batch.put(&QUEUED_BY_ROOM, &row, &queued);
        }
        return Ok(());
    }
    counts.more(batch, room_id, &origin);
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

/// Takes an event out of the queue.
pub(crate) fn remove(
    (batch, counts): (&mut Batch, &Counts),
    room_id: &RoomId,
    (position, queued): &Queued,
) -> Result<()> {
    let key = (room_id.to_owned(), *position);
    // Another server may have sent it meanwhile.
    if let Some(queued) = batch.read_for_update(&QUEUED_BY_ROOM, &key)? {
        counts.less(batch, room_id, &queued.origin);
    }
    batch.delete(&QUEUED_BY_ROOM, &key);
    batch.delete(&QUEUED_BY_EVENT, &(room_id.to_owned(), queued.event_id.clone()));
    Ok(())
}

/// The events of a room that wait to be tried again, by the servers that sent them.
pub(crate) struct Postponed<F> {
    is_in_room: F,
    by_server: HashMap<OwnedServerName, usize>,
    of_members: usize,
    of_outsiders: usize,
}

impl<F: Fn(&ServerName) -> Result<bool>> Postponed<F> {
    /// Counts them.
    pub(crate) fn count(batch: &Batch, room_id: &RoomId, is_in_room: F) -> Result<Self> {
        let by_server = HashMap::new();
        let mut postponed = Self { is_in_room, by_server, of_members: 0, of_outsiders: 0 };
        for row in batch.scan(&QUEUED_BY_ROOM, Range::prefix((room_id.to_owned(),))) {
            let (_, queued) = row?;
            if queued.is_postponed() {
                postponed.add(queued.origin)?;
            }
        }
        Ok(postponed)
    }

    fn add(&mut self, origin: OwnedServerName) -> Result<()> {
        if (self.is_in_room)(&origin)? {
            self.of_members += 1;
        } else {
            self.of_outsiders += 1;
        }
        *self.by_server.entry(origin).or_default() += 1;
        Ok(())
    }

    fn is_full_for(&self, origin: &ServerName) -> Result<bool> {
        if !(self.is_in_room)(origin)? {
            return Ok(self.of_outsiders >= MAX_OF_OUTSIDERS);
        }
        let of_server = self.by_server.get(origin).copied().unwrap_or_default();
        Ok(self.of_members >= MAX_POSTPONED || of_server >= MAX_POSTPONED_OF_SERVER)
    }
}

/// Leaves an event in the queue for later. One that was tried too often, or that comes when too many wait, is taken out,
/// which is logged: an event that refers to it brings it again.
pub(crate) fn postpone(
    (batch, counts): (&mut Batch, &Counts),
    room_id: &RoomId,
    (queued, need): (&Queued, Need),
    now: Timestamp,
    postponed: &mut Postponed<impl Fn(&ServerName) -> Result<bool>>,
) -> Result<()> {
    let (position, event) = queued;
    let is_new = !event.is_postponed();
    let is_full = is_new && postponed.is_full_for(&event.origin)?;
    let later = later(event, need, now).filter(|_| !is_full);
    let Some((attempts, unanswered, retry_at)) = later else {
        tracing::warn!(
            room = %room_id, event = %event.event_id, origin = %event.origin, ?need,
            "an event is given up, because what it needs cannot be had"
        );
        metrics::counter!("wick_inbound_given_up_total").increment(1);
        return remove((batch, counts), room_id, queued);
    };
    if is_new {
        postponed.add(event.origin.clone())?;
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
