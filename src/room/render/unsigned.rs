//! `unsigned`, computed for the one who reads.

use ruma::events::TimelineEventType;
use serde_json::{Map, Value, json};
use wick_core::{Error, Pdu, Result, ShortEventId};
use wick_database::{
    Read,
    schema::{
        delayed::DELAY_ID_BY_EVENT,
        room::{Membership, Place, REDACTION_BY_EVENT},
        timer::{EXPIRY_BY_EVENT, ExpiryStatus},
    },
};
use wick_ruma::WILL_EXPIRE;

use super::Show;
use crate::visibility::Viewer;

impl Viewer<'_> {
    /// Everything but the aggregations.
    pub(super) fn unsigned(
        &mut self,
        short: ShortEventId,
        pdu: &Pdu,
        place: &Place,
        redaction: Option<ShortEventId>,
    ) -> Result<Map<String, Value>> {
        let mut unsigned = Map::new();
        let now = i128::from(self.rooms.clock.now().0);
        let age = i64::try_from(now - i128::from(pdu.origin_server_ts.0)).unwrap_or(0);
        unsigned.insert("age".to_owned(), json!(age));
        let membership = self.membership_at(pdu, place)?;
        unsigned.insert("membership".to_owned(), json!(membership_name(membership)));

        if let Some(echo) = &place.transaction
            && pdu.sender == self.user_id
            && self.device_id.as_ref().is_some_and(|device| device.as_str() == echo.device_id)
        {
            unsigned.insert("transaction_id".to_owned(), json!(echo.transaction_id));
        }
        self.add_delay_id(&mut unsigned, short, pdu)?;
        self.add_previous(&mut unsigned, pdu, place)?;
        match redaction {
            Some(redaction) => self.add_redaction(&mut unsigned, redaction)?,
            None => self.add_expiry(&mut unsigned, short)?,
        }
        Ok(unsigned)
    }

    /// The handle of the delayed event that the event was, for its sender alone (MSC4140).
    fn add_delay_id(
        &mut self,
        unsigned: &mut Map<String, Value>,
        short: ShortEventId,
        pdu: &Pdu,
    ) -> Result<()> {
        if pdu.sender == self.user_id
            && let Some(delay_id) = self.read.get(&DELAY_ID_BY_EVENT, &short)?
        {
            for key in ["delay_id", "org.matrix.msc4140.delay_id"] {
                unsigned.insert(key.to_owned(), json!(delay_id));
            }
        }
        Ok(())
    }

    /// What a state event replaced, for those who may see the event itself: it may be part of a state
    /// they know and have replaced something that they don't.
    fn add_previous(
        &mut self,
        unsigned: &mut Map<String, Value>,
        pdu: &Pdu,
        place: &Place,
    ) -> Result<()> {
        let Some((event_type, state_key)) = pdu.state_tuple() else { return Ok(()) };
        let previous =
            self.rooms.state_event_at(self.read, place.before, &event_type, &state_key)?;
        let Some(previous) = previous else { return Ok(()) };
        if !self.can_see(pdu, place)? {
            return Ok(());
        }
        let previous_pdu = self.rooms.load_event(self.read, previous)?;
        let content = if self.read.contains(&REDACTION_BY_EVENT, &previous)? {
            self.redacted_content(&previous_pdu, place)?
        } else {
            previous_pdu.content.clone()
        };
        unsigned.insert("replaces_state".to_owned(), json!(previous_pdu.event_id));
        unsigned.insert("prev_sender".to_owned(), json!(previous_pdu.sender));
        unsigned.insert("prev_content".to_owned(), to_value(&content)?);
        Ok(())
    }

    fn add_redaction(
        &mut self,
        unsigned: &mut Map<String, Value>,
        redaction: ShortEventId,
    ) -> Result<()> {
        // A redaction can itself be redacted; showing it without its `unsigned` ends the chain.
        let pdu = self.rooms.load_event(self.read, redaction)?;
        debug_assert_eq!(pdu.event_type, TimelineEventType::RoomRedaction);
        let place = self.rooms.place(self.read, redaction)?;
        let Some(place) = place else { return Ok(()) };
        // The reason is for those who may see the redaction itself.
        let hidden = !self.can_see(&pdu, &place)?;
        let content = if hidden || self.read.contains(&REDACTION_BY_EVENT, &redaction)? {
            self.redacted_content(&pdu, &place)?
        } else {
            pdu.content.clone()
        };
        let mut because = json!({
            "type": pdu.event_type,
            "content": to_value(&content)?,
            "event_id": pdu.event_id,
            "sender": pdu.sender,
            "origin_server_ts": pdu.origin_server_ts.0,
            "room_id": pdu.room_id,
            "unsigned": {},
        });
        if let (Some(redacts), Some(fields)) = (&pdu.redacts, because.as_object_mut()) {
            fields.insert("redacts".to_owned(), json!(redacts));
        }
        unsigned.insert("redacted_because".to_owned(), because);
        Ok(())
    }

    fn add_expiry(&mut self, unsigned: &mut Map<String, Value>, short: ShortEventId) -> Result<()> {
        let Some(expiry) = self.read.get(&EXPIRY_BY_EVENT, &short)? else { return Ok(()) };
        let status = match expiry.status {
            ExpiryStatus::Running => "running",
            ExpiryStatus::Expired => "expired",
            ExpiryStatus::Ended => "ended",
        };
        let mut value = json!({ "status": status });
        if let (Some((event_id, ts)), Some(fields)) = (expiry.terminal, value.as_object_mut()) {
            fields.insert("event_id".to_owned(), json!(event_id));
            fields.insert("origin_server_ts".to_owned(), json!(ts));
        }
        unsigned.insert(WILL_EXPIRE.to_owned(), value);
        Ok(())
    }

    /// An event inside of another's `unsigned`, if the viewer may see it. One that is nested so deep that
    /// it cannot be read inside of another stays out, and the other is shown all the same.
    pub(super) fn nested(&mut self, short: ShortEventId, show: Show) -> Result<Option<Value>> {
        let event = self.show_if_visible(short, show)?;
        Ok(event.and_then(|event| serde_json::from_str(event.get()).ok()))
    }
}

fn to_value(json: &serde_json::value::RawValue) -> Result<Value> {
    serde_json::from_str(json.get())
        .map_err(|error| Error::internal("a stored content is not JSON", error))
}

/// A membership as the specification writes it.
#[must_use]
pub(crate) fn membership_name(membership: Membership) -> &'static str {
    match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Leave => "leave",
        Membership::Ban => "ban",
    }
}
