//! The users who come into the client's sight, by what changed in the rooms.

use std::collections::{BTreeSet, HashSet};

use ruma::UserId;
use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::schema::room::Membership;
use wick_room::{membership, state::StateChange};

use crate::context::Context;

/// The users who come into sight with a response.
#[derive(Debug, Default)]
pub struct RosterChanges {
    /// The rooms the user is in.
    pub joined: HashSet<ShortRoomId>,
    /// Rooms among them that are new to a client that has synced before.
    pub rooms: Vec<ShortRoomId>,
    /// Users who came into a room that the client has.
    pub users: BTreeSet<ShortUserId>,
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
        if is_join(context, change.new)? && !is_join(context, change.old)? {
            self.users.extend(context.graph.intern().lookup_user(&context.read, user_id)?);
        }
        Ok(())
    }
}

fn is_join(context: &Context<'_>, event: Option<ShortEventId>) -> Result<bool> {
    let Some(event) = event else { return Ok(false) };
    let pdu = context.graph.load_event(&context.read, event)?;
    Ok(membership::of(&pdu) == Some(Membership::Join))
}
