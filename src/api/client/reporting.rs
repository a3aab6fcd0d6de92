//! Reporting an event, a room, a user.

use std::sync::Arc;

use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(report_content), route(report_room), route(report_user)]
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`
async fn report_content(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<report_content::v3::Request>,
) -> Result<report_content::v3::Response> {
    let event = (&*body.room_id, &*body.event_id);
    services.reports.event(&sender, event, body.reason.unwrap_or_default()).await?;
    Ok(report_content::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/report`
async fn report_room(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<report_room::v3::Request>,
) -> Result<report_room::v3::Response> {
    services.reports.room(&sender, &body.room_id, body.reason).await?;
    Ok(report_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/users/{userId}/report`
async fn report_user(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<report_user::v3::Request>,
) -> Result<report_user::v3::Response> {
    services.reports.user(&sender, &body.user_id, body.reason).await?;
    Ok(report_user::v3::Response::new())
}
