//! `/search`

use std::sync::Arc;

use http::Method;
use ruma::api::{
    IncomingRequest, Metadata, client::search::search_events, error::DeserializationError,
};
use serde::{Deserialize, de::IgnoredAny};
use wick_core::Result;
use wick_rooms::search::{AskSearch, Found};
use wick_service::Services;

use crate::{
    reply::Json,
    route::{Route, Ruma, route},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(search_events)]
}

/// `POST /_matrix/client/v3/search`
async fn search_events(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<Search>,
) -> Result<Json<Found>> {
    let Search { request, with_context } = body;
    let Some(criteria) = request.search_categories.room_events else {
        return Ok(Json(Found::nothing()));
    };
    let context = with_context.then(|| criteria.event_context.clone());
    let ask = AskSearch { criteria, context, next_batch: request.next_batch };
    services.history.search(sender, ask).await.map(Json)
}

/// The request, with what ruma's type does not distinguish: whether a context is requested at all.
struct Search {
    request: search_events::v3::Request,
    with_context: bool,
}

#[derive(Deserialize)]
struct Body {
    search_categories: Categories,
}

#[derive(Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Deserialize)]
struct Criteria {
    event_context: Option<IgnoredAny>,
}

impl Metadata for Search {
    const METHOD: Method = search_events::v3::Request::METHOD;
    const RATE_LIMITED: bool = search_events::v3::Request::RATE_LIMITED;
    type Authentication = <search_events::v3::Request as Metadata>::Authentication;
    type PathBuilder = <search_events::v3::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = search_events::v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Search {
    type EndpointError = <search_events::v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = search_events::v3::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let body: Body = serde_json::from_slice(request.body())?;
        let criteria = body.search_categories.room_events;
        let with_context = criteria.is_some_and(|criteria| criteria.event_context.is_some());
        let request = search_events::v3::Request::try_from_http_request_inner(request, arguments)?;
        Ok(Self { request, with_context })
    }
}
