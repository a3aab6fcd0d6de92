//! Connections: how many there may be, and how long each phase of one may take.
//!
//! Invariants: there are never more connections than `max`, and no address has more than its share; no
//! phase of a connection (first request, head, idle, write) is without a time limit; the bytes of
//! unread answers are bounded; when the server stops, a connection finishes the requests it has and
//! takes no more.

mod answers;
mod phases;
mod slots;

use std::{future::Future, pin::pin, sync::Arc};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;
use wick_core::config;
use wick_service::Services;

use self::{
    answers::{Answer, Answers, CHUNK},
    phases::{Due, Phases, Watched},
    slots::Slots,
};
pub use self::{phases::Closed, slots::ConnectionSlot};
use crate::address::{Peer, limit_key};

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The connections of a group of listeners.
pub struct Connections {
    services: Arc<Services>,
    slots: Arc<Slots>,
    answers: Arc<Answers>,
}

impl Connections {
    /// At most `max` connections; of one address at most half of them, and not more than is configured.
    #[must_use]
    pub fn new(services: Arc<Services>, max: usize) -> Self {
        let config = &services.config.connections;
        let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
        let per_address = number(config.max_per_address).min(max.div_ceil(2));
        let slots = Arc::new(Slots::new(max, per_address));
        let unread = number(config.max_unread_megabytes).saturating_mul(1 << 20);
        Self { services, slots, answers: Arc::new(Answers::new(unread)) }
    }

    /// A slot for a connection from `peer`, if one is free; dropping it frees it. Trusted proxies and
    /// UNIX sockets have no limit per address.
    #[must_use]
    pub fn admit(&self, peer: Peer) -> Option<ConnectionSlot> {
        let trusted = &self.services.config.server.trusted_proxies;
        let address = match peer {
            Peer::Address(address) if !trusted.contains(&address.to_canonical()) => {
                limit_key(Some(address.to_canonical()))
            }
            Peer::Address(_) | Peer::Local => None,
        };
        let slot = self.slots.take(address);
        if slot.is_none() {
            metrics::counter!("wick_connections_refused_total").increment(1);
            tracing::debug!(?peer, "refused a connection, the limit is reached");
        }
        slot
    }

    /// Serves `router` on a connection until it ends, exceeds a time limit, or the server stops.
    pub async fn serve<S>(
        &self,
        _slot: ConnectionSlot,
        stream: S,
        peer: Peer,
        router: Router,
    ) -> Closed
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (clock, config) = (&self.services.clock, &self.services.config.connections);
        let phases = Arc::new(Phases::new(Arc::clone(clock), config));
        let (noting, answers) = (Arc::clone(&phases), Arc::clone(&self.answers));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let open = Phases::begin(&noting, request.version());
            request.extensions_mut().insert(peer);
            let (router, answers) = (router.clone(), Arc::clone(&answers));
            async move {
                let response = match router.oneshot(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                Answer::wrap(response, open, &answers).await
            }
        });
        let builder = builder(&self.services, config);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&phases)));
        let mut connection = pin!(builder.serve_connection(stream, service));
        let (mut stopping, mut closing) = (false, false);
        let mut look = clock.monotonic() + phases.interval();
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return if closing { Closed::Idle } else { Closed::Ended };
                }
                () = self.services.supervisor.stopping().cancelled(), if !stopping => {
                    connection.as_mut().graceful_shutdown();
                    stopping = true;
                }
                () = clock.sleep_until(look) => {
                    let now = clock.monotonic();
                    self.answers.drop_stalled(now, config.write_timeout.0);
                    match phases.due(now) {
                        Due::Later(at) => look = at,
                        Due::Close(Closed::Idle) if !closing => {
                            connection.as_mut().graceful_shutdown();
                            closing = true;
                            look = now + config.write_timeout.0;
                        }
                        Due::Close(why) => {
                            metrics::counter!(
                                "wick_connections_closed_total", "reason" => why.name()
                            )
                            .increment(1);
                            tracing::debug!(?peer, reason = why.name(), "closed a connection");
                            return why;
                        }
                    }
                }
            }
        }
    }
}

fn builder(services: &Arc<Services>, config: &config::Connections) -> Builder<Supervised> {
    let mut builder = Builder::new(Supervised(Arc::clone(services)));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(config.ping_interval.0)
        .keep_alive_timeout(config.ping_timeout.0)
        .max_concurrent_streams(config.max_streams)
        .max_send_buf_size(CHUNK);
    builder
}

/// Runs the requests of an HTTP/2 connection.
#[derive(Clone)]
struct Supervised(Arc<Services>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Supervised {
    fn execute(&self, request: F) {
        self.0.supervisor.spawn_once("request", request);
    }
}
