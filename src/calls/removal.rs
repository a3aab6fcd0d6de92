//! Removes participants from LiveKit whose membership in the room has ended, or that gave way to newer identities.
//!
//! Invariants: it follows the stream by a durable cursor and notes each removal in a row, so each end of a membership
//! is acted on, whatever crashes; the row stays until no token of the participant works any more, and one that
//! connects until then is removed again; a room at LiveKit that cannot be reached holds up no other one.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use wick_core::{Monotonic, Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        calls::{ISSUED_BY_PARTICIPANT, PARTICIPANT_BY_IDENTITY, REMOVAL_BY_PARTICIPANT},
        room::{MEMBER_BY_USER, ROOT_BY_POSITION},
        stream::StreamEntry,
    },
};
use wick_room::to_place;
use wick_runtime::{Consumer, Follower, Span, Supervisor};

use crate::{
    Calls, Participant,
    calls::TOKEN_LIFETIME,
    participants::{Place, is_joined},
    presence::Now,
};

/// Under which name the cursor is stored.
const CURSOR: &str = "calls";

/// The task that removes, in logs and metrics.
const REMOVING: &str = "removals from calls";

/// In how many rooms at LiveKit participants are removed at a time.
const MOST_ROOMS: usize = 4;

/// The wait after LiveKit did not answer; doubled each time.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(300);

/// How often LiveKit is asked whether a removed participant has come back: the web hook about it can be lost.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long a token may work after LiveKit has listed its participant for the last time: it renews the tokens of those who are
/// connected, and lets its clock differ by a minute.
const TOKENS_WORK: Duration = TOKEN_LIFETIME.saturating_add(Duration::from_secs(60));

/// A follower that records which participants are to be removed.
pub(crate) fn follower(calls: &Arc<Calls>) -> Follower<Removal> {
    let removal = Removal { calls: Arc::clone(calls) };
    Follower::new(calls.resources.clone(), CURSOR.to_owned(), removal)
}

pub(crate) struct Removal {
    calls: Arc<Calls>,
}

impl Consumer for Removal {
    async fn consume(&self, span: &Span) -> Result<bool> {
        // Any event that changes the state may end memberships, without an event for each of them.
        let mut rooms = BTreeSet::new();
        for (position, StreamEntry { room, .. }) in span.events()? {
            if span.read.contains(&ROOT_BY_POSITION, &(room, to_place(position)))? {
                rooms.insert(room);
            }
        }
        let mut places = Vec::new();
        for room in rooms {
            places.extend(self.calls.former_members(room)?);
        }
        if places.is_empty() {
            return Ok(false);
        }
        self.calls.note_removals(&places).await?;
        Ok(true)
    }
}

impl Calls {
    /// Starts to remove.
    pub(crate) fn remove_regularly(self: &Arc<Self>, supervisor: &Supervisor) -> Result<()> {
        let now = self.resources.clock.monotonic();
        for row in
            self.resources.database.latest().scan(&REMOVAL_BY_PARTICIPANT, Range::all()).keys()
        {
            let (room, _) = row?;
            self.removals.add(room, now);
        }
        self.spawn(supervisor, REMOVING, |calls| async move {
            let remove = |room| calls.remove_in(room);
            calls.removals.work_off(&*calls.resources.clock, (REMOVING, MOST_ROOMS), remove).await;
        });
        Ok(())
    }

