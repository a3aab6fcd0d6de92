//! Users that share a room newly, by what changed in the rooms.

use std::collections::BTreeSet;

use ruma::UserId;
use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::schema::room::Membership;
use wick_room::{membership, state::StateChange};

use crate::{context::Context, joined::JoinedRooms};

/// Users that share a room newly with a response.
#[derive(Debug, Default)]
pub struct RosterChanges {
    /// The rooms the user is in.
    pub joined: JoinedRooms,
    /// Rooms among them that are new to a client that has synced before.
    pub rooms: Vec<ShortRoomId>,
    /// Users that joined a room that the client has.
    pub users: BTreeSet<ShortUserId>,
}

impl RosterChanges {
    /// Notes a member event that changed in a room that the client has. Whether it changed a membership.
    pub(crate) fn note(
        &mut self,
        context: &Context<'_>,
        user_id: &str,
        change: &StateChange,
    ) -> Result<bool> {
        let (old, new) = (membership(context, change.old)?, membership(context, change.new)?);
        if old == new {
            return Ok(false);
        }
        let Ok(user_id) = <&UserId>::try_from(user_id) else { return Ok(true) };
        let user = context.graph.intern().lookup_user(&context.read, user_id)?;
        if new == Some(Membership::Join) {
            self.users.extend(user);
        }
        Ok(true)
    }
}

fn membership(context: &Context<'_>, event: Option<ShortEventId>) -> Result<Option<Membership>> {
    let Some(event) = event else { return Ok(None) };
    Ok(membership::of(&*context.graph.load_event(&context.read, event)?))
}
