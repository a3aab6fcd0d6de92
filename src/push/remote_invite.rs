//! An invite to a room that is not here, as it is stored.
//!
//! Invariant (R13): nothing is read of the room but what came with the invite.

use ruma::{OwnedRoomAliasId, OwnedUserId, events::TimelineEventType};
use serde::Deserialize;
use serde_json::value::RawValue;
use wick_core::{Error, Result};
use wick_database::schema::remote::RemoteMembership;
use wick_room::remote_sender;

/// The invite, with the state that came with it.
pub(crate) struct StoredInvite {
    /// The event.
    pub(crate) json: Box<RawValue>,
    /// The inviter.
    pub(crate) sender: OwnedUserId,
    /// Its content.
    pub(crate) content: Box<RawValue>,
    state: Vec<Stripped>,
}

#[derive(Deserialize)]
struct Stripped {
    #[serde(rename = "type")]
    event_type: TimelineEventType,
    state_key: String,
    content: Content,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    alias: Option<OwnedRoomAliasId>,
    #[serde(default)]
    displayname: Option<String>,
}

impl StoredInvite {
    /// # Errors
    /// If what is stored cannot be read.
    pub(crate) fn read(membership: &RemoteMembership) -> Result<Self> {
        #[derive(Deserialize)]
        struct Event {
            content: Box<RawValue>,
        }
        let unreadable = |error| Error::internal("a stored invite", error);
        let sender = remote_sender(membership)?;
        let Event { content } = serde_json::from_str(&membership.event).map_err(unreadable)?;
        let json = RawValue::from_string(membership.event.clone()).map_err(unreadable)?;
        // Another server can have sent anything as state.
        let state = membership.state.iter().filter_map(|event| serde_json::from_str(event).ok());
        Ok(Self { json, sender, content, state: state.collect() })
    }

    fn state(&self, event_type: &TimelineEventType, state_key: &str) -> Option<&Content> {
        let is_it =
            |event: &&Stripped| event.event_type == *event_type && event.state_key == state_key;
        self.state.iter().find(is_it).map(|event| &event.content)
    }

    /// The room's canonical alias.
    pub(crate) fn alias(&self) -> Option<&OwnedRoomAliasId> {
        self.state(&TimelineEventType::RoomCanonicalAlias, "")?.alias.as_ref()
    }

    /// The inviter's display name.
    pub(crate) fn sender_name(&self) -> Option<&String> {
        let member = self.state(&TimelineEventType::RoomMember, self.sender.as_str())?;
        member.displayname.as_ref().filter(|name| !name.is_empty())
    }

    /// The name of the room: as it is called, or after the inviter.
    pub(crate) fn room_name(&self) -> String {
        let name = self.state(&TimelineEventType::RoomName, "").and_then(|name| name.name.clone());
        name.filter(|name| !name.is_empty())
            .or_else(|| self.alias().map(ToString::to_string))
            .or_else(|| self.sender_name().cloned())
            .unwrap_or_else(|| self.sender.to_string())
    }
}
