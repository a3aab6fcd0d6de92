//! Which part of a room's history a response covers.

use wick_core::{Error, Position, Result, ShortRoomId};
use wick_database::schema::room::{MemberRow, Membership};

use crate::{context::Context, token::to_place};

/// The part of a room that a response covers.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The room.
    pub room: ShortRoomId,
    /// Up to where the client has the room; `None` if it does not have it.
    pub since: Option<Position>,
    /// Where the scope ends, as a place in the timeline: at the snapshot, or where the user left.
    pub upto: i64,
    /// The client has synced before, without this room.
    pub gap: bool,
    /// The user is in the room.
    pub joined: bool,
    /// The user was not in the room at any time of the scope, which holds their own member events alone.
    pub outside: bool,
}

impl Scope {
    /// Of a room that the user is in. `changed`: their membership is newer than `since`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of_joined(
        context: &Context<'_>,
        room: ShortRoomId,
        since: Option<Position>,
        changed: bool,
    ) -> Result<Self> {
        // The client has the room if the user was in it at the client's last sync.
        let known = match since {
            Some(since) if changed => context.was_joined(room, since)?,
            since => since.is_some(),
        };
        Ok(Self {
            room,
            since: since.filter(|_| known),
            upto: to_place(context.upto),
            gap: since.is_some() && !known,
            joined: true,
            outside: false,
        })
    }

    /// Of a room that the user left, was kicked or banned from. `None` if the response leaves it out: at
    /// first without `include_leave`, or if the user was never in it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of_left(
        context: &Context<'_>,
        room: ShortRoomId,
        since: Option<Position>,
        member: &MemberRow,
        include_leave: bool,
    ) -> Result<Option<Self>> {
        if since.is_none() && (member.forgotten || !include_leave) {
            return Ok(None);
        }
        let place = context
            .graph
            .place(&context.read, member.event)?
            .ok_or_else(|| Error::corrupt("a member event has no place"))?;
        let before = context.membership_in(place.before)?;
        let known = match since {
            Some(since) => context.was_joined(room, since)?,
            None => false,
        };
        let outside = before != Some(Membership::Join) && !known;
        if since.is_none() && outside {
            return Ok(None);
        }
        Ok(Some(Self {
            room,
            since: since.filter(|_| known || outside),
            upto: to_place(member.position).min(to_place(context.upto)),
            gap: since.is_some() && !known && !outside,
            joined: false,
            outside,
        }))
    }

    /// Where the scope begins, as a place in the timeline; `None` at the room's beginning.
    #[must_use]
    pub fn from(&self) -> Option<i64> {
        self.since.map(to_place)
    }
}
