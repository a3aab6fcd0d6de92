//! The requests: within bounds of time and size, over connections that are reused.
//!
//! Invariants: a response is read no further than its bounds, whatever its headers claim; redirects are followed for
//! `GET` alone, and each is checked as the first URL was; no proxy, no cookies, no `Referer`.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use reqwest::{Certificate, Client, ClientBuilder, Url, redirect};
use ruma::api::error::RetryAfter;
use rustls::crypto::ring;
use wick_core::{Clock, Error, Result, clock::Sleep, config};

use crate::{
    Failure,
    guard::Guard,
    resolver::{GuardedResolver, Resolve},
};

/// How many redirects of one request are followed.
const MAX_REDIRECTS: usize = 5;

/// How long an idle connection is kept, and how many to one host.
const IDLE: Duration = Duration::from_secs(90);
const MAX_IDLE: usize = 4;

/// When a connection without traffic during a request counts as broken (HTTP/2).
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The host of a URL in its usual spelling, without the port; `None` if it is no URL with a host.
#[must_use]
pub fn host(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.host_str().map(|host| host.trim_end_matches('.').to_owned())
}

/// When a request may be repeated, as the headers of its response say.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    RetryAfter::try_from(headers.get(header::RETRY_AFTER)?).ok()
}

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes of the response's body.
    pub bytes: u64,
    /// The longest time until the whole response is read, redirects included.
    pub time: Duration,
}

/// Makes requests to addresses that users or other servers name.
pub struct Outbound {
    getting: Client,
    posting: Client,
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

/// A response whose body is still to be read.
pub struct Response {
    inner: reqwest::Response,
    left: u64,
    deadline: Sleep,
}

impl Outbound {
    /// A client for requests as the configuration wants them.
    ///
    /// # Errors
    /// If the configured certificates cannot be read.
    pub fn new(
        config: &config::Outbound,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self> {
        Self::open(config, clock, resolver, false)
    }

    /// The same for requests by `https` alone, redirects included.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn https(
        config: &config::Outbound,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self> {
        Self::open(config, clock, resolver, true)
    }

    fn open(
        config: &config::Outbound,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolve>,
        https_only: bool,
    ) -> Result<Self> {
        // An error means that it is installed already, by an earlier call.
        drop(ring::default_provider().install_default());
        let guard = Arc::new(Guard::new(config));
        let authorities = authorities(&config.ca_certificates)?;
        let resolver = Arc::new(GuardedResolver { resolver, guard: Arc::clone(&guard) });
        let base = || base(config).https_only(https_only).dns_resolver(Arc::clone(&resolver));
        Ok(Self {
            getting: trusting(|| base().redirect(following(&guard)), &authorities)?,
            posting: trusting(|| base().redirect(redirect::Policy::none()), &authorities)?,
            guard,
            clock,
            timeout: config.timeout.0,
        })
    }

    /// The bounds of a short request whose response has at most so many bytes.
    #[must_use]
    pub fn short(&self, bytes: u64) -> Bounds {
        Bounds { bytes, time: self.timeout }
    }

    /// `GET`. The response can have any status but that of a redirect.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        bounds: Bounds,
    ) -> Result<Response, Failure> {
        let url = self.checked(url)?;
        self.send(self.getting.get(url).headers(headers), bounds).await
    }

    /// `POST` of a JSON text. The response can have any status.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn post_json(
        &self,
        url: &str,
        json: impl Into<Bytes>,
        bounds: Bounds,
    ) -> Result<Response, Failure> {
        self.post_json_with(url, HeaderMap::new(), json, bounds).await
    }

    /// The same with more headers.
    ///
    /// # Errors
    /// As [`Outbound::post_json`].
    pub async fn post_json_with(
        &self,
        url: &str,
        headers: HeaderMap,
        json: impl Into<Bytes>,
        bounds: Bounds,
    ) -> Result<Response, Failure> {
        let url = self.checked(url)?;
        let json_type = HeaderValue::from_static("application/json");
        let request = self.posting.post(url).header(header::CONTENT_TYPE, json_type);
        self.send(request.headers(headers).body(json.into()), bounds).await
    }

