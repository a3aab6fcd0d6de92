//! Takes connections and speaks HTTP/1 and HTTP/2 on them.
//!
//! Invariants: every connection is a task of the supervisor; when the server stops, a connection
//! finishes the requests it has and takes no more.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tower::ServiceExt;
use wick_api::Peer;
use wick_service::Services;

use crate::listen::Listener;

/// How long a client may take for its next request's headers, and so how long an idle connection lives.
const HEADERS: Duration = Duration::from_secs(75);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a connection could not be taken: no file descriptors, mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until the server stops.
pub(crate) fn spawn(services: &Arc<Services>, listener: Listener, router: Router) {
    let listener = Arc::new(listener);
    let shared = Arc::clone(services);
    services.supervisor.spawn("listener", move || {
        let (services, listener, router) =
            (Arc::clone(&shared), Arc::clone(&listener), router.clone());
        async move {
            let stopping = services.supervisor.stopping().clone();
            loop {
                let accepted = stopping.run_until_cancelled(accept(&services, &listener, &router));
                match accepted.await {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        tracing::warn!(%error, "a connection could not be taken");
                        pause(&services, PAUSE).await;
                    }
                }
            }
        }
    });
}

async fn accept(services: &Arc<Services>, listener: &Listener, router: &Router) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            let peer = Peer::Address(address.ip());
            set_nodelay(&stream);
            start(services, converse(Arc::clone(services), stream, peer, router.clone()));
        }
        Listener::Tls(listener, acceptor) => {
            let (stream, address) = listener.accept().await?;
            let peer = Peer::Address(address.ip());
            set_nodelay(&stream);
            let handshake = acceptor.accept(stream);
            let (shared, router) = (Arc::clone(services), router.clone());
            start(services, async move {
                let stream = tokio::select! {
                    stream = handshake => stream,
                    () = pause(&shared, HANDSHAKE) => Err(io::ErrorKind::TimedOut.into()),
                };
                match stream {
                    Ok(stream) => converse(shared, stream, peer, router).await,
                    Err(error) => tracing::debug!(%error, "a client did not agree on tls"),
                }
            });
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            start(services, converse(Arc::clone(services), stream, Peer::Local, router.clone()));
        }
    }
    Ok(())
}

fn start(services: &Services, connection: impl Future<Output = ()> + Send + 'static) {
    services.supervisor.spawn_once("connection", connection);
}

/// Answers are small and awaited: they must not wait for more to send.
fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is already gone");
    }
}

async fn converse<S>(services: Arc<Services>, stream: S, peer: Peer, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let router = router.clone();
        router.oneshot(request.map(Body::new))
    });
    let mut builder = Builder::new(Supervised(Arc::clone(&services)));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = services.supervisor.stopping().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn pause(services: &Services, time: Duration) {
    services.clock.sleep_until(services.clock.monotonic() + time).await;
}

/// Runs the requests of an HTTP/2 connection.
#[derive(Clone)]
struct Supervised(Arc<Services>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Supervised {
    fn execute(&self, request: F) {
        self.0.supervisor.spawn_once("request", request);
    }
}
