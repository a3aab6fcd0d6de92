//! The participants with delegated timers, by LiveKit room; when each room is asked about, and when the timers of each
//! participant are kept alive.
//!
//! Invariant: it mirrors the rows of `PARTICIPANT_BY_IDENTITY` with a timer: rows are added, changed and
//! removed here when their batch is written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::DeviceId;
use wick_core::{Monotonic, ShortRoomId, ShortUserId, TimerId};
use wick_database::schema::calls::DelegatedTimer;

use crate::{
    Failure, Participant,
    agenda::Agenda,
    contact::{BrokenOff, Question},
    participants::Place,
    presence::{Absent, Watched},
};

/// How often a room is looked at in which nothing happens.
const POLL_EVERY: Duration = Duration::from_secs(15);

/// How often one is looked at with a missing or awaited participant, or while LiveKit does not answer.
pub(crate) const POLL_SOON: Duration = Duration::from_secs(2);

/// For how long timers are kept alive after LiveKit's last answer.
const OUTAGE_GRACE: Duration = Duration::from_secs(120);

/// When a client is asked how soon it answers, after it has connected: then it has more to do.
const FIRST_QUESTION: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Default)]
pub(crate) struct Watch {
    rooms: Mutex<HashMap<String, Room>>,
    /// The same participants by user.
    users: Mutex<HashMap<ShortUserId, BTreeSet<Place>>>,
    /// Which participants' clients are asked for a sign of life, and when.
    pub(crate) questions: Agenda<Place>,
    pub(crate) broken_off: BrokenOff,
    /// When LiveKit is asked about each room.
    pub(crate) asks: Agenda<String>,
    /// When the timers of each participant are kept alive.
    pub(crate) keeps: Agenda<Place>,
}

struct Room {
    members: BTreeMap<String, Watched>,
    /// LiveKit's last answer, or when the room was added.
    heard: Monotonic,
    /// LiveKit could not be asked the last time.
    is_failing: bool,
}

/// A participant with timers that are to end.
pub(crate) struct Found {
    /// The Matrix room.
    pub(crate) room: ShortRoomId,
    pub(crate) place: Place,
}

/// What follows from asking LiveKit about a room.
#[derive(Default)]
pub(crate) struct Findings {
    /// The participants that have left.
    pub(crate) left: Vec<Found>,
    /// The participants whose absence has changed, with the new one.
    pub(crate) changed: Vec<(String, Option<Absent>)>,
    /// Whether LiveKit lists no participant, and one is expected.
    pub(crate) is_missing: bool,
    /// When to look again at the latest.
    pub(crate) next: Duration,
}

impl Found {
    fn new(room: &str, identity: &str, watched: &Watched) -> Self {
        let place = Place { room: room.to_owned(), identity: identity.to_owned() };
        Self { room: watched.room, place }
    }
}

impl Watch {
    /// Adds a participant, in place of one with the same identity, and looks at it at once.
    pub(crate) fn add(&self, place: &Place, watched: Watched, now: Monotonic) {
        self.insert(place, watched, now, false);
    }

    /// Adds a participant of an earlier run, during which LiveKit may have been away.
    pub(crate) fn resume(&self, place: &Place, watched: Watched, now: Monotonic) {
        self.insert(place, watched, now, true);
    }

    fn insert(&self, place: &Place, mut watched: Watched, now: Monotonic, is_failing: bool) {
        let new = || Room { members: BTreeMap::new(), heard: now, is_failing };
        let mut rooms = self.rooms();
        self.users().entry(watched.user).or_default().insert(place.clone());
        let room = rooms.entry(place.room.clone()).or_insert_with(new);
        if let Some(former) = room.members.get(&place.identity) {
            watched.succeed(former, now);
        }
        room.members.insert(place.identity.clone(), watched);
        drop(rooms);
        self.asks.add(place.room.clone(), now);
        self.keeps.add(place.clone(), now);
    }

    /// Removes a timer of a participant, and the participant with the last one.
    pub(crate) fn remove(&self, place: &Place, timer: TimerId) {
        let mut rooms = self.rooms();
        let Some(members) = rooms.get_mut(&place.room).map(|room| &mut room.members) else {
            return;
        };
        let Some(watched) = members.get_mut(&place.identity) else { return };
        watched.timers.retain(|delegated| delegated.timer != timer);
        watched.replaced.retain(|replaced| replaced.timer != timer);
        if watched.timers.is_empty() && watched.replaced.is_empty() {
            let user = watched.user;
            members.remove(&place.identity);
            let mut users = self.users();
            if let Some(places) = users.get_mut(&user) {
                places.remove(place);
                if places.is_empty() {
                    users.remove(&user);
                }
            }
        }
    }

    /// A request of a user's device broke off: the clients of the user's participants are asked at once.
    pub(crate) fn break_off(&self, user: ShortUserId, device: &DeviceId, now: Monotonic) {
        let places: Vec<_> = self.users().get(&user).into_iter().flatten().cloned().collect();
        if !places.is_empty() {
            self.broken_off.add(user, device, now);
        }
        for place in places {
            self.with(&place, |watched| watched.contact.break_off(now));
            self.questions.add(place, now);
        }
    }

