//! Events that expire in rooms of several servers: the rows of the contract that another server takes part in.

use std::time::Duration;

use http::Method;
use ruma::OwnedRoomId;
use serde_json::{Value, json};
use wick_harness::{TestNetwork, TestServer, User};

use super::{
    rooms::{BOB, Rooms},
    three_servers::Home,
};
use crate::talk;

const REFRESH: &str = "/_matrix/client/v3/expiration/refresh";
const CALL: &str = "org.example.call";

/// An event of a user that expires after ten seconds: its id and token.
async fn arm(server: &TestServer, user: &User, path: &str, key: &str) -> (String, String) {
    let content = json!({ "key": key, "m.will_expire": 10 });
    let path = format!("/_matrix/client/v3/rooms/{path}");
    let (status, sent) = server.put(&path, &user.token, content).await;
    assert_eq!(status, 200, "{sent}");
    let text = |name: &str| sent[name].as_str().unwrap().to_owned();
    (text("event_id"), text("expire_refresh_token"))
}

/// Whether a token keeps an event alive.
async fn is_alive(server: &TestServer, token: &str) -> bool {
    let body = json!({ "expire_refresh_token": token });
    let (status, body) = server.put(REFRESH, "", body).await;
    if status != 200 {
        assert_eq!((status.as_u16(), &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    }
    status == 200
}

impl Rooms {
    /// A room that bob of the other server is in, with the power to set state.
    async fn of_both(&self) -> OwnedRoomId {
        let room = self.public().await;
        let levels = json!({ "users": { self.alice.user_id.as_str(): 100, BOB: 100 } });
        let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels/");
        assert_eq!(self.server.put(&path, &self.alice.token, levels).await.0, 200);
        self.join(&room).await;
        room
    }

    async fn receive(&self, id: &str, event: Value) {
        let (_, event) = self.signed("11", event);
        let (status, answer) = self.transaction(id, &[event], &[]).await;
        assert_eq!(status, 200);
        let refused = answer["pdus"].as_object().unwrap().values().find(|pdu| **pdu != json!({}));
        assert!(refused.is_none(), "{answer}");
        self.server.services().federated().unwrap().inbound.idle().await;
    }

    async fn shown(&self, room: &OwnedRoomId, event: &str) -> Value {
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{event}");
        let (status, shown) = self.server.get(&path, &self.alice.token).await;
        assert_eq!(status, 200, "{shown}");
        shown
    }

    /// How many terminal events the room has, after more time than any timer has left.
    async fn ends(&self, room: &OwnedRoomId) -> usize {
        self.server.clock.advance(Duration::from_secs(60)).await;
        talk::say(&self.server, room, &self.alice, "after it").await;
        let synced = talk::sync(&self.server, &self.alice, "").await;
        let events = &synced["rooms"]["join"][room.as_str()]["timeline"]["events"];
        let is_end = |event: &&Value| {
            let status = &event["content"]["m.will_expire"];
            *status == "expired" || *status == "ended"
        };
        events.as_array().unwrap().iter().filter(is_end).count()
    }
}

#[tokio::test]
async fn row_12_a_state_event_of_another_server_stops_the_timer() {
    let rooms = Rooms::start().await;
    let room = rooms.of_both().await;
    let path = |key: &str| format!("{room}/state/{CALL}/{key}");
    let (_, replaced) = arm(&rooms.server, &rooms.alice, &path("a"), "a").await;
    let (_, kept) = arm(&rooms.server, &rooms.alice, &path("b"), "b").await;
    // A duration of theirs is theirs to count.
    let content = json!({ "m.will_expire": "running" });
    rooms.receive("1", rooms.draft(&room, (BOB, CALL, Some("a")), content)).await;
    assert!(!is_alive(&rooms.server, &replaced).await);
    assert!(is_alive(&rooms.server, &kept).await);
    assert_eq!(rooms.ends(&room).await, 1);
}

#[tokio::test]
async fn row_13_an_event_that_loses_the_resolution_stops_its_timer_and_one_that_wins_does_not() {
    for (is_later, ends) in [(true, 0), (false, 1)] {
        let rooms = Rooms::start().await;
        let room = rooms.of_both().await;
        // Beside alice's event: it stands on what was there before it.
        let mut beside = rooms.draft(&room, (BOB, CALL, Some("")), json!({ "by": "bob" }));
        let path = format!("{room}/state/{CALL}/");
        let (event, token) = arm(&rooms.server, &rooms.alice, &path, "").await;
        let time = rooms.shown(&room, &event).await["origin_server_ts"].as_i64().unwrap();
        beside["origin_server_ts"] = json!(if is_later { time + 1 } else { time - 1 });
        rooms.receive("1", beside).await;
        assert_eq!(is_alive(&rooms.server, &token).await, !is_later);
        assert_eq!(rooms.ends(&room).await, ends);
    }
}

#[tokio::test]
async fn row_14_a_redaction_of_another_server_stops_the_timer() {
    let rooms = Rooms::start().await;
    let room = rooms.of_both().await;
    let (event, token) =
        arm(&rooms.server, &rooms.alice, &format!("{room}/send/{CALL}/1"), "").await;
    let content = json!({ "redacts": event });
    rooms.receive("1", rooms.draft(&room, (BOB, "m.room.redaction", None), content)).await;
    assert!(!is_alive(&rooms.server, &token).await);
    assert_eq!(rooms.ends(&room).await, 0);
    let shown = rooms.shown(&room, &event).await;
    assert!(shown["unsigned"].get("m.will_expire").is_none(), "{shown}");
}

#[tokio::test]
async fn row_21_an_event_of_another_server_is_never_armed_and_ended_by_its_sender_alone() {
    let rooms = Rooms::start().await;
    let room = rooms.of_both().await;
    let running = rooms.draft(&room, (BOB, CALL, Some("")), json!({ "m.will_expire": "running" }));
    let (original, _) = rooms.signed("11", running.clone());
    rooms.receive("1", running).await;
    let numbers = rooms.draft(&room, (BOB, CALL, Some("number")), json!({ "m.will_expire": 10 }));
    rooms.receive("2", numbers).await;
    assert_eq!(rooms.ends(&room).await, 0);
    let status = async || {
        let shown = rooms.shown(&room, original.as_str()).await;
        shown["unsigned"]["m.will_expire"]["status"].clone()
    };
    let terminal = |status: &str| {
        let relation = json!({ "rel_type": "m.expire.relationship", "event_id": original });
        json!({ "m.will_expire": status, "m.relates_to": relation })
    };
    let before = status().await;
    assert!(before.is_null() || before == "running", "{before}");
    // Of another type, with another state key, a message, and of another user.
    for (number, kind) in
        [(BOB, "org.example.other", Some("")), (BOB, CALL, Some("a")), (BOB, CALL, None)]
            .into_iter()
            .enumerate()
    {
        rooms
            .receive(
                &format!("other {number}").replace(' ', ""),
                rooms.draft(&room, kind, terminal("ended")),
            )
            .await;
        assert_eq!(status().await, before, "{kind:?}");
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/state/{CALL}/");
    let (refused, _) = rooms.server.put(&path, &rooms.alice.token, terminal("ended")).await;
    assert_eq!(refused, 400, "a status is the server's to set");
    assert_eq!(status().await, before);
    let end = rooms.draft(&room, (BOB, CALL, Some("")), terminal("ended"));
    let (end_id, _) = rooms.signed("11", end.clone());
    rooms.receive("end", end).await;
    let shown = rooms.shown(&room, original.as_str()).await;
    assert_eq!(shown["unsigned"]["m.will_expire"]["status"], "ended", "{shown}");
    assert_eq!(shown["unsigned"]["m.will_expire"]["event_id"], json!(end_id));
}

/// A room of alice's at `a.test` that bob of `b.test` is in.
async fn shared(alice: &Home, bob: &Home) -> OwnedRoomId {
    let body = json!({ "preset": "public_chat" });
    let made = alice.ok(Method::POST, "createRoom", body).await;
    let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    bob.ok(Method::POST, &format!("join/{room}?via=a.test"), json!({})).await;
    room
}

/// Both know what alice said before.
async fn meet(alice: &Home, bob: &Home, room: &OwnedRoomId, body: &str) {
    alice.say(room, body).await;
    bob.messages_until(room, &[body.to_owned()]).await;
}

async fn status_at(home: &Home, room: &OwnedRoomId, event: &str) -> Value {
    let shown = home.ok(Method::GET, &format!("rooms/{room}/event/{event}"), Value::Null).await;
    json!([shown["content"]["m.will_expire"], shown["unsigned"]["m.will_expire"]["status"]])
}

#[tokio::test]
async fn row_21_the_other_server_sees_state_run_and_end_by_hand() {
    let network = TestNetwork::new();
    let alice = Home::open(&network, "a.test", "alice").await;
    let bob = Home::open(&network, "b.test", "bob").await;
    let room = shared(&alice, &bob).await;
    let path = format!("{room}/state/{CALL}/here");
    let (event, token) = arm(&alice.server, &alice.user, &path, "").await;
    meet(&alice, &bob, &room, "armed").await;
    let state = format!("rooms/{room}/state/{CALL}/here");
    let running = bob.ok(Method::GET, &state, Value::Null).await;
    assert_eq!(running["m.will_expire"], "running");
    let end = json!({ "expire_refresh_token": token });
    let path = "/_matrix/client/v3/expiration/end";
    assert_eq!(alice.server.put(path, "", end).await.0, 200);
    meet(&alice, &bob, &room, "ended").await;
    let ended = bob.ok(Method::GET, &state, Value::Null).await;
    assert_eq!(ended["m.will_expire"], "ended");
    assert_eq!(ended["m.relates_to"]["event_id"], json!(event));
    assert_eq!(status_at(&bob, &room, &event).await, json!(["running", "ended"]));
    assert_eq!(status_at(&alice, &room, &event).await, json!(["running", "ended"]));
}

#[tokio::test]
async fn row_21_an_event_from_before_the_join_has_its_status_whether_it_ended_before_it_or_after() {
    let network = TestNetwork::new();
    let alice = Home::open(&network, "a.test", "alice").await;
    let bob = Home::open(&network, "b.test", "bob").await;
    let made = alice.ok(Method::POST, "createRoom", json!({ "preset": "public_chat" })).await;
    let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
    let (before, _) = arm(&alice.server, &alice.user, &format!("{room}/send/{CALL}/1"), "").await;
    alice.server.clock.advance(Duration::from_secs(10)).await;
    let (after, _) = arm(&alice.server, &alice.user, &format!("{room}/send/{CALL}/2"), "").await;
    alice.say(&room, "between").await;
    bob.ok(Method::POST, &format!("join/{room}?via=a.test"), json!({})).await;
    alice.server.clock.advance(Duration::from_secs(10)).await;
    meet(&alice, &bob, &room, "after").await;
    // They are fetched only now.
    bob.ok(Method::GET, &format!("rooms/{room}/messages?dir=b&limit=100"), Value::Null).await;
    for event in [before, after] {
        assert_eq!(status_at(&bob, &room, &event).await, json!(["running", "expired"]));
    }
}

#[tokio::test]
async fn delayed_events_fire_into_rooms_of_several_servers_whoever_is_there_by_then() {
    let network = TestNetwork::new();
    let alice = Home::open(&network, "a.test", "alice").await;
    let bob = Home::open(&network, "b.test", "bob").await;
    let room = shared(&alice, &bob).await;
    // Of the guest's server, as state and as a message.
    let levels = json!({ "users": { bob.user.user_id.as_str(): 50 } });
    alice.ok(Method::PUT, &format!("rooms/{room}/state/m.room.power_levels/"), levels).await;
    meet(&alice, &bob, &room, "you may").await;
    let delay = "org.matrix.msc4140.delay=5000";
    let path = format!("rooms/{room}/state/{CALL}/bob?{delay}");
    bob.ok(Method::PUT, &path, json!({ "left": true })).await;
    let path = format!("rooms/{room}/send/m.room.message/later?{delay}");
    bob.ok(Method::PUT, &path, json!({ "msgtype": "m.text", "body": "later" })).await;
    bob.server.clock.advance(Duration::from_secs(5)).await;
    alice.messages_until(&room, &["later".to_owned()]).await;
    let state = format!("rooms/{room}/state/{CALL}/bob");
    assert_eq!(alice.ok(Method::GET, &state, Value::Null).await["left"], true);
    // After its sender was banned by the other side, one is refused.
    let path = format!("rooms/{room}/send/m.room.message/never?{delay}");
    bob.ok(Method::PUT, &path, json!({ "msgtype": "m.text", "body": "never" })).await;
    let ban = json!({ "user_id": bob.user.user_id });
    alice.ok(Method::POST, &format!("rooms/{room}/ban"), ban).await;
    let mut last = talk::sync(&bob.server, &bob.user, "").await;
    while last["rooms"]["leave"].get(room.as_str()).is_none() {
        last = talk::sync_since(&bob.server, &bob.user, &last, "&timeout=30000").await;
    }
    bob.server.clock.advance(Duration::from_secs(5)).await;
    alice.say(&room, "the last").await;
    let seen = alice.messages_until(&room, &["the last".to_owned()]).await;
    assert!(!seen.contains(&"never".to_owned()), "{seen:?}");
}
