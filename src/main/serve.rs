//! Accepts connections and hands them to the router.
//!
//! Invariants: every connection is a task of the supervisor and has a slot before anything is read from
//! it; one without a slot is closed at once.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use tokio::net::TcpStream;
use wick_api::{ConnectionSlot, Connections, Peer};
use wick_service::Services;

use crate::listen::Listener;

/// The pause after an error of `accept`, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until the server stops.
pub(crate) fn spawn(
    services: &Arc<Services>,
    connections: &Arc<Connections>,
    listener: &Arc<Listener>,
    router: Router,
) {
    let acceptor = Acceptor {
        services: Arc::clone(services),
        connections: Arc::clone(connections),
        listener: Arc::clone(listener),
        router,
    };
    services.supervisor.spawn("listener", move || acceptor.clone().run());
}

#[derive(Clone)]
struct Acceptor {
    services: Arc<Services>,
    connections: Arc<Connections>,
    listener: Arc<Listener>,
    router: Router,
}

impl Acceptor {
    async fn run(self) {
        let stopping = self.services.supervisor.stopping();
        loop {
            match stopping.run_until_cancelled(self.accept()).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    pause(&self.services, PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<()> {
        match &*self.listener {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer::Address(address.ip());
                let Some(slot) = self.connections.admit(peer) else { return Ok(()) };
                set_nodelay(&stream);
                self.serve(slot, peer, async { Some(stream) });
            }
            Listener::Tls(listener, acceptor) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer::Address(address.ip());
                let Some(slot) = self.connections.admit(peer) else { return Ok(()) };
                set_nodelay(&stream);
                let handshake = acceptor.accept(stream);
                let services = Arc::clone(&self.services);
                self.serve(slot, peer, async move {
                    let patience = services.config.connections.handshake_timeout.0;
                    let stream = tokio::select! {
                        stream = handshake => stream,
                        () = pause(&services, patience) => Err(io::ErrorKind::TimedOut.into()),
                    };
                    if let Err(error) = &stream {
                        tracing::debug!(%error, "a tls handshake failed");
                    }
                    stream.ok()
                });
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let Some(slot) = self.connections.admit(Peer::Local) else { return Ok(()) };
                self.serve(slot, Peer::Local, async { Some(stream) });
            }
        }
        Ok(())
    }

    /// Starts a task for a connection, once `stream` resolves to it.
    fn serve<S>(
        &self,
        slot: ConnectionSlot,
        peer: Peer,
        stream: impl Future<Output = Option<S>> + Send + 'static,
    ) where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (connections, router) = (Arc::clone(&self.connections), self.router.clone());
        self.services.supervisor.spawn_once("connection", async move {
            if let Some(stream) = stream.await {
                connections.serve(slot, stream, peer, router).await;
            }
        });
    }
}

/// Answers are small and awaited: they must not wait for more to send.
fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is already gone");
    }
}

async fn pause(services: &Services, time: Duration) {
    services.clock.sleep_until(services.clock.monotonic() + time).await;
}
