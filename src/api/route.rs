//! An endpoint: a handler with the method and the paths of ruma's request type.
//!
//! Invariant: all handlers have one shape once they are in a [`Route`], so that what is generic over
//! the request type stays small.

use std::{future::Future, net::IpAddr, ops::Deref, pin::Pin, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use ruma::api::{IncomingRequest, error::DeserializationError, path_builder::PathBuilder};
use serde::de::{DeserializeOwned, IgnoredAny};
use wick_account::{
    Requester,
    uia::{self, Finished},
};
use wick_core::{Error, Result, json};
use wick_federation::RunningRequest;
use wick_runtime::Limit;
use wick_service::Services;

use crate::{
    address::limit_key,
    auth::{self, Scheme},
    error::{not_json, unreadable},
    guests::GuestAccess,
    lists::Shape,
    reply::Reply,
};

/// A request with its sender.
pub(crate) struct Ruma<R: IncomingRequest<Authentication: Scheme>> {
    /// The request.
    pub(crate) body: R,
    /// The sender: an `Arc<Session>`, a [`Requester`], an `OwnedServerName`, or `()`.
    pub(crate) sender: <R::Authentication as Scheme>::Sender,
    /// From where, if that is known.
    pub(crate) address: Option<IpAddr>,
}

impl<R: IncomingRequest<Authentication: Scheme>> Deref for Ruma<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.body
    }
}

/// A request before it is read.
pub(crate) struct Call {
    /// The request with its whole body; without it if the endpoint takes it as a stream.
    pub(crate) request: Request<Bytes>,
    /// The body if the endpoint takes it as a stream.
    pub(crate) stream: Body,
    /// The variable parts of its path, decoded.
    pub(crate) arguments: Vec<String>,
    /// From where it comes.
    pub(crate) address: Option<IpAddr>,
    /// What it counts as.
    pub(crate) limit: Count,
    /// What it must fulfil before it is read.
    pub(crate) shape: Shape,
    /// Whether it may be a guest's.
    pub(crate) guests: GuestAccess,
}

/// A request whose sender is known and whose body is still to be read, for endpoints that may know the
/// answer without it.
pub(crate) struct Unread<R: IncomingRequest<Authentication: Scheme>> {
    /// Its sender.
    pub(crate) sender: <R::Authentication as Scheme>::Sender,
    call: Call,
}

impl<R: IncomingRequest<Authentication: Scheme>> Unread<R> {
    /// The variable parts of its path, decoded.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.call.arguments
    }

    /// Whether it came by a path that is not part of the specification.
    pub(crate) fn is_unstable(&self) -> bool {
        self.call.request.uri().path().starts_with("/_matrix/client/unstable/")
    }

    /// Its query string.
    pub(crate) fn query(&self) -> &str {
        self.call.query()
    }

    /// Its headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.call.request.headers()
    }

    /// The request as user-interactive authentication knows it again.
    pub(crate) fn identity(&self) -> uia::Request {
        self.call.identity()
    }

    /// The same for a request that must have a body, of which ruma's type would take none for an empty
    /// one.
    ///
    /// # Errors
    /// `M_NOT_JSON` if the body is empty; what else is wrong with the request.
    pub(crate) fn read_with_body(self) -> Result<Ruma<R>> {
        if self.call.request.body().is_empty() {
            return Err(not_json("the request has no body"));
        }
        self.read()
    }

    /// Reads all but the body, which comes as a stream, with the headers.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(crate) fn read_head(mut self) -> Result<(Ruma<R>, HeaderMap, Body)> {
        let (headers, stream) = (self.headers().clone(), std::mem::take(&mut self.call.stream));
        Ok((self.read()?, headers, stream))
    }

    /// As [`Call::json`], for fields that ruma's type does not have.
    ///
    /// # Errors
    /// As [`Call::json`].
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        self.call.json()
    }

    /// Reads the body, and all else.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub(crate) fn read(self) -> Result<Ruma<R>> {
        let Self { sender, call } = self;
        call.shape.check(&call.request)?;
        let address = call.address;
        Ok(Ruma { body: read::<R>(call)?, sender, address })
    }
}

