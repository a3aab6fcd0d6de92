//! What a user made of a room goes with them into the room that replaces it.

use ruma::{
    OwnedRoomId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::StateEventType,
};
use wick_account::{account_data, push_rules};
use wick_core::{Result, ShortUserId};
use wick_room::Assembly;

use super::{Rooms, content};

/// What clients call the tags of a room.
const TAGS: &str = "m.tag";

impl Rooms {
    /// Copies a user's push rules and tags for a room they know to the one that replaces it. A
    /// change of its own after the join, since it touches what the user can change at any time; the
    /// join stands without it.
    pub(super) async fn follow(
        &self,
        user: ShortUserId,
        user_id: &UserId,
        old: &RoomId,
        new: &RoomId,
    ) {
        if let Err(error) = self.copy(user, user_id, old, new).await {
            tracing::warn!(%error, room_id = %new, "rules and tags do not follow into the new room");
        }
    }

    async fn copy(
        &self,
        user: ShortUserId,
        user_id: &UserId,
        old: &RoomId,
        new: &RoomId,
    ) -> Result<()> {
        let latest = self.resources.database.latest();
        let Some(old_room) = self.graph.short(&latest, old)? else { return Ok(()) };
        if self.graph.member(&latest, old_room, user)?.is_none() {
            return Ok(());
        }
        self.resources
            .change(|batch| {
                push_rules::follow(user, user_id, (old, new), batch)?;
                let new_room = self.graph.intern().room(new, batch)?;
                let tags = account_data::content(batch, user, Some(old_room), TAGS)?;
                account_data::update(user, Some(new_room), TAGS, batch, |there| {
                    Ok(there.map(str::to_owned).or(tags))
                })
            })
            .await
    }
}

/// The room that this one replaces.
pub(super) fn predecessor(room: &Assembly<'_>) -> Result<Option<OwnedRoomId>> {
    let create = room.state_event(&StateEventType::RoomCreate, "")?;
    let content = create.and_then(|create| create.content_as::<CanonicalJsonObject>().ok());
    Ok(content.as_ref().and_then(predecessor_in))
}

/// The room that the content of a create event says to replace.
pub(super) fn predecessor_in(create: &CanonicalJsonObject) -> Option<OwnedRoomId> {
    match create.get("predecessor")? {
        CanonicalJsonValue::Object(predecessor) => {
            content::text(predecessor, "room_id")?.try_into().ok()
        }
        _ => None,
    }
}
