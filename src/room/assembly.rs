//! A change of one room in the making: events appended one on another, all in one batch.
//!
//! Invariant: the batch requires the head that the room was opened on, so that it is written on that head
//! or not at all. The room's turn is held meanwhile, which makes that conflict rare.

use std::sync::Arc;

use ruma::{
    OwnedRoomId, RoomId, RoomVersionId, UserId,
    events::{StateEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use wick_core::event::pdu::SharedPdu;
use wick_core::{Draft, Error, Position, Result, ShortEventId, ShortRoomId, rules};
use wick_database::{
    Batch, Pending, Read, Slot, Topic,
    schema::{
        delayed::FinalOutcome,
        room::{ANSWER_BY_TRANSACTION, EVENT_BY_STATE, HEAD_BY_ROOM, Head, TransactionAnswer},
    },
};

use crate::{
    Effects, Finish, Graph, Outcome, TimerChange, TransactionKey,
    build::{self, Authorized},
    commit,
};

/// A room during its turn.
pub struct Assembly<'a> {
    pub(crate) rooms: &'a Graph,
    pub(crate) batch: Batch,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) room: ShortRoomId,
    pub(crate) rules: RoomVersionRules,
    pub(crate) head: Head,
    /// The head before any of the appends; `None` if the room is new.
    opened_on: Option<Head>,
    pub(crate) timers: Vec<TimerChange>,
    /// Events that were redacted, as they are since.
    pub(crate) redacted: Vec<(ShortEventId, SharedPdu)>,
}

/// An event that has been appended.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The event.
    pub pdu: SharedPdu,
    /// Its short id.
    pub short: ShortEventId,
    /// The room's short id.
    pub room: ShortRoomId,
    /// The position it is going to have in its batch.
    pub slot: Slot,
    /// A timer said it, not its sender.
    pub by_timer: bool,
}

impl<'a> Assembly<'a> {
    /// The room as it stands; `None` if it is not here.
    pub(crate) fn open(rooms: &'a Graph, room_id: &RoomId) -> Result<Option<Self>> {
        let mut batch = rooms.db.batch();
        let Some(room) = rooms.intern().lookup_room(&batch, room_id)? else { return Ok(None) };
        let Some(head) = batch.read_for_update(&HEAD_BY_ROOM, &room)? else { return Ok(None) };
        let version = RoomVersionId::try_from(head.version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        let rules = rules::version_rules(&version)?;
        Ok(Some(Self {
            rooms,
            batch,
            room_id: room_id.to_owned(),
            room,
            rules,
            opened_on: Some(head.clone()),
            head,
            timers: Vec::new(),
            redacted: Vec::new(),
        }))
    }

    /// A room that begins with `create`.
    pub(crate) fn found(
        rooms: &'a Graph,
        create: Authorized,
        version: RoomVersionId,
        rules: RoomVersionRules,
    ) -> Result<Self> {
        let mut batch = rooms.db.batch();
        let room_id = create.pdu.room_id.clone();
        let room = rooms.intern().room(&room_id, &mut batch)?;
        batch.require(&HEAD_BY_ROOM, &room, None);
        let short = rooms.intern().event(&create.pdu.event_id, &mut batch)?;
        let head = Head {
            version: version.to_string(),
            create: short,
            extremities: Vec::new(),
            depth: 0,
            state: wick_core::StateRoot::EMPTY,
            counts: wick_database::schema::room::MemberCounts::default(),
        };
        let (opened_on, timers, redacted) = (None, Vec::new(), Vec::new());
        let mut assembly =
            Self { rooms, batch, room_id, room, rules, head, opened_on, timers, redacted };
        commit::append(&mut assembly, create, Effects::default())?;
        Ok(assembly)
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// The room's short id.
    #[must_use]
    pub fn room(&self) -> ShortRoomId {
        self.room
    }

    /// The rules of the room's version.
    #[must_use]
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// What the next event is built on.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The batch, for rows that belong to the same change.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Builds an event on the room as it is now, checks it against the auth rules and appends it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the auth rules refuse it, `M_TOO_LARGE`, `M_BAD_JSON`.
    pub fn append(&mut self, draft: Draft, effects: Effects) -> Result<Appended> {
        let authorized = build::build(self, draft)?;
        commit::append(self, authorized, effects)
    }

    /// The answer that a request with this transaction was given before.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn answer_of(&self, transaction: &TransactionKey) -> Result<Option<TransactionAnswer>> {
        Ok(self.batch.get(&ANSWER_BY_TRANSACTION, &transaction.row_key())?)
    }

    /// The current state event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_event(
        &self,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<SharedPdu>> {
        let Some(short) = self.state_event_short(event_type, state_key)? else { return Ok(None) };
        self.rooms.events.load(&self.batch, short).map(Some)
    }

    /// The short id of the current state event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_event_short(
        &self,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<ShortEventId>> {
        let intern = self.rooms.intern();
        let Some(key) = intern.lookup_state_key(&self.batch, event_type, state_key)? else {
            return Ok(None);
        };
        Ok(self.batch.get(&EVENT_BY_STATE, &(self.room, key))?)
    }

    /// A user's membership now; `None` if they never had one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership(&self, user: &UserId) -> Result<Option<MembershipState>> {
        let Some(event) = self.state_event(&StateEventType::RoomMember, user.as_str())? else {
            return Ok(None);
        };
        Ok(Some(crate::membership::content(&event)?.membership))
    }

    /// Ends a timer without a terminal event, because the auth rules refuse one. The original's
    /// status is set all the same.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn finish_without_event(&mut self, finish: &Finish) -> Result<()> {
        // No event wakes those who show the status.
        self.batch.wake(Topic::Room(self.room));
        commit::timer::finish_silently(self, finish)
    }

    /// Ends a delayed event of which no event comes: it was refused, or says what is the case already.
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

    /// Whether the room has another head by now than the one it was opened on.
    pub(crate) fn has_moved(&self) -> Result<bool> {
        Ok(self.rooms.db.latest().get(&HEAD_BY_ROOM, &self.room)? != self.opened_on)
    }

    /// Writes the batch, with what follows from it in memory. The turn may end as soon as this returns.
    pub(crate) fn write(mut self) -> wick_database::Result<Pending> {
        if self.opened_on.as_ref() != Some(&self.head) {
            self.batch.put(&HEAD_BY_ROOM, &self.room, &self.head);
        }
        if !self.redacted.is_empty() {
            let events = Arc::clone(&self.rooms.events);
            self.batch.on_applied(move || {
                for (short, pdu) in self.redacted {
                    events.replace(short, pdu);
                }
            });
        }
        if let Some(listener) = &self.rooms.hooks.timers
            && !self.timers.is_empty()
        {
            let listener = Arc::clone(listener);
            self.batch.on_applied(move || listener(&self.timers));
        }
        self.rooms.db.write(self.batch, Graph::DURABILITY)
    }
}

/// A position as a place in a room's timeline, where backfilled events are negative.
pub(crate) fn timeline_place(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// A shared event.
pub(crate) fn share(pdu: wick_core::Pdu) -> SharedPdu {
    Arc::new(pdu)
}
