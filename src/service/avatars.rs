//! The avatars of users and rooms, which stay however old they are.

use std::{collections::HashSet, sync::Arc};

use ruma::{
    MxcUri, OwnedMxcUri,
    events::{StateEventType, room::avatar::RoomAvatarEventContent},
};
use wick_core::{Error, Result};
use wick_database::{
    Database, Range, Read,
    schema::{room::HEAD_BY_ROOM, users::PROFILE_FIELD_BY_USER},
};
use wick_media::InUse;
use wick_people::profile::AVATAR_URL;
use wick_room::Graph;

/// Reads the avatars of all profiles and rooms.
pub(crate) struct Avatars {
    database: Database,
    graph: Arc<Graph>,
}

impl Avatars {
    pub(crate) fn new(database: Database, graph: Arc<Graph>) -> Self {
        Self { database, graph }
    }

    fn media_id(&self, uri: &MxcUri) -> Option<String> {
        let (server_name, media_id) = uri.parts().ok()?;
        (server_name == self.graph.server_name()).then(|| media_id.to_owned())
    }
}

impl InUse for Avatars {
    fn media_ids(&self) -> Result<HashSet<String>> {
        let read = self.database.published();
        let mut media_ids = HashSet::new();
        for row in read.scan(&PROFILE_FIELD_BY_USER, Range::all()) {
            let ((_, key), json) = row?;
            if key == AVATAR_URL {
                let uri: Option<OwnedMxcUri> = serde_json::from_str(&json)
                    .map_err(|error| Error::internal("stored profile field", error))?;
                media_ids.extend(uri.and_then(|uri| self.media_id(&uri)));
            }
        }
        for room in read.scan(&HEAD_BY_ROOM, Range::all()).keys() {
            let avatar = self.graph.state_event(&read, room?, &StateEventType::RoomAvatar, "")?;
            // A client can have written any content.
            let content = avatar.and_then(|event| {
                serde_json::from_str::<RoomAvatarEventContent>(event.content.get()).ok()
            });
            let uri = content.and_then(|content| content.url);
            media_ids.extend(uri.and_then(|uri| self.media_id(&uri)));
        }
        Ok(media_ids)
    }
}
