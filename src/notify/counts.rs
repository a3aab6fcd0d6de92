//! How many events in a room a user has not read: those that their push rules notify them of.
//!
//! Invariants: counted when asked for, event by event, each once; what was counted is kept in memory
//! by place and thread, so that a receipt takes away and never has to count again. The user's own
//! events never count, nor do redacted ones, those of users they ignore, nor the terminal
//! copy of an event. A message of their own reads what came before it, as a receipt would.
//!
//! In memory alone, and bounded: what is not there is counted again. Evicted by a change of the user's list
//! of ignored users; each redaction in the room takes its target away.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#receiving-notifications>

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, push::Action};
use serde::Serialize;
use serde_json::value::RawValue;
use wick_core::{Pdu, Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::{Read, Snapshot, schema::room::REDACTION_BY_EVENT};
use wick_people::receipts::{self, thread_of};
use wick_room::{Direction, Graph, TimelineItem, to_place};

use crate::{
    Recipient,
    evaluate::{Evaluator, Verdict, evaluate_remote_invite, is_arrival, is_own_reading},
    flattened::FlattenedEvents,
    rules::RulesCache,
};

/// Pairs of user and room that are remembered.
const REMEMBERED: usize = 50_000;

/// How many events back a count goes at most. Each costs some ten microseconds, and no client shows a
/// number that large.
const LOOKED_AT: usize = 500;

/// How many bytes of text one count matches against patterns at most.
const MATCHED_BYTES: usize = 4 << 20;

/// How much is unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Events that notify.
    pub notification_count: u64,
    /// Those among them that are highlighted.
    pub highlight_count: u64,
}

/// Counts what is unread.
pub struct Counts {
    graph: Arc<Graph>,
    counted: Cache<(ShortUserId, ShortRoomId), Arc<Mutex<Counted>>>,
    rules: RulesCache,
    events: FlattenedEvents,
}

/// What of a room was counted for a user.
#[derive(Default)]
struct Counted {
    /// From what was read when it was first asked for; `None` if it was not.
    upto: Option<i64>,
    /// The users whose events were left out.
    ignored: Arc<HashSet<OwnedUserId>>,
    /// Oldest first, at most [`LOOKED_AT`].
    notable: Vec<Notable>,
}

/// An event that notifies.
struct Notable {
    place: i64,
    event: ShortEventId,
    /// The root of its thread.
    thread: Option<ShortEventId>,
    highlight: bool,
}

/// The root of a thread; `None` for what is in none.
struct Thread(Option<OwnedEventId>);

/// What was not counted before.
#[derive(Default)]
struct New {
    /// Newest first.
    events: Vec<Notable>,
    /// What was counted before is not unread any more, or too far back to count.
    anew: bool,
    redacted: HashSet<ShortEventId>,
    /// Up to which place the user's own messages show that they have read, by thread.
    read: HashMap<Option<ShortEventId>, i64>,
}

impl Notable {
    fn new(TimelineItem { place, event }: TimelineItem, verdict: &Verdict) -> Self {
        Self { place, event, thread: verdict.thread, highlight: verdict.highlights() }
    }
}

impl New {
    fn leaves(&self, event: &Notable) -> bool {
        let is_read = self.read.get(&event.thread).is_some_and(|read| event.place < *read);
        !is_read && !self.redacted.contains(&event.event)
    }
}

impl Counted {
    fn take(&mut self, new: New, upto: i64) {
        if new.anew {
            self.notable.clear();
        }
        self.notable.retain(|event| new.leaves(event));
        self.notable.extend(new.events.into_iter().rev());
        let excess = self.notable.len().saturating_sub(LOOKED_AT);
        self.notable.drain(..excess);
        self.upto = Some(upto);
    }
}

/// What is unread in a room.
#[derive(Debug, Default)]
pub struct UnreadIn {
    /// Outside of threads.
    pub main: Unread,
    /// By root.
    pub threads: BTreeMap<OwnedEventId, Unread>,
}

/// How far a user has read.
#[derive(Default)]
pub(crate) struct ReadUpTo {
    everywhere: i64,
    main: i64,
    threads: BTreeMap<OwnedEventId, i64>,
}

