//! A room that is being changed: what it is by now, and the batch of the change.
//! Events are appended in [`append`](crate::append).
//!
//! Invariant: the batch requires the head that the room was opened on, so that it is written on that head
//! or not at all. The room's lock is held meanwhile, which makes that conflict rare.

use std::sync::Arc;

use ruma::{
    EventId, OwnedRoomId, RoomId, RoomVersionId, UserId,
    events::{StateEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use wick_core::{
    Error, Position, Result, ShortEventId, ShortRoomId, StateRoot, event::pdu::SharedPdu, rules,
};
use wick_database::{
    Batch, Pending, Read,
    schema::room::{
        ANSWER_BY_TRANSACTION, EVENT_BY_STATE, HEAD_BY_ROOM, Head, MemberCounts, TransactionAnswer,
    },
};

use crate::{Graph, TimerChange, TransactionKey, policy::PolicyChecks};

/// A room that is being changed.
pub struct Assembly<'a> {
    pub(crate) rooms: &'a Graph,
    pub(crate) batch: Batch,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) room: ShortRoomId,
    pub(crate) rules: RoomVersionRules,
    pub(crate) head: Head,
    /// Which attempt at the change this is, counted from 1.
    pub(crate) attempt: usize,
    /// What is known of the signatures of the room's policy server.
    pub(crate) policy: PolicyChecks,
    /// The head before any of the appends; `None` if the room is new.
    opened_on: Option<Head>,
    pub(crate) timers: Vec<TimerChange>,
    /// Events that were redacted or are no longer rejected, as they are since.
    pub(crate) replaced: Vec<(ShortEventId, SharedPdu)>,
}

impl<'a> Assembly<'a> {
    /// The room in its present state; `None` if it is unknown.
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
            attempt: 1,
            policy: PolicyChecks::default(),
            opened_on: Some(head.clone()),
            head,
            timers: Vec::new(),
            replaced: Vec::new(),
        }))
    }

    /// A room without events, with `create` as the id of its first.
    pub(crate) fn new(
        rooms: &'a Graph,
        (room_id, create): (&RoomId, &EventId),
        version: &RoomVersionId,
        rules: RoomVersionRules,
    ) -> Result<Self> {
        let mut batch = rooms.db.batch();
        let room = rooms.intern().room(room_id, &mut batch)?;
        batch.require(&HEAD_BY_ROOM, &room, None);
        let head = Head {
            version: version.to_string(),
            create: rooms.intern().event(create, &mut batch)?,
            extremities: Vec::new(),
            depth: 0,
            state: StateRoot::EMPTY,
            counts: MemberCounts::default(),
        };
        Ok(Self {
            rooms,
            batch,
            room_id: room_id.to_owned(),
            room,
            rules,
            attempt: 1,
            policy: PolicyChecks::default(),
            opened_on: None,
            head,
            timers: Vec::new(),
            replaced: Vec::new(),
        })
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

    /// Whether the change was not attempted before: what counts it against a limit counts it once.
    #[must_use]
    pub fn is_first_attempt(&self) -> bool {
        self.attempt == 1
    }

    /// The batch, for rows that belong to the same change.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
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

    /// Whether the room has another head by now than the one it was opened on.
    pub(crate) fn has_moved(&self) -> Result<bool> {
        Ok(self.rooms.db.latest().get(&HEAD_BY_ROOM, &self.room)? != self.opened_on)
    }

    /// Writes the batch, with what follows from it in memory. The lock may be released as soon as this returns.
    /// If nothing was changed, this waits for what was read instead of making a commit.
    pub(crate) fn write(mut self) -> wick_database::Result<Pending> {
        if self.opened_on.as_ref() != Some(&self.head) {
            self.batch.put(&HEAD_BY_ROOM, &self.room, &self.head);
        }
        if !self.replaced.is_empty() {
            let events = Arc::clone(&self.rooms.events);
            self.batch.on_applied(move || {
                for (short, pdu) in self.replaced {
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
        if self.batch.is_void() {
            return self.rooms.db.settle(self.batch);
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
