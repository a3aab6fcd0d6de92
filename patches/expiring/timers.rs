//! The running timers, in memory: what is due next, by owner, and by the state that they would end.
//!
//! Invariants: an event has at most one timer; a timer that is about to fire can no longer be kept alive,
//! only be put back; what is counted for a user is what runs and what is reserved. Moments are by the wall
//! clock of the start and the monotonic clock since, so they do not jump.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::tokens::Key;

/// A moment: the time since the Unix epoch, by the wall clock of the start and the monotonic clock since.
pub type Moment = Duration;

/// The type and the state key of a state event.
pub type Slot = (String, String);

/// What is stored of a timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The event that expires.
    pub event_id: OwnedEventId,
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Its sender.
    pub sender: OwnedUserId,
    /// Of a state event: which state it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// For how long it is valid, in seconds.
    pub duration: u64,
    /// Until when it is valid, in milliseconds since the Unix epoch.
    pub deadline: u64,
    /// The terminal event that is about to be appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<OwnedEventId>,
}

struct Entry {
    row: Row,
    /// When it is looked at.
    due: Moment,
    /// Until when its event is valid. Later than `due` if it is to be looked at before.
    until: Moment,
    firing: bool,
}

/// All timers that run.
#[derive(Default)]
pub struct Timers {
    entries: HashMap<Key, Entry>,
    due: BTreeSet<(Moment, Key)>,
    owners: HashMap<OwnedUserId, Owner>,
    /// A piece of state has several while one of its events is being replaced.
    slots: HashMap<OwnedRoomId, BTreeMap<Slot, BTreeSet<Key>>>,
}

#[derive(Default)]
struct Owner {
    due: BTreeSet<(Moment, Key)>,
    reserved: usize,
}

impl Timers {
    /// Reserves a place for a timer that is about to run.
    ///
    /// # Errors
    /// When the next timer of this owner is due, if they have `most` already (rule 6).
    pub fn reserve(&mut self, owner: &UserId, most: usize) -> Result<(), Moment> {
        let of_owner = self.owners.entry(owner.to_owned()).or_default();
        if of_owner.due.len().saturating_add(of_owner.reserved) >= most {
            return Err(of_owner.due.first().map_or(Moment::ZERO, |(due, _)| *due));
        }
        of_owner.reserved = of_owner.reserved.saturating_add(1);
        Ok(())
    }

    /// Gives a reserved place back.
    pub fn release(&mut self, owner: &UserId) {
        if let Some(of_owner) = self.owners.get_mut(owner) {
            of_owner.reserved = of_owner.reserved.saturating_sub(1);
        }
        self.forget_owner(owner);
    }

    /// Starts a timer.
    pub fn arm(&mut self, key: Key, row: Row, due: Moment) {
        self.owners.entry(row.sender.clone()).or_default().due.insert((due, key));
        if let Some(slot) = &row.slot {
            let slots = self.slots.entry(row.room_id.clone()).or_default();
            slots.entry(slot.clone()).or_default().insert(key);
        }
        self.due.insert((due, key));
        self.entries.insert(key, Entry { row, due, until: due, firing: false });
    }

    /// Puts the end of a timer off: to `now` and its duration, which is `deadline` by the wall clock.
    /// Returns what is to be stored; `None` if it does not run, or is about to fire.
    pub fn refresh(&mut self, key: &Key, now: Moment, deadline: u64) -> Option<&Row> {
        let fires = |entry: &&Entry| entry.firing || entry.row.copy.is_some();
        let entry = self.entries.get(key).filter(|entry| !fires(entry))?;
        let due = now.saturating_add(Duration::from_secs(entry.row.duration));
        self.move_to(key, due);
        let entry = self.entries.get_mut(key)?;
        entry.until = due;
        entry.row.deadline = deadline;
        Some(&entry.row)
    }

    /// The timers that are due, the earliest first, at most `most`. From now on they are about to fire.
    pub fn take_due(&mut self, now: Moment, most: usize) -> Vec<Key> {
        let due = self.due.range(..=(now, [u8::MAX; 16])).take(most).map(|(_, key)| *key);
        let due: Vec<_> = due.collect();
        for key in &due {
            self.take(key);
        }
        due
    }

