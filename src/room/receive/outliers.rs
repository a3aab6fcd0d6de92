//! Events without the state around them: auth events, and the events of a state that another server has.
//!
//! Invariants: an outlier is stored only if all of its auth events are, so an auth chain that is here is whole; an
//! event that is stored already is never written again.

use ruma::{
    OwnedEventId, RoomId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType},
};
use wick_core::{Error, Pdu, Result, ShortEventId, ShortRoomId, StateRoot, rules};
use wick_database::{
    Batch, Read, first_portion,
    schema::room::{HEAD_BY_ROOM, PLACE_BY_EVENT, Place, STORED_BY_EVENT, StoredEvent},
};

use super::{Gaps, Received, Verified, auth};
use crate::{Graph, resolve};

/// How often a batch of outliers is made anew because another one came between.
const ATTEMPTS: usize = 16;

impl Graph {
    /// Stores events outside of the timeline, of a room that need not be here yet. They come in the order of
    /// [`by_auth_events`](crate::by_auth_events), and are written in batches, one after another; so what was written
    /// before an error or a crash is there, and is answered as known the next time.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`; a database error.
    pub async fn receive_outliers(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
        events: &[Verified],
    ) -> Result<Vec<Received>> {
        let mut received = Vec::with_capacity(events.len());
        let mut rest = events;
        while !rest.is_empty() {
            let (portion, others) = first_portion(rest, |event| event.pdu().json.get().len());
            received.extend(self.store_outliers(room_id, version, portion).await?);
            rest = others;
        }
        Ok(received)
    }

