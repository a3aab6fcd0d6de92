//! When the viewer was in the room, and which of its states they may know because of that.
//!
//! Invariants: a state that was set and replaced while the viewer could not see the room is in no state
//! returned here; a join lasts as long as it is part of the room's current state here, whatever branches say.

use ruma::events::StateEventType;
use wick_core::{Error, Result, ShortEventId, StateRoot};
use wick_database::schema::room::Membership;

use super::Viewer;
use crate::{membership, timeline::to_place};

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

/// A time in which a user had one membership.
struct Term {
    /// The place of the first state that has it.
    begins: i64,
    /// The last place that belongs to the membership before, as far as history is concerned.
    begins_behind: i64,
    membership: Option<Membership>,
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
        let nearest = match self.end_of_join(place)? {
            Some(end) => Some(end),
            None => self.first_join_after(place)?,
        };
        match nearest {
            Some(nearest) => self.rooms.root_at(self.read, self.room, nearest).map(Some),
            None => self.latest_state(),
        }
    }

    /// Where the viewer's last join ended: the place of the event that ended it, or the one before an event that joined a
    /// branch in which it had ended. `None` if they are joined or never were.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn joined_until(&mut self) -> Result<Option<i64>> {
        if let Some(known) = self.joined_until {
            return Ok(known);
        }
        let until =
            self.newest_place().map(|newest| self.end_of_join(newest)).transpose()?.flatten();
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

    /// Where the last join before a place ended; `None` if the viewer is joined there or was never before.
    fn end_of_join(&self, place: i64) -> Result<Option<i64>> {
        let mut end = None;
        for term in self.terms_back(place) {
            let term = term?;
            if term.membership == Some(Membership::Join) {
                return Ok(end);
            }
            end = Some(term.begins_behind);
        }
        Ok(None)
    }

    /// Where the first join after a place began.
    fn first_join_after(&self, place: i64) -> Result<Option<i64>> {
        let mut first = None;
        for term in self.newest_place().into_iter().flat_map(|newest| self.terms_back(newest)) {
            let term = term?;
            if term.begins <= place {
                break;
            }
            if term.membership == Some(Membership::Join) {
                first = Some(term.begins);
            }
        }
        Ok(first)
    }

    /// The place since which the viewer has the membership that they have now.
    fn newest_place(&self) -> Option<i64> {
        self.member.as_ref().map(|member| to_place(member.position))
    }

    /// The viewer's memberships in the current states of the room, from that at a place back. The states that the member
    /// events were built on do not tell: another branch can have ended a join before.
    fn terms_back(&self, place: i64) -> impl Iterator<Item = Result<Term>> + '_ {
        let mut next = Some(place);
        let mut step = move || -> Result<Option<Term>> {
            let Some(place) = next.take() else { return Ok(None) };
            let Some(event) = self.own_event_at(place)? else { return Ok(None) };
            let own = self.rooms.place(self.read, event)?.and_then(|place| place.position);
            let begins = self.current_since(event, own, place)?;
            next = begins.checked_sub(1);
            let begins_behind = if own == Some(begins) { begins } else { begins.saturating_sub(1) };
            let membership = membership::of(&*self.rooms.load_event(self.read, event)?);
            Ok(Some(Term { begins, begins_behind, membership }))
        };
        std::iter::from_fn(move || step().transpose()).take(MAX_MEMBERSHIPS)
    }

    /// The place since which a member event, that stands at `own`, is the current one, which it is at `place`. If it was
    /// replaced in between and came back, one of the places since which it is.
    fn current_since(&self, event: ShortEventId, own: Option<i64>, place: i64) -> Result<i64> {
        let is_current = |at| Ok::<_, Error>(self.own_event_at(at)? == Some(event));
        let own = own.filter(|own| *own <= place);
        let mut before = match own {
            Some(own) if is_current(own)? => return Ok(own),
            Some(own) => own,
            None => self.rooms.first_place(self.read, self.room)?.saturating_sub(1),
        };
        let mut since = place;
        while before.saturating_add(1) < since {
            let middle = i64::midpoint(before, since);
            if is_current(middle)? {
                since = middle;
            } else {
                before = middle;
            }
        }
        Ok(since)
    }

    /// The viewer's member event in the current state at a place.
    fn own_event_at(&self, place: i64) -> Result<Option<ShortEventId>> {
        self.own_event_in(self.rooms.root_at(self.read, self.room, place)?)
    }
}