    /// A question to a participant's client; `None` if it is not connected.
    pub(crate) fn question(&self, place: &Place) -> Option<Question> {
        let mut rooms = self.rooms();
        let watched = rooms.get_mut(&place.room)?.members.get_mut(&place.identity)?;
        let Some(sid) = watched.session().map(str::to_owned) else {
            watched.contact.forget_breaks();
            return None;
        };
        Some(watched.contact.question(watched.user, sid))
    }

    /// A question to a participant's client is over; it answered after this time, if it did.
    pub(crate) fn settle(&self, place: &Place, question: &Question, answered: Option<Duration>) {
        self.with(place, |watched| watched.contact.settle(question, answered));
    }

    /// A question to a participant's client was not answered in time.
    pub(crate) fn note_silence(&self, place: &Place, question: &Question) {
        self.with(place, |watched| watched.contact.note_silence(question));
    }

    /// Takes in a report about a participant, and looks at the room at once.
    pub(crate) fn report(&self, place: &Place, now: Monotonic, report: impl FnOnce(&mut Watched)) {
        if self.with(place, report).is_some() {
            self.asks.add(place.room.clone(), now);
        }
    }

    /// Sets the absence of a participant, as it was stored.
    pub(crate) fn set_absence(&self, place: &Place, absence: Option<Absent>) {
        self.with(place, |watched| watched.absence = absence);
    }

    /// The timers of a participant, and whether they are to be kept alive; `None` if it is not watched.
    pub(crate) fn to_keep(
        &self,
        place: &Place,
        now: Monotonic,
    ) -> Option<(Vec<DelegatedTimer>, bool)> {
        let rooms = self.rooms();
        let room = rooms.get(&place.room)?;
        let watched = room.members.get(&place.identity)?;
        let keeps = now.since(room.heard) < OUTAGE_GRACE && !watched.is_gone();
        Some((watched.timers.clone(), keeps))
    }

    /// The participants of a room that have replaced timers; `None` if the room is not watched any more.
    pub(crate) fn replaced(&self, name: &str) -> Option<Vec<Found>> {
        let mut rooms = self.rooms();
        let room = rooms.get(name)?;
        if room.members.is_empty() {
            rooms.remove(name);
            return None;
        }
        let replaced = room.members.iter().filter(|(_, watched)| !watched.replaced.is_empty());
        Some(replaced.map(|(identity, watched)| Found::new(name, identity, watched)).collect())
    }

    /// The replaced timers of a participant, and its others if it has left; `None` if it is not watched.
    pub(crate) fn to_end(
        &self,
        place: &Place,
    ) -> Option<(Vec<DelegatedTimer>, Vec<DelegatedTimer>)> {
        let rooms = self.rooms();
        let watched = rooms.get(&place.room)?.members.get(&place.identity)?;
        let left = if watched.has_left() { watched.timers.clone() } else { Vec::new() };
        Some((watched.replaced.clone(), left))
    }

    /// Takes in what LiveKit answered about a room.
    pub(crate) fn observe(
        &self,
        name: &str,
        now: Monotonic,
        answer: Result<&[Participant], &Failure>,
    ) -> Findings {
        let mut findings = Findings { next: POLL_SOON, ..Findings::default() };
        let mut rooms = self.rooms();
        let Some(room) = rooms.get_mut(name) else { return findings };
        let Ok(listed) = answer else {
            room.is_failing = true;
            return findings;
        };
        room.heard = now;
        let after_outage = std::mem::take(&mut room.is_failing);
        let sessions: HashMap<&str, &str> =
            listed.iter().map(|one| (one.identity.as_str(), one.sid.as_str())).collect();
        findings.next = POLL_EVERY;
        for (identity, watched) in &mut room.members {
            let session = sessions.get(identity.as_str()).copied();
            let (has_left, absence) = watched.observe(now, session, after_outage);
            if has_left {
                findings.left.push(Found::new(name, identity, watched));
            } else if absence != watched.absence {
                findings.changed.push((identity.clone(), absence));
            }
            if absence.is_some() || watched.is_gone() || !watched.replaced.is_empty() {
                findings.next = POLL_SOON;
            }
            if session.is_some_and(|sid| watched.contact.is_new(sid)) {
                let place = Place { room: name.to_owned(), identity: identity.clone() };
                self.questions.add(place, now + FIRST_QUESTION);
            }
            findings.is_missing |= !has_left && listed.is_empty();
        }
        findings
    }

    fn with(&self, place: &Place, change: impl FnOnce(&mut Watched)) -> Option<()> {
        let mut rooms = self.rooms();
        let watched = rooms.get_mut(&place.room)?.members.get_mut(&place.identity)?;
        change(watched);
        Some(())
    }

    fn users(&self) -> MutexGuard<'_, HashMap<ShortUserId, BTreeSet<Place>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
