//! `/admin/whois/{userId}`: when and from where the devices of a user were last seen.

use std::{collections::BTreeMap, sync::Arc};

use ruma::api::client::admin::get_user_info::{
    self,
    v3::{ConnectionInfo, DeviceInfo, SessionInfo},
};
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(get_user_info)]
}

/// `GET /_matrix/client/v3/admin/whois/{userId}`, for oneself and for administrators
async fn get_user_info(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_user_info::v3::Request>,
) -> Result<get_user_info::v3::Response> {
    if body.user_id != sender.user_id && !services.users.is_admin(&sender)? {
        return Err(Error::forbidden("this needs an administrator"));
    }
    let (user, _) = services
        .users
        .get(&body.user_id)?
        .ok_or_else(|| Error::not_found("there is no such account"))?;
    let mut devices = BTreeMap::new();
    for device in services.devices.list(user)? {
        let mut connection = ConnectionInfo::new();
        connection.ip = device.last_seen_ip;
        connection.last_seen = device.last_seen_ts;
        let mut session = SessionInfo::new();
        session.connections.push(connection);
        let mut info = DeviceInfo::new();
        info.sessions.push(session);
        devices.insert(device.device_id.to_string(), info);
    }
    let mut response = get_user_info::v3::Response::new();
    response.user_id = Some(body.user_id);
    response.devices = devices;
    Ok(response)
}
