//! `/pushrules` and `/pushers`.

use std::sync::Arc;

use ruma::{
    MilliSecondsSinceUnixEpoch, UInt,
    api::client::push::{
        delete_pushrule,
        get_notifications::{self, v3::Notification},
        get_pushers, get_pushrule, get_pushrule_actions, get_pushrule_enabled, get_pushrules_all,
        get_pushrules_global_scope, set_pusher, set_pushrule, set_pushrule_actions,
        set_pushrule_enabled,
    },
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use wick_account::pushers::ListedPusher;
use wick_core::Result;
use wick_notify::notifications::Wanted;
use wick_service::Services;

use super::count;
use crate::{
    reply::Json,
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(get_pushrules_all),
        route(get_pushrules_global_scope),
        route(get_pushrule),
        route(set_pushrule),
        route(delete_pushrule),
        route(get_pushrule_enabled),
        route(set_pushrule_enabled),
        route(get_pushrule_actions),
        route(set_pushrule_actions),
        route(get_pushers),
        route_unread(set_pusher),
        route(get_notifications),
    ]
}

/// How many notifications are listed, unless fewer are asked for.
const MOST_NOTIFICATIONS: usize = 50;

/// `GET /_matrix/client/v3/notifications`
async fn get_notifications(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_notifications::v3::Request>,
) -> Result<get_notifications::v3::Response> {
    let limit = body.limit.map_or(MOST_NOTIFICATIONS, count).clamp(1, MOST_NOTIFICATIONS);
    let only_highlights = body.only.as_deref() == Some("highlight");
    let wanted = Wanted { limit, only_highlights };
    let page = services.notifications.list(&sender, body.from.as_deref(), wanted).await?;
    let shown = page.notifications.into_iter().map(|found| {
        let ts = MilliSecondsSinceUnixEpoch(UInt::new_saturating(found.at.0));
        let event = Raw::from_json(found.event);
        Notification::new(found.actions, event, found.is_read, found.room_id, ts)
    });
    let mut response = get_notifications::v3::Response::new(shown.collect());
    response.next_token = page.next;
    Ok(response)
}

/// `GET /_matrix/client/v3/pushrules/`
async fn get_pushrules_all(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_pushrules_all::v3::Request>,
) -> Result<get_pushrules_all::v3::Response> {
    let rules = services.push_rules.list(sender.user, &sender.user_id)?;
    Ok(get_pushrules_all::v3::Response::new(rules))
}

/// `GET /_matrix/client/v3/pushrules/global/`
async fn get_pushrules_global_scope(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<get_pushrules_global_scope::v3::Response> {
    let rules = services.push_rules.list(sender.user, &sender.user_id)?;
    Ok(get_pushrules_global_scope::v3::Response::new(rules))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn get_pushrule(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response> {
    let rule = services.push_rules.get(&sender, body.kind, &body.rule_id)?;
    Ok(get_pushrule::v3::Response::new(rule.into()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn set_pushrule(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_pushrule::v3::Request>,
) -> Result<set_pushrule::v3::Response> {
    let (before, after) = (body.before.as_deref(), body.after.as_deref());
    services.push_rules.set(&sender, body.rule, before, after).await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
async fn delete_pushrule(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<delete_pushrule::v3::Request>,
) -> Result<delete_pushrule::v3::Response> {
    services.push_rules.delete(&sender, body.kind, &body.rule_id).await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
async fn get_pushrule_enabled(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response> {
    let rule = services.push_rules.get(&sender, body.kind, &body.rule_id)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
async fn set_pushrule_enabled(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response> {
    services.push_rules.set_enabled(&sender, body.kind, &body.rule_id, body.enabled).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
async fn get_pushrule_actions(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response> {
    let rule = services.push_rules.get(&sender, body.kind, &body.rule_id)?;
    Ok(get_pushrule_actions::v3::Response::new(rule.actions().to_vec()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
async fn set_pushrule_actions(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response> {
    services.push_rules.set_actions(&sender, body.kind, &body.rule_id, body.actions).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushers`
async fn get_pushers(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_pushers::v3::Request>,
) -> Result<Json<ListedPushers>> {
    Ok(Json(ListedPushers { pushers: services.pushers.list(sender.user)? }))
}

/// The pushers with the fields of MSC3881, which ruma's response does not have.
#[derive(Serialize)]
struct ListedPushers {
    pushers: Vec<ListedPusher>,
}

/// What ruma's request does not have: whether notifications are sent (MSC3881).
#[derive(Deserialize)]
struct Toggle {
    #[serde(rename = "org.matrix.msc3881.enabled")]
    enabled: Option<bool>,
}

/// `POST /_matrix/client/v3/pushers/set`
async fn set_pusher(
    services: Arc<Services>,
    request: Unread<set_pusher::v3::Request>,
) -> Result<set_pusher::v3::Response> {
    let toggle = request.json::<Toggle>();
    let Ruma { body, sender, .. } = request.read()?;
    let is_enabled = toggle?.enabled.unwrap_or(true);
    services.pushers.set(&sender, &body.action, is_enabled).await?;
    Ok(set_pusher::v3::Response::new())
}
