//! Rooms when a commit fails or the process crashes at it: whatever was asked is done wholly or not at all, what
//! is stored is sound, and the same request again leads where it would have led.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{FATES, Options, Strike, TestServer, User};
use wick_room::invariants;

const V3: &str = "/_matrix/client/v3";

type Told = (StatusCode, Value);

/// A server with a public room of Alice's in which Bob is.
struct World {
    server: TestServer,
    strike: Arc<Strike>,
    alice: User,
    bob: User,
    room: String,
    /// A message of Alice's.
    said: String,
}

/// A request that failed and was repeated.
struct Suffered {
    /// Whether it had been done when it was made again.
    done: bool,
    /// The answer to the second.
    again: Told,
}

impl World {
    async fn make() -> Self {
        let strike = Strike::new();
        let mut options = Options::lenient();
        options.fault = Some(Arc::clone(&strike) as _);
        let server = TestServer::start_from(options).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let nowhere = String::new();
        let mut world = Self { server, strike, alice, bob, room: nowhere.clone(), said: nowhere };
        let body = json!({ "preset": "public_chat" });
        let made = world.post(&world.alice, "createRoom", body).await;
        world.room = text(&made, "room_id");
        world.ok(&world.bob, "join").await;
        world.said = text(&world.say("said").await, "event_id");
        world
    }

    /// `POST` to a path after the version.
    async fn post(&self, user: &User, path: &str, body: Value) -> Told {
        self.server.post(&format!("{V3}/{path}"), &user.token, body).await
    }

    /// `POST` to a path of the room.
    async fn act(&self, user: &User, what: &str, body: Value) -> Told {
        self.post(user, &format!("rooms/{}/{what}", self.room), body).await
    }

    async fn ok(&self, user: &User, what: &str) {
        let (status, body) = self.act(user, what, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{what}: {body}");
    }

    /// `PUT` to a path of the room by Alice.
    async fn put(&self, what: &str, content: Value) -> Told {
        let path = format!("{V3}/rooms/{}/{what}", self.room);
        self.server.put(&path, &self.alice.token, content).await
    }

    async fn say(&self, what: &str) -> Told {
        self.put(&format!("send/m.room.message/{what}"), json!({ "body": what })).await
    }

    async fn state(&self, what: &str) -> Value {
        let path = format!("{V3}/rooms/{}/state/{what}", self.room);
        let (status, body) = self.server.get(&path, &self.alice.token).await;
        assert_eq!(status, StatusCode::OK, "{what}: {body}");
        body
    }

    async fn membership(&self, user: &User) -> Value {
        self.state(&format!("m.room.member/{}", user.user_id)).await["membership"].clone()
    }

    /// The events of a type in the room, oldest first.
    fn events(&self, event_type: &str) -> Vec<Value> {
        let services = self.server.services();
        let read = services.database.published();
        let room = self.room.as_str().try_into().expect("it is a room id");
        let room = services.graph.short(&read, room).expect("names can be read");
        let room = room.expect("the room is here");
        services
            .graph
            .timeline(&read, room, i64::MIN, wick_room::Direction::Forward)
            .map(|item| services.graph.load_event(&read, item.expect("it can be read").event))
            .map(|event| event.expect("events can be read"))
            .filter(|event| event.event_type.to_string() == event_type)
            .map(|event| json!({ "event_id": event.event_id, "content": event.content }))
            .collect()
    }

    fn sound(&self) {
        let read = self.server.services().database.published();
        assert_eq!(invariants::check(&read).expect("everything can be read"), []);
    }
}

fn text((status, body): &Told, key: &str) -> String {
    assert_eq!(*status, StatusCode::OK, "{body}");
    body[key].as_str().expect("it is a string").to_owned()
}

/// Runs a request with each fault at each of its commits, and repeats it.
async fn at_each_commit(
    request: impl AsyncFn(&World) -> Told,
    verify: impl AsyncFn(&World, Suffered),
) {
    at_each_commit_after(async |_: &World| (), request, verify).await;
}

/// The same in a world in which something has happened.
async fn at_each_commit_after(
    prepare: impl AsyncFn(&World),
    request: impl AsyncFn(&World) -> Told,
    verify: impl AsyncFn(&World, Suffered),
) {
    let world = World::make().await;
    prepare(&world).await;
    let before = world.strike.commits();
    assert_eq!(request(&world).await.0, StatusCode::OK);
    let commits = world.strike.commits() - before;
    assert!(commits > 0, "the request writes nothing");
    for fate in FATES {
        for commit in 1..=commits {
            let mut world = World::make().await;
            prepare(&world).await;
            world.strike.at(commit, fate);
            let (status, body) = request(&world).await;
            assert!(world.strike.has_struck(), "commit {commit} never came");
            assert!(!status.is_success(), "{fate:?} at {commit}: {body}");
            if fate == FaultAction::Fail {
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "at {commit}: {body}");
            } else {
                world.server.crash().await;
            }
            world.sound();
            let done = fate == FaultAction::StopAfter && commit == commits;
            let again = request(&world).await;
            verify(&world, Suffered { done, again }).await;
            world.sound();
        }
    }
}

