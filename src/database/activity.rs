//! When rooms, users, memberships and some tables were last written, in memory: so that a read for changes skips
//! what has none.
//!
//! Filled by every commit from the topics of its tables: rooms by those that wake a room, users by those that wake
//! a user, memberships by `MEMBER_BY_USER`, tables by those that wake their own topic. Nothing depends on it but the
//! cost of reads: what is not known here is looked up.
//!
//! Invariants: something that changed is never reported as unchanged; what came up to the start, or was
//! dropped to bound the memory, counts as changed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use wick_core::{Position, ShortRoomId, ShortUserId};

use crate::Topic;

/// How many rooms, and how many users, are remembered: those written last.
const REMEMBERED: usize = 100_000;

/// The last position in each room, of each user, of each user's memberships, and in each of some tables.
pub(crate) struct Activity {
    rooms: Mutex<Recent<ShortRoomId>>,
    users: Mutex<Recent<ShortUserId>>,
    members: Mutex<Recent<ShortUserId>>,
    tables: Mutex<Recent<&'static str>>,
}

/// The last position of each key, for all that was noted above `known_above`.
struct Recent<K> {
    known_above: Position,
    last: HashMap<K, Position>,
    by_position: BTreeSet<(Position, K)>,
}

impl<K: Copy + Ord + std::hash::Hash> Recent<K> {
    fn new(start: Position) -> Self {
        Self { known_above: start, last: HashMap::new(), by_position: BTreeSet::new() }
    }

    fn note(&mut self, key: K, position: Position) {
        if let Some(before) = self.last.insert(key, position) {
            self.by_position.remove(&(before, key));
        }
        self.by_position.insert((position, key));
        if self.by_position.len() > REMEMBERED
            && let Some((oldest, key)) = self.by_position.pop_first()
        {
            self.last.remove(&key);
            self.known_above = oldest;
        }
    }

    fn changed_since(&self, key: K, since: Position) -> bool {
        since < self.known_above || self.last.get(&key).is_some_and(|last| *last > since)
    }
}

impl Activity {
    /// Nothing is known of what came up to `start`.
    pub(crate) fn new(start: Position) -> Self {
        Self {
            rooms: Mutex::new(Recent::new(start)),
            users: Mutex::new(Recent::new(start)),
            members: Mutex::new(Recent::new(start)),
            tables: Mutex::new(Recent::new(start)),
        }
    }

    /// Takes note of a batch, before a snapshot shows it.
    pub(crate) fn note(&self, topics: &[Topic], position: Position) {
        for topic in topics {
            match topic {
                Topic::Room(room) => lock(&self.rooms).note(*room, position),
                Topic::User(user) => lock(&self.users).note(*user, position),
                Topic::Member(user) => lock(&self.members).note(*user, position),
                Topic::Table(table) => lock(&self.tables).note(table, position),
                Topic::Stream | Topic::Named(_) | Topic::Numbered(..) => {}
            }
        }
    }

    /// Whether something may have been written in a room above `since`.
    pub(crate) fn is_busy_since(&self, room: ShortRoomId, since: Position) -> bool {
        lock(&self.rooms).changed_since(room, since)
    }

    /// Whether something of a user may have been written above `since`.
    pub(crate) fn is_user_changed_since(&self, user: ShortUserId, since: Position) -> bool {
        lock(&self.users).changed_since(user, since)
    }

    /// Whether a table that wakes its own topic may have been written above `since`.
    pub(crate) fn is_table_changed_since(&self, table: &'static str, since: Position) -> bool {
        lock(&self.tables).changed_since(table, since)
    }

    /// Whether a membership of a user may have been written above `since`.
    pub(crate) fn is_member_changed_since(&self, user: ShortUserId, since: Position) -> bool {
        lock(&self.members).changed_since(user, since)
    }

    /// The rooms in which something was written above `since`, the newest first; `None` if they are more
    /// than `most` or not known.
    pub(crate) fn busy_since(&self, since: Position, most: usize) -> Option<Vec<ShortRoomId>> {
        let rooms = lock(&self.rooms);
        if since < rooms.known_above {
            return None;
        }
        let newer = rooms.by_position.iter().rev().take_while(|(last, _)| *last > since);
        let found: Vec<_> = newer.map(|(_, room)| *room).take(most.saturating_add(1)).collect();
        (found.len() <= most).then_some(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(noted: &[(u64, u64)]) -> Activity {
        let activity = Activity::new(Position(10));
        for (room, position) in noted {
            activity.note(&[Topic::Room(ShortRoomId(*room))], Position(*position));
        }
        activity
    }

    #[test]
    fn rooms_come_by_their_last_position_and_each_once() {
        let activity = activity(&[(1, 11), (2, 12), (1, 13), (3, 14)]);
        let rooms = |since, most| {
            let found = activity.busy_since(Position(since), most)?;
            Some(found.into_iter().map(|room| room.0).collect::<Vec<_>>())
        };
        assert_eq!(rooms(10, 3), Some(vec![3, 1, 2]));
        assert_eq!(rooms(12, 3), Some(vec![3, 1]));
        assert_eq!(rooms(14, 3), Some(Vec::new()));
        assert_eq!(rooms(10, 2), None);
        assert_eq!(rooms(9, 3), None);
    }

    #[test]
    fn what_was_dropped_to_bound_the_memory_counts_as_changed() {
        let last = 11 + u64::try_from(REMEMBERED).unwrap();
        let noted: Vec<_> = (11..=last).map(|number| (number, number)).collect();
        let activity = activity(&noted);
        assert!(activity.is_busy_since(ShortRoomId(1), Position(10)));
        assert!(!activity.is_busy_since(ShortRoomId(11), Position(11)));
        assert_eq!(activity.busy_since(Position(10), usize::MAX), None);
        assert_eq!(activity.busy_since(Position(11), usize::MAX).unwrap().len(), REMEMBERED);
    }
}
