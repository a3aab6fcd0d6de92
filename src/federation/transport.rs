//! Requests on their way: to whom, how many at once, how long, and what follows from how they end.
//!
//! Invariant: the time of a request bounds everything, waiting for others and resolving the name included.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use ruma::{
    ServerName,
    api::error::{ErrorKind, IntoHttpError, LimitExceededErrorData},
};
use serde_json::Value;
use wick_core::{Clock, Config, Error, RemoteFailure, RemoteReason, Result, json};
use wick_outbound::{Admitted, Bounds, Failure, InFlight, Outbound, Response as Unread};
use wick_runtime::Resources;

use crate::{
    Network,
    destinations::Destinations,
    names::{Names, Route, ServiceResolver},
};

/// Whether a server that did not answer lately is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackOff {
    /// It is not.
    Heed,
    /// It is, because there is a sign of life.
    Ignore,
    /// It is, and an outage makes no other request wait: the caller has waits of its own.
    Apart,
}

/// How long a response that is read piece by piece may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Until its headers are there.
    pub(crate) head: Duration,
    /// Until all of it is read.
    pub(crate) bounds: Bounds,
}

/// Sends requests to other servers.
pub(crate) struct Transport {
    pub(crate) network: Network,
    pub(crate) names: Names,
    pub(crate) destinations: Destinations,
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    /// Reaches hosts at the port that their name has.
    by_port: Arc<Outbound>,
    /// Reaches hosts where their SRV records say.
    by_service: Outbound,
    in_flight: InFlight,
    /// Those of files, which can take long.
    files: InFlight,
}

/// Files that are fetched at the same time: in all, and of one server.
const MAX_FILES: u32 = 64;
const MAX_FILES_PER_SERVER: u32 = 8;

/// The most bytes of the body of a response that refuses a file.
const MAX_REFUSAL: u64 = 64 << 10;

impl Transport {
    pub(crate) fn new(resources: Resources, network: &Network) -> Result<Self> {
        let Resources { config, clock, random, .. } = resources.clone();
        let outbound = config.federation.outbound(&config.outbound);
        let open = |resolver| Outbound::https(&outbound, Arc::clone(&clock), resolver);
        let by_port = Arc::new(open(Arc::clone(&network.hosts))?);
        let by_service = ServiceResolver::new(network.clone(), random);
        let federation = &config.federation;
        Ok(Self {
            names: Names::new(Arc::clone(&by_port), Arc::clone(&clock)),
            destinations: Destinations::new(resources),
            by_service: open(Arc::new(by_service))?,
            by_port,
            network: network.clone(),
            in_flight: InFlight::new(federation.max_requests, federation.max_requests_per_server),
            files: InFlight::new(MAX_FILES, MAX_FILES_PER_SERVER),
            config,
            clock,
        })
    }