    /// The places in a room whose users are not joined to it, and that are not recorded yet.
    fn former_members(&self, room: ShortRoomId) -> Result<Vec<Place>> {
        let latest = self.resources.database.latest();
        let mut places = Vec::new();
        let mut last = None::<(ShortUserId, bool)>;
        for key in latest.scan(&ISSUED_BY_PARTICIPANT, Range::prefix((room,))).keys() {
            let (_, user, livekit_room, identity) = key?;
            let is_member = match last.filter(|(known, _)| *known == user) {
                Some((_, is_member)) => is_member,
                None => is_joined(self.graph.member(&latest, room, user)?.as_ref()),
            };
            last = Some((user, is_member));
            let place = Place { room: livekit_room, identity };
            if !is_member && !latest.contains(&REMOVAL_BY_PARTICIPANT, &place.key())? {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Notes that participants are to be removed, unless they may stay by now.
    pub(crate) async fn note_removals(&self, places: &[Place]) -> Result<()> {
        let now = self.now();
        self.resources
            .change_with(Durability::Flushed, |batch| {
                for place in places {
                    let row = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?;
                    let Some(row) = row else { continue };
                    let member = batch.read_for_update(&MEMBER_BY_USER, &(row.user, row.room))?;
                    let noted = batch.read_for_update(&REMOVAL_BY_PARTICIPANT, &place.key())?;
                    if noted.is_some() || !is_joined(member.as_ref()) {
                        self.expel(batch, place, now);
                    }
                }
                Ok(())
            })
            .await
    }

    /// Has a participant removed, until it gets a new token, once `batch` is written.
    pub(crate) fn expel(&self, batch: &mut Batch, place: &Place, now: Now) {
        batch.put(&REMOVAL_BY_PARTICIPANT, &place.key(), &now.wall);
        let (removals, room) = (Arc::clone(&self.removals), place.room.clone());
        batch.on_applied(move || removals.add(room, now.monotonic));
    }

    /// Removes the recorded participants of a room from LiveKit. Returns when to look again, if some are recorded.
    async fn remove_in(&self, room: String) -> Option<Monotonic> {
        let removed = match self.noted(&room) {
            Ok(noted) => {
                let newest = *noted.values().max()?;
                self.remove_noted(&room, noted).await.map_err(|error| (error, newest))
            }
            Err(error) => Err((error, self.resources.clock.now())),
        };
        let now = self.now();
        let Err((error, newest)) = removed else { return Some(now.monotonic + LOOK_EVERY) };
        let back_off = now.wall.since(newest).clamp(FIRST_BACK_OFF, LAST_BACK_OFF);
        tracing::warn!(%error, ?back_off, "a participant could not be removed and will be tried again");
        Some(now.monotonic + back_off)
    }

    /// The recorded participants of a room.
    fn noted(&self, room: &str) -> Result<HashMap<Place, Timestamp>> {
        let latest = self.resources.database.latest();
        let mut noted = HashMap::new();
        for row in latest.scan(&REMOVAL_BY_PARTICIPANT, Range::prefix((room,))) {
            let ((room, identity), since) = row?;
            noted.insert(Place { room, identity }, since);
        }
        Ok(noted)
    }

    async fn remove_noted(&self, room: &str, noted: HashMap<Place, Timestamp>) -> Result<()> {
        let listed = self.livekit.participants(room).await?;
        let listed: HashSet<_> = listed.into_iter().map(|listed| listed.identity).collect();
        let mut outcome = Ok(());
        for (place, since) in noted {
            let is_listed = listed.contains(&place.identity);
            if let Err(error) = self.remove(&place, since, is_listed).await {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Removes a participant if LiveKit lists it. The removal is over if it has not done so for long enough.
    async fn remove(&self, place: &Place, since: Timestamp, is_listed: bool) -> Result<()> {
        if is_listed {
            self.livekit.remove(&place.room, &place.identity).await?;
        }
        let now = self.now();
        self.watch.report(place, now.monotonic, |watched| watched.removed());
        if !is_listed && now.wall.since(since) <= TOKENS_WORK {
            return Ok(());
        }
        self.resources
            .change_with(Durability::Flushed, |batch| {
                let noted = batch.read_for_update(&REMOVAL_BY_PARTICIPANT, &place.key())?;
                if noted != Some(since) {
                    return Ok(());
                }
                if is_listed {
                    batch.put(&REMOVAL_BY_PARTICIPANT, &place.key(), &now.wall);
                    return Ok(());
                }
                batch.delete(&REMOVAL_BY_PARTICIPANT, &place.key());
                let Some(row) = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?
                else {
                    return Ok(());
                };
                let member = batch.read_for_update(&MEMBER_BY_USER, &(row.user, row.room))?;
                if is_joined(member.as_ref()) {
                    return self.forget(batch, place, (row.room, row.user));
                }
                // The next event of the room must not begin it anew. Should the participant be listed after all, it is
                // still known.
                let key = (row.room, row.user, &place.room, &place.identity);
                batch.delete(&ISSUED_BY_PARTICIPANT, &key);
                Ok(())
            })
            .await
    }

    /// Whether a participant is not to be removed, and its user is joined to the room, if it is known.
    pub(crate) fn may_stay(&self, place: &Place) -> Result<bool> {
        let latest = self.resources.database.latest();
        if latest.contains(&REMOVAL_BY_PARTICIPANT, &place.key())? {
            return Ok(false);
        }
        let Some(row) = latest.get(&PARTICIPANT_BY_IDENTITY, &place.key())? else {
            return Ok(true);
        };
        Ok(is_joined(self.graph.member(&latest, row.room, row.user)?.as_ref()))
    }

    /// Has those removed that LiveKit lists and that may not stay: the web hooks about them can have been lost.
    pub(crate) async fn remove_strangers(&self, room: &str, listed: &[Participant]) -> Result<()> {
        let mut strangers = Vec::new();
        for Participant { identity, .. } in listed {
            let place = Place { room: room.to_owned(), identity: identity.clone() };
            if !self.may_stay(&place)? {
                tracing::info!(identity, "a participant may not stay in a call");
                strangers.push(place);
            }
        }
        if strangers.is_empty() { Ok(()) } else { self.note_removals(&strangers).await }
    }
}
