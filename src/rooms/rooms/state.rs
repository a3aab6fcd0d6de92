//! The state of a room: setting a piece of it, reading it.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use ruma::{
    OwnedRoomId, RoomId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_account::Session;
use wick_core::{Error, Result, StateRoot};
use wick_database::Snapshot;
use wick_room::{Effects, render::Show, visibility::Viewer};
use wick_runtime::Limit;

use super::{Rooms, Sent, append::SendOutcome, event_request::EventRequest, not_joined};

/// A piece of state to set.
pub struct SendState {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: StateEventType,
    /// Which of that type.
    pub state_key: String,
    /// Its content.
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
        // Changes of membership count as what they are.
        if request.event_type != TimelineEventType::RoomMember {
            self.resources.limits.ensure(Limit::Messages, &session.user_id)?;
        }
        self.change(&room_id, |room| {
            self.append_requested(room, &session.user_id, request.clone(), Effects::default())
        })
        .await
        .map(SendOutcome::into_sent)
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
    /// `M_FORBIDDEN` if there is none, which looks the same as an unknown room.
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