impl ReadUpTo {
    /// Notes that a message of the user's own shows that they have read up to it.
    pub(crate) fn read(&mut self, place: i64, root: Option<OwnedEventId>) {
        let upto = match root {
            None => &mut self.main,
            Some(root) => self.threads.entry(root).or_insert(place),
        };
        *upto = place.max(*upto);
    }

    /// Whether an event at this place, in the thread with this root, is read.
    pub(crate) fn covers(&self, place: i64, root: Option<&EventId>) -> bool {
        let by_thread = match root {
            None => self.main,
            Some(root) => self.threads.get(root).copied().unwrap_or(i64::MIN),
        };
        place <= self.everywhere.max(by_thread)
    }
}

impl UnreadIn {
    /// With and without threads.
    pub fn total(&self) -> Unread {
        self.threads.values().fold(self.main, |sum, thread| Unread {
            notification_count: sum.notification_count.saturating_add(thread.notification_count),
            highlight_count: sum.highlight_count.saturating_add(thread.highlight_count),
        })
    }
}

impl Counts {
    /// Counts events of these rooms.
    #[must_use]
    pub fn new(graph: Arc<Graph>) -> Self {
        let (rules, events) = (RulesCache::default(), FlattenedEvents::default());
        Self { graph, counted: Cache::new(REMEMBERED), rules, events }
    }

