//! Joins to restricted rooms that follow right upon the join of a room whose members may join.

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use http::StatusCode;
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use tokio::sync::watch;
use wick_harness::{TestNetwork, TestServer, User};

const V3: &str = "/_matrix/client/v3";

/// What becomes of requests to the first server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// Transactions wait.
    Held,
    /// Everything is refused.
    Down,
}

/// Two servers. Bob, of the second one, is in a room and in a restricted one whose members come from there; alice, of the first
/// one, alone may authorise joins.
struct Two {
    a: TestServer,
    b: TestServer,
    alice: User,
    carol: User,
    allowed: OwnedRoomId,
    room: OwnedRoomId,
    line: watch::Sender<Line>,
    /// How many transactions came to the first server.
    came: watch::Receiver<usize>,
    _network: TestNetwork,
}

async fn create(server: &TestServer, user: &User, body: Value) -> OwnedRoomId {
    let (status, made) = server.post(&format!("{V3}/createRoom"), &user.token, body).await;
    assert_eq!(status, 200, "{made}");
    made["room_id"].as_str().unwrap().try_into().unwrap()
}

async fn join(server: &TestServer, user: &User, room: &OwnedRoomId) -> (u16, Value) {
    let path = format!("{V3}/join/{room}?via=a.test");
    let (status, body) = server.post(&path, &user.token, json!({})).await;
    (status.as_u16(), body)
}

impl Two {
    async fn make() -> Self {
        let network = TestNetwork::new();
        let a = TestServer::start_from(network.options("a.test")).await;
        let (line, state) = watch::channel(Line::Open);
        let (counter, came) = watch::channel(0);
        let by_line = move |request: Request, next: Next| {
            let (mut state, counter) = (state.clone(), counter.clone());
            async move {
                if request.uri().path().contains("/v1/send/") {
                    counter.send_modify(|came| *came += 1);
                    state.wait_for(|line| *line != Line::Held).await.unwrap();
                }
                if *state.borrow() == Line::Down {
                    return StatusCode::BAD_GATEWAY.into_response();
                }
                next.run(request).await
            }
        };
        network.join("a.test", a.router().layer(from_fn(by_line))).await;
        let b = network.start("b.test").await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let carol = b.register("carol").await;
        let allowed = create(&a, &alice, json!({ "preset": "public_chat" })).await;
        let rules = json!({ "join_rule": "restricted",
            "allow": [{ "type": "m.room_membership", "room_id": allowed }] });
        let body = json!({ "preset": "public_chat",
            "power_level_content_override": { "invite": 50 },
            "initial_state": [{ "type": "m.room.join_rules", "content": rules }] });
        let room = create(&a, &alice, body).await;
        for id in [&allowed, &room] {
            assert_eq!(join(&b, &bob, id).await.0, 200);
        }
        Self { a, b, alice, carol, allowed, room, line, came, _network: network }
    }

    /// The user who authorised the join of carol.
    async fn authorised_by(&self) -> Value {
        let path = format!("{V3}/rooms/{}/state/m.room.member/{}", self.room, self.carol.user_id);
        let (_, member) = self.b.get(&path, &self.carol.token).await;
        member["join_authorised_via_users_server"].clone()
    }
}

#[tokio::test]
async fn a_join_that_another_server_authorises_waits_until_that_server_knows_what_allows_it() {
    let mut two = Two::make().await;
    two.line.send_replace(Line::Held);
    let before = *two.came.borrow_and_update();
    assert_eq!(join(&two.b, &two.carol, &two.allowed).await.0, 200);
    // The first server has been sent the join of carol, and does not take it in.
    two.came.wait_for(|came| *came > before).await.unwrap();
    let release = async {
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        two.line.send_replace(Line::Open);
    };
    let ((status, answer), ()) = tokio::join!(join(&two.b, &two.carol, &two.room), release);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(two.authorised_by().await, two.alice.user_id.as_str());
}

#[tokio::test]
async fn a_join_does_not_wait_for_a_server_that_does_not_answer() {
    let two = Two::make().await;
    two.line.send_replace(Line::Down);
    assert_eq!(join(&two.b, &two.carol, &two.allowed).await.0, 200);
    let (status, answer) = join(&two.b, &two.carol, &two.room).await;
    assert!(matches!(status, 502..=504), "{status} {answer}");
    drop(two.a);
}
