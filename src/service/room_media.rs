//! The media that events of a room refer to.
//!
//! Invariants: member events do not count, whose avatars users have elsewhere, too; what is encrypted is not known here.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{RoomId, ServerName, events::TimelineEventType};
use wick_core::{Error, Result};
use wick_media::MediaName;
use wick_room::Direction;

use crate::Services;

/// How many events are read at once.
const EVENTS: usize = 1000;

const SCHEME: &str = "mxc://";

/// A part of the media of a room.
pub struct RoomMedia {
    /// Media of this and other servers.
    pub media: BTreeSet<MediaName>,
    /// Where the next part begins; `None` if there is none.
    pub next: Option<i64>,
}

impl Services {
    /// The media that a portion of the events of a room refer to, behind the place `after`.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room.
    pub async fn room_media(&self, room_id: &RoomId, after: i64) -> Result<RoomMedia> {
        let room = self.graph.short(&self.database.published(), room_id)?;
        let room = room.ok_or_else(|| Error::not_found("there is no such room"))?;
        let (database, graph) = (self.database.clone(), Arc::clone(&self.graph));
        let read = move || {
            let read = database.published();
            let mut part = RoomMedia { media: BTreeSet::new(), next: None };
            let items = graph.timeline(&read, room, after, Direction::Forward).take(EVENTS);
            for (number, item) in items.enumerate() {
                let item = item?;
                let event = graph.load_event(&read, item.event)?;
                if event.event_type != TimelineEventType::RoomMember {
                    part.media.extend(mentioned(event.content.get()));
                }
                part.next = (number.saturating_add(1) == EVENTS).then_some(item.place);
            }
            Ok(part)
        };
        let part = tokio::task::spawn_blocking(read).await;
        part.map_err(|error| Error::internal("the media of a room", error))?
    }
}

/// The media that a text refers to by `mxc` URIs.
fn mentioned(text: &str) -> impl Iterator<Item = MediaName> {
    text.split(SCHEME).skip(1).filter_map(|rest| {
        let (server_name, rest) = rest.split_once('/')?;
        let is_sign = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_');
        let end = rest.find(|sign| !is_sign(sign)).unwrap_or(rest.len());
        let (media_id, _) = rest.split_at_checked(end)?;
        let server_name = ServerName::parse(server_name).ok()?;
        (!media_id.is_empty()).then(|| (server_name, media_id.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_found_wherever_they_are_in_a_content() {
        let text = r#"{"url":"mxc://a.test/one","formatted_body":"<img src='mxc://[::1]:80/t-w_o'/>mxc://b.test/",
            "c":"mxc://","d":"mxc://not a name/three"}"#;
        let found: Vec<_> =
            mentioned(text).map(|(server, media_id)| format!("{server} {media_id}")).collect();
        assert_eq!(found, ["a.test one", "[::1]:80 t-w_o"]);
    }
}