    /// What is unread in a room up to `upto`, which is at most where the snapshot ends.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn unread(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room, upto): (ShortRoomId, i64),
        ignored: &Arc<HashSet<OwnedUserId>>,
    ) -> Result<UnreadIn> {
        self.look(read, recipient, (room, upto), ignored, |notable, read_upto| {
            self.sum(read, notable, read_upto, upto)
        })
    }

    /// Whether an event is among those that are unread in its room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_unread(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room, event): (ShortRoomId, ShortEventId),
        ignored: &Arc<HashSet<OwnedUserId>>,
    ) -> Result<bool> {
        let upto = to_place(read.position());
        self.look(read, recipient, (room, upto), ignored, |notable, read_upto| {
            match notable.iter().find(|notable| notable.event == event) {
                Some(notable) => Ok(self.thread_if_unread(read, notable, read_upto)?.is_some()),
                None => Ok(false),
            }
        })
    }

    /// The actions of a user's push rules for an event of another user; `None` if it does not notify.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn evaluate(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room, item): (ShortRoomId, TimelineItem),
        pdu: &Pdu,
    ) -> Result<Option<Vec<Action>>> {
        let rules = self.rules.get(read, recipient)?;
        let by = (rules, &self.events);
        let evaluator = Evaluator::new(&self.graph, read, room, recipient, by)?;
        let verdict = evaluator.evaluate(&item, pdu, &mut 0)?;
        Ok(verdict.map(|verdict| verdict.actions))
    }

    /// The actions of a user's push rules for an invite to a room that is not here; `None` if it does not notify.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn evaluate_remote_invite(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room_id, invite): (&RoomId, &RawValue),
    ) -> Result<Option<Vec<Action>>> {
        let rules = self.rules.get(read, recipient)?;
        evaluate_remote_invite(&rules, recipient, room_id, invite)
    }

    /// Brings what was counted in a room up to `upto`, and looks at it.
    fn look<T>(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room, upto): (ShortRoomId, i64),
        ignored: &Arc<HashSet<OwnedUserId>>,
        look: impl FnOnce(&[Notable], &ReadUpTo) -> Result<T>,
    ) -> Result<T> {
        let user = recipient.user;
        let read_upto = read_upto(read, room, user)?;
        let key = (user, room);
        let counted = self.counted.get(&key).unwrap_or_else(|| {
            let counted = Arc::default();
            self.counted.insert(key, Arc::clone(&counted));
            counted
        });
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.ignored != *ignored {
            *counted = Counted { ignored: Arc::clone(ignored), ..Counted::default() };
        }
        let from =
            counted.upto.map_or(read_upto.everywhere, |before| before.max(read_upto.everywhere));
        if counted.upto.is_none_or(|before| before < upto) {
            let new = self.count(read, recipient, (room, from, upto), ignored)?;
            counted.take(new, upto);
        }
        counted.notable.retain(|event| event.place > read_upto.everywhere);
        look(&counted.notable, &read_upto)
    }

    /// The events after `from` that notify.
    fn count(
        &self,
        read: &Snapshot,
        recipient: Recipient<'_>,
        (room, from, upto): (ShortRoomId, i64, i64),
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<New> {
        let mut new = New::default();
        let (mut evaluator, mut cost) = (None, 0_usize);
        let timeline = self.graph.timeline(read, room, upto, Direction::Backward);
        for (looked_at, item) in timeline.enumerate() {
            let item = item?;
            if item.place <= from {
                break;
            }
            if looked_at >= LOOKED_AT || cost > MATCHED_BYTES {
                new.anew = true;
                break;
            }
            let pdu = self.graph.load_event(read, item.event)?;
            if pdu.redacts.is_some() {
                new.redacted.extend(self.redacted(read, &pdu)?);
            }
            if pdu.sender == *recipient.user_id {
                if is_arrival(&self.graph, read, item.event, &pdu)? {
                    // Events before the user joined do not count.
                    new.anew = true;
                    break;
                }
                if is_own_reading(&pdu) {
                    let thread = thread_of(&self.graph, read, &pdu)?;
                    new.read.entry(thread).or_insert(item.place);
                }
                continue;
            }
            if ignored.contains(&pdu.sender) {
                continue;
            }
            let evaluator = match &mut evaluator {
                Some(evaluator) => evaluator,
                none => none.insert(Evaluator::new(
                    &self.graph,
                    read,
                    room,
                    recipient,
                    (self.rules.get(read, recipient)?, &self.events),
                )?),
            };
            let found = evaluator.evaluate(&item, &pdu, &mut cost)?;
            let found = found.map(|verdict| Notable::new(item, &verdict));
            new.events.extend(found.filter(|event| new.leaves(event)));
        }
        Ok(new)
    }

    /// The event that a redaction took away, if it did.
    fn redacted(&self, read: &Snapshot, redaction: &Pdu) -> Result<Option<ShortEventId>> {
        let Some(target) = &redaction.redacts else { return Ok(None) };
        let Some(target) = self.graph.intern().lookup_event(read, target)? else {
            return Ok(None);
        };
        Ok(read.contains(&REDACTION_BY_EVENT, &target)?.then_some(target))
    }

    fn sum(
        &self,
        read: &Snapshot,
        notable: &[Notable],
        read_upto: &ReadUpTo,
        upto: i64,
    ) -> Result<UnreadIn> {
        let mut unread = UnreadIn::default();
        for event in notable.iter().filter(|event| event.place <= upto) {
            let Some(Thread(root)) = self.thread_if_unread(read, event, read_upto)? else {
                continue;
            };
            let count = match root {
                None => &mut unread.main,
                Some(root) => unread.threads.entry(root).or_default(),
            };
            count.notification_count = count.notification_count.saturating_add(1);
            let highlight = u64::from(event.highlight);
            count.highlight_count = count.highlight_count.saturating_add(highlight);
        }
        Ok(unread)
    }

    /// The thread of an event; `None` if it is read.
    fn thread_if_unread(
        &self,
        read: &Snapshot,
        event: &Notable,
        read_upto: &ReadUpTo,
    ) -> Result<Option<Thread>> {
        let root = match event.thread {
            None => None,
            Some(root) => match self.graph.intern().event_id(read, root)? {
                Some(root) => Some(root),
                None => return Ok(None),
            },
        };
        let is_read = read_upto.covers(event.place, root.as_deref());
        Ok((!is_read).then_some(Thread(root)))
    }
}

/// How far a user has read in a room.
pub(crate) fn read_upto(
    read: &impl Read,
    room: ShortRoomId,
    user: ShortUserId,
) -> Result<ReadUpTo> {
    let mut upto = ReadUpTo { everywhere: i64::MIN, main: i64::MIN, threads: BTreeMap::new() };
    for receipt in receipts::of_user(read, room, user)? {
        let place = receipt.row.place;
        match receipt.name.thread.as_str() {
            "" => upto.everywhere = upto.everywhere.max(place),
            "main" => upto.main = upto.main.max(place),
            root => {
                if let Ok(root) = OwnedEventId::try_from(root) {
                    let thread = upto.threads.entry(root).or_insert(place);
                    *thread = place.max(*thread);
                }
            }
        }
    }
    Ok(upto)
}
