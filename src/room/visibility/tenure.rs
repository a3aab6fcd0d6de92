//! When the viewer was in the room, and which of its states they may know because of that.
//!
//! Invariant: a state that was set and replaced while the viewer could not see the room is in no state
//! returned here.

use ruma::events::StateEventType;
use wick_core::{Result, ShortEventId, StateRoot};
use wick_database::schema::room::Membership;

use super::Viewer;
use crate::membership;

/// How many memberships of one user are walked back at most.
const MAX_MEMBERSHIPS: usize = 500;

/// How far a user may read a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To its end: the user is joined, or the room is world-readable.
    Live,
    /// To this place, where the user's last join ended.
    Until(i64),
}

impl Viewer<'_> {
    /// How far the viewer may read the room; `None` if not at all, as in a room they have forgotten or
    /// were never joined to.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn reach(&mut self) -> Result<Option<Reach>> {
        if self.is_joined() || self.rooms.is_world_readable(self.read, self.room)? {
            return Ok(Some(Reach::Live));
        }
        if self.has_forgotten() {
            return Ok(None);
        }
        Ok(self.joined_until()?.map(Reach::Until))
    }

    /// The latest state of the room that the viewer may know: the current one, or the one in which their
    /// last join ended; `None` if none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn latest_state(&mut self) -> Result<Option<StateRoot>> {
        let place = match self.reach()? {
            None => return Ok(None),
            Some(Reach::Live) => i64::MAX,
            Some(Reach::Until(end)) => end,
        };
        self.rooms.root_at(self.read, self.room, place).map(Some)
    }

    /// The state of the room at `place` in the timeline, if the viewer may know it. Otherwise the nearest
    /// one that they may: where the join before `place` ended, else where the next one began, else the
    /// current state of a world-readable room; `None` if there is none of these.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_at(&mut self, place: i64) -> Result<Option<StateRoot>> {
        let root = self.rooms.root_at(self.read, self.room, place)?;
        let at = self.at(root)?;
        if self.allowed(&at, Some(place))? {
            return Ok(Some(root));
        }
        if self.has_forgotten() {
            return self.latest_state();
        }
        let member = self.own_event_in(root)?;
        let nearest = match self.end_of_join(member)? {
            Some(end) => Some(end),
            None => self.first_join_after(place)?,
        };
        match nearest {
            Some(nearest) => self.rooms.root_at(self.read, self.room, nearest).map(Some),
            None => self.latest_state(),
        }
    }

    /// The place of the event that ended the viewer's last join; `None` if they are joined or never were.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn joined_until(&mut self) -> Result<Option<i64>> {
        if let Some(known) = self.joined_until {
            return Ok(known);
        }
        let until = self.end_of_join(self.member.as_ref().map(|member| member.event))?;
        self.joined_until = Some(until);
        Ok(until)
    }

    /// Whether the viewer was joined at some point after a place in the timeline.
    pub(super) fn joined_after(&mut self, position: Option<i64>) -> Result<bool> {
        if self.is_joined() {
            return Ok(true);
        }
        let Some(until) = self.joined_until()? else { return Ok(false) };
        Ok(position.is_some_and(|position| position <= until))
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.membership == Membership::Join)
    }

    pub(crate) fn has_forgotten(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.forgotten)
    }

    /// The viewer's member event in a state.
    fn own_event_in(&self, root: StateRoot) -> Result<Option<ShortEventId>> {
        let member = StateEventType::RoomMember;
        self.rooms.state_event_at(self.read, root, &member, self.user_id.as_str())
    }

    /// Where the last join at or before a member event ended; `None` if that event is the join itself.
    fn end_of_join(&self, from: Option<ShortEventId>) -> Result<Option<i64>> {
        let mut end = None;
        for step in self.memberships_back(from) {
            let (position, membership) = step?;
            if membership == Some(Membership::Join) {
                return Ok(end);
            }
            end = Some(position);
        }
        Ok(None)
    }

    /// Where the first join after a place began.
    fn first_join_after(&self, place: i64) -> Result<Option<i64>> {
        let mut first = None;
        for step in self.memberships_back(self.member.as_ref().map(|member| member.event)) {
            let (position, membership) = step?;
            if position <= place {
                break;
            }
            if membership == Some(Membership::Join) {
                first = Some(position);
            }
        }
        Ok(first)
    }

    /// The viewer's memberships with the places of their events, from one member event back.
    fn memberships_back(
        &self,
        from: Option<ShortEventId>,
    ) -> impl Iterator<Item = Result<(i64, Option<Membership>)>> + '_ {
        let mut next = from;
        let mut step = move || -> Result<Option<(i64, Option<Membership>)>> {
            let Some(event) = next.take() else { return Ok(None) };
            let Some(place) = self.rooms.place(self.read, event)? else { return Ok(None) };
            let Some(position) = place.position else { return Ok(None) };
            next = self.own_event_in(place.before)?;
            let event = self.rooms.load_event(self.read, event)?;
            Ok(Some((position, membership::of(&event))))
        };
        std::iter::from_fn(move || step().transpose()).take(MAX_MEMBERSHIPS)
    }
}
