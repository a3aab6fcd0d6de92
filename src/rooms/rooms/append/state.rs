//! Appending state.
//!
//! Invariant: the existing event is returned if nothing would change; unless the event would expire, since
//! then its time begins anew.

use ruma::{
    OwnedEventId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use wick_core::{Draft, Error, Result};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{Assembly, Effects};

use super::{SendOutcome, append};
use crate::rooms::{Rooms, content, ensure_joined, power};

impl Rooms {
    /// Appends a state event that is no membership.
    pub(in crate::rooms) fn append_state(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        (event_type, state_key, content): (StateEventType, String, CanonicalJsonObject),
        effects: Effects,
    ) -> Result<SendOutcome> {
        ensure_joined(room, sender)?;
        self.ensure_content(room, &event_type, &state_key, &content)?;
        let timeline_type = TimelineEventType::from(event_type.to_string());
        let (content, prepared) = self.prepare(sender, &timeline_type, content)?;
        if prepared.is_none()
            && let Some(same) = existing_state(room, sender, &event_type, &state_key, &content)?
        {
            return Ok(SendOutcome::existing(same));
        }
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        let draft = Draft::state(room_id, sender, event_type, state_key, content);
        append(room, draft, effects, prepared)
    }

    /// Checks of a content that the auth rules do not include.
    fn ensure_content(
        &self,
        room: &mut Assembly<'_>,
        event_type: &StateEventType,
        state_key: &str,
        content: &CanonicalJsonObject,
    ) -> Result<()> {
        match event_type {
            StateEventType::RoomPowerLevels if state_key.is_empty() => {
                let create = room
                    .state_event(&StateEventType::RoomCreate, "")?
                    .ok_or_else(|| Error::corrupt("a room has no create event"))?;
                power::ensure(content, room.rules(), &power::creators(&create, room.rules()))
            }
            StateEventType::RoomCanonicalAlias if state_key.is_empty() => {
                self.ensure_aliases(room, content)
            }
            _ => Ok(()),
        }
    }

    /// Appends a member event.
    pub(in crate::rooms) fn append_requested_member(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &UserId,
        mut content: CanonicalJsonObject,
        effects: Effects,
    ) -> Result<SendOutcome> {
        match content::text(&content, "membership").map(MembershipState::from) {
            Some(MembershipState::Invite) => {
                let invitation = self.invitation(target, None, false)?;
                invitation.into_iter().for_each(|(key, value)| {
                    content.entry(key).or_insert(value);
                });
            }
            Some(MembershipState::Join | MembershipState::Knock) => {
                self.fill_in_profile(&mut content, target)?;
            }
            _ => {}
        }
        self.append_member_with(room, sender, target, content, effects)
    }
}

/// The present event, if it has the same content and sender.
fn existing_state(
    room: &mut Assembly<'_>,
    sender: &UserId,
    event_type: &StateEventType,
    state_key: &str,
    content: &CanonicalJsonObject,
) -> Result<Option<OwnedEventId>> {
    let Some(short) = room.state_event_short(event_type, state_key)? else { return Ok(None) };
    let Some(event) = room.state_event(event_type, state_key)? else { return Ok(None) };
    let same = event.sender == sender
        && content::is_same(&event, content)
        // Redacted state can be set again.
        && !room.batch().contains(&REDACTION_BY_EVENT, &short)?;
    Ok(same.then(|| event.event_id.clone()))
}
