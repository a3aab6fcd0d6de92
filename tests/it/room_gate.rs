//! The gate that every content of a client passes on its way into an event, whichever endpoint it comes by.

#![expect(
    clippy::indexing_slicing,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use http::{Method, StatusCode};
use ruma::{canonical_json::CanonicalJsonObject, events::StateEventType};
use serde_json::{Value, json};
use wick_core::Draft;
use wick_database::{
    Range, Read,
    schema::{room::STORED_BY_EVENT, timer::EXPIRY_BY_EVENT},
};
use wick_harness::{TestServer, User};
use wick_room::Effects;

struct World {
    server: TestServer,
    alice: User,
    bob: User,
    carol: User,
    room: String,
    event: String,
}

impl World {
    async fn make() -> Self {
        let server = TestServer::start().await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let mut world =
            Self { server, alice, bob, carol, room: String::new(), event: String::new() };
        let body = json!({ "preset": "public_chat" });
        world.room = text(&world.post(&world.alice, "createRoom", body).await, "room_id");
        let join = format!("join/{}", world.room);
        world.post(&world.bob, &join, json!({})).await;
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", world.room);
        let sent = world.server.put(&path, &world.alice.token, json!({ "body": "x" })).await;
        world.event = text(&sent, "event_id");
        world
    }

    async fn post(&self, user: &User, path: &str, body: Value) -> (StatusCode, Value) {
        self.server.post(&format!("/_matrix/client/v3/{path}"), &user.token, body).await
    }
}

fn text((status, body): &(StatusCode, Value), key: &str) -> String {
    assert_eq!(*status, StatusCode::OK, "{body}");
    body[key].as_str().unwrap_or_default().to_owned()
}

/// A request that puts `field` into a content: its user, method, path and body.
type Request = fn(&World, Value) -> (User, Method, String, Value);

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// 400.
    Refused,
    /// 200: the field is none that the endpoint takes.
    Ignored,
}

const REQUESTS: [(&str, Request, Answer); 14] = [
    (
        "join",
        |w, f| (w.carol.clone(), Method::POST, format!("join/{}", w.room), f),
        Answer::Refused,
    ),
    (
        "join by room",
        |w, f| (w.carol.clone(), Method::POST, format!("rooms/{}/join", w.room), f),
        Answer::Refused,
    ),
    (
        "member event",
        |w, mut f| {
            f["membership"] = "join".into();
            let path = format!("rooms/{}/state/m.room.member/{}", w.room, w.carol.user_id);
            (w.carol.clone(), Method::PUT, path, f)
        },
        Answer::Refused,
    ),
    (
        "power levels",
        |w, mut f| {
            f["users"] = json!({ w.alice.user_id.as_str(): 100 });
            (
                w.alice.clone(),
                Method::PUT,
                format!("rooms/{}/state/m.room.power_levels/", w.room),
                f,
            )
        },
        Answer::Refused,
    ),
    (
        "leave",
        |w, f| (w.bob.clone(), Method::POST, format!("rooms/{}/leave", w.room), f),
        Answer::Ignored,
    ),
    (
        "kick",
        |w, mut f| {
            f["user_id"] = w.bob.user_id.as_str().into();
            (w.alice.clone(), Method::POST, format!("rooms/{}/kick", w.room), f)
        },
        Answer::Ignored,
    ),
    (
        "ban",
        |w, mut f| {
            f["user_id"] = w.bob.user_id.as_str().into();
            (w.alice.clone(), Method::POST, format!("rooms/{}/ban", w.room), f)
        },
        Answer::Ignored,
    ),
    (
        "invite",
        |w, mut f| {
            f["user_id"] = w.carol.user_id.as_str().into();
            (w.alice.clone(), Method::POST, format!("rooms/{}/invite", w.room), f)
        },
        Answer::Ignored,
    ),
    (
        "redact",
        |w, f| (w.alice.clone(), Method::PUT, format!("rooms/{}/redact/{}/2", w.room, w.event), f),
        Answer::Refused,
    ),
    (
        "creation_content",
        |w, f| {
            (
                w.alice.clone(),
                Method::POST,
                "createRoom".to_owned(),
                json!({ "creation_content": f }),
            )
        },
        Answer::Refused,
    ),
    (
        "power_level_content_override",
        |w, f| {
            let body = json!({ "power_level_content_override": f });
            (w.alice.clone(), Method::POST, "createRoom".to_owned(), body)
        },
        Answer::Refused,
    ),
    (
        "initial_state",
        |w, f| {
            let body = json!({ "initial_state": [{ "type": "org.example.state", "content": f }] });
            (w.alice.clone(), Method::POST, "createRoom".to_owned(), body)
        },
        Answer::Refused,
    ),
    (
        "initial power levels",
        |w, f| {
            let body =
                json!({ "initial_state": [{ "type": "m.room.power_levels", "content": f }] });
            (w.alice.clone(), Method::POST, "createRoom".to_owned(), body)
        },
        Answer::Refused,
    ),
    (
        "delayed event",
        |w, f| {
            let path = format!("rooms/{}/send/org.example.late/3", w.room);
            (w.alice.clone(), Method::PUT, format!("{path}?org.matrix.msc4140.delay=1000"), f)
        },
        Answer::Refused,
    ),
];

#[tokio::test]
async fn row_28_no_endpoint_stores_a_duration_or_a_status_of_a_clients_own() {
    for (name, request, expected) in REQUESTS {
        let world = World::make().await;
        for value in [json!(10), json!("expired"), json!("running"), json!(-1), Value::Null] {
            let (user, method, path, body) = request(&world, json!({ "m.will_expire": value }));
            let path = format!("/_matrix/client/v3/{path}");
            let (status, body) = world.server.request(method, &path, &user.token, body).await;
            let at = format!("{name} with {value}: {status} {body}");
            match expected {
                Answer::Refused => assert_eq!(status, StatusCode::BAD_REQUEST, "{at}"),
                // A second kick or leave may fail for another reason.
                Answer::Ignored => assert!(!status.is_server_error(), "{at}"),
            }
            let read = world.server.services().database.published();
            for row in read.scan(&STORED_BY_EVENT, Range::all()) {
                let (_, stored) = row.expect("events can be read");
                assert!(!stored.json.contains("m.will_expire"), "{at}: {}", stored.json);
            }
        }
    }
}

#[tokio::test]
async fn row_28_a_member_event_is_never_shown_as_expired() {
    let world = World::make().await;
    let services = world.server.services();
    let room: ruma::OwnedRoomId = world.room.as_str().try_into().expect("it is a room id");
    let read = services.database.published();
    let short = services.graph.short(&read, &room).expect("names can be read").expect("it is here");
    let bob = world.bob.user_id.clone();
    let member = services
        .graph
        .state_event(&read, short, &StateEventType::RoomMember, bob.as_str())
        .expect("state can be read")
        .expect("bob is there");
    // As another server could send it: none of this one's endpoints lets it in.
    let content: CanonicalJsonObject = serde_json::from_value(json!({
        "membership": "join", "m.will_expire": "expired",
        "m.relates_to": { "rel_type": "m.expire.relationship", "event_id": member.event_id },
    }))
    .expect("it is canonical");
    let draft = Draft::state(room, bob.clone(), StateEventType::RoomMember, bob.as_str(), content);
    services.graph.send(draft, Effects::default()).await.expect("bob may");
    let read = services.database.published();
    assert_eq!(read.scan(&EXPIRY_BY_EVENT, Range::all()).count(), 0);
}
