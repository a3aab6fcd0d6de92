//! Joining.

use std::sync::Arc;

use ruma::{
    RoomId, UserId, api::error::ErrorKind, canonical_json::CanonicalJsonObject,
    events::room::member::MembershipState,
};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId};

use super::{Rooms, content, follow};

impl Rooms {
    /// Joins a room. `extra` becomes part of the member event. Does nothing if the user is joined already,
    /// unless `extra` changes the member event. Continues if the client hangs up.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room is unknown, `M_FORBIDDEN` if its rules do not let the user in, `M_BAD_JSON` or
    /// `M_INVALID_PARAM` if `extra` cannot be part of a member event.
    pub async fn join(
        self: &Arc<Self>,
        session: &Session,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        self.try_join(session, room_id, extra).await.map_err(|error| match error.kind() {
            Some(ErrorKind::UnableToAuthorizeJoin | ErrorKind::UnableToGrantJoin) => {
                Error::forbidden(error.to_string())
            }
            _ => error,
        })
    }

    /// As [`Rooms::join`].
    ///
    /// # Errors
    /// As [`Rooms::join`], but for a restricted room `M_UNABLE_TO_AUTHORISE_JOIN` if this server cannot tell whether the user
    /// may join, and `M_UNABLE_TO_GRANT_JOIN` if it has no member there who could authorise it.
    pub async fn try_join(
        self: &Arc<Self>,
        session: &Session,
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        let (rooms, room_id) = (Arc::clone(self), room_id.to_owned());
        let (user, user_id) = (session.user, session.user_id.clone());
        let join = async move { rooms.join_and_follow((user, &user_id), &room_id, extra).await };
        self.supervisor.complete("join", join).await
    }

    /// The content of a join of a local user. `extra` becomes part of it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn join_content(
        &self,
        user_id: &UserId,
        extra: CanonicalJsonObject,
    ) -> Result<CanonicalJsonObject> {
        let mut content = extra;
        content::set_text(&mut content, "membership", MembershipState::Join.as_str());
        self.fill_in_profile(&mut content, user_id)?;
        Ok(content)
    }

    async fn join_and_follow(
        &self,
        (user, user_id): (ShortUserId, &UserId),
        room_id: &RoomId,
        extra: CanonicalJsonObject,
    ) -> Result<()> {
        let says_more = !extra.is_empty();
        let content = self.join_content(user_id, extra)?;
        let replacement = self
            .graph
            .transact(room_id, |room| {
                let joined = room.membership(user_id)? == Some(MembershipState::Join);
                if joined && !says_more {
                    return Ok(None);
                }
                self.append_member(room, user_id, user_id, content.clone())?;
                if joined {
                    return Ok(None);
                }
                let follows = follow::note_predecessor(room, user_id)?;
                Ok(follows.then(|| room.room()))
            })
            .await?;
        if let Some(room) = replacement {
            self.follow(user, room).await;
        }
        Ok(())
    }
}
