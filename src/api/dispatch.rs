//! From a request to the handler of its method, and from the handler's answer to a response.
//!
//! Invariants: the body is read whole and bounded before anything else, unless the endpoint takes it as a stream; log lines and metrics name
//! the path's pattern, never the path, whose parts may be secret.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::{RawPathParams, State, rejection::RawPathParamsRejection},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metrics::Label;
use ruma::api::error::ErrorKind;
use tracing::Instrument;
use wick_core::{Error, Result};
use wick_service::Services;

use crate::{
    address::{Peer, client_address},
    error::{into_http, not_json, unrecognized},
    guests::GuestAccess,
    lists::Shape,
    route::{Call, Count, Handler},
};

/// What one path can do.
pub(crate) struct Resource {
    pub(crate) services: Arc<Services>,
    pub(crate) path: Arc<str>,
    pub(crate) methods: Vec<Endpoint>,
    /// Methods that the specification knows here and this server does not.
    pub(crate) unserved: Vec<Method>,
}

/// What one path does for one method.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) handler: Handler,
    pub(crate) limit: Count,
    pub(crate) streams: bool,
    pub(crate) max_body: u64,
    pub(crate) shape: Shape,
    pub(crate) guests: GuestAccess,
}

/// Answers any request for one path.
pub(crate) async fn dispatch(
    State(resource): State<Arc<Resource>>,
    arguments: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request<Body>,
) -> Response {
    let services = &resource.services;
    let begin = services.clock.monotonic();
    let method = request.method().clone();
    if method == Method::HEAD {
        // Ranges are for GET alone (RFC 9110, section 14.2).
        request.headers_mut().remove(header::RANGE);
    }
    let span = tracing::debug_span!("request", %method, path = %resource.path);
    let answer = resource.answer(arguments, request).instrument(span.clone()).await;
    let mut response = span.in_scope(|| answer.unwrap_or_else(into_http));
    if method == Method::HEAD {
        response = without_body(response);
    }
    let taken = services.clock.monotonic().since(begin);
    tracing::debug!(parent: &span, status = response.status().as_u16(), ?taken, "answered");
    record(&method, &resource.path, response.status(), taken);
    response
}

/// Answers a request for a path that does not exist.
pub(crate) async fn not_found() -> Response {
    into_http(unrecognized(StatusCode::NOT_FOUND))
}

impl Resource {
    async fn answer(
        &self,
        arguments: Result<RawPathParams, RawPathParamsRejection>,
        request: Request<Body>,
    ) -> Result<Response> {
        let endpoint = self.endpoint(request.method())?;
        let arguments = arguments
            .map_err(|_| Error::invalid_param("the path is not UTF-8"))?
            .iter()
            .map(|(_, value)| value.to_owned())
            .collect();
        let peer = request.extensions().get::<Peer>().copied();
        let server = &self.services.config.server;
        let address = client_address(peer, request.headers(), &server.trusted_proxies);
        let (parts, body) = request.into_parts();
        let (body, stream) = if endpoint.streams {
            (Bytes::new(), body)
        } else {
            let max = u64::from(server.max_body_kilobytes) * 1024;
            (self.read(body, max.max(endpoint.max_body)).await?, Body::empty())
        };
        let request = Request::from_parts(parts, body);
        let Endpoint { limit, shape, guests, .. } = *endpoint;
        let call = Call { request, stream, arguments, address, limit, shape, guests };
        (endpoint.handler)(Arc::clone(&self.services), call).await
    }

    async fn read(&self, body: Body, limit: u64) -> Result<Bytes> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let clock = &self.services.clock;
        let patience = self.services.config.connections.body_timeout.0;
        tokio::select! {
            biased;
            body = Limited::new(body, limit).collect() => match body {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(Error::too_large("the body is too large"))
                }
                Err(_) => Err(not_json("the body ends too early")),
            },
            () = clock.sleep_until(clock.monotonic() + patience) => {
                let status = StatusCode::REQUEST_TIMEOUT.as_u16();
                Err(Error::refused_with(status, ErrorKind::Unknown, "the body comes too slowly"))
            }
        }
    }

    fn endpoint(&self, method: &Method) -> Result<&Endpoint> {
        let served = if method == Method::HEAD { &Method::GET } else { method };
        let status = if self.unserved.contains(served) {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::METHOD_NOT_ALLOWED
        };
        self.methods
            .iter()
            .find(|endpoint| endpoint.method == served)
            .ok_or_else(|| unrecognized(status))
    }
}

fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

fn record(method: &Method, path: &Arc<str>, status: StatusCode, taken: Duration) {
    let labels = [
        Label::from_static_parts("method", method_label(method)),
        Label::new("path", Arc::clone(path)),
    ];
    metrics::histogram!("wick_request_seconds", labels.iter()).record(taken);
    let [method, path] = labels;
    let labels = [method, path, Label::new("status", status.as_str().to_owned())];
    metrics::counter!("wick_requests_total", labels.iter()).increment(1);
}

/// Clients can make up methods, but not labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
