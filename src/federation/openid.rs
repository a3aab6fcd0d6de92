//! Which user an OpenID token of another server is proof of.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#openid>

use std::time::Duration;

use ruma::{OwnedUserId, ServerName};
use ruma_federation_api::openid::get_openid_userinfo::v1::Request;
use wick_core::{RemoteReason, Result};
use wick_outbound::Bounds;

use crate::{
    Federation,
    federation::request_unsigned,
    transport::{BackOff, remote},
};

/// The most bytes of a response, which is a user id.
const MAX_RESPONSE: u64 = 4096;

/// The time of a request, for which a client waits.
const PATIENCE: Duration = Duration::from_secs(10);

impl Federation {
    /// The user that an OpenID token is proof of, by the word of the server that issued it.
    ///
    /// # Errors
    /// As [`Federation::request`]; also if the server names a user of another server.
    pub async fn openid_user(&self, server: &ServerName, token: &str) -> Result<OwnedUserId> {
        let time = self.transport.timeout().min(PATIENCE);
        let bounds = Bounds { bytes: MAX_RESPONSE, time };
        let request = Request::new(token.to_owned());
        let response =
            request_unsigned(&self.transport, server, request, bounds, BackOff::Heed).await?;
        if response.sub.server_name() != server {
            let message = "the token is said to be of a user of another server";
            return Err(remote(server, RemoteReason::Unreadable, message));
        }
        Ok(response.sub)
    }
}
