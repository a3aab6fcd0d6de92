//! What a filter lets through.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#filtering>

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::filter::{Filter, RoomEventFilter, RoomFilter, UrlFilter},
};
use serde::{Deserialize, de::IgnoredAny};
use wick_core::Pdu;

/// Whether an event of a room passes.
#[must_use]
pub fn allows_event(filter: &RoomEventFilter, event: &Pdu) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, &event.event_type.to_string())
        && allows_user(filter.senders.as_deref(), &filter.not_senders, &event.sender)
        && filter.url_filter.is_none_or(|wanted| {
            let has_url = has_url(event);
            match wanted {
                UrlFilter::EventsWithUrl => has_url,
                UrlFilter::EventsWithoutUrl => !has_url,
            }
        })
}

/// Whether an event of this type passes, by whichever sender.
#[must_use]
pub fn allows_room_type(filter: &RoomEventFilter, event_type: &str) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, event_type)
}

/// Whether something outside of rooms, of this type and by this sender, passes.
#[must_use]
pub fn allows_global(filter: &Filter, event_type: &str, sender: &UserId) -> bool {
    allows_type(filter.types.as_deref(), &filter.not_types, event_type)
        && allows_user(filter.senders.as_deref(), &filter.not_senders, sender)
}

/// Whether events of this kind from the room pass.
#[must_use]
pub fn allows_events_of(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    allows_room_id(filter.rooms.as_deref(), &filter.not_rooms, room_id)
}

/// Whether anything from the room passes.
#[must_use]
pub fn allows_room(filter: &RoomFilter, room_id: &RoomId) -> bool {
    allows_room_id(filter.rooms.as_deref(), &filter.not_rooms, room_id)
}

fn allows_room_id(only: Option<&[OwnedRoomId]>, not: &[OwnedRoomId], room_id: &RoomId) -> bool {
    !not.iter().any(|id| id == room_id)
        && only.is_none_or(|only| only.iter().any(|id| id == room_id))
}

fn allows_user(only: Option<&[OwnedUserId]>, not: &[OwnedUserId], user_id: &UserId) -> bool {
    !not.iter().any(|id| id == user_id)
        && only.is_none_or(|only| only.iter().any(|id| id == user_id))
}

fn allows_type(only: Option<&[String]>, not: &[String], event_type: &str) -> bool {
    !not.iter().any(|pattern| matches(pattern, event_type))
        && only.is_none_or(|only| only.iter().any(|pattern| matches(pattern, event_type)))
}

/// Whether `text` matches the pattern, in which `*` matches anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Each part as early as it can be leaves the most for those after it.
    for part in middle.split('*') {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(tail)
}

fn has_url(event: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<IgnoredAny>,
    }
    event.content_as::<Content>().is_ok_and(|content| content.url.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("m.room.name", "m.room.name", true),
            ("m.room.name", "m.room.names", false),
            ("m.room.*", "m.room.name", true),
            ("m.room.*", "m.rooms", false),
            ("*", "", true),
            ("*name", "m.room.name", true),
            ("m.*.name", "m.room.name", true),
            ("m.*name", "m.name", true),
            ("a*a", "a", false),
            ("m.*o*o*m.*", "m.room.name", true),
            ("m.*x*", "m.room.name", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_excluded_is_out_even_if_it_is_included_too() {
        let both = ["m.a".to_owned(), "m.b".to_owned()];
        assert!(allows_type(Some(&both), &[], "m.a"));
        assert!(!allows_type(Some(&both), &["m.*".to_owned()], "m.a"));
        assert!(!allows_type(Some(&[]), &[], "m.a"));
        assert!(allows_type(None, &[], "m.a"));
    }
}