#[tokio::test]
async fn a_room_is_made_wholly_or_not_at_all() {
    let request = async |world: &World| {
        let body = json!({
            "preset": "private_chat", "name": "A room", "topic": "of its own",
            "room_alias_name": "room", "invite": [world.bob.user_id], "is_direct": true,
            "visibility": "public",
        });
        world.post(&world.alice, "createRoom", body).await
    };
    at_each_commit(request, async |world, Suffered { done, again }| {
        let (status, body) = again;
        let expected = if done { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        assert_eq!(status, expected, "{body}");
        if done {
            assert_eq!(body["errcode"], "M_ROOM_IN_USE");
        }
        let (_, joined) = world.server.get(&format!("{V3}/joined_rooms"), &world.alice.token).await;
        if let Some(rooms) = joined["joined_rooms"].as_array() {
            assert_eq!(rooms.len(), 2, "{joined}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_is_sent_once_however_often_it_is_tried() {
    let request = async |world: &World| world.say("again").await;
    at_each_commit(request, async |world, Suffered { again, .. }| {
        let event_id = text(&again, "event_id");
        let sent = world.events("m.room.message");
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert_eq!(sent[1]["event_id"], event_id);
        assert_eq!(text(&world.say("again").await, "event_id"), event_id);
    })
    .await;
}

#[tokio::test]
async fn state_is_the_old_or_the_new() {
    let request =
        async |world: &World| world.put("state/m.room.topic/", json!({ "topic": "new" })).await;
    at_each_commit(request, async |world, Suffered { again, .. }| {
        let event_id = text(&again, "event_id");
        assert_eq!(world.state("m.room.topic").await, json!({ "topic": "new" }));
        let topics = world.events("m.room.topic");
        assert_eq!(topics.last().expect("there is one")["event_id"], event_id);
    })
    .await;
}

#[tokio::test]
async fn who_leaves_is_gone_wholly_or_not_at_all() {
    let leave = async |world: &World| world.act(&world.bob, "leave", json!({})).await;
    at_each_commit(leave, async |world, Suffered { again: (status, body), .. }| {
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(world.membership(&world.bob).await, "leave");
        world.ok(&world.bob, "join").await;
        assert_eq!(world.membership(&world.bob).await, "join");
    })
    .await;
}

#[tokio::test]
async fn who_joins_is_there_wholly_or_not_at_all() {
    let leave = async |world: &World| world.ok(&world.bob, "leave").await;
    let join = async |world: &World| world.act(&world.bob, "join", json!({})).await;
    at_each_commit_after(leave, join, async |world, Suffered { again: (status, body), .. }| {
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(world.membership(&world.bob).await, "join");
        world.ok(&world.bob, "leave").await;
        assert_eq!(world.membership(&world.bob).await, "leave");
    })
    .await;
}

#[tokio::test]
async fn a_redaction_happens_wholly_or_not_at_all() {
    let request = async |world: &World| {
        let path = format!("redact/{}/once", world.said);
        world.put(&path, json!({ "reason": "said too much" })).await
    };
    at_each_commit(request, async |world, Suffered { again, .. }| {
        let event_id = text(&again, "event_id");
        let redactions = world.events("m.room.redaction");
        assert_eq!(redactions.len(), 1, "{redactions:?}");
        assert_eq!(redactions[0]["event_id"], event_id);
        let path = format!("{V3}/rooms/{}/event/{}", world.room, world.said);
        let (status, said) = world.server.get(&path, &world.alice.token).await;
        assert_eq!((status, &said["content"]), (StatusCode::OK, &json!({})));
    })
    .await;
}
