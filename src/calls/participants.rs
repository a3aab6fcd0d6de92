//! The rows of participants, written before a token is returned, so that the holder of each token is known.
//!
//! Invariant: a row is written only if its user is joined to the room at that moment.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use ruma::{RoomId, UserId};
use wick_core::{Error, Result, ShortRoomId, ShortUserId, Timestamp};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::{
        calls::{
            DelegatedTimer, ISSUED_BY_PARTICIPANT, PARTICIPANT_BY_IDENTITY, ParticipantRow,
            REMOVAL_BY_PARTICIPANT,
        },
        room::{MEMBER_BY_USER, MemberRow, Membership},
    },
};

use crate::{
    Calls, Seat,
    calls::{TOKEN_LIFETIME, unavailable},
    presence::{Absent, Watched},
};

/// How many identities of one user in one room there are at a time; older ones are removed.
const MAX_IDENTITIES: usize = 64;

/// The same with those that are removed, whose tokens may still work.
const MAX_ROWS: usize = 4 * MAX_IDENTITIES;

/// When a client may ask again whose place another request has taken.
const REPLACED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A participant at LiveKit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The LiveKit room.
    pub(crate) room: String,
    /// The identity.
    pub(crate) identity: String,
}

impl Place {
    pub(crate) fn of(user_id: &UserId, seat: &Seat) -> Result<Self> {
        Ok(Self { room: seat.livekit_room(), identity: seat.identity(user_id)? })
    }

    pub(crate) fn key(&self) -> (&str, &str) {
        (&self.room, &self.identity)
    }
}

impl Calls {
    /// The user and the room, if the user is joined to it.
    pub(crate) fn joined(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
    ) -> Result<(ShortUserId, ShortRoomId)> {
        let latest = self.resources.database.latest();
        let user = self.graph.intern().lookup_user(&latest, user_id)?;
        let Some((user, room)) = user.zip(self.graph.short(&latest, room_id)?) else {
            return Err(not_joined());
        };
        ensure_joined(self.graph.member(&latest, room, user)?)?;
        Ok((user, room))
    }

    /// Notes a participant, with timers that are delegated for it in place of those of the same feature, which end,
    /// and in place of any other participant that had them. Returns once that survives a killed process; with a timer, a
    /// power loss.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not joined; those of [`Calls::surplus`] and [`Calls::replace`].
    pub(crate) async fn note(
        &self,
        place: &Place,
        (user, room): (ShortUserId, ShortRoomId),
        timers: &[DelegatedTimer],
    ) -> Result<()> {
        let durability = if timers.is_empty() { Durability::Flushed } else { Durability::Synced };
        let key = (room, user, &place.room, &place.identity);
        let surplus = self.surplus(place, (user, room)).await?;
        let replaced = self
            .resources
            .change_with(durability, |batch| {
                ensure_joined(batch.read_for_update(&MEMBER_BY_USER, &(user, room))?)?;
                let before = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?;
                let is_issued = batch.read_for_update(&ISSUED_BY_PARTICIPANT, &key)?.is_some();
                let noted = batch.read_for_update(&REMOVAL_BY_PARTICIPANT, &place.key())?;
                if !is_issued || noted.is_some() {
                    self.replace(batch, place, (user, room), &surplus)?;
                }
                let issued = self.resources.clock.now();
                let mut row = match before {
                    Some(before) => ParticipantRow { issued, ..before },
                    None => ParticipantRow {
                        room,
                        user,
                        issued,
                        delegated: Vec::new(),
                        replaced: Vec::new(),
                        absence: None,
                    },
                };
                batch.put(&ISSUED_BY_PARTICIPANT, &key, &issued);
                // It may come back if it was to be removed.
                batch.delete(&REMOVAL_BY_PARTICIPANT, &place.key());
                if !timers.is_empty() {
                    self.take_from_others(batch, place, (room, user), timers)?;
                    self.hand_over(batch, place, &mut row, timers);
                }
                batch.put(&PARTICIPANT_BY_IDENTITY, &place.key(), &row);
                Ok(row.replaced)
            })
            .await?;
        for replaced in replaced {
            // The task that follows participants does so, too, if this request breaks off or fails here.
            if let Err(error) = self.retire(place, replaced).await {
                tracing::warn!(%error, "a replaced timer could not be ended and will be tried again");
            }
        }
        Ok(())
    }

