//! A call at a LiveKit server that is a part of the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{pending, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wick_calls::{Answering, Failure, LiveKit, Participant, Reply, WellKnown};
use wick_core::{Clock, Config};
use wick_database::Durability;
use wick_harness::{MockClock, Options, TestServer, User};

use crate::{
    delayed::later::Later,
    expiry::call::{Call, PATIENCE, seconds},
};

pub(crate) const BASE: &str = "/_matrix/livekit/jwt";
pub(crate) const URL: &str = "wss://livekit.example.org";
pub(crate) const SECRET: &str = "a secret of thirty-two characters";

pub(crate) type Told = (StatusCode, Value);

/// A LiveKit server in memory.
#[derive(Default)]
pub(crate) struct FakeLiveKit(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    /// Rooms with the session of each identity.
    pub(crate) rooms: BTreeMap<String, BTreeMap<String, String>>,
    /// Every removal, also of absent participants.
    pub(crate) removed: Vec<(String, String)>,
    /// It does not answer.
    pub(crate) is_down: bool,
    /// The rooms about which it does not answer.
    pub(crate) away: BTreeSet<String>,
    /// Requests for lists of participants are never answered.
    pub(crate) is_stuck: bool,
    /// Asking about this room panics.
    pub(crate) panics_in: Option<String>,
    /// What the server's name serves as `/.well-known/matrix/client`; nothing if null.
    pub(crate) well_known: Value,
    /// The clients that answer nothing.
    pub(crate) silent: BTreeSet<String>,
    /// How long clients take to answer; those that are not in it answer at once.
    pub(crate) slow: BTreeMap<String, Duration>,
    /// Questions to clients are never answered.
    pub(crate) hangs: bool,
    /// The clock by which clients are slow.
    clock: Option<MockClock>,
    /// It cannot ask clients.
    pub(crate) is_old: bool,
    /// The number of questions to clients.
    pub(crate) questions: usize,
    /// The number of requests for lists of participants.
    pub(crate) asked: usize,
    sessions: usize,
}

impl FakeLiveKit {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session; its id.
    pub(crate) fn connect(&self, seat: &Seat) -> String {
        let mut state = self.state();
        state.sessions += 1;
        let sid = format!("PA_{}", state.sessions);
        let room = state.rooms.entry(seat.room.clone()).or_default();
        room.insert(seat.identity.clone(), sid.clone());
        sid
    }

    /// Ends a session.
    pub(crate) fn disconnect(&self, seat: &Seat) {
        if let Some(room) = self.state().rooms.get_mut(&seat.room) {
            room.remove(&seat.identity);
        }
    }

    /// Whether it lists a session.
    pub(crate) fn is_connected(&self, seat: &Seat) -> bool {
        self.state().rooms.get(&seat.room).is_some_and(|room| room.contains_key(&seat.identity))
    }

    fn answer<T: Send + 'static>(
        &self,
        room: &str,
        make: impl FnOnce(&mut State) -> T,
    ) -> Answering<'_, T> {
        let mut state = self.state();
        let answer = if state.is_down || state.away.contains(room) {
            Err(Failure::Unreachable("it is down".to_owned()))
        } else {
            Ok(make(&mut state))
        };
        Box::pin(ready(answer))
    }
}

impl LiveKit for FakeLiveKit {
    fn create_room<'a>(&'a self, room: &'a str) -> Answering<'a, ()> {
        self.answer(room, |state| {
            state.rooms.entry(room.to_owned()).or_default();
        })
    }

    fn participants<'a>(&'a self, room: &'a str) -> Answering<'a, Vec<Participant>> {
        let (is_stuck, panics) = {
            let state = self.state();
            (state.is_stuck, state.panics_in.as_deref() == Some(room))
        };
        assert!(!panics, "a fault in the check of this room");
        if is_stuck {
            return Box::pin(pending());
        }
        self.answer(room, |state| {
            state.asked += 1;
            let sessions = state.rooms.get(room).into_iter().flatten();
            let listed = |(identity, sid): (&String, &String)| Participant {
                identity: identity.clone(),
                sid: sid.clone(),
            };
            sessions.map(listed).collect()
        })
    }

