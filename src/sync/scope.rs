//! Which part of a room's history a response covers.

use wick_core::{Position, Result, ShortEventId, ShortRoomId};
use wick_database::schema::room::MemberRow;
use wick_room::{membership, to_place, visibility::Viewer};

use crate::context::Context;

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
    /// Where the user's last stay ends, as a place: above it the scope holds their own member events alone.
    /// `None` if they were never in the room.
    pub stay: Option<i64>,
    /// State resolution set the user's membership: the timeline has the member event at another place or not at all.
    pub is_resolved: bool,
    /// The member event by which state resolution took the user out of the room, unless it left them none.
    pub removal: Option<ShortEventId>,
}

impl Scope {
    /// Of a room that the user is in. `changed`: their membership is newer than `since`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of_joined(
        context: &Context<'_>,
        (room, member): (ShortRoomId, &MemberRow),
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
            stay: Some(to_place(context.upto)),
            is_resolved: changed && is_resolved(context, member)?,
            removal: None,
        })
    }

    /// Of a room that the user left, was kicked or banned from. `None` if the response leaves it out: at
    /// first without `include_leave`, or if the user was never in it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn of_left(
        context: &Context<'_>,
        viewer: &mut Viewer<'_>,
        (room, member): (ShortRoomId, &MemberRow),
        since: Option<Position>,
        include_leave: bool,
    ) -> Result<Option<Self>> {
        if since.is_none() && (member.forgotten || !include_leave) {
            return Ok(None);
        }
        let stay = viewer.joined_until()?;
        if since.is_none() && stay.is_none() {
            return Ok(None);
        }
        let known = match since {
            Some(since) => context.was_joined(room, since)?,
            None => false,
        };
        let is_resolved = is_resolved(context, member)?;
        let removal = if is_resolved { removal(context, member)? } else { None };
        let news = since.is_none_or(|since| stay.is_some_and(|stay| stay > to_place(since)));
        Ok(Some(Self {
            room,
            since: since.filter(|_| known || !news),
            upto: to_place(member.position).min(to_place(context.upto)),
            gap: since.is_some() && !known && news,
            joined: false,
            stay,
            is_resolved,
            removal,
        }))
    }

    /// Whether state resolution took the user out of the room.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.is_resolved && !self.joined
    }

    /// Whether the user was in the room at some time of the scope.
    #[must_use]
    pub fn has_stay(&self) -> bool {
        self.joined || self.stay.is_some_and(|stay| self.from().is_none_or(|from| stay > from))
    }

    /// Whether what stands at a place is part of the user's last stay or before it.
    #[must_use]
    pub fn is_in_stay(&self, place: i64) -> bool {
        self.stay.is_some_and(|stay| place <= stay)
    }

    /// Where the scope begins, as a place in the timeline; `None` at the room's beginning.
    #[must_use]
    pub fn from(&self) -> Option<i64> {
        self.since.map(to_place)
    }
}

/// The member event that sets the membership, unless the row outlives its event.
fn removal(context: &Context<'_>, member: &MemberRow) -> Result<Option<ShortEventId>> {
    let event = context.graph.load_event(&context.read, member.event)?;
    let is_current = membership::of(&event) == Some(member.membership);
    Ok(is_current.then_some(member.event))
}

/// Whether a membership changed elsewhere than at the place of its event in the timeline.
fn is_resolved(context: &Context<'_>, member: &MemberRow) -> Result<bool> {
    let place = context.graph.place(&context.read, member.event)?;
    let position = place.and_then(|place| place.position);
    Ok(position != Some(to_place(member.position)))
}
