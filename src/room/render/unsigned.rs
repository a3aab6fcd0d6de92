//! `unsigned`, computed for each viewer.

use ruma::events::TimelineEventType;
use serde_json::json;
use wick_core::{Pdu, Result, ShortEventId, clock::millis};
use wick_database::{
    Read,
    schema::{
        delayed::DELAY_ID_BY_EVENT,
        room::{Membership, Place, REDACTION_BY_EVENT},
    },
};

use super::{push_member, shared::Shared};
use crate::visibility::Viewer;

impl Viewer<'_> {
    /// Everything but the aggregations.
    pub(super) fn push_unsigned(
        &mut self,
        json: &mut String,
        short: ShortEventId,
        pdu: &Pdu,
        place: &Place,
        shared: &Shared,
    ) -> Result<()> {
        let now = i128::from(self.rooms.clock.now().0);
        let age = i64::try_from(now - i128::from(pdu.origin_server_ts.0)).unwrap_or(0);
        push_member(json, "age", &age)?;
        if !place.is_outlier() {
            let membership = membership_name(self.membership_at(pdu, place)?);
            push_member(json, "membership", membership)?;
        }
        self.push_senders_own(json, short, pdu, place)?;
        push_members(json, &shared.unsigned);
        if pdu.sticky_duration.is_some() && !shared.redacted {
            self.push_sticky(json, place)?;
        }
        // An event can be in a state that the viewer may see, and have replaced one that they may not.
        if !shared.previous.is_empty() && self.can_see(pdu, place)? {
            push_members(json, &shared.previous);
        }
        match shared.redaction {
            Some(redaction) => self.push_redaction(json, redaction),
            None => Ok(()),
        }
    }

    /// What is for the sender alone: the transaction id, for the device that used it, and the handle of
    /// the delayed event that the event was (MSC4140).
    fn push_senders_own(
        &self,
        json: &mut String,
        short: ShortEventId,
        pdu: &Pdu,
        place: &Place,
    ) -> Result<()> {
        if pdu.sender != self.user_id {
            return Ok(());
        }
        if let Some(echo) = &place.transaction
            && self.device_id.as_ref().is_some_and(|device| device.as_str() == echo.device_id)
        {
            push_member(json, "transaction_id", &echo.transaction_id)?;
        }
        if let Some(delay_id) = self.read.get(&DELAY_ID_BY_EVENT, &short)? {
            for key in ["delay_id", "org.matrix.msc4140.delay_id"] {
                push_member(json, key, &delay_id)?;
            }
        }
        Ok(())
    }

    /// For how long the event is still sticky (MSC4354), by the name that clients know and by the present one.
    fn push_sticky(&self, json: &mut String, place: &Place) -> Result<()> {
        let Some(left) = self.rooms.sticky_left(self.read, place)? else { return Ok(()) };
        for key in ["msc4354_sticky_duration_ttl_ms", "sticky_duration_remaining_ms"] {
            push_member(json, key, &millis(left))?;
        }
        Ok(())
    }

    fn push_redaction(&mut self, json: &mut String, redaction: ShortEventId) -> Result<()> {
        // A redaction can itself be redacted; showing it without its `unsigned` ends the chain.
        let pdu = self.rooms.load_event(self.read, redaction)?;
        debug_assert_eq!(pdu.event_type, TimelineEventType::RoomRedaction);
        let Some(place) = self.rooms.place(self.read, redaction)? else { return Ok(()) };
        // The reason is included only if the redaction itself is visible to the viewer.
        let hidden = !self.can_see(&pdu, &place)?;
        let redacted = self.read.contains(&REDACTION_BY_EVENT, &redaction)?;
        let content = self.shown_content(&pdu, &place, hidden || redacted)?;
        let mut because = json!({
            "type": pdu.event_type,
            "content": &*content,
            "event_id": pdu.event_id,
            "sender": pdu.sender,
            "origin_server_ts": pdu.origin_server_ts.0,
            "room_id": pdu.room_id,
            "unsigned": {},
        });
        if let (Some(redacts), Some(fields)) = (&pdu.redacts, because.as_object_mut())
            && !redacted
        {
            fields.insert("redacts".to_owned(), json!(redacts));
        }
        push_member(json, "redacted_because", &because)
    }
}

/// Adds members that were written before to a JSON object.
fn push_members(json: &mut String, members: &str) {
    if !members.is_empty() {
        json.push(',');
        json.push_str(members);
    }
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