    fn remove<'a>(&'a self, room: &'a str, identity: &'a str) -> Answering<'a, ()> {
        self.answer(room, |state| {
            state.removed.push((room.to_owned(), identity.to_owned()));
            if let Some(room) = state.rooms.get_mut(room) {
                room.remove(identity);
            }
        })
    }

    fn ask<'a>(
        &'a self,
        room: &'a str,
        identity: &'a str,
        within: Duration,
    ) -> Answering<'a, Reply> {
        let answer = self.answer(room, |state| {
            state.questions += 1;
            let takes = match (state.silent.contains(identity), state.slow.get(identity)) {
                (true, _) => Duration::MAX,
                (false, slow) => slow.copied().unwrap_or_default(),
            };
            let reply = if takes <= within { Reply::Answer } else { Reply::Silence };
            let reply = if state.is_old { Reply::Unknown } else { reply };
            (reply, takes.min(within), state.clock.clone(), state.hangs)
        });
        Box::pin(async move {
            let (reply, takes, clock, hangs) = answer.await?;
            if hangs {
                return pending().await;
            }
            if let (Some(clock), Reply::Answer | Reply::Silence) = (clock, reply) {
                clock.sleep_until(clock.monotonic() + takes).await;
            }
            Ok(reply)
        })
    }
}

impl WellKnown for FakeLiveKit {
    fn client(&self) -> Answering<'_, Value> {
        let served = self.state().well_known.clone();
        let nothing = || Failure::Unexpected("404 Not Found".to_owned());
        Box::pin(ready(if served.is_null() { Err(nothing()) } else { Ok(served) }))
    }
}

/// A place at LiveKit, from a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) room: String,
    pub(crate) identity: String,
}

impl Seat {
    pub(crate) fn of((status, body): &Told) -> Self {
        assert_eq!(*status, StatusCode::OK, "{body}");
        let claims = claims(body);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self { room: text(&claims["video"]["room"]), identity: text(&claims["sub"]) }
    }
}