    async fn store_outliers(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
        events: &[Verified],
    ) -> Result<Vec<Received>> {
        let version_rules = rules::version_rules(version)?;
        let mut attempt = 1;
        loop {
            let mut batch = self.db.batch();
            let room = self.intern().room(room_id, &mut batch)?;
            let mut store =
                Outliers { rooms: self, batch, room, room_id, version, rules: &version_rules };
            let received: Result<Vec<_>> =
                events.iter().map(|event| store.receive(event)).collect();
            match self.db.write(store.batch, Self::DURABILITY) {
                Ok(pending) => {
                    let received = received?;
                    pending.await?;
                    return Ok(received);
                }
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The state that these events make up, written so that [`Incoming`](crate::Incoming) and
    /// [`Snapshot`](crate::Snapshot) can refer to it. Rejected events are left out: they set no state.
    ///
    /// # Errors
    /// `M_BAD_JSON` if one of them is not here, of another room or no state event, if two set the same, or if none of them
    /// created the room.
    pub async fn state_of(&self, room_id: &RoomId, events: &[OwnedEventId]) -> Result<StateRoot> {
        let mut batch = self.db.batch();
        let mut entries = std::collections::BTreeMap::new();
        let mut has_create = false;
        for id in events {
            let known = self.events.by_id(&batch, self.intern(), id)?;
            let (short, pdu) = known
                .filter(|(_, pdu)| pdu.room_id == room_id)
                .ok_or_else(|| Error::bad_json("the state has an event that is not here"))?;
            let Some((event_type, state_key)) = pdu.state_tuple() else {
                return Err(Error::bad_json("the state has an event that is not a state event"));
            };
            if pdu.rejected {
                continue;
            }
            has_create |= event_type == StateEventType::RoomCreate;
            let key = self.intern().state_key(&event_type, &state_key, &mut batch)?;
            if entries.insert(key, short).is_some_and(|other| other != short) {
                return Err(Error::bad_json("the state has two events for one state key"));
            }
        }
        if !has_create {
            return Err(Error::bad_json("the state has no create event"));
        }
        let root = self.states.from_entries(&mut batch, entries)?;
        self.db.write(batch, Self::DURABILITY)?.await?;
        Ok(root)
    }
}

/// A batch of outliers.
struct Outliers<'a> {
    rooms: &'a Graph,
    batch: Batch,
    room: ShortRoomId,
    room_id: &'a RoomId,
    version: &'a RoomVersionId,
    rules: &'a ruma::room_version_rules::RoomVersionRules,
}

impl Outliers<'_> {
    fn receive(&mut self, event: &Verified) -> Result<Received> {
        let pdu = event.pdu();
        let id = pdu.event_id.clone();
        if *pdu.room_id != *self.room_id {
            return Ok(Received::Dropped(id, "it is an event of another room".to_owned()));
        }
        let short = self.rooms.intern().event(&id, &mut self.batch)?;
        let known = self.batch.read_for_update(&STORED_BY_EVENT, &short)?;
        if known.is_some_and(|stored| !stored.rejected) {
            return Ok(Received::Known(id));
        }
        if self.batch.contains(&PLACE_BY_EVENT, &short)? {
            // Rejected by the state around it, or before something it rests on was accepted.
            return Ok(Received::Known(id));
        }
        let auth = self.missing(pdu)?;
        if !auth.is_empty() {
            return Ok(Received::Missing(Gaps { prev: Vec::new(), auth }));
        }
        let verdict = self.judge(event)?;
        self.store(event, short, verdict.is_err())?;
        Ok(verdict.map_or_else(
            |reason| Received::Rejected(id.clone(), reason),
            |()| Received::Outlier(id.clone()),
        ))
    }

    /// The events it rests on that are not stored. Since version 12 the create event is one of them without being
    /// named.
    fn missing(&self, pdu: &Pdu) -> Result<Vec<OwnedEventId>> {
        let mut needed = pdu.auth_events.clone();
        if rules::room_id_is_create_hash(self.rules)
            && pdu.event_type != TimelineEventType::RoomCreate
        {
            needed.push(rules::create_of_room(self.room_id)?);
        }
        let mut missing = Vec::new();
        for id in &needed {
            let short = self.rooms.intern().lookup_event(&self.batch, id)?;
            let is_stored = match short {
                Some(short) => self.batch.contains(&STORED_BY_EVENT, &short)?,
                None => false,
            };
            if !is_stored {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }

    fn judge(&self, event: &Verified) -> Result<auth::Verdict> {
        let pdu = event.pdu();
        if pdu.event_type != TimelineEventType::RoomCreate {
            let chain = auth::Chain { rooms: self.rooms, batch: &self.batch, rules: self.rules };
            return chain.judge(pdu);
        }
        // In a room that is here there is no second one.
        let head = self.batch.get(&HEAD_BY_ROOM, &self.room)?;
        let create = head.map(|head| head.create);
        let short = self.rooms.intern().lookup_event(&self.batch, &pdu.event_id)?;
        if create.is_some() && create != short {
            return Ok(Err("a room is created once".to_owned()));
        }
        Ok(auth::check_create(pdu, self.version, self.rules))
    }

    fn store(&mut self, event: &Verified, short: ShortEventId, rejected: bool) -> Result<()> {
        let pdu = event.pdu();
        let stored = StoredEvent {
            event_id: pdu.event_id.clone(),
            room_id: pdu.room_id.clone(),
            rejected,
            json: pdu.json.get().to_owned(),
        };
        self.batch.put(&STORED_BY_EVENT, &short, &stored);
        self.batch.put(&PLACE_BY_EVENT, &short, &Place::outlier(self.room));
        if let Some((event_type, state_key)) = pdu.state_tuple() {
            // So that the batches of the state and of the room itself are small.
            self.rooms.intern().state_key(&event_type, &state_key, &mut self.batch)?;
            let user = <&UserId>::try_from(state_key.as_str());
            if let (StateEventType::RoomMember, Ok(user)) = (event_type, user) {
                self.rooms.intern().user(user, &mut self.batch)?;
            }
        }
        resolve::note_order(self.rooms, &mut self.batch, self.room, (short, pdu))
    }
}
