//! Joins to restricted rooms that a user of this server authorises: the join has this server's signature too.

use std::time::Duration;

use ruma::{
    OwnedRoomId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use wick_core::{Error, Result};
use wick_rooms::restricted::{AUTHORISED_VIA, Authorisation, allowed_rooms, authorise};

use crate::{Inbound, Peer};

/// How long a join waits for the events of the rooms whose members may join.
const PATIENCE: Duration = Duration::from_secs(5);

impl<P: Peer> Inbound<P> {
    /// Waits until what came of a room, and of the rooms whose members may join it, is taken in; no longer than five seconds.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn take_in_allowed(&self, room_id: &OwnedRoomId) -> Result<()> {
        let deadline = self.resources.clock.monotonic() + PATIENCE;
        let mut rooms = vec![room_id.clone()];
        {
            let read = self.resources.database.latest();
            if let Some(room) = self.graph.short(&read, room_id)? {
                rooms.extend(allowed_rooms(&self.graph, &read, room)?.unwrap_or_default());
            }
        }
        self.worked_off(&rooms, deadline).await;
        Ok(())
    }

    /// Names the user that authorises a join, if it needs one.
    ///
    /// # Errors
    /// As [`Authorisation::user`].
    pub(crate) fn name_authorising_user(
        &self,
        room_id: &RoomId,
        user: &UserId,
        content: &mut CanonicalJsonObject,
    ) -> Result<()> {
        if let Some(by) = self.authorisation(room_id, user)?.user(400)? {
            let by = CanonicalJsonValue::String(by.to_string());
            content.insert(AUTHORISED_VIA.to_owned(), by);
        }
        Ok(())
    }

    /// The join with this server's signature, if it names a user of this server as the authorising one.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no event, `M_FORBIDDEN` and as [`Authorisation::user`] if the join is not authorised.
    pub(crate) fn countersign(
        &self,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        json: Box<RawValue>,
    ) -> Result<Box<RawValue>> {
        let mut event: CanonicalJsonObject =
            serde_json::from_str(json.get()).map_err(|error| Error::bad_json(error.to_string()))?;
        let content = event.get("content").and_then(CanonicalJsonValue::as_object);
        let by = content.and_then(|content| content.get(AUTHORISED_VIA));
        let by = by.and_then(|by| <&UserId>::try_from(by.as_str()?).ok());
        if by.is_none_or(|by| by.server_name() != self.graph.server_name()) {
            return Ok(json);
        }
        let joins = event.get("state_key").and_then(CanonicalJsonValue::as_str);
        let joins = joins.and_then(|user| <&UserId>::try_from(user).ok());
        let joins = joins.ok_or_else(|| Error::bad_json("the event is no member event"))?;
        self.authorisation(room_id, joins)?.user(400)?;
        self.graph.countersign(&mut event, rules)
    }

    fn authorisation(&self, room_id: &RoomId, user: &UserId) -> Result<Authorisation> {
        let read = self.resources.database.latest();
        let room = self.graph.short(&read, room_id)?;
        let room = room.ok_or_else(|| Error::not_found("this server is not in that room"))?;
        authorise(&self.graph, &read, room, user)
    }
}