/// What a token claims.
pub(crate) fn claims(body: &Value) -> Value {
    let parts: Vec<_> = body["jwt"].as_str().unwrap().split('.').collect();
    let signed = format!("{}.{}", parts[0], parts[1]);
    assert_eq!(signature(&signed, SECRET), parts[2]);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

fn signature(signed: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// A web hook on its way.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) token: String,
    pub(crate) body: String,
}

impl Hook {
    pub(crate) fn signed(now: u64, secret: &str, body: &Value) -> Self {
        let body = body.to_string();
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = part(json!({ "alg": "HS256", "typ": "JWT" }));
        let claims = part(json!({
            "iss": "devkey", "nbf": now, "exp": now + 300,
            "sha256": STANDARD.encode(Sha256::digest(&body)),
        }));
        let signed = format!("{header}.{claims}");
        Self { token: format!("{signed}.{}", signature(&signed, secret)), body }
    }
}

/// A room of Alice's and a LiveKit server.
pub(crate) struct Stage {
    pub(crate) call: Call,
    pub(crate) livekit: Arc<FakeLiveKit>,
}

pub(crate) fn configure(config: &mut Config) {
    config.server.well_known_client = "https://matrix.example.org".to_owned();
    config.calls.livekit_url = URL.to_owned();
    config.calls.livekit_key = "devkey".to_owned();
    config.calls.livekit_secret = SECRET.to_owned().into();
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Options::lenient()).await
    }

    pub(crate) async fn with(mut options: Options) -> Self {
        configure(&mut options.config);
        let livekit = Arc::new(FakeLiveKit::default());
        options.livekit = Some(Arc::clone(&livekit) as _);
        let call = Call::on(TestServer::start_from(options).await).await;
        livekit.state().clock = Some(call.server.clock.clone());
        Self { call, livekit }
    }

    /// An OpenID token, as it is shown to services.
    pub(crate) async fn openid(&self, user: &User) -> Value {
        let path = format!("/_matrix/client/v3/user/{}/openid/request_token", user.user_id);
        let (status, body) = self.call.server.post(&path, &user.token, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// The body of a request for a token, in the deployed form.
    pub(crate) async fn body(&self, user: &User, member: &str) -> Value {
        json!({
            "room_id": self.call.room, "slot_id": "m.call#ROOM",
            "openid_token": self.openid(user).await,
            "member": {
                "id": member, "claimed_user_id": user.user_id,
                "claimed_device_id": user.device_id,
            },
        })
    }

    /// A request below the base of the token service.
    pub(crate) async fn ask(&self, path: &str, body: Value) -> Told {
        self.call.server.post(&format!("{BASE}{path}"), "", body).await
    }

    /// Asks for a token in the deployed form, with a delayed event to hand over if there is one.
    pub(crate) async fn token(&self, user: &User, member: &str, delay_id: Option<&str>) -> Told {
        let mut body = self.body(user, member).await;
        if let Some(delay_id) = delay_id {
            body["delay_id"] = json!(delay_id);
            body["delay_timeout"] = json!(1000);
            body["delay_cs_api_url"] = json!("https://matrix.example.org");
        }
        self.ask("/get_token", body).await
    }

    /// A leave of Alice's that is due in 100 s.
    pub(crate) async fn leave(&self, transaction: &str) -> String {
        self.call.put_off(&Later::message(transaction).after(&seconds(100))).await
    }

    /// Alice in the call, with a delegated leave whose text is "gone".
    pub(crate) async fn delegated(&self) -> (Seat, String, String) {
        let leave = self.leave("gone").await;
        let seat = Seat::of(&self.token(&self.call.alice, "m", Some(&leave)).await);
        let sid = self.enters(&seat).await;
        self.settle().await;
        (seat, sid, leave)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.call.running() == 0
    }

    /// Delivers a web hook.
    pub(crate) async fn deliver(&self, hook: &Hook) -> StatusCode {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{BASE}/sfu_webhook"))
            .header(header::CONTENT_TYPE, "application/webhook+json")
            .header(header::AUTHORIZATION, &hook.token);
        let request = request.body(Body::from(hook.body.clone())).unwrap();
        self.call.server.send(request).await.status
    }

    /// A web hook about a session.
    pub(crate) fn hook(&self, event: &str, seat: &Seat, sid: &str, reason: &str) -> Hook {
        let body = json!({
            "event": event, "id": "EV_1", "room": { "name": seat.room, "sid": "RM_1" },
            "participant": {
                "sid": sid, "identity": seat.identity, "disconnectReason": reason,
            },
        });
        Hook::signed(self.call.server.clock.now().0 / 1000, SECRET, &body)
    }

    /// Adds a session and delivers the web hook about it.
    pub(crate) async fn enters(&self, seat: &Seat) -> String {
        let sid = self.livekit.connect(seat);
        let hook = self.hook("participant_joined", seat, &sid, "UNKNOWN_REASON");
        assert_eq!(self.deliver(&hook).await, StatusCode::OK);
        sid
    }

    /// Ends a session and delivers the web hook about it.
    pub(crate) async fn leaves(&self, seat: &Seat, sid: &str, reason: &str) {
        self.livekit.disconnect(seat);
        let hook = self.hook("participant_left", seat, sid, reason);
        assert_eq!(self.deliver(&hook).await, StatusCode::OK);
    }

    /// Lets time pass so slowly that what is written meanwhile is written.
    pub(crate) async fn pass(&self, time: u64) {
        let step = 2;
        for _ in 0..time.div_ceil(step) {
            self.settle().await;
            self.call.server.clock.advance(seconds(step)).await;
        }
        self.settle().await;
    }

    /// Waits until what was begun is written.
    pub(crate) async fn settle(&self) {
        settle(&self.call.server).await;
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn() -> bool) {
        until(what, so).await;
    }
}

/// Waits until what was begun is written.
pub(crate) async fn settle(server: &TestServer) {
    server.clock.advance(Duration::ZERO).await;
    let database = &server.services().database;
    for _ in 0..3 {
        database.commit(database.batch(), Durability::Synced).await.unwrap();
        server.clock.advance(Duration::ZERO).await;
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
