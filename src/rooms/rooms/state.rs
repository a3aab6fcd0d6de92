//! The state of a room: setting a piece of it, reading it.
//!
//! Invariant: who says what is already the case is told of the event that says so, and nothing new
//! is written; unless the event would expire, since then it counts anew.

use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Draft, Error, Result, StateRoot};
use wick_database::{Read, Snapshot, schema::room::REDACTION_BY_EVENT};
use wick_room::{Assembly, Effects, render::Show, visibility::Viewer};

use super::{
    Rooms, Sent, content, ensure_joined,
    event_request::{EventRequest, SendOutcome, append},
    not_joined, power,
};

/// A piece of state to set.
pub struct SendState {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: StateEventType,
    /// Which of that type.
    pub state_key: String,
    /// What it is to say.
    pub content: Box<RawValue>,
}

/// In which form to show a piece of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFormat {
    /// Its content alone.
    Content,
    /// The whole event.
    Event,
}

impl Rooms {
    /// Sets a piece of a room's state.
    ///
    /// # Errors
    /// `M_BAD_JSON` if the content is no canonical JSON or none for its type, `M_TOO_LARGE`,
    /// `M_FORBIDDEN` if the sender may not, `M_BAD_ALIAS`.
    pub async fn set_state(&self, session: &Session, state: SendState) -> Result<Sent> {
        let SendState { room_id, event_type, state_key, content } = state;
        let event_type = TimelineEventType::from(event_type.to_string());
        let request = EventRequest::read(event_type, Some(state_key), &content)?;
        request.ensure_possible()?;
        self.change(&room_id, |room| {
            self.append_requested(room, &session.user_id, request.clone(), Effects::default())
        })
        .await
        .map(SendOutcome::into_sent)
    }

    /// Appends a state event that is no membership.
    pub(super) fn append_state(
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
            && let Some(same) = already_said(room, sender, &event_type, &state_key, &content)?
        {
            return Ok(SendOutcome::already(same));
        }
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        let draft = Draft::state(room_id, sender, event_type, state_key, content);
        append(room, draft, effects, prepared)
    }

    /// What the auth rules do not ask of a content.
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
    pub(super) fn append_requested_member(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &UserId,
        content: CanonicalJsonObject,
        effects: Effects,
    ) -> Result<SendOutcome> {
        // Refuses what would expire.
        let (mut content, _) = self.prepare(sender, &TimelineEventType::RoomMember, content)?;
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

    /// The whole state of a room as the session's user may see it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they may see none of it.
    pub fn state(&self, session: &Session, room_id: &RoomId) -> Result<Vec<Box<RawValue>>> {
        let read = self.resources.database.published();
        let (mut viewer, root) = self.readable_state(&read, session, room_id)?;
        let state = self.graph.states().collect(&read, root)?;
        state.into_iter().map(|(_, event)| viewer.show(event, Show::CLIENT)).collect()
    }

    /// One piece of a room's state.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the session's user may see none of it, `M_NOT_FOUND` if it is not there.
    pub fn state_event(
        &self,
        session: &Session,
        room_id: &RoomId,
        (event_type, state_key): (&StateEventType, &str),
        format: StateFormat,
    ) -> Result<Box<RawValue>> {
        let read = self.resources.database.published();
        let (mut viewer, root) = self.readable_state(&read, session, room_id)?;
        let event = self
            .graph
            .state_event_at(&read, root, event_type, state_key)?
            .ok_or_else(|| Error::not_found("the room has no such state"))?;
        let shown = viewer.show(event, Show::CLIENT)?;
        match format {
            StateFormat::Event => Ok(shown),
            StateFormat::Content => serde_json::from_str::<Shown>(shown.get())
                .map(|shown| shown.content)
                .map_err(|error| Error::internal("a shown event cannot be read", error)),
        }
    }

    /// The latest state of a room that the session's user may know, with the viewer that shows it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none, which looks the same as a room that is not here.
    fn readable_state<'a>(
        &'a self,
        read: &'a Snapshot,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<(Viewer<'a>, StateRoot)> {
        let room = self.graph.short(read, room_id)?.ok_or_else(not_joined)?;
        let device = Some(&*session.device_id);
        let mut viewer = Viewer::new(&self.graph, read, room, &session.user_id, device)?;
        let root = viewer.latest_state()?.ok_or_else(not_joined)?;
        Ok((viewer, root))
    }
}

#[derive(Deserialize)]
struct Shown {
    content: Box<RawValue>,
}

/// The present event, if it says the same in the same name.
fn already_said(
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
        // What was redacted says nothing any more.
        && !room.batch().contains(&REDACTION_BY_EVENT, &short)?;
    Ok(same.then(|| event.event_id.clone()))
}
