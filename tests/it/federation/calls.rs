//! Tokens for calls, for users of other servers.

use std::sync::{Arc, atomic::Ordering};

use axum::{Router, response::IntoResponse, routing::get};
use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::{Gate, TestNetwork, TestRoom, TestServer, User};

use super::{counted, waiting::until};
use crate::livekit::stage::{BASE, FakeLiveKit, Seat, claims, configure};

/// A server with a LiveKit, and a user of another server, who is in its room.
struct Two {
    network: TestNetwork,
    a: TestServer,
    b: TestServer,
    gate: Gate,
    livekit: Arc<FakeLiveKit>,
    alice: User,
    bob: User,
}

impl Two {
    async fn start() -> Self {
        let network = TestNetwork::new();
        let livekit = Arc::new(FakeLiveKit::default());
        let mut options = network.options("a.test");
        configure(&mut options.config);
        options.livekit = Some(Arc::clone(&livekit) as _);
        let a = TestServer::start_from(options).await;
        network.join("a.test", a.router()).await;
        let b = TestServer::start_from(network.options("b.test")).await;
        let gate = Gate::default();
        gate.open(&b);
        network.join("b.test", gate.routes()).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        Self { network, a, b, gate, livekit, alice, bob }
    }

    async fn shared_room(&self) -> TestRoom<'_> {
        let room = self.a.room(&self.alice, "shared").await;
        let path = format!("/_matrix/client/v3/join/{}?via=a.test", room.id);
        assert_eq!(self.b.post(&path, &self.bob.token, json!({})).await.0, StatusCode::OK);
        room
    }

    async fn openid(&self, server: &TestServer, user: &User) -> Value {
        let path = format!("/_matrix/client/v3/user/{}/openid/request_token", user.user_id);
        server.post(&path, &user.token, json!({})).await.1
    }

    /// What the token service of the first server answers to a request with this OpenID token.
    async fn token(&self, room: &TestRoom<'_>, openid: &Value) -> (StatusCode, Value) {
        let body = json!({
            "room_id": room.id, "slot_id": "m.call#ROOM", "openid_token": openid,
            "member": { "id": "m", "claimed_device_id": "DEVICE" },
        });
        self.a.post(&format!("{BASE}/get_token"), "", body).await
    }

    async fn refusal(&self, room: &TestRoom<'_>, openid: &Value) -> (u16, String) {
        let (status, body) = self.token(room, openid).await;
        (status.as_u16(), body["errcode"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn a_member_of_another_server_gets_a_token_and_is_removed_with_its_membership() {
    let two = Two::start().await;
    let room = two.shared_room().await;
    let openid = two.openid(&two.b, &two.bob).await;
    let told = two.token(&room, &openid).await;
    let seat = Seat::of(&told);
    assert_eq!(claims(&told.1)["video"]["canPublish"], true);
    let is_open = || two.livekit.state().rooms.contains_key(&seat.room);
    assert!(!is_open(), "a user of this server opens the call");
    let of_alice = Seat::of(&two.token(&room, &two.openid(&two.a, &two.alice).await).await);
    assert_eq!(of_alice.room, seat.room);
    assert!(is_open());

    two.livekit.connect(&seat);
    let kicked = json!({ "user_id": two.bob.user_id });
    assert_eq!(two.a.post(&room.path("/kick"), &two.alice.token, kicked).await.0, StatusCode::OK);
    let removed = (seat.room.clone(), seat.identity.clone());
    until(|| two.livekit.state().removed.contains(&removed)).await;
    assert_eq!(two.refusal(&room, &openid).await, (403, "M_FORBIDDEN".to_owned()));
}

#[tokio::test]
async fn a_server_is_asked_only_if_it_has_a_member_in_the_room() {
    let two = Two::start().await;
    let (asked, answer) = counted(|| axum::Json(json!({ "sub": "@eve:c.test" })).into_response());
    let router = Router::new().route("/_matrix/federation/v1/openid/userinfo", get(answer));
    two.network.join("c.test", router).await;
    let room = two.shared_room().await;
    for name in ["c.test", "not a name", "", "127.0.0.1"] {
        let openid = json!({ "access_token": "token", "matrix_server_name": name });
        assert_eq!(two.refusal(&room, &openid).await, (403, "M_FORBIDDEN".to_owned()), "{name}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_word_of_another_server_counts_for_its_own_users_alone() {
    let two = Two::start().await;
    let room = two.shared_room().await;
    let mut openid = two.openid(&two.b, &two.bob).await;
    openid["access_token"] = json!("nobodys");
    assert_eq!(two.refusal(&room, &openid).await, (401, "M_UNAUTHORIZED".to_owned()));

    let alice = two.alice.user_id.clone();
    let (asked, answer) = counted(move || axum::Json(json!({ "sub": alice })).into_response());
    let router = Router::new().route("/_matrix/federation/v1/openid/userinfo", get(answer));
    two.gate.open_to(router);
    assert_eq!(two.refusal(&room, &openid).await.0, 502, "it speaks for a user of this server");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    two.gate.close();
    assert_eq!(two.refusal(&room, &openid).await.0, 502, "it does not answer");
}
