//! The tags of rooms: the room account data `m.tag`.

use std::collections::BTreeMap;

use ruma::{
    RoomId,
    events::tag::{TagInfo, TagName, Tags},
};
use serde::{Deserialize, Serialize};
use wick_core::{Error, Result, ShortUserId};

use super::{AccountData, content, update};

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
        let tags = parse(content(&read, user, Some(room), TYPE)?.as_deref()).tags;
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
        })
        .await
    }

    /// Takes a tag away from a room; if it has none of that name, nothing happens.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn delete_tag(&self, user: ShortUserId, room_id: &RoomId, tag: &str) -> Result<()> {
        self.change_tags(user, room_id, |tags| {
            tags.remove(tag);
        })
        .await
    }

    async fn change_tags(
        &self,
        user: ShortUserId,
        room_id: &RoomId,
        mut change: impl FnMut(&mut BTreeMap<String, TagInfo>) + Send,
    ) -> Result<()> {
        self.resources
            .change(|batch| {
                let room = Some(self.intern(room_id, batch)?);
                let compute = |content: Option<&str>| {
                    let mut stored = parse(content);
                    let before = stored.tags.clone();
                    change(&mut stored.tags);
                    if stored.tags == before {
                        return Ok(content.map(str::to_owned));
                    }
                    serde_json::to_string(&stored)
                        .map(Some)
                        .map_err(|error| Error::internal("tags", error))
                };
                self.within_total(user, batch, |batch| update(user, room, TYPE, batch, compute))
            })
            .await
    }
}

/// A client can have put anything under `m.tag`: what is not a set of tags counts as none.
fn parse(content: Option<&str>) -> Content {
    content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use wick_database::Durability;

    use super::*;
    use crate::{account_data::put, devices::NewDevice, fixture::Fixture};

    #[tokio::test]
    async fn a_tag_that_is_set_between_the_read_and_the_write_of_another_stays() {
        let fixture = Fixture::new();
        let tokens = fixture.register("alice", NewDevice::default()).await;
        let user = fixture.session(&tokens).await.user;
        let (data, database) = (&fixture.account_data, &fixture.resources.database);
        let room_id = room_id!("!room:localhost");
        data.set_tag(user, room_id, "first", TagInfo::new()).await.unwrap();
        let mut between = Some(r#"{"tags":{"first":{},"between":{}}}"#.to_owned());
        data.change_tags(user, room_id, |tags| {
            if let Some(content) = between.take() {
                let mut batch = database.batch();
                let room = data.intern(room_id, &mut batch).unwrap();
                put(user, Some(room), TYPE, Some(content), &mut batch).unwrap();
                drop(database.write(batch, Durability::Synced).unwrap());
            }
            tags.insert("last".to_owned(), TagInfo::new());
        })
        .await
        .unwrap();
        let tags: Vec<_> =
            data.tags(user, room_id).unwrap().into_keys().map(|tag| tag.to_string()).collect();
        assert_eq!(tags, ["between", "first", "last"]);
    }
}