impl Call {
    /// Its body, for endpoints without a request type of ruma's.
    ///
    /// # Errors
    /// `M_NOT_JSON` or `M_BAD_JSON` if the body is none of this type.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let body = self.request.body();
        ensure_object(body, self.shape)?;
        serde_json::from_slice(body).map_err(|error| unreadable(error.into()))
    }

    /// Its query string.
    pub(crate) fn query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    /// The request as user-interactive authentication knows it again.
    fn identity(&self) -> uia::Request {
        let token = auth::token(&self.request).unwrap_or_default();
        let context = [self.request.method().as_str(), self.request.uri().path(), &token];
        uia::Request::new(&context, self.request.body())
    }
}

/// What a request counts as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// One more request of its sender's.
    Request,
    /// That, and something of its own: per user, or per address if there is no user.
    Also(Limit),
    /// Nothing: the handler counts.
    Nothing,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

/// A handler of any request.
pub(crate) type Handler = Arc<dyn Fn(Arc<Services>, Call) -> Answering + Send + Sync>;

/// An endpoint.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) paths: Vec<String>,
    pub(crate) handler: Handler,
    pub(crate) limit: Count,
    /// Whether the handler takes the body as a stream.
    pub(crate) streams: bool,
    /// The most bytes of a body, if that is more than what is configured.
    pub(crate) max_body: u64,
}

impl Route {
    /// Takes bodies of so many bytes, however few are configured.
    pub(crate) fn with_body_of(self, bytes: u64) -> Self {
        Self { max_body: bytes, ..self }
    }

    /// Hands the body to the handler as a stream.
    pub(crate) fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }

    /// Counts a request as `limit` too.
    pub(crate) fn limited(self, limit: Limit) -> Self {
        Self { limit: Count::Also(limit), ..self }
    }

    /// Refuses what `check` refuses, before the request is parsed or counted.
    pub(crate) fn only_if(
        self,
        check: impl Fn(&Call) -> Result<()> + Copy + Send + Sync + 'static,
    ) -> Self {
        let then = self.handler;
        let handler: Handler = Arc::new(move |services, call| match check(&call) {
            Ok(()) => then(services, call),
            Err(error) => Box::pin(async { Err(error) }),
        });
        Self { handler, ..self }
    }

    /// Refuses every request where `check` refuses, whatever the request is.
    pub(crate) fn only_with(self, check: fn(&Services) -> Result<()>) -> Self {
        let then = self.handler;
        let handler: Handler = Arc::new(move |services, call| match check(&services) {
            Ok(()) => then(services, call),
            Err(error) => Box::pin(async { Err(error) }),
        });
        Self { handler, ..self }
    }

    /// Answers a request that was confirmed and done, and is made again in the same session of
    /// user-interactive authentication, with `answer`: also if what was done has ended its access token.
    pub(crate) fn repeatable(self, answer: fn(Finished) -> Result<Response>) -> Self {
        let then = self.handler;
        let handler: Handler = Arc::new(move |services, call| {
            let then = Arc::clone(&then);
            Box::pin(async move {
                let (request, address) = (call.identity(), limit_key(call.address));
                let response = match services.uia.finished(&request)? {
                    Some(finished) => {
                        services.limits.ensure(Limit::Anonymous, &address)?;
                        return answer(finished);
                    }
                    None => then(Arc::clone(&services), call).await,
                };
                if response.as_ref().is_ok_and(|response| response.status().is_success()) {
                    return response;
                }
                // The same request can have been done while this one was waiting.
                services.uia.finished(&request)?.map_or(response, answer)
            })
        });
        Self { handler, ..self }
    }

    /// Does not count a request at all.
    pub(crate) fn uncounted(self) -> Self {
        Self { limit: Count::Nothing, ..self }
    }
}

/// The endpoint of a ruma request type.
pub(crate) fn route<R, F, T, A>(handler: F) -> Route
where
    R: IncomingRequest<Authentication: Scheme> + Send + 'static,
    F: Fn(Arc<Services>, Ruma<R>) -> T + Copy + Send + Sync + 'static,
    T: Future<Output = Result<A>> + Send + 'static,
    A: Reply,
{
    route_unread(move |services, request: Unread<R>| async move {
        handler(services, request.read()?).await
    })
}

