//! Whose OpenID tokens are taken: those of this server's users, and of other servers' users in the same room.
//!
//! Invariant: another server is asked only if it has a member in the room that the request names, so that a request
//! leads to no server that this one does not talk to anyway.

use ruma::{OwnedUserId, RoomId, ServerName, api::error::ErrorKind};
use wick_core::{Error, RemoteFailure, RemoteReason, Result};
use wick_federation::Federation;

use crate::Calls;

impl Calls {
    /// The user that an OpenID token of `server_name` is proof of, for a request about `room_id`.
    ///
    /// # Errors
    /// `M_UNAUTHORIZED` for an unknown token; `M_FORBIDDEN` for one of a server without a member in the room; 502 if
    /// that server does not answer.
    pub async fn user_of(
        &self,
        token: &str,
        server_name: &str,
        room_id: &RoomId,
    ) -> Result<OwnedUserId> {
        if server_name == self.resources.config.server.name {
            return self.openid.user(token)?.ok_or_else(unknown);
        }
        let (server, federation) = self.peer(server_name, room_id)?.ok_or_else(|| {
            Error::forbidden(
                "this service is for users of its own server and for members of the room",
            )
        })?;
        federation.openid_user(server, token).await.map_err(|error| match error {
            Error::Remote(RemoteFailure {
                reason: RemoteReason::Refused { status, .. }, ..
            }) if (400..500).contains(&status) && status != 429 => unknown(),
            error => error,
        })
    }

    /// The server, if it may be asked about members of a room.
    fn peer<'a>(
        &'a self,
        server_name: &'a str,
        room_id: &RoomId,
    ) -> Result<Option<(&'a ServerName, &'a Federation)>> {
        let Some(federation) = &self.federation else { return Ok(None) };
        let Ok(server) = <&ServerName>::try_from(server_name) else { return Ok(None) };
        let latest = self.resources.database.latest();
        let Some(room) = self.graph.short(&latest, room_id)? else { return Ok(None) };
        let is_there = self.graph.has_member_of(&latest, room, server)?;
        Ok(is_there.then_some((server, federation)))
    }
}

fn unknown() -> Error {
    Error::refused(ErrorKind::Unauthorized, "the OpenID token is unknown or too old")
}
