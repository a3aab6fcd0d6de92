//! `/rooms/{roomId}/invite`, `/leave` and what else changes a membership.

use std::sync::Arc;

use ruma::api::{
    client::membership::{
        ban_user, forget_room,
        invite_user::{self, v3::InvitationRecipient},
        kick_user, leave_room, unban_user,
    },
    error::ErrorKind,
};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(invite_user),
        route(leave_room),
        route(kick_user),
        route(ban_user),
        route(unban_user),
        route(forget_room),
    ]
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
    services.invite(&sender, &body.room_id, &invitee.user_id, reason).await?;
    Ok(invite_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
async fn leave_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<leave_room::v3::Request>,
) -> Result<leave_room::v3::Response> {
    let reason = body.reason.as_deref();
    services.leave(&sender, &body.room_id, reason).await?;
    Ok(leave_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
async fn kick_user(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<kick_user::v3::Request>,
) -> Result<kick_user::v3::Response> {
    let reason = body.reason.as_deref();
    services.rooms.kick(&sender, &body.room_id, &body.user_id, reason).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
async fn ban_user(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<ban_user::v3::Request>,
) -> Result<ban_user::v3::Response> {
    let reason = body.reason.as_deref();
    services.rooms.ban(&sender, &body.room_id, &body.user_id, reason).await?;
    Ok(ban_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
async fn unban_user(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<unban_user::v3::Request>,
) -> Result<unban_user::v3::Response> {
    let reason = body.reason.as_deref();
    services.rooms.unban(&sender, &body.room_id, &body.user_id, reason).await?;
    Ok(unban_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
async fn forget_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<forget_room::v3::Request>,
) -> Result<forget_room::v3::Response> {
    // First, as nothing would do it later; a room that is not left is not forgotten either.
    services.delayed.cancel_in_left(&sender, &body.room_id).await?;
    services.rooms.forget(&sender, &body.room_id).await?;
    Ok(forget_room::v3::Response::new())
}
