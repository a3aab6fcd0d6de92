//! Stripped state: what invited and knocking users can see of a room.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#stripped-state>

use ruma::{UserId, events::StateEventType};
use serde_json::value::RawValue;
use wick_core::{Result, ShortEventId, ShortRoomId};
use wick_database::Read;
use wick_room::Graph;

const SHOWN: [StateEventType; 7] = [
    StateEventType::RoomCreate,
    StateEventType::RoomName,
    StateEventType::RoomAvatar,
    StateEventType::RoomTopic,
    StateEventType::RoomJoinRules,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
];

/// The current state of a room in the stripped form, with the member events of the recipient and, if they
/// were invited, of the inviter.
///
/// # Errors
/// If the database cannot be read.
pub fn stripped_state(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
    user_id: &UserId,
) -> Result<Vec<Box<RawValue>>> {
    let shown = stripped_events(graph, read, room)?.into_iter();
    let mut shown = shown.map(|event| graph.stripped(read, event)).collect::<Result<Vec<_>>>()?;
    let member = |user_id: &UserId| {
        graph.state_event_short(read, room, &StateEventType::RoomMember, user_id.as_str())
    };
    if let Some(own) = member(user_id)? {
        let sender = &graph.load_event(read, own)?.sender;
        if sender != user_id
            && let Some(inviter) = member(sender)?
        {
            shown.push(graph.stripped(read, inviter)?);
        }
        shown.push(graph.stripped(read, own)?);
    }
    Ok(shown)
}

/// The events of the stripped state but for those of members.
///
/// # Errors
/// If the database cannot be read.
pub fn stripped_events(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
) -> Result<Vec<ShortEventId>> {
    let mut shown = Vec::new();
    for event_type in &SHOWN {
        let Some(short) = graph.state_event_short(read, room, event_type, "")? else { continue };
        // A redacted name is none.
        if graph.content(read, short)?.get() != "{}" {
            shown.push(short);
        }
    }
    Ok(shown)
}
