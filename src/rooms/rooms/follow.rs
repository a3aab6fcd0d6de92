//! Copies a user's data about a room to the room that replaces it: tags, push rules, direct chats.

use ruma::{
    OwnedRoomId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::StateEventType,
};
use serde_json::{Map, Value};
use wick_account::{account_data, push_rules};
use wick_core::{Error, Result, ShortRoomId, ShortUserId};
use wick_database::{
    Batch, Read,
    schema::{replacement::PREDECESSOR_BY_MEMBER, room::MEMBER_BY_USER},
};
use wick_room::Assembly;

use super::{Rooms, content};

/// The type of the account data with the tags of a room.
const TAGS: &str = "m.tag";

/// The type of the account data with a user's direct chats.
const DIRECT: &str = "m.direct";

impl Rooms {
    /// Copies the data of a user who has joined a room over another server from the room that it replaces, if that was
    /// recorded with the join.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn follow_predecessor(&self, user: ShortUserId, room_id: &RoomId) -> Result<()> {
        let room = self.graph.short(&self.resources.database.latest(), room_id)?;
        if let Some(room) = room {
            self.follow(user, room).await;
        }
        Ok(())
    }

    /// Copies a user's data about a room they know to the one that replaces it, if they joined that. A
    /// change of its own after the join, since it touches what the user can change at any time; the join
    /// stands without it.
    pub(super) async fn follow(&self, user: ShortUserId, room: ShortRoomId) {
        let followed = self.resources.change(|batch| self.copy(batch, user, room)).await;
        if let Err(error) = followed {
            tracing::warn!(%error, %room, "rules and tags do not follow into the new room");
        }
    }

    fn copy(&self, batch: &mut Batch, user: ShortUserId, room: ShortRoomId) -> Result<()> {
        let key = (user, room);
        let Some(old) = batch.read_for_update(&PREDECESSOR_BY_MEMBER, &key)? else {
            return Ok(());
        };
        batch.delete(&PREDECESSOR_BY_MEMBER, &key);
        let id = |room| {
            let id = self.graph.intern().room_id(&*batch, room)?;
            id.ok_or_else(|| Error::corrupt("a room has no room id"))
        };
        let (old_id, new_id) = (id(old)?, id(room)?);
        let user_id = self.graph.user_id(&*batch, user)?;
        push_rules::follow(user, &user_id, (&old_id, &new_id), batch)?;
        let tags = account_data::content(batch, user, Some(old), TAGS)?;
        account_data::update(user, Some(room), TAGS, batch, |there| {
            Ok(there.map(str::to_owned).or(tags))
        })?;
        account_data::update(user, None, DIRECT, batch, |direct| {
            let moved = direct.and_then(|direct| with_replacement(direct, &old_id, &new_id));
            Ok(moved.or_else(|| direct.map(str::to_owned)))
        })
    }
}

/// Records with the join of a local user that their data is to be copied from the room that this one replaces. Returns whether
/// there is such a room.
///
/// # Errors
/// If the database cannot be read.
pub fn note_predecessor(room: &mut Assembly<'_>, user: &UserId) -> Result<bool> {
    let Some(old) = predecessor(room)? else { return Ok(false) };
    let batch = room.batch();
    let Some(user) = batch.database().intern().lookup_user(batch, user)? else {
        return Ok(false);
    };
    note(room, user, &old)?;
    Ok(true)
}

/// Records with a user's join that [`Rooms::follow`] has to copy their data about the replaced room.
pub(super) fn note(room: &mut Assembly<'_>, user: ShortUserId, old: &RoomId) -> Result<()> {
    let new = room.room();
    let batch = room.batch();
    let Some(old) = batch.database().intern().lookup_room(batch, old)? else { return Ok(()) };
    if batch.contains(&MEMBER_BY_USER, &(user, old))? {
        batch.put(&PREDECESSOR_BY_MEMBER, &(user, new), &old);
    }
    Ok(())
}

/// The direct chats with the new room wherever the old one is; `None` if nothing changes.
fn with_replacement(direct: &str, old: &RoomId, new: &RoomId) -> Option<String> {
    let mut direct: Map<String, Value> = serde_json::from_str(direct).ok()?;
    let mut changed = false;
    for rooms in direct.values_mut().filter_map(Value::as_array_mut) {
        let has = |room: &RoomId| rooms.iter().any(|id| id.as_str() == Some(room.as_str()));
        if has(old) && !has(new) {
            rooms.push(new.as_str().into());
            changed = true;
        }
    }
    changed.then(|| Value::Object(direct).to_string())
}

/// The room that this one replaces.
pub(super) fn predecessor(room: &Assembly<'_>) -> Result<Option<OwnedRoomId>> {
    let create = room.state_event(&StateEventType::RoomCreate, "")?;
    let content = create.and_then(|create| create.content_as::<CanonicalJsonObject>().ok());
    Ok(content.as_ref().and_then(predecessor_in))
}

/// The room that the content of a create event names as its predecessor.
pub(super) fn predecessor_in(create: &CanonicalJsonObject) -> Option<OwnedRoomId> {
    match create.get("predecessor")? {
        CanonicalJsonValue::Object(predecessor) => {
            content::text(predecessor, "room_id")?.try_into().ok()
        }
        _ => None,
    }
}