    /// Any request, whose redirects are not followed. The response can have any status.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send_once(
        &self,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response, Failure> {
        let request = reqwest::Request::try_from(request).map_err(|_| Failure::InvalidUrl)?;
        self.guard.check(request.url())?;
        self.send(reqwest::RequestBuilder::from_parts(self.posting.clone(), request), bounds).await
    }

    fn checked(&self, url: &str) -> Result<Url, Failure> {
        let url = Url::parse(url).map_err(|_| Failure::InvalidUrl)?;
        self.guard.check(&url)?;
        Ok(url)
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        bounds: Bounds,
    ) -> Result<Response, Failure> {
        let mut deadline = self.clock.sleep_until(self.clock.monotonic() + bounds.time);
        let inner = tokio::select! {
            biased;
            response = request.send() => response?,
            () = &mut deadline => return Err(Failure::TimedOut),
        };
        if inner.content_length().is_some_and(|length| length > bounds.bytes) {
            return Err(Failure::TooLarge);
        }
        Ok(Response { inner, left: bounds.bytes, deadline })
    }
}

impl Response {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The URL it came from, after redirects.
    #[must_use]
    pub fn url(&self) -> &str {
        self.inner.url().as_str()
    }

    /// The response, of whose body at most so many bytes are read.
    #[must_use]
    pub fn limited(self, bytes: u64) -> Self {
        Self { left: self.left.min(bytes), ..self }
    }

    /// The response, if it is a success.
    ///
    /// # Errors
    /// [`Failure::Status`] if it is none.
    pub fn success(self) -> Result<Self, Failure> {
        let status = self.status();
        if status.is_success() {
            return Ok(self);
        }
        Err(Failure::Status { status, retry_after: retry_after(self.headers()) })
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks, the time is up, or the body is larger than its bound.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let chunk = tokio::select! {
            biased;
            chunk = self.inner.chunk() => chunk?,
            () = &mut self.deadline => return Err(Failure::TimedOut),
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        let length = u64::try_from(length).map_err(|_| Failure::TooLarge)?;
        self.left = self.left.checked_sub(length).ok_or(Failure::TooLarge)?;
        Ok(chunk)
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// A URL as it is sent: its spelling can be another one, which matters where it is signed.
///
/// # Errors
/// If it is none.
pub fn as_sent(uri: &Uri) -> Result<Uri, Failure> {
    let url = Url::parse(&uri.to_string()).map_err(|_| Failure::InvalidUrl)?;
    url.as_str().parse().map_err(|_| Failure::InvalidUrl)
}

fn base(config: &config::Outbound) -> ClientBuilder {
    Client::builder()
        .user_agent("wick")
        .no_proxy()
        .referer(false)
        .connect_timeout(config.connect_timeout.0)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
}

/// Follows redirects to where requests may go.
fn following(guard: &Arc<Guard>) -> redirect::Policy {
    let guard = Arc::clone(guard);
    redirect::Policy::custom(move |attempt| {
        // The first URL is among the previous ones.
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(Failure::TooManyRedirects);
        }
        match guard.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(failure) => attempt.error(failure),
        }
    })
}

/// The certificates in a PEM file; none if there is no path.
fn authorities(path: &Path) -> Result<Vec<Certificate>> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let context = || format!("the certificates of outbound.ca_certificates, {}", path.display());
    let pem = fs::read(path).map_err(|error| Error::internal(context(), error))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| Error::internal(context(), error))
}

/// A client that trusts these authorities and those of the system, if it has any.
fn trusting(builder: impl Fn() -> ClientBuilder, authorities: &[Certificate]) -> Result<Client> {
    let with_system = builder().tls_certs_merge(authorities.to_vec()).build();
    with_system.or_else(|error| {
        tracing::warn!(%error, "the system has no certificates of authorities");
        let client = builder().tls_certs_only(authorities.to_vec()).build();
        client.map_err(|error| Error::internal("the client for outbound requests", error))
    })
}
