//! How many events in a room a user has not read: those that their push rules say notify.
//!
//! Invariants: counted when asked for, event by event, each once; what was counted is kept in memory
//! by place and thread, so that a receipt takes away and never has to count again. The user's own
//! events never count, nor do redacted ones, nor the copy that says that an event expired or ended.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#receiving-notifications>

mod evaluate;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId, OwnedUserId, push::Ruleset};
use serde::Serialize;
use wick_account::{Session, push_rules};
use wick_core::{Position, Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::{Read, Snapshot, schema::account_data::ACCOUNT_DATA_BY_TYPE};
use wick_people::receipts;
use wick_room::{Direction, Graph};

pub(crate) use self::evaluate::{Evaluator, Verdict, is_arrival};

/// Pairs of user and room that are remembered.
const REMEMBERED: usize = 50_000;

/// How many events back a count goes at most that nobody asked for before. Each costs some ten
/// microseconds, and no client shows a number that large.
const LOOKED_AT: usize = 500;

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
    rules: Cache<ShortUserId, (Position, Arc<Ruleset>)>,
}

/// What of a room was counted for a user.
#[derive(Default)]
struct Counted {
    /// From what was read when it was first asked for; `None` if it was not.
    upto: Option<i64>,
    notable: Vec<Notable>,
}

/// An event that notifies.
struct Notable {
    place: i64,
    /// The root of its thread.
    thread: Option<ShortEventId>,
    highlight: bool,
}

/// What was not counted before.
#[derive(Default)]
struct New {
    events: Vec<Notable>,
    /// The user came into the room meanwhile, before all of these.
    arrived: bool,
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
        Self { graph, counted: Cache::new(REMEMBERED), rules: Cache::new(REMEMBERED / 10) }
    }

    /// What is unread in a room up to `upto`, which is at most where the snapshot ends.
    pub fn unread(
        &self,
        read: &Snapshot,
        session: &Session,
        (room, upto): (ShortRoomId, i64),
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<UnreadIn> {
        let user = session.user;
        let read_upto = read_upto(read, room, user)?;
        let key = (user, room);
        let counted = self.counted.get(&key).unwrap_or_else(|| {
            let counted = Arc::default();
            self.counted.insert(key, Arc::clone(&counted));
            counted
        });
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let from =
            counted.upto.map_or(read_upto.everywhere, |before| before.max(read_upto.everywhere));
        if counted.upto.is_none_or(|before| before < upto) {
            let new = self.notable(read, session, (room, from, upto), ignored)?;
            if new.arrived {
                counted.notable.clear();
            }
            counted.notable.extend(new.events);
            counted.upto = Some(upto);
        }
        counted.notable.retain(|event| event.place > read_upto.everywhere);
        self.sum(read, &counted.notable, &read_upto, upto)
    }

    /// The events after `from` that notify, oldest first.
    fn notable(
        &self,
        read: &Snapshot,
        session: &Session,
        (room, from, upto): (ShortRoomId, i64, i64),
        ignored: &HashSet<OwnedUserId>,
    ) -> Result<New> {
        let mut events = Vec::new();
        for item in self.graph.timeline(read, room, upto, Direction::Backward).take(LOOKED_AT) {
            let item = item?;
            if item.place <= from {
                break;
            }
            events.push(item);
        }
        let mut evaluator = None;
        let mut new = New::default();
        for item in events {
            let pdu = self.graph.load_event(read, item.event)?;
            if pdu.sender == session.user_id {
                if is_arrival(&self.graph, read, item.event, &pdu)? {
                    // What was said before the user came does not concern them.
                    new.arrived = true;
                    break;
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
                    session,
                    self.rules(read, session)?,
                )?),
            };
            new.events.extend(evaluator.judge(&item, &pdu)?.map(|verdict| Notable {
                place: item.place,
                highlight: verdict.highlights(),
                thread: verdict.thread,
            }));
        }
        new.events.reverse();
        Ok(new)
    }

    fn rules(&self, read: &Snapshot, session: &Session) -> Result<Arc<Ruleset>> {
        let user = session.user;
        let row =
            read.get(&ACCOUNT_DATA_BY_TYPE, &(user, None::<ShortRoomId>, push_rules::TYPE))?;
        let position = row.map_or(Position::MIN, |row| row.position);
        if let Some((at, rules)) = self.rules.get(&user)
            && at == position
        {
            return Ok(rules);
        }
        let rules = Arc::new(push_rules::ruleset(read, user, &session.user_id)?);
        self.rules.insert(user, (position, Arc::clone(&rules)));
        Ok(rules)
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
            let root = match event.thread {
                None => None,
                Some(root) => match self.graph.intern().event_id(read, root)? {
                    Some(root) => Some(root),
                    None => continue,
                },
            };
            if read_upto.covers(event.place, root.as_deref()) {
                continue;
            }
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
