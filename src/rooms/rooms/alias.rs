//! Room aliases.
//!
//! Invariant: deleting an alias removes it from the room's canonical alias event, too, in one batch, if
//! the session's user may send that event.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-aliases>

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId,
    api::error::ErrorKind,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, room::member::MembershipState},
};
use wick_account::Session;
use wick_core::{Draft, Error, Result};
use wick_database::{
    Range, Read,
    schema::{
        directory::{ALIAS_BY_ROOM, Alias, ROOM_BY_ALIAS},
        room::Membership,
    },
};
use wick_room::{Assembly, Effects};

use super::{Rooms, ensure_joined, not_joined, power_levels};

impl Rooms {
    /// The room with an alias.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if no room of this server has it.
    pub fn resolve(&self, alias: &RoomAliasId) -> Result<OwnedRoomId> {
        let read = self.resources.database.published();
        let row = find(&read, alias)?;
        self.graph
            .intern()
            .room_id(&read, row.room)?
            .ok_or_else(|| Error::corrupt("an alias stands for a room without an id"))
    }

    /// The aliases of a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` unless the session's user is in the room or the room is world-readable.
    pub fn aliases(&self, session: &Session, room_id: &RoomId) -> Result<Vec<OwnedRoomAliasId>> {
        let read = self.resources.database.published();
        let room = self.graph.short(&read, room_id)?.ok_or_else(not_joined)?;
        let membership = self.graph.membership(&read, room, &session.user_id)?;
        if membership != Some(Membership::Join) && !self.graph.is_world_readable(&read, room)? {
            return Err(not_joined());
        }
        let rows = read.scan(&ALIAS_BY_ROOM, Range::prefix((room,)));
        rows.map(|row| Ok(row?.0.1)).collect()
    }

    /// Gives a room an alias.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the alias is another server's, with status 409 if it is taken,
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if the session's user is not in it.
    pub async fn add_alias(
        &self,
        session: &Session,
        alias: &OwnedRoomAliasId,
        room_id: &RoomId,
    ) -> Result<()> {
        if alias.server_name() != self.graph.server_name() {
            return Err(Error::invalid_param("this alias belongs to another server"));
        }
        let taken = || Error::refused_with(409, ErrorKind::Unknown, "this alias is taken");
        let added = self
            .graph
            .transact(room_id, |room| {
                ensure_joined(room, &session.user_id)?;
                self.claim(room, alias, &session.user_id)
            })
            .await;
        match added {
            Err(error) if error.kind() == Some(&ErrorKind::RoomInUse) => Err(taken()),
            added => added,
        }
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such alias, `M_FORBIDDEN` unless the session's user made it or
    /// has the power to give the room its main alias.
    pub async fn delete_alias(&self, session: &Session, alias: &RoomAliasId) -> Result<()> {
        let room_id = self.resolve(alias)?;
        self.graph
            .transact(&room_id, |room| {
                let row = room.batch().read_for_update(&ROOM_BY_ALIAS, alias)?;
                let here = room.room();
                let row = row.filter(|row| row.room == here).ok_or_else(unknown_alias)?;
                let may_tell = may_set_canonical_alias(room, &session.user_id)?;
                if row.creator != session.user_id && !may_tell {
                    return Err(Error::forbidden("this alias is not yours to take away"));
                }
                let batch = room.batch();
                batch.delete(&ROOM_BY_ALIAS, alias);
                batch.delete(&ALIAS_BY_ROOM, &(row.room, alias));
                if may_tell { tell_of_deletion(room, &session.user_id, alias) } else { Ok(()) }
            })
            .await
    }

    /// Checks the aliases of a canonical alias event: those not in the present one must be aliases
    /// of the room.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if one cannot be an alias, `M_BAD_ALIAS` if it is not one of this room's.
    pub(super) fn ensure_aliases(
        &self,
        room: &mut Assembly<'_>,
        content: &CanonicalJsonObject,
    ) -> Result<()> {
        let before = room
            .state_event(&StateEventType::RoomCanonicalAlias, "")?
            .and_then(|event| event.content_as::<CanonicalJsonObject>().ok())
            .map(|content| aliases_in(&content))
            .transpose()
            .unwrap_or_default()
            .unwrap_or_default();
        let short = room.room();
        for alias in aliases_in(content)?.into_iter().filter(|alias| !before.contains(alias)) {
            let alias = OwnedRoomAliasId::try_from(alias)
                .map_err(|_| Error::invalid_param("this cannot be a room alias"))?;
            let row = room.batch().get(&ROOM_BY_ALIAS, &alias)?;
            if row.is_none_or(|row| row.room != short) {
                let message = format!("{alias} is no alias of this room");
                return Err(Error::refused(ErrorKind::BadAlias, message));
            }
        }
        Ok(())
    }
}

fn find(read: &impl Read, alias: &RoomAliasId) -> Result<Alias> {
    read.get(&ROOM_BY_ALIAS, alias)?.ok_or_else(unknown_alias)
}

fn unknown_alias() -> Error {
    Error::not_found("no room has this alias")
}

fn may_set_canonical_alias(room: &Assembly<'_>, user_id: &UserId) -> Result<bool> {
    let joined = room.membership(user_id)? == Some(MembershipState::Join);
    let event_type = StateEventType::RoomCanonicalAlias;
    Ok(joined && power_levels(room)?.user_can_send_state(user_id, event_type))
}

/// The aliases that the content of a canonical alias event names.
fn aliases_in(content: &CanonicalJsonObject) -> Result<Vec<String>> {
    let malformed = || Error::bad_json("alias is a text and alt_aliases a list of texts");
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(CanonicalJsonValue::String(alias)) if alias.is_empty() => {}
        Some(CanonicalJsonValue::String(alias)) => aliases.push(alias.clone()),
        Some(_) => return Err(malformed()),
    }
    match content.get("alt_aliases") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(CanonicalJsonValue::Array(more)) => {
            for alias in more {
                let CanonicalJsonValue::String(alias) = alias else { return Err(malformed()) };
                aliases.push(alias.clone());
            }
        }
        Some(_) => return Err(malformed()),
    }
    Ok(aliases)
}

/// Removes an alias from the room's canonical alias event.
fn tell_of_deletion(room: &mut Assembly<'_>, sender: &UserId, alias: &RoomAliasId) -> Result<()> {
    let Some(event) = room.state_event(&StateEventType::RoomCanonicalAlias, "")? else {
        return Ok(());
    };
    let Ok(mut content) = event.content_as::<CanonicalJsonObject>() else { return Ok(()) };
    let is_it = |value: &CanonicalJsonValue| value.as_str() == Some(alias.as_str());
    let mut changed = false;
    if content.get("alias").is_some_and(is_it) {
        content.remove("alias");
        changed = true;
    }
    if let Some(CanonicalJsonValue::Array(more)) = content.get_mut("alt_aliases") {
        let before = more.len();
        more.retain(|value| !is_it(value));
        changed |= more.len() != before;
        if more.is_empty() {
            content.remove("alt_aliases");
        }
    }
    if !changed {
        return Ok(());
    }
    let (room_id, event_type) = (room.room_id().to_owned(), StateEventType::RoomCanonicalAlias);
    let draft = Draft::state(room_id, sender.to_owned(), event_type, "", content);
    room.append(draft, Effects::default()).map(drop)
}
