//! The users who come into the client's sight and go out of it, by what changed in the rooms.

use std::collections::{BTreeSet, HashSet};

use ruma::UserId;
use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::schema::room::Membership;
use wick_room::{membership, state::StateChange};

use crate::context::Context;

/// The users who come into sight, or go out of it, with a response.
#[derive(Debug, Default)]
pub struct RosterChanges {
    /// The rooms the user is in.
    pub joined: HashSet<ShortRoomId>,
    /// Rooms among them that are new to a client that has synced before.
    pub rooms: Vec<ShortRoomId>,
    /// Rooms that the user is not in any more.
    pub left_rooms: Vec<ShortRoomId>,
    /// Users who came into a room that the client has.
    pub users: BTreeSet<ShortUserId>,
    /// Users who left one.
    pub left: BTreeSet<ShortUserId>,
}

impl RosterChanges {
    /// Notes a member event that changed in a room that the client has.
    pub(crate) fn note(
        &mut self,
        context: &Context<'_>,
        user_id: &str,
        change: &StateChange,
    ) -> Result<()> {
        let Ok(user_id) = <&UserId>::try_from(user_id) else { return Ok(()) };
        let (before, now) = (is_join(context, change.old)?, is_join(context, change.new)?);
        if before == now {
            return Ok(());
        }
        let user = context.graph.intern().lookup_user(&context.read, user_id)?;
        if now {
            self.users.extend(user);
        } else {
            self.left.extend(user);
        }
        Ok(())
    }
}

fn is_join(context: &Context<'_>, event: Option<ShortEventId>) -> Result<bool> {
    let Some(event) = event else { return Ok(false) };
    let pdu = context.graph.load_event(&context.read, event)?;
    Ok(membership::of(&pdu) == Some(Membership::Join))
}
