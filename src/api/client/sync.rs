//! `/sync`

use std::sync::Arc;

use ruma::api::client::filter::FilterDefinition;
use wick_account::Session;
use wick_core::{Result, SyncToken};
use wick_ruma::sync::{self, Filter};
use wick_service::Services;
use wick_sync::v3::{Request, Response, StateAs};

use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(sync_events)]
}

/// `GET /_matrix/client/v3/sync`
async fn sync_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<sync::Request>,
) -> Result<Json<Response>> {
    let request = Request {
        since: body.since.as_deref().map(SyncToken::parse).transpose()?,
        filter: filter(&services, &sender, body.filter)?,
        full_state: body.full_state,
        presence: super::presence::kind(&body.set_presence)?,
        timeout: body.timeout.unwrap_or_default(),
        state: StateAs {
            after: body.use_state_after,
            after_unstable: body.use_state_after_unstable,
        },
    };
    let calls = services.calls.as_ref();
    let listening = calls.map(|calls| calls.listening(sender.user, &sender.device_id));
    let answer = services.sync.sync(sender, request).await;
    if let Some(listening) = listening {
        listening.is_answered();
    }
    answer.map(Json)
}

fn filter(
    services: &Services,
    session: &Session,
    filter: Option<Filter>,
) -> Result<FilterDefinition> {
    match filter {
        None => Ok(FilterDefinition::default()),
        Some(Filter::FilterDefinition(filter)) => Ok(filter),
        Some(Filter::FilterId(id)) => services.filters.load(session.user, &id),
        Some(_) => Err(wick_core::Error::invalid_param("this filter cannot be read")),
    }
}
