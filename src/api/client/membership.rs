//! `/rooms/{roomId}/invite`, `/leave` and what else changes a membership.

use std::sync::Arc;

use ruma::api::{
    client::membership::{
        invite_user::{self, v3::InvitationRecipient},
        leave_room,
    },
    error::ErrorKind,
};
use wick_core::{Error, Result};
use wick_service::{Limit, Services};

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(invite_user).limited(Limit::Invites), route(leave_room)]
}

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
async fn invite_user(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<invite_user::v3::Request>,
) -> Result<invite_user::v3::Response> {
    let InvitationRecipient::UserId(invitee) = &body.recipient else {
        let message = "this server knows no identity server to invite with";
        return Err(Error::refused(ErrorKind::ThreepidDenied, message));
    };
    let reason = invitee.reason.as_deref();
    services.rooms.invite(&sender, &body.room_id, &invitee.user_id, reason).await?;
    Ok(invite_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
async fn leave_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<leave_room::v3::Request>,
) -> Result<leave_room::v3::Response> {
    let reason = body.reason.as_deref();
    services.rooms.leave(&sender.user_id, &body.room_id, reason).await?;
    Ok(leave_room::v3::Response::new())
}
