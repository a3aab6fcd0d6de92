//! What handlers return, as HTTP.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use ruma::api::{OutgoingResponse, OutgoingResponseExt, client::uiaa::UiaaInfo};
use serde::Serialize;
use wick_core::{Error, Result};

/// Something a handler can return.
pub(crate) trait Reply {
    /// The same as HTTP.
    fn into_http(self) -> Result<Response>;
}

impl<T: OutgoingResponse> Reply for T {
    fn into_http(self) -> Result<Response> {
        self.try_into_http_response::<Vec<u8>>()
            .map(|response| response.map(Body::from))
            .map_err(|error| Error::internal("a response cannot be written", error))
    }
}

/// The answer of an endpoint with user-interactive authentication.
pub(crate) enum Answer<T> {
    /// It is done.
    Done(T),
    /// More has to be shown first; status 401.
    Challenge(Box<UiaaInfo>),
}

impl<T: Reply> Reply for Answer<T> {
    fn into_http(self) -> Result<Response> {
        match self {
            Self::Done(response) => response.into_http(),
            Self::Challenge(info) => json(StatusCode::UNAUTHORIZED, &*info),
        }
    }
}

/// A body that is no type of ruma's, with status 200.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> Reply for Json<T> {
    fn into_http(self) -> Result<Response> {
        json(StatusCode::OK, &self.0)
    }
}

/// Any JSON.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::internal("a response cannot be written", error))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
