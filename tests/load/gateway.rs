//! A push gateway that records when each message was received.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::{Result, clock};

/// A message that was pushed.
pub(crate) struct Pushed {
    /// Its text.
    pub(crate) text: String,
    /// The key of the pusher.
    pub(crate) push_key: String,
    pub(crate) at: Instant,
}

/// Accepts every notification, unless set to refuse all.
pub(crate) struct Gateway {
    pub(crate) url: String,
    pushed: mpsc::UnboundedReceiver<Pushed>,
    refuses: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Shared {
    pushed: mpsc::UnboundedSender<Pushed>,
    refuses: Arc<AtomicBool>,
}

impl Gateway {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let url = format!("http://{}/_matrix/push/v1/notify", listener.local_addr()?);
        let (send, pushed) = mpsc::unbounded_channel();
        let refuses = Arc::new(AtomicBool::new(false));
        let shared = Shared { pushed: send, refuses: Arc::clone(&refuses) };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone()));
            }
        });
        Ok(Self { url, pushed, refuses, _tasks: tasks })
    }

    /// Refuses everything from now on, or accepts it again.
    pub(crate) fn refuse(&self, all: bool) {
        self.refuses.store(all, Ordering::SeqCst);
    }

    /// The next message that was accepted; `None` if none comes for so long.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<Pushed> {
        tokio::time::timeout(patience, self.pushed.recv()).await.ok().flatten()
    }
}

async fn serve(stream: TcpStream, shared: Shared) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    // A server that is killed breaks its connections.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    shared: Shared,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let at = clock::now();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    if shared.refuses.load(Ordering::SeqCst) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).map(ToOwned::to_owned);
    // Counts alone are not what is measured.
    if let Some(body) = text("/notification/content/body") {
        let push_key = text("/notification/devices/0/pushkey").unwrap_or_default();
        drop(shared.pushed.send(Pushed { text: body, push_key, at }));
    }
    Ok(response)
}
