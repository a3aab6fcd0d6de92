//! Expiring events over HTTP: the endpoints, and a layer around the server's own.
//!
//! Invariants: a request that has nothing to do with events that expire is looked at by its path, and by
//! a search through its body if that has events; nothing else changes. No token is logged.

mod requests;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::put,
};
use conduwuit::{Err, Error, Result, err};
use http::{StatusCode, header};
use ruma::{EventId, OwnedEventId};
use serde_json::{Map, Value, json, value::RawValue};
use service::expiring::{
    ASKED, Asking, contract, unsigned,
    wire::{RequestedExpiry, UNSTABLE_FEATURE, WILL_EXPIRE, WillExpireCapability},
};

use self::requests::{About, about};
use crate::ClientIp;

/// Adds the endpoints to a router, and the layer around it.
pub fn attach<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    state: crate::State,
) -> Router<S> {
    let unstable = "/_matrix/client/unstable/org.matrix.msc4140/expiration/{refresh_method}";
    router
        .route("/_matrix/client/v3/expiration/{refresh_method}", put(expiration).with_state(state))
        .route(unstable, put(expiration).with_state(state))
        .layer(from_fn_with_state(state, around))
}

/// `PUT /_matrix/client/v3/expiration/{refresh_method}`: knowing the token is the right.
async fn expiration(
    State(services): State<crate::State>,
    ClientIp(from): ClientIp,
    Path(method): Path<String>,
    body: Bytes,
) -> Result<Response> {
    if !matches!(method.as_str(), "refresh" | "end") {
        return Err!(Request(Unrecognized("there is no such refresh method")));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return Err!(Request(NotJson("the body is no JSON")));
    };
    let Some(token) = body.get("expire_refresh_token").and_then(Value::as_str) else {
        return Err!(Request(BadJson("expire_refresh_token must be a string")));
    };
    match method.as_str() {
        "refresh" => services.expiring.refresh(token, from).await?,
        _ => services.expiring.end(token, from).await?,
    }
    Ok(axum::Json(json!({})).into_response())
}

async fn around(State(services): State<crate::State>, request: Request, next: Next) -> Response {
    match about(request.method(), request.uri()) {
        About::Other => next.run(request).await,
        About::Sending => sending(services, request, next).await.unwrap_or_else(respond),
        About::Events => {
            let response = next.run(request).await;
            events(services, response).await.unwrap_or_else(respond)
        }
        About::Versions => {
            let enabled = services.expiring.config().enabled;
            let add = |versions: &mut Map<String, Value>| {
                if let Some(Value::Object(features)) = versions.get_mut("unstable_features") {
                    features.insert(UNSTABLE_FEATURE.to_owned(), enabled.into());
                }
            };
            extended(next.run(request).await, add).await.unwrap_or_else(respond)
        }
        About::Capabilities => {
            let capability = capability(services);
            let add = |answer: &mut Map<String, Value>| {
                if let Some(Value::Object(capabilities)) = answer.get_mut("capabilities") {
                    capabilities.insert(WILL_EXPIRE.to_owned(), capability);
                }
            };
            extended(next.run(request).await, add).await.unwrap_or_else(respond)
        }
    }
}

fn respond(e: Error) -> Response {
    e.into_response()
}

fn capability(services: crate::State) -> Value {
    let config = services.expiring.config();
    let capability = WillExpireCapability {
        enabled: config.enabled && config.max_running > 0,
        min_duration: std::time::Duration::from_secs(config.min_duration),
        max_duration: std::time::Duration::from_secs(config.max_duration),
        max_running: config.max_running,
    };
    serde_json::to_value(capability).unwrap_or_else(|_| json!({ "enabled": false }))
}

/// Runs a request that sends an event, and answers the token if the event expires.
async fn sending(services: crate::State, request: Request, next: Next) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, services.config.max_request_size)
        .await
        .map_err(|e| err!(Request(TooLarge("Request body too large: {e}"))))?;
    let concerns = std::str::from_utf8(&body).is_ok_and(contract::may_concern);
    let asks = concerns
        && serde_json::from_slice::<&RawValue>(&body)
            .is_ok_and(|content| matches!(RequestedExpiry::from_content(content), Ok(Some(_))));
    let request = Request::from_parts(parts, Body::from(body));
    if !asks {
        return Ok(next.run(request).await);
    }
    let response = ASKED.scope(Asking::default(), next.run(request)).await;
    let add = |answer: &mut Map<String, Value>| {
        let event_id = answer.get("event_id").and_then(Value::as_str);
        let event_id: Option<OwnedEventId> = event_id.and_then(|id| EventId::parse(id).ok());
        let Some(event_id) = event_id else { return };
        if let Some(token) = services.expiring.token(&event_id) {
            answer.insert("expire_refresh_token".to_owned(), token.into());
            answer.insert("eventId".to_owned(), event_id.as_str().into());
        }
    };
    extended(response, add).await
}

/// Adds to the JSON object of an answer, if it is one of success.
async fn extended(
    response: Response,
    add: impl FnOnce(&mut Map<String, Value>),
) -> Result<Response> {
    changed(response, |body| {
        let mut object = serde_json::from_slice(body).ok()?;
        add(&mut object);
        serde_json::to_vec(&object).ok()
    })
    .await
}

/// Writes the statuses into the events of an answer.
async fn events(services: crate::State, response: Response) -> Result<Response> {
    let mut value = None;
    let response = changed(response, |body| {
        if unsigned::may_concern(body) {
            value = serde_json::from_slice::<Value>(body).ok();
        }
        None
    })
    .await?;
    let Some(mut value) = value else { return Ok(response) };
    services.expiring.annotate(&mut value).await;
    changed(response, |_| serde_json::to_vec(&value).ok()).await
}

/// Replaces the body of an answer of success by what `change` makes of it; `None` leaves it.
async fn changed(
    response: Response,
    change: impl FnOnce(&Bytes) -> Option<Vec<u8>>,
) -> Result<Response> {
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|e| err!("an answer broke off: {e}"))?;
    let body = match change(&body) {
        Some(changed) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Body::from(changed)
        }
        None => Body::from(body),
    };
    Ok(Response::from_parts(parts, body))
}
