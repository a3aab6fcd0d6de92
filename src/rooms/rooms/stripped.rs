//! What those who are invited or knock are shown of a room.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#stripped-state>

use ruma::{UserId, events::StateEventType};
use serde_json::value::RawValue;
use wick_core::{Result, ShortRoomId};
use wick_database::{Read, schema::room::REDACTION_BY_EVENT};
use wick_room::{Graph, visibility::Viewer};

const SHOWN: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

/// The current state of a room in the stripped form, with the member event of the one it is shown to
/// and of whoever invited them.
///
/// # Errors
/// If the database cannot be read.
pub fn stripped_state(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
    user_id: &UserId,
) -> Result<Vec<Box<RawValue>>> {
    let mut shown = Vec::new();
    for event_type in &SHOWN {
        if let Some(short) = graph.state_event_short(read, room, event_type, "")?
            // The text of a redacted name is nobody's to see.
            && (*event_type == StateEventType::RoomCreate
                || !read.contains(&REDACTION_BY_EVENT, &short)?)
        {
            shown.push(Viewer::stripped(&*graph.load_event(read, short)?)?);
        }
    }
    let own = graph.state_event(read, room, &StateEventType::RoomMember, user_id.as_str())?;
    if let Some(own) = own {
        if own.sender != user_id {
            let sender = own.sender.as_str();
            let inviter = graph.state_event(read, room, &StateEventType::RoomMember, sender)?;
            if let Some(inviter) = inviter {
                shown.push(Viewer::stripped(&inviter)?);
            }
        }
        shown.push(Viewer::stripped(&own)?);
    }
    Ok(shown)
}
