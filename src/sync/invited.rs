//! Rooms that the user is invited to or knocks on, and what they may see of them.

use wick_core::{Result, ShortRoomId};
use wick_database::schema::room::MemberRow;
use wick_rooms::rooms::stripped_state;

use super::{
    builder::Builder,
    response::{Events, InvitedRoom, Json, KnockedRoom},
};

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
        let events = self.stripped(room)?;
        Ok(Some(InvitedRoom { invite_state: Events { events } }))
    }

    /// A knock.
    pub(super) fn knocked(&self, room: ShortRoomId) -> Result<KnockedRoom> {
        Ok(KnockedRoom { knock_state: Events { events: self.stripped(room)? } })
    }

    fn stripped(&self, room: ShortRoomId) -> Result<Vec<Json>> {
        stripped_state(self.graph, &self.read, room, &self.session.user_id)
    }
}
