//! Which servers may take part in a room: `m.room.server_acl`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>

use ruma::{
    ServerName,
    events::{StateEventType, room::server_acl::RoomServerAclEventContent},
};
use wick_core::{Result, ShortRoomId};
use wick_database::Read;
use wick_room::Graph;

/// Whether a server may take part in a room. Names are compared without regard to case (MSC4436). A list that cannot be
/// read denies no server, as if there were none.
///
/// # Errors
/// If the database cannot be read.
pub fn is_allowed(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
    server: &ServerName,
) -> Result<bool> {
    let event = graph.state_event(read, room, &StateEventType::RoomServerAcl, "")?;
    let content = event.and_then(|event| event.content_as::<RoomServerAclEventContent>().ok());
    let Some(mut content) = content else { return Ok(true) };
    for pattern in content.allow.iter_mut().chain(&mut content.deny) {
        pattern.make_ascii_lowercase();
    }
    let lower = ServerName::parse(server.as_str().to_ascii_lowercase());
    Ok(lower.is_ok_and(|lower| content.is_allowed(&lower)))
}
