//! The tags of rooms: the room account data `m.tag`.

use std::collections::BTreeMap;

use ruma::{
    RoomId,
    events::tag::{TagInfo, TagName, Tags},
};
use serde::{Deserialize, Serialize};
use wick_core::{Error, Result, ShortUserId};

use super::{AccountData, content, put};

const TYPE: &str = "m.tag";
const MAX_TAG_BYTES: usize = 255;

#[derive(Default, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    tags: BTreeMap<String, TagInfo>,
}

impl AccountData {
    /// The tags a user gave a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn tags(&self, user: ShortUserId, room_id: &RoomId) -> Result<Tags> {
        let read = self.resources.database.published();
        let Some(room) = self.resources.database.intern().lookup_room(&read, room_id)? else {
            return Ok(Tags::default());
        };
        let tags = parse(content(&read, user, Some(room), TYPE)?).tags;
        Ok(tags.into_iter().map(|(name, info)| (TagName::from(name), info)).collect())
    }

    /// Gives a room a tag, or changes it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the tag is longer than 255 bytes.
    pub async fn set_tag(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
        tag: &str,
        info: TagInfo,
    ) -> Result<()> {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
            return Err(Error::invalid_param("a tag has 1 to 255 bytes"));
        }
        self.change_tags(user, room_id, |tags| {
            tags.insert(tag.to_owned(), info.clone());
            true
        })
        .await
    }

    /// Takes a tag away from a room; if it has none of that name, nothing happens.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn delete_tag(&self, user: ShortUserId, room_id: &RoomId, tag: &str) -> Result<()> {
        self.change_tags(user, room_id, |tags| tags.remove(tag).is_some()).await
    }

    async fn change_tags(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
        mut change: impl FnMut(&mut BTreeMap<String, TagInfo>) -> bool + Send,
    ) -> Result<()> {
        self.resources
            .change(|batch| {
                let room = Some(self.intern(room_id, batch)?);
                let mut stored = parse(content(batch, user, room, TYPE)?);
                if !change(&mut stored.tags) {
                    return Ok(());
                }
                let content = serde_json::to_string(&stored)
                    .map_err(|error| Error::internal("tags", error))?;
                put(user, room, TYPE, Some(content), batch)
            })
            .await
    }
}

/// A client can have put anything under `m.tag`: what is not a set of tags counts as none.
fn parse(content: Option<String>) -> Content {
    content.and_then(|content| serde_json::from_str(&content).ok()).unwrap_or_default()
}
