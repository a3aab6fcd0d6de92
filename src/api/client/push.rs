//! `/pushrules` and `/pushers`.

use std::sync::Arc;

use ruma::api::client::push::{
    delete_pushrule, get_pushers, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
    get_pushrules_all, get_pushrules_global_scope, set_pusher, set_pushrule, set_pushrule_actions,
    set_pushrule_enabled,
};
use wick_core::Result;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

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
        route(set_pusher),
    ]
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
) -> Result<get_pushers::v3::Response> {
    Ok(get_pushers::v3::Response::new(services.pushers.list(sender.user)?))
}

/// `POST /_matrix/client/v3/pushers/set`
async fn set_pusher(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_pusher::v3::Request>,
) -> Result<set_pusher::v3::Response> {
    services.pushers.set(&sender, &body.action).await?;
    Ok(set_pusher::v3::Response::new())
}
