//! Rooms that the user is invited to or knocks on, with the state that is shown of them.

use wick_core::{Result, ShortRoomId};
use wick_database::schema::room::MemberRow;
use wick_rooms::rooms::stripped_state;

use crate::{context::Context, events::Json};

/// The stripped state of an invite; `None` if the user does not want to see it.
///
/// # Errors
/// If the database cannot be read.
pub fn invite_state(
    context: &Context<'_>,
    room: ShortRoomId,
    member: &MemberRow,
) -> Result<Option<Vec<Json>>> {
    let invite = context.graph.load_event(&context.read, member.event)?;
    if !context.wants_invite_of(&invite.sender)? {
        return Ok(None);
    }
    knock_state(context, room).map(Some)
}

/// The stripped state of a room that the user knocks on.
///
/// # Errors
/// If the database cannot be read.
pub fn knock_state(context: &Context<'_>, room: ShortRoomId) -> Result<Vec<Json>> {
    stripped_state(context.graph, &context.read, room, &context.session.user_id)
}
