//! Appending to a room that is being changed: an event is built, authorized and committed to the batch.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};
use wick_core::{Draft, Result, ShortEventId};
use wick_database::{Topic, schema::delayed::FinalOutcome};

use crate::{
    Appended, Assembly, Effects, Finish, Graph, Outcome, build, commit, stage::Authorized,
};

impl<'a> Assembly<'a> {
    /// A room that begins with `create`.
    pub(crate) fn create(
        rooms: &'a Graph,
        create: Authorized,
        version: &RoomVersionId,
        rules: RoomVersionRules,
    ) -> Result<Self> {
        let ids = (&*create.pdu.room_id, &*create.pdu.event_id);
        let mut room = Self::new(rooms, ids, version, rules)?;
        commit::append(&mut room, create, Effects::default())?;
        Ok(room)
    }

    /// Builds an event on the room as it is now, checks it against the auth rules and appends it. In a room that uses a
    /// policy server, the change runs again once that has signed the event.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the auth rules refuse it, or what the policy server refuses it with; `M_TOO_LARGE`, `M_BAD_JSON`;
    /// [`Error::Remote`](wick_core::Error::Remote) if the policy server has no answer.
    pub fn append(&mut self, mut draft: Draft, effects: Effects) -> Result<Appended> {
        self.repeat(&mut draft);
        let mut authorized = build::build(self, draft)?;
        authorized.pdu = self.ensure_recommended(authorized.pdu)?;
        commit::append(self, authorized, effects)
    }

    /// Ends a timer without a terminal event, because the auth rules refuse one. The original's
    /// status is set all the same.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn finish_without_event(&mut self, finish: &Finish) -> Result<()> {
        // No event wakes the requests that wait for the status.
        self.batch.wake(Topic::Room(self.room));
        commit::timer::finish_silently(self, finish)
    }

    /// Ends a delayed event of which no event comes: it was refused, or would change nothing.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn finish_delayed(&mut self, finish: &Finish, outcome: FinalOutcome) -> Result<()> {
        commit::timer::finish_delayed(self, finish, outcome)
    }

    /// Ends a delayed event and forgets all that is known of it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn erase_delayed(&mut self, finish: &Finish) -> Result<()> {
        commit::timer::erase_delayed(self, finish)
    }

    /// Stops the timer of an event, if it has one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn stop_timer(&mut self, event: ShortEventId, outcome: Outcome) -> Result<()> {
        commit::expiry::stop(self, event, outcome)
    }
}
