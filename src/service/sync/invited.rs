//! Rooms that the user is invited to or knocks on, and what they may see of them.

use ruma::events::StateEventType;
use wick_core::{Result, ShortRoomId};
use wick_database::schema::room::MemberRow;
use wick_room::visibility::Viewer;

use super::{
    builder::Builder,
    response::{Events, InvitedRoom, Json, KnockedRoom},
};

/// The state that says what a room is.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#stripped-state>
const STRIPPED: [StateEventType; 8] = [
    StateEventType::RoomCreate,
    StateEventType::RoomJoinRules,
    StateEventType::RoomName,
    StateEventType::RoomTopic,
    StateEventType::RoomAvatar,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
    StateEventType::RoomHistoryVisibility,
];

impl Builder<'_> {
    /// An invite; `None` if it is by somebody whom the user ignores.
    pub(super) fn invited(
        &self,
        room: ShortRoomId,
        member: &MemberRow,
    ) -> Result<Option<InvitedRoom>> {
        let invite = self.graph.load_event(&self.read, member.event)?;
        if self.ignores(&invite.sender) {
            return Ok(None);
        }
        let mut events = self.stripped_state(room)?;
        let sender = invite.sender.as_str();
        let inviter =
            self.graph.state_event(&self.read, room, &StateEventType::RoomMember, sender)?;
        if let Some(inviter) = inviter.filter(|inviter| inviter.event_id != invite.event_id) {
            events.push(Viewer::stripped(&inviter)?);
        }
        events.push(Viewer::stripped(&invite)?);
        Ok(Some(InvitedRoom { invite_state: Events { events } }))
    }

    /// A knock.
    pub(super) fn knocked(&self, room: ShortRoomId, member: &MemberRow) -> Result<KnockedRoom> {
        let knock = self.graph.load_event(&self.read, member.event)?;
        let mut events = self.stripped_state(room)?;
        events.push(Viewer::stripped(&knock)?);
        Ok(KnockedRoom { knock_state: Events { events } })
    }

    fn stripped_state(&self, room: ShortRoomId) -> Result<Vec<Json>> {
        let mut events = Vec::new();
        for event_type in &STRIPPED {
            if let Some(event) = self.graph.state_event(&self.read, room, event_type, "")? {
                events.push(Viewer::stripped(&event)?);
            }
        }
        Ok(events)
    }
}
