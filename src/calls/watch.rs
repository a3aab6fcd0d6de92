//! The participants with delegated timers, by LiveKit room, and when each room is looked at next.
//!
//! Invariant: it mirrors the rows of `PARTICIPANT_BY_IDENTITY` with a delegated timer: rows are added and
//! removed here when their batch is written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, futures::Notified};
use wick_core::{Monotonic, TimerId};

use crate::{Failure, Participant, presence::Watched};

/// How often a room is looked at in which nothing happens.
const POLL_EVERY: Duration = Duration::from_secs(15);

/// How often one is looked at with a missing or awaited participant, or while LiveKit does not answer.
pub(crate) const POLL_SOON: Duration = Duration::from_secs(2);

/// For how long timers are kept alive while LiveKit does not answer.
const OUTAGE_GRACE: Duration = Duration::from_secs(120);

/// What is watched.
#[derive(Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    rooms: HashMap<String, Room>,
    due: BTreeSet<(Monotonic, String)>,
}

#[derive(Default)]
struct Room {
    members: BTreeMap<String, Watched>,
    due: Monotonic,
    /// A check is under way; `due` is then when it began, or sooner than its end if there was news.
    is_checked: bool,
    has_news: bool,
    unreachable_since: Option<Monotonic>,
}

/// What follows from asking LiveKit about a room.
#[derive(Default)]
pub(crate) struct Findings {
    /// The participants that have left.
    pub(crate) left: Vec<(String, Watched)>,
    /// The participants that have not.
    pub(crate) staying: Vec<(String, Watched)>,
    /// Whether the timers of the latter are kept alive.
    pub(crate) keeps_alive: bool,
    /// Whether LiveKit lists no participant.
    pub(crate) is_empty: bool,
    /// When to look again at the latest.
    pub(crate) next: Duration,
}

impl Watch {
    /// Adds a participant, in place of one with the same identity, and looks at its room at once.
    pub(crate) fn add(&self, room: &str, identity: &str, watched: Watched, now: Monotonic) {
        let mut state = self.state();
        state
            .rooms
            .entry(room.to_owned())
            .or_default()
            .members
            .insert(identity.to_owned(), watched);
        state.look_at(room, now);
        drop(state);
        self.news.notify_one();
    }

    /// Removes a timer of a participant, and the participant with the last one.
    pub(crate) fn remove(&self, room: &str, identity: &str, timer: TimerId) {
        let mut state = self.state();
        let Some(members) = state.rooms.get_mut(room).map(|room| &mut room.members) else { return };
        let Some(watched) = members.get_mut(identity) else { return };
        watched.timers.retain(|delegated| delegated.timer != timer);
        if watched.timers.is_empty() {
            members.remove(identity);
        }
    }

    /// Takes in a report about a participant, and looks at the room at once.
    pub(crate) fn report(
        &self,
        room: &str,
        identity: &str,
        now: Monotonic,
        report: impl FnOnce(&mut Watched),
    ) {
        let mut state = self.state();
        let members = state.rooms.get_mut(room).map(|room| &mut room.members);
        let Some(watched) = members.and_then(|members| members.get_mut(identity)) else { return };
        report(watched);
        state.look_at(room, now);
        drop(state);
        self.news.notify_one();
    }

    /// A room that is due, which counts as being checked from now on.
    pub(crate) fn take_due(&self, now: Monotonic) -> Option<String> {
        let mut state = self.state();
        let (due, name) = state.due.first().filter(|(due, _)| *due <= now)?.clone();
        state.due.remove(&(due, name.clone()));
        let room = state.rooms.get_mut(&name)?;
        (room.is_checked, room.has_news) = (true, false);
        Some(name)
    }

    /// When the next room is due.
    pub(crate) fn next_due(&self) -> Option<Monotonic> {
        self.state().due.first().map(|(due, _)| *due)
    }

    /// Waits until something may be due sooner than it was.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Takes in what LiveKit answered about a room.
    pub(crate) fn observe(
        &self,
        name: &str,
        now: Monotonic,
        answer: Result<&[Participant], &Failure>,
    ) -> Findings {
        let mut state = self.state();
        let Some(room) = state.rooms.get_mut(name) else { return Findings::default() };
        let Ok(listed) = answer else {
            let since = *room.unreachable_since.get_or_insert(now);
            let staying = room.members.iter().map(|(name, one)| (name.clone(), one.clone()));
            return Findings {
                staying: staying.collect(),
                keeps_alive: now.since(since) < OUTAGE_GRACE,
                next: POLL_SOON,
                ..Findings::default()
            };
        };
        let after_outage = room.unreachable_since.take().is_some();
        let sessions: HashMap<&str, &str> =
            listed.iter().map(|one| (one.identity.as_str(), one.sid.as_str())).collect();
        let mut findings = Findings {
            keeps_alive: true,
            is_empty: listed.is_empty(),
            next: POLL_EVERY,
            ..Findings::default()
        };
        for (identity, watched) in &mut room.members {
            let session = sessions.get(identity.as_str()).copied();
            let has_left = watched.observe(now, session, after_outage);
            if watched.is_unsettled() {
                findings.next = POLL_SOON;
            }
            let list = if has_left { &mut findings.left } else { &mut findings.staying };
            list.push((identity.clone(), watched.clone()));
        }
        findings
    }

    /// Ends the check of a room, which is due again at `due`, or at once if there was news meanwhile.
    pub(crate) fn checked(&self, name: &str, (now, due): (Monotonic, Monotonic)) {
        let mut state = self.state();
        let Some(room) = state.rooms.get_mut(name) else { return };
        room.is_checked = false;
        if room.members.is_empty() {
            state.rooms.remove(name);
            return;
        }
        let due = if room.has_news { now } else { due };
        room.due = due;
        state.due.insert((due, name.to_owned()));
    }

    /// Lets every check that broke off happen again.
    pub(crate) fn resume(&self, now: Monotonic) {
        let mut state = self.state();
        let names: Vec<_> = state.rooms.keys().cloned().collect();
        for name in names {
            if let Some(room) = state.rooms.get_mut(&name) {
                room.is_checked = false;
            }
            state.look_at(&name, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes a room due, now or when its present check is over.
    fn look_at(&mut self, name: &str, now: Monotonic) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if room.is_checked {
            room.has_news = true;
            return;
        }
        self.due.remove(&(room.due, name.to_owned()));
        room.due = now;
        self.due.insert((now, name.to_owned()));
    }
}
