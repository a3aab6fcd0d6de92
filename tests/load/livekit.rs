//! A LiveKit server of our own: it answers the requests of the room service, and its web hooks can be signed.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{Failure, Result, clock, connection::Call};

pub(crate) const KEY: &str = "load";
pub(crate) const SECRET: &str = "a secret of thirty-two characters";

/// A LiveKit server.
pub(crate) struct LiveKit {
    pub(crate) address: SocketAddr,
    shared: Shared,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The session of each identity, by room.
    rooms: HashMap<String, BTreeMap<String, String>>,
    /// Requests for lists of participants.
    asked: u64,
    sessions: u64,
}

/// A place in a room, from a token.
#[derive(Clone, Deserialize)]
pub(crate) struct Seat {
    #[serde(rename = "sub")]
    identity: String,
    video: Grant,
}

#[derive(Clone, Deserialize)]
struct Grant {
    room: String,
}

impl Seat {
    /// The place that a token is for.
    pub(crate) fn of(jwt: &str) -> Result<Self> {
        let claims = jwt.split('.').nth(1).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD.decode(claims);
        let claims = claims.map_err(|error| Failure::Other(format!("no token: {error}")))?;
        Ok(serde_json::from_slice(&claims)?)
    }
}

impl LiveKit {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        let mut tasks = JoinSet::new();
        let serving = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, serving.clone()));
            }
        });
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Begins a session; its id.
    pub(crate) fn connect(&self, seat: &Seat) -> String {
        let mut state = self.shared.state();
        state.sessions += 1;
        let sid = format!("PA_{}", state.sessions);
        let room = state.rooms.entry(seat.video.room.clone()).or_default();
        room.insert(seat.identity.clone(), sid.clone());
        sid
    }

    /// Ends a session.
    pub(crate) fn disconnect(&self, seat: &Seat) {
        if let Some(room) = self.shared.state().rooms.get_mut(&seat.video.room) {
            room.remove(&seat.identity);
        }
    }

    /// How often it was asked for the participants of a room.
    pub(crate) fn asked(&self) -> u64 {
        self.shared.state().asked
    }
}

/// The body of the web hook about a session, and its token.
pub(crate) fn hook(event: &str, seat: &Seat, sid: &str) -> Result<(Value, String)> {
    let body = json!({
        "event": event, "room": { "name": seat.video.room },
        "participant": {
            "identity": seat.identity, "sid": sid, "disconnectReason": "CLIENT_INITIATED",
        },
    });
    let part = |json: &Value| Ok::<_, Failure>(URL_SAFE_NO_PAD.encode(serde_json::to_vec(json)?));
    let digest = STANDARD.encode(Sha256::digest(serde_json::to_vec(&body)?));
    let now = clock::unix_ms() / 1000;
    let header = part(&json!({ "alg": "HS256", "typ": "JWT" }))?;
    let claims = part(&json!({ "iss": KEY, "nbf": now, "exp": now + 300, "sha256": digest }))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())
        .map_err(|error| Failure::Other(error.to_string()))?;
    mac.update(format!("{header}.{claims}").as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Ok((body, format!("{header}.{claims}.{signature}")))
}

/// The request that delivers a web hook.
pub(crate) fn hook_call((body, token): &(Value, String)) -> Call<'_> {
    Call::post("/_matrix/livekit/jwt/sfu_webhook", Some(token), body.clone())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, method: &str, body: &Value) -> Option<Value> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut state = self.state();
        match method {
            "CreateRoom" => {
                state.rooms.entry(text("name").to_owned()).or_default();
                Some(json!({ "sid": "RM_1", "name": text("name") }))
            }
            "ListParticipants" => {
                state.asked += 1;
                let sessions = state.rooms.get(text("room")).into_iter().flatten();
                let participants: Vec<_> = sessions
                    .map(|(identity, sid)| {
                        json!({ "identity": identity, "sid": sid, "state": "ACTIVE" })
                    })
                    .collect();
                Some(json!({ "participants": participants }))
            }
            "RemoveParticipant" => {
                if let Some(room) = state.rooms.get_mut(text("room")) {
                    room.remove(text("identity"));
                }
                Some(json!({}))
            }
            _ => None,
        }
    }
}

async fn serve(stream: TcpStream, shared: Shared) {
    let service = service_fn(move |request| answer(request, shared.clone()));
    // A server that ends breaks its connections.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    request: Request<Incoming>,
    shared: Shared,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = path.rsplit('/').next().unwrap_or_default();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = shared.answer(method, &body);
    let text = answer.as_ref().map(Value::to_string).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if answer.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}