    /// Delegates timers for a participant, and has it followed once `batch` is written.
    fn hand_over(
        &self,
        batch: &mut Batch,
        place: &Place,
        row: &mut ParticipantRow,
        timers: &[DelegatedTimer],
    ) {
        let is_new = timers.iter().any(|timer| !row.delegated.contains(timer));
        if !is_new && row.absence.is_none() {
            // The same again, for a participant that is connected.
            return;
        }
        let now = self.now();
        let (replaced, kept): (Vec<_>, Vec<_>) = row
            .delegated
            .drain(..)
            .filter(|old| !timers.contains(old))
            .partition(|old| timers.iter().any(|new| new.expires == old.expires));
        row.replaced.extend(replaced);
        row.replaced.retain(|old| !timers.contains(old));
        row.delegated = kept;
        row.delegated.extend_from_slice(timers);
        let absence = Absent::awaited(now.monotonic);
        row.absence = Some(absence.row(now));
        let (watch, place) = (self.watch.clone(), place.clone());
        let watched = Watched::new(row, Some(absence));
        batch.on_applied(move || watch.add(&place, watched, now.monotonic));
    }

    /// Takes timers from the other participants of the same user in the same room.
    fn take_from_others(
        &self,
        batch: &mut Batch,
        place: &Place,
        (room, user): (ShortRoomId, ShortUserId),
        timers: &[DelegatedTimer],
    ) -> Result<()> {
        let issued = batch.scan_for_update(&ISSUED_BY_PARTICIPANT, Range::prefix((room, user)))?;
        for ((.., room, identity), _) in issued {
            let other = Place { room, identity };
            if other == *place {
                continue;
            }
            let row = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &other.key())?;
            let Some(mut row) = row else { continue };
            let had = |timer: &&DelegatedTimer| {
                row.delegated.contains(timer) || row.replaced.contains(timer)
            };
            let taken: Vec<_> = timers.iter().filter(had).copied().collect();
            if taken.is_empty() {
                continue;
            }
            row.delegated.retain(|timer| !taken.contains(timer));
            row.replaced.retain(|timer| !taken.contains(timer));
            batch.put(&PARTICIPANT_BY_IDENTITY, &other.key(), &row);
            for timer in taken {
                self.unwatch_in(batch, &other, timer);
            }
        }
        Ok(())
    }

    /// The identities of a user in a room that give way to a new one: the oldest that LiveKit does not list and that have no
    /// delegated timer, each with the time of its last token.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if all that could be are in the call, or a token of theirs works still; 502 if LiveKit does
    /// not answer.
    async fn surplus(
        &self,
        place: &Place,
        (user, room): (ShortUserId, ShortRoomId),
    ) -> Result<Vec<(Timestamp, Place)>> {
        let known = self.others_known(place, (user, room))?;
        let excess = (known.len() + 1).saturating_sub(MAX_IDENTITIES);
        let now = self.resources.clock.now();
        let latest = self.resources.database.latest();
        let (mut surplus, mut listed) = (Vec::new(), HashMap::new());
        for (issued, other) in known {
            if surplus.len() == excess {
                return Ok(surplus);
            }
            let passed = now.since(issued);
            if passed < TOKEN_LIFETIME {
                return Err(Error::limit_exceeded(TOKEN_LIFETIME.saturating_sub(passed)));
            }
            let row = latest.get(&PARTICIPANT_BY_IDENTITY, &other.key())?;
            if row.is_some_and(|row| row.has_timers()) {
                continue;
            }
            if !listed.contains_key(&other.room) {
                let answer = self.livekit.participants(&other.room).await.map_err(unavailable)?;
                let identities = answer.into_iter().map(|listed| listed.identity);
                listed.insert(other.room.clone(), identities.collect::<HashSet<_>>());
            }
            if listed.get(&other.room).is_some_and(|there| !there.contains(&other.identity)) {
                surplus.push((issued, other));
            }
        }
        if surplus.len() < excess {
            Err(Error::limit_exceeded(TOKEN_LIFETIME))
        } else {
            Ok(surplus)
        }
    }

    /// The other identities of a user in a room that are not to be removed, by the time of the last token; none if
    /// this one is no new one.
    fn others_known(
        &self,
        place: &Place,
        (user, room): (ShortUserId, ShortRoomId),
    ) -> Result<Vec<(Timestamp, Place)>> {
        let latest = self.resources.database.latest();
        let mut known = Vec::new();
        for row in latest.scan(&ISSUED_BY_PARTICIPANT, Range::prefix((room, user))) {
            let ((.., room, identity), issued) = row?;
            let other = Place { room, identity };
            if latest.contains(&REMOVAL_BY_PARTICIPANT, &other.key())? {
                continue;
            }
            if other == *place {
                return Ok(Vec::new());
            }
            known.push((issued, other));
        }
        known.sort_by_key(|(issued, _)| *issued);
        Ok(known)
    }

    /// Has `surplus` removed to make room for a new identity. What is known of it stays as long as its tokens work.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if other requests have taken that room.
    fn replace(
        &self,
        batch: &mut Batch,
        place: &Place,
        (user, room): (ShortUserId, ShortRoomId),
        surplus: &[(Timestamp, Place)],
    ) -> Result<()> {
        let now = self.now();
        let (mut known, mut all) = (0_usize, 0_usize);
        let issued = batch.scan_for_update(&ISSUED_BY_PARTICIPANT, Range::prefix((room, user)))?;
        for ((.., room, identity), issued) in issued {
            all += 1;
            let other = Place { room, identity };
            let noted = batch.read_for_update(&REMOVAL_BY_PARTICIPANT, &other.key())?;
            if noted.is_some() || other == *place {
                continue;
            }
            if surplus.contains(&(issued, other.clone())) {
                self.expel(batch, &other, now);
            } else {
                known += 1;
            }
        }
        if known >= MAX_IDENTITIES || all >= MAX_ROWS {
            return Err(Error::limit_exceeded(REPLACED_AGAIN_AFTER));
        }
        Ok(())
    }

    /// Deletes what is known of a participant.
    pub(crate) fn forget(
        &self,
        batch: &mut Batch,
        place: &Place,
        (room, user): (ShortRoomId, ShortUserId),
    ) -> Result<()> {
        let row = batch.read_for_update(&PARTICIPANT_BY_IDENTITY, &place.key())?;
        batch.delete(&PARTICIPANT_BY_IDENTITY, &place.key());
        let key = (room, user, &place.room, &place.identity);
        batch.delete(&ISSUED_BY_PARTICIPANT, &key);
        batch.delete(&REMOVAL_BY_PARTICIPANT, &place.key());
        for timer in row.into_iter().flat_map(|row| row.delegated.into_iter().chain(row.replaced)) {
            self.unwatch_in(batch, place, timer);
        }
        Ok(())
    }

    /// Stops following a timer of a participant once `batch` is written.
    pub(crate) fn unwatch_in(&self, batch: &mut Batch, place: &Place, delegated: DelegatedTimer) {
        let (watch, place) = (self.watch.clone(), place.clone());
        batch.on_applied(move || watch.remove(&place, delegated.timer));
    }
}

fn ensure_joined(member: Option<MemberRow>) -> Result<()> {
    if is_joined(member.as_ref()) { Ok(()) } else { Err(not_joined()) }
}

/// A user without a row is not joined: state resolution can leave no member event.
pub(crate) fn is_joined(member: Option<&MemberRow>) -> bool {
    member.is_some_and(|row| row.membership == Membership::Join)
}

/// The same for a room that is unknown.
fn not_joined() -> Error {
    Error::forbidden("you are not joined to this room")
}