    /// The time of a request, unless it has other bounds.
    pub(crate) fn timeout(&self) -> Duration {
        self.config.federation.timeout.0
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The client for addresses that are no server's.
    pub(crate) fn by_port(&self) -> &Outbound {
        &self.by_port
    }

    /// Fails if the configuration forbids to talk to `server`.
    pub(crate) fn ensure_allowed(&self, server: &ServerName) -> Result<()> {
        let config = &self.config;
        if *server == config.server.name {
            return Err(remote(server, RemoteReason::Forbidden, "this is the server itself"));
        }
        if !config.federation.enabled || !config.federation.allows(server) {
            return Err(remote(server, RemoteReason::Forbidden, "the configuration forbids it"));
        }
        Ok(())
    }

    /// Sends the request that `make` makes for a base URL. The response is a success.
    pub(crate) async fn send(
        &self,
        server: &ServerName,
        bounds: Bounds,
        back_off: BackOff,
        make: impl FnOnce(&str) -> Result<Request<Vec<u8>>, IntoHttpError>,
    ) -> Result<Response<Bytes>> {
        self.ensure_allowed(server)?;
        if back_off == BackOff::Heed {
            self.destinations.ensure_due(server)?;
        }
        let deadline = self.clock.monotonic() + bounds.time;
        let attempt = async {
            let admitted = self.in_flight.admit(server.as_str()).await?;
            let route = self.names.route(server).await;
            let request = make(&route.base_url())
                .map_err(|error| Error::internal("a request to another server", error))?;
            let begin = self.clock.monotonic();
            let time = deadline.since(begin);
            let outcome = self.exchange(&route, request, Bounds { time, ..bounds }).await;
            admitted.note(outcome.is_ok(), self.clock.monotonic().since(begin));
            outcome.map_err(|failure| unreachable(server, &failure))
        };
        let response = tokio::select! {
            biased;
            response = attempt => response,
            () = self.clock.sleep_until(deadline) => Err(unreachable(server, &Failure::TimedOut)),
        };
        let response = response.and_then(|response| success(server, response));
        let is_outage = response.as_ref().is_err_and(is_outage);
        if !(is_outage && back_off == BackOff::Apart) {
            self.destinations.note(server, response.as_ref().err()).await;
        }
        response
    }

    /// Waits until a request to `server` may run.
    pub(crate) async fn admit(&self, server: &ServerName) -> Result<Admitted> {
        self.admit_among(&self.in_flight, server).await
    }

    /// Waits until a file of `server` may be fetched.
    pub(crate) async fn admit_file(&self, server: &ServerName) -> Result<Admitted> {
        self.admit_among(&self.files, server).await
    }

    async fn admit_among(&self, in_flight: &InFlight, server: &ServerName) -> Result<Admitted> {
        self.ensure_allowed(server)?;
        self.destinations.ensure_due(server)?;
        in_flight.admit(server.as_str()).await
    }

    /// Sends the request that `make` makes for a base URL. The response is a success, of which the body is still to be read.
    pub(crate) async fn open(
        &self,
        server: &ServerName,
        admitted: &Admitted,
        Wait { head, bounds }: Wait,
        make: impl FnOnce(&str) -> Result<Request<Vec<u8>>, IntoHttpError>,
    ) -> Result<Unread> {
        let begin = self.clock.monotonic();
        let attempt = async {
            let route = self.names.route(server).await;
            let request = make(&route.base_url())
                .map_err(|error| Error::internal("a request to another server", error))?;
            let outcome = self.client(&route).send_once(request.map(Bytes::from), bounds).await;
            let response = outcome.map_err(|failure| unreachable(server, &failure))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let refusal = whole(response.limited(MAX_REFUSAL)).await;
            Err(match refusal.map(|refusal| success(server, refusal)) {
                Ok(Err(error)) => error,
                Ok(Ok(_)) => remote(server, RemoteReason::Unreadable, "no success"),
                Err(failure) => unreachable(server, &failure),
            })
        };
        let response = tokio::select! {
            biased;
            response = attempt => response,
            () = self.clock.sleep_until(begin + head) => {
                Err(unreachable(server, &Failure::TimedOut))
            }
        };
        let is_outage = response.as_ref().is_err_and(is_outage);
        admitted.note(!is_outage, self.clock.monotonic().since(begin));
        self.destinations.note(server, response.as_ref().err()).await;
        response
    }

    fn client(&self, route: &Route) -> &Outbound {
        match route {
            Route::Port(_) => &self.by_port,
            Route::Service(_) => &self.by_service,
        }
    }

    async fn exchange(
        &self,
        route: &Route,
        request: Request<Vec<u8>>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, Failure> {
        whole(self.client(route).send_once(request.map(Bytes::from), bounds).await?).await
    }
}

/// The response with its body.
async fn whole(response: Unread) -> Result<Response<Bytes>, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut whole = Response::new(response.bytes().await?);
    (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
    Ok(whole)
}

/// The response if it is a success.
fn success(server: &ServerName, response: Response<Bytes>) -> Result<Response<Bytes>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.body();
    let body: Value = match json::ensure_shallow(body) {
        Ok(()) => serde_json::from_slice(body).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    let text = body.get("error").and_then(Value::as_str).map(shortened);
    let kind = serde_json::from_value::<ErrorKind>(body.clone()).ok();
    let kind = limited(&response, kind).map(Box::new);
    let message = match (&kind, text) {
        (Some(kind), Some(text)) => format!("status {status}, {}: {text}", kind.errcode()),
        (Some(kind), None) => format!("status {status}, {}", kind.errcode()),
        (None, _) => format!("status {status}"),
    };
    Err(remote(server, RemoteReason::Refused { status: status.as_u16(), kind }, &message))
}

/// What a response that limits the rate of requests says of it: the header counts before the body, which need not be
/// Matrix's, as of a proxy.
fn limited(response: &Response<Bytes>, kind: Option<ErrorKind>) -> Option<ErrorKind> {
    let mut data = match kind {
        Some(ErrorKind::LimitExceeded(data)) => data,
        None if response.status() == StatusCode::TOO_MANY_REQUESTS => LimitExceededErrorData::new(),
        other => return other,
    };
    data.retry_after = wick_outbound::retry_after(response.headers()).or(data.retry_after);
    Some(ErrorKind::LimitExceeded(data))
}

/// As much of a foreign text as a log line or a message holds.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether a failure means that the server is gone or broken, rather than that it refuses.
pub(crate) fn is_outage(error: &Error) -> bool {
    let Error::Remote(failure) = error else { return false };
    match failure.reason {
        RemoteReason::Unreachable => true,
        RemoteReason::Refused { status, .. } => {
            status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16()
        }
        RemoteReason::Forbidden
        | RemoteReason::BackingOff
        | RemoteReason::Unreadable
        | RemoteReason::TooLarge => false,
    }
}

pub(crate) fn unreachable(server: &ServerName, failure: &Failure) -> Error {
    let reason = match failure {
        Failure::TooLarge => RemoteReason::TooLarge,
        Failure::DeniedAddress => RemoteReason::Forbidden,
        _ => RemoteReason::Unreachable,
    };
    remote(server, reason, &failure.to_string())
}

/// What is wrong with another server.
pub(crate) fn remote(server: &ServerName, reason: RemoteReason, message: &str) -> Error {
    RemoteFailure { server: server.to_string(), message: message.to_owned(), reason }.into()
}