    /// Takes a timer that is to fire now, whatever its deadline. `false` if it does not run, or is about
    /// to fire already.
    pub fn take(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| !entry.firing) else {
            return false;
        };
        entry.firing = true;
        self.due.remove(&(entry.due, *key));
        true
    }

    /// Puts a timer back that could not fire, or lets it be looked at at another moment.
    pub fn retry(&mut self, key: &Key, due: Moment) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.firing = false;
            self.move_to(key, due);
        }
    }

    /// Until when a timer's event is valid.
    pub fn until(&self, key: &Key) -> Option<Moment> {
        self.entries.get(key).map(|entry| entry.until)
    }

    /// Notes which terminal event is about to be appended. Returns what is to be stored.
    pub fn note_copy(&mut self, key: &Key, copy: Option<OwnedEventId>) -> Option<&Row> {
        let entry = self.entries.get_mut(key)?;
        entry.row.copy = copy;
        Some(&entry.row)
    }

    /// Ends a timer.
    pub fn remove(&mut self, key: &Key) -> Option<Row> {
        let Entry { row, due, .. } = self.entries.remove(key)?;
        self.due.remove(&(due, *key));
        if let Some(owner) = self.owners.get_mut(&row.sender) {
            owner.due.remove(&(due, *key));
        }
        self.forget_owner(&row.sender);
        if let Some(slot) = &row.slot
            && let Some(slots) = self.slots.get_mut(&row.room_id)
        {
            if let Some(keys) = slots.get_mut(slot) {
                keys.remove(key);
                if keys.is_empty() {
                    slots.remove(slot);
                }
            }
            if slots.is_empty() {
                self.slots.remove(&row.room_id);
            }
        }
        Some(row)
    }

    /// A timer that runs.
    pub fn get(&self, key: &Key) -> Option<&Row> {
        self.entries.get(key).map(|entry| &entry.row)
    }

    /// The timers that run.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.entries.values().map(|entry| &entry.row)
    }

    /// The timers of a piece of state.
    pub fn of_slot(&self, room_id: &RoomId, slot: &Slot) -> Vec<Key> {
        let slots = self.slots.get(room_id);
        slots.and_then(|slots| slots.get(slot)).into_iter().flatten().copied().collect()
    }

    /// The timers of a room's state.
    pub fn of_state(&self, room_id: &RoomId) -> Vec<(Key, Row)> {
        let keys = self.slots.get(room_id).into_iter().flat_map(BTreeMap::values).flatten();
        keys.filter_map(|key| Some((*key, self.get(key)?.clone()))).collect()
    }

    /// The timers of a user, in the order of their deadlines.
    pub fn of_owner(&self, owner: &UserId) -> Vec<Key> {
        let due = self.owners.get(owner).into_iter().flat_map(|owner| &owner.due);
        due.map(|(_, key)| *key).collect()
    }

    /// When the next timer is due.
    pub fn next_due(&self) -> Option<Moment> {
        self.due.first().map(|(due, _)| *due)
    }

    fn move_to(&mut self, key: &Key, due: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.due.remove(&(entry.due, *key));
        self.due.insert((due, *key));
        if let Some(owner) = self.owners.get_mut(&entry.row.sender) {
            owner.due.remove(&(entry.due, *key));
            owner.due.insert((due, *key));
        }
        entry.due = due;
    }

    fn forget_owner(&mut self, owner: &UserId) {
        if self.owners.get(owner).is_some_and(|owner| owner.due.is_empty() && owner.reserved == 0) {
            self.owners.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_room_id, owned_user_id, room_id, user_id};

    use super::*;

    fn alice() -> &'static UserId {
        user_id!("@alice:b")
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn row(slot: Option<&str>) -> Row {
        Row {
            event_id: owned_event_id!("$event"),
            room_id: owned_room_id!("!room:b"),
            sender: owned_user_id!("@alice:b"),
            slot: slot.map(|key| ("org.example".to_owned(), key.to_owned())),
            duration: 10,
            deadline: 0,
            copy: None,
        }
    }

    fn key(number: u8) -> Key {
        [number; 16]
    }

    fn with(due: &[u64]) -> Timers {
        let mut timers = Timers::default();
        for (number, due) in (1..).zip(due) {
            timers.arm(key(number), row(None), at(*due));
        }
        timers
    }

    #[test]
    fn timers_fire_in_the_order_of_their_deadlines_never_early_and_once() {
        let mut timers = with(&[30, 10, 20, 40]);
        assert_eq!(timers.next_due(), Some(at(10)));
        assert_eq!(timers.take_due(at(9), 9), Vec::<Key>::new());
        assert_eq!(timers.take_due(at(30), 2), [key(2), key(3)]);
        assert_eq!(timers.take_due(at(30), 9), [key(1)]);
        assert_eq!(timers.take_due(at(30), 9), Vec::<Key>::new());
        assert_eq!(timers.next_due(), Some(at(40)));
        assert_eq!(timers.iter().count(), 4, "they run until they are removed");
    }

    #[test]
    fn a_refreshed_timer_fires_after_its_whole_duration() {
        let mut timers = with(&[10]);
        let stored = timers.refresh(&key(1), at(9), 77).unwrap();
        assert_eq!(stored.deadline, 77);
        assert_eq!(timers.take_due(at(18), 9), Vec::<Key>::new());
        assert_eq!(timers.take_due(at(19), 9), [key(1)]);
    }

    #[test]
    fn a_timer_that_is_about_to_fire_is_not_refreshed_unless_it_is_put_back() {
        let mut timers = with(&[10]);
        assert!(timers.take(&key(1)));
        assert!(!timers.take(&key(1)));
        assert_eq!(timers.refresh(&key(1), at(1), 0), None);
        assert_eq!(timers.take_due(at(99), 9), Vec::<Key>::new());
        timers.retry(&key(1), at(100));
        assert_eq!(timers.until(&key(1)), Some(at(10)), "it is as valid as it was");
        assert_eq!(timers.take_due(at(99), 9), Vec::<Key>::new());
        timers.note_copy(&key(1), Some(owned_event_id!("$copy")));
        assert_eq!(timers.refresh(&key(1), at(99), 0), None, "its end may be stored");
        timers.note_copy(&key(1), None);
        assert!(timers.refresh(&key(1), at(99), 0).is_some());
        assert_eq!(timers.until(&key(1)), Some(at(109)));
        assert_eq!(timers.take_due(at(109), 9), [key(1)]);
        assert_eq!(timers.refresh(&key(2), at(1), 0), None, "there is none");
    }

    #[test]
    fn row_6_a_user_has_at_most_so_many_timers_running_and_reserved() {
        let mut timers = with(&[10, 5]);
        assert_eq!(timers.reserve(alice(), 3), Ok(()));
        assert_eq!(timers.reserve(alice(), 3), Err(at(5)));
        assert_eq!(timers.reserve(user_id!("@bob:b"), 3), Ok(()));
        timers.release(alice());
        assert_eq!(timers.reserve(alice(), 3), Ok(()));
        timers.release(alice());
        timers.remove(&key(2));
        assert_eq!(timers.reserve(alice(), 1), Err(at(10)));
        timers.remove(&key(1));
        timers.release(user_id!("@bob:b"));
        assert!(timers.owners.is_empty());
    }

    #[test]
    fn a_piece_of_state_has_the_timers_of_its_events() {
        let mut timers = Timers::default();
        let (room, slot) = (room_id!("!room:b"), row(Some("desk")).slot.unwrap());
        timers.arm(key(1), row(Some("desk")), at(10));
        timers.arm(key(3), row(Some("door")), at(10));
        assert_eq!(timers.of_slot(room, &slot), [key(1)]);
        timers.arm(key(2), row(Some("desk")), at(20));
        assert_eq!(timers.of_slot(room, &slot), [key(1), key(2)]);
        assert!(timers.remove(&key(1)).is_some());
        assert_eq!(timers.of_slot(room, &slot), [key(2)], "the old one takes nothing with it");
        assert_eq!(timers.of_state(room).len(), 2);
        timers.remove(&key(2));
        timers.remove(&key(3));
        assert!(timers.slots.is_empty() && timers.due.is_empty() && timers.entries.is_empty());
    }

    #[test]
    fn a_users_timers_are_listed_in_the_order_of_their_deadlines() {
        let mut timers = with(&[30, 10, 20]);
        timers.refresh(&key(2), at(15), 0);
        assert_eq!(timers.of_owner(alice()), [key(3), key(2), key(1)]);
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let mut timers = with(&[10]);
        let copy = Some(owned_event_id!("$copy"));
        let stored = serde_json::to_vec(timers.note_copy(&key(1), copy.clone()).unwrap()).unwrap();
        let read: Row = serde_json::from_slice(&stored).unwrap();
        assert_eq!(read, Row { copy, ..row(None) });
        assert_eq!(Some(&read), timers.get(&key(1)));
        for row in [row(None), row(Some("desk"))] {
            let stored = serde_json::to_vec(&row).unwrap();
            assert_eq!(serde_json::from_slice::<Row>(&stored).unwrap(), row);
        }
    }
}
