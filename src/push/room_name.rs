//! The name of a room in a notification, as clients compute it.
//!
//! Invariant (R13): an invited user gets nothing but what the invitation shows of the room: its name, its alias and the
//! inviter.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#calculating-the-display-name-for-a-room>

use std::collections::HashMap;

use ruma::{OwnedRoomAliasId, events::StateEventType};
use serde::{Deserialize, de::DeserializeOwned};
use wick_core::{Pdu, Result, ShortRoomId, ShortUserId};
use wick_database::{Read, schema::room::Membership};
use wick_room::{Graph, membership};

#[derive(Deserialize)]
struct NameContent {
    name: String,
}

#[derive(Deserialize)]
struct AliasContent {
    alias: OwnedRoomAliasId,
}

/// The canonical alias of a room.
pub(crate) fn alias(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
) -> Result<Option<OwnedRoomAliasId>> {
    let content: Option<AliasContent> =
        content(graph, read, room, &StateEventType::RoomCanonicalAlias)?;
    Ok(content.map(|content| content.alias))
}

/// The name of a room for a user: by its name, its alias or its heroes. `event` is the event that is sent, which for an
/// invited user is the invitation.
pub(crate) fn room_name(
    graph: &Graph,
    read: &impl Read,
    (room, user): (ShortRoomId, ShortUserId),
    event: &Pdu,
) -> Result<String> {
    let named: Option<NameContent> = content(graph, read, room, &StateEventType::RoomName)?;
    if let Some(NameContent { name }) = named.filter(|content| !content.name.is_empty()) {
        return Ok(name);
    }
    if let Some(alias) = alias(graph, read, room)? {
        return Ok(alias.into());
    }
    let member = graph.member(read, room, user)?;
    if member.is_none_or(|member| member.membership != Membership::Join) {
        let inviter =
            graph.state_event(read, room, &StateEventType::RoomMember, event.sender.as_str())?;
        return Ok(name_after(&[name_of(inviter.as_deref(), event.sender.as_str())], 1));
    }
    let counts = graph.head(read, room)?.map(|head| head.counts).unwrap_or_default();
    let mut names = Vec::new();
    for (hero, event) in graph.heroes(read, room, user, counts)? {
        let user_id = graph.user_id(read, hero)?;
        names.push(name_of(Some(&*graph.load_event(read, event)?), user_id.as_str()));
    }
    let others = counts.joined.saturating_add(counts.invited).saturating_sub(1);
    Ok(name_after(&names, others))
}

fn content<T: DeserializeOwned>(
    graph: &Graph,
    read: &impl Read,
    room: ShortRoomId,
    event_type: &StateEventType,
) -> Result<Option<T>> {
    let event = graph.state_event(read, room, event_type, "")?;
    Ok(event.and_then(|event| event.content_as().ok()))
}

/// A member's display name, if they have one, and their user id.
fn name_of(member: Option<&Pdu>, user_id: &str) -> (Option<String>, String) {
    let content = member.and_then(|event| membership::content(event).ok());
    let name = content.and_then(|content| content.displayname().map(ToOwned::to_owned));
    (name.filter(|name| !name.is_empty()), user_id.to_owned())
}

/// The name of a room after its heroes, with `others` members besides the user.
fn name_after(heroes: &[(Option<String>, String)], others: u64) -> String {
    let mut times = HashMap::new();
    for (name, _) in heroes {
        *times.entry(name.as_deref()).or_insert(0_u32) += 1;
    }
    let mut parts: Vec<_> = heroes
        .iter()
        .map(|(name, user_id)| match name {
            Some(name) if times.get(&Some(name.as_str())).is_some_and(|times| *times > 1) => {
                format!("{name} ({user_id})")
            }
            Some(name) => name.clone(),
            None => user_id.clone(),
        })
        .collect();
    let listed = u64::try_from(parts.len()).unwrap_or(u64::MAX);
    match others.saturating_sub(listed) {
        0 => {}
        1 => parts.push("1 other".to_owned()),
        rest => parts.push(format!("{rest} others")),
    }
    let listed = match parts.as_slice() {
        [] => return "Empty Room".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    };
    if others == 0 { format!("Empty Room (was {listed})") } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], others: u64) -> String {
        let heroes: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                (Some((*name).to_owned()).filter(|name| !name.is_empty()), format!("@{number}:x"))
            })
            .collect();
        name_after(&heroes, others)
    }

    #[test]
    fn a_room_is_named_after_its_heroes_and_the_number_of_other_members() {
        for (names, others, expected) in [
            (&["Alice"][..], 1, "Alice"),
            (&["Alice", "Bob"], 2, "Alice and Bob"),
            (&["Alice", "", "Carol"], 3, "Alice, @1:x, and Carol"),
            (&["Alice", "Bob"], 3, "Alice, Bob, and 1 other"),
            (&["Alice", "Bob"], 1_236, "Alice, Bob, and 1234 others"),
            (&["Alice", "Alice"], 2, "Alice (@0:x) and Alice (@1:x)"),
            (&["Alice"], 0, "Empty Room (was Alice)"),
            (&[], 0, "Empty Room"),
        ] {
            assert_eq!(named(names, others), expected);
        }
    }
}