/// The same, for a handler that reads the request itself.
pub(crate) fn route_unread<R, F, T, A>(handler: F) -> Route
where
    R: IncomingRequest<Authentication: Scheme> + Send + 'static,
    F: Fn(Arc<Services>, Unread<R>) -> T + Copy + Send + Sync + 'static,
    T: Future<Output = Result<A>> + Send + 'static,
    A: Reply,
{
    let mut paths = Vec::new();
    for path in R::PATH_BUILDER.all_paths() {
        // `{stateKey}` may be empty, and so may the slash before it be missing.
        if let Some(without_key) = path.strip_suffix("/{state_key}") {
            paths.extend([without_key.to_owned(), format!("{without_key}/")]);
        }
        paths.push(path.to_owned());
    }
    let handler: Handler = Arc::new(move |services, call| {
        Box::pin(async move {
            let requester = R::Authentication::requester(&services, &call.request).await;
            let (requester, _running) = admit(&services, &call, requester)?;
            let sender = R::Authentication::admit(requester)?;
            handler(services, Unread { sender, call }).await?.into_http()
        })
    });
    Route { method: R::METHOD, paths, handler, limit: Count::Request, streams: false, max_body: 0 }
}

/// Counts a request and notes that its sender is active. What another server asks for is under way until the second value is
/// dropped.
fn admit(
    services: &Services,
    call: &Call,
    requester: Result<Requester>,
) -> Result<(Requester, Option<RunningRequest>)> {
    let requester = match requester {
        Ok(requester) => requester,
        Err(error) => {
            // A token that is not good counts as none.
            count(services, call, &Requester::Anonymous)?;
            return Err(error);
        }
    };
    count(services, call, &requester)?;
    let running = match &requester {
        Requester::User(session) => {
            services.sessions.note_seen(session, call.address);
            if session.is_guest {
                call.guests.ensure(&call.arguments)?;
            }
            None
        }
        Requester::Server(server) => Some(services.federation()?.begin(server)?),
        Requester::Anonymous => None,
    };
    Ok((requester, running))
}

/// An endpoint that has no request type of ruma's. It is counted by its handler, if at all.
pub(crate) fn plain<T>(
    path: &str,
    handler: impl Fn(Arc<Services>, Call) -> T + Copy + Send + Sync + 'static,
) -> Route
where
    T: Future<Output = Result<Response>> + Send + 'static,
{
    let handler: Handler =
        Arc::new(move |services, call| Box::pin(async move { handler(services, call).await }));
    Route {
        method: Method::GET,
        paths: vec![path.to_owned()],
        handler,
        limit: Count::Nothing,
        streams: false,
        max_body: 0,
    }
}

fn count(services: &Services, call: &Call, requester: &Requester) -> Result<()> {
    let limits = &services.limits;
    if let Count::Nothing = call.limit {
        return Ok(());
    }
    match requester {
        Requester::User(session) => {
            limits.ensure(Limit::Requests, &(&session.user_id, &session.device_id))?;
        }
        Requester::Server(server) => limits.ensure(Limit::Servers, server)?,
        Requester::Anonymous => limits.ensure(Limit::Anonymous, &limit_key(call.address))?,
    }
    let Count::Also(limit) = call.limit else { return Ok(()) };
    match requester {
        Requester::User(session) => limits.ensure(limit, &session.user_id),
        Requester::Server(server) => limits.ensure(limit, server),
        Requester::Anonymous => limits.ensure(limit, &limit_key(call.address)),
    }
}

fn read<R: IncomingRequest>(call: Call) -> Result<R> {
    let Call { request, arguments, shape, .. } = call;
    let has_body = request.method() != Method::GET;
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (parts, body) = request.into_parts();
    if has_body {
        ensure_object(&body, shape)?;
    }
    R::try_from_http_request_inner(Request::from_parts(parts, &body), &arguments).map_err(|error| {
        match error {
            // What is wrong with a field may be found before what is wrong with the whole.
            DeserializationError::Json(_) => ensure_json(&body).err(),
            _ => None,
        }
        .unwrap_or_else(|| unreadable(error))
    })
}

/// Refuses a body that cannot be a JSON object and is not empty either.
fn ensure_object(body: &[u8], shape: Shape) -> Result<()> {
    json::ensure_depth(body, shape.max_depth())?;
    if str::from_utf8(body).is_err() {
        // serde skips what it does not need, whether or not it is text.
        return Err(not_json("the body is not UTF-8"));
    }
    if !body.is_empty() && !body.trim_ascii_start().starts_with(b"{") {
        // serde would take an array for a struct.
        ensure_json(body)?;
        return Err(Error::bad_json("the body is no JSON object"));
    }
    Ok(())
}

fn ensure_json(body: &[u8]) -> Result<()> {
    serde_json::from_slice::<IgnoredAny>(body)
        .map(|_| ())
        .map_err(|_| not_json("the body is no JSON"))
}
