//! Redactions.

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::rooms::{act, create, say, set_state, state, text};

const V3: &str = "/_matrix/client/v3";

async fn redact(
    server: &TestServer,
    user: &User,
    (room, event): (&str, &str),
    txn: &str,
) -> (u16, Value) {
    let path = format!("{V3}/rooms/{room}/redact/{event}/{txn}");
    let (status, body) = server.put(&path, &user.token, json!({ "reason": "sorry" })).await;
    (status.as_u16(), body)
}

async fn event(server: &TestServer, user: &User, room: &str, event: &str) -> Value {
    let path = format!("{V3}/rooms/{room}/event/{event}");
    let (status, body) = server.get(&path, &user.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

#[tokio::test]
async fn a_redacted_event_says_nothing_but_who_redacted_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for version in ["6", "11", "12"] {
        let room = create(&server, &alice, json!({ "room_version": version })).await;
        let said = say(&server, &alice, &room, "hello").await;
        let (status, body) = redact(&server, &alice, (&room, &said), "1").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(redact(&server, &alice, (&room, &said), "1").await.1, body);
        let redacted = event(&server, &alice, &room, &said).await;
        assert_eq!(redacted["content"], json!({}));
        let because = &redacted["unsigned"]["redacted_because"];
        assert_eq!(because["event_id"], body["event_id"]);
        assert_eq!(because["content"]["reason"], "sorry");
        let redaction = event(&server, &alice, &room, &text(&body, "event_id")).await;
        for event in [&redaction, because] {
            assert_eq!(event["redacts"], said, "{version}");
            assert_eq!(event["content"]["redacts"], said, "{version}");
        }
    }
}

#[tokio::test]
async fn one_redacts_ones_own_events_or_has_the_power() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    let elsewhere = create(&server, &bob, json!({})).await;
    let alices = say(&server, &alice, &room, "alice").await;
    let other = say(&server, &bob, &elsewhere, "bob").await;
    assert_eq!(redact(&server, &bob, (&room, &alices), "1").await.0, 403);
    act(&server, &bob, (&room, "join"), json!({})).await;
    let bobs = say(&server, &bob, &room, "bob").await;
    assert_eq!(redact(&server, &bob, (&room, &alices), "1").await.0, 403);
    for unknown in ["$unknown", &*other] {
        let (status, body) = redact(&server, &alice, (&room, unknown), "1").await;
        assert_eq!((status, text(&body, "errcode").as_str()), (404, "M_NOT_FOUND"));
    }
    assert_eq!(redact(&server, &alice, (&room, &bobs), "1").await.0, 200);
    let create_event = state(&server, &alice, &room, "m.room.create?format=event").await;
    let create_event = text(&create_event, "event_id");
    assert_eq!(redact(&server, &alice, (&room, &create_event), "1").await.0, 403);
    assert_eq!(event(&server, &alice, &room, &alices).await["content"]["body"], "alice");
}

#[tokio::test]
async fn a_redaction_sent_like_any_event_is_one() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    act(&server, &bob, (&room, "join"), json!({})).await;
    let said = say(&server, &alice, &room, "hello").await;
    let path = format!("{V3}/rooms/{room}/send/m.room.redaction/1");
    let as_state =
        set_state(&server, &alice, (&room, "m.room.redaction"), json!({ "redacts": said }));
    assert_eq!(as_state.await.0, 400);
    for (user, content, expected) in [
        (&bob, json!({ "redacts": said }), 403),
        (&alice, json!({}), 400),
        (&alice, json!({ "redacts": said }), 200),
    ] {
        let (status, body) = server.put(&path, &user.token, content).await;
        assert_eq!(status.as_u16(), expected, "{body}");
    }
    assert_eq!(event(&server, &alice, &room, &said).await["content"], json!({}));
}

#[tokio::test]
async fn state_that_was_redacted_can_be_set_again() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let name = json!({ "name": "x" });
    let (_, first) = set_state(&server, &alice, (&room, "m.room.name"), name.clone()).await;
    redact(&server, &alice, (&room, &text(&first, "event_id")), "1").await;
    assert_eq!(state(&server, &alice, &room, "m.room.name").await, json!({}));
    let (_, second) = set_state(&server, &alice, (&room, "m.room.name"), name.clone()).await;
    assert_ne!(first, second);
    assert_eq!(state(&server, &alice, &room, "m.room.name").await, name);
}

#[tokio::test]
async fn an_invite_tells_nothing_that_was_redacted() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({})).await;
    let path = format!("{V3}/rooms/{room}/state/m.room.name");
    let (status, body) = server.put(&path, &alice.token, json!({ "name": "secret" })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let named = text(&body, "event_id");
    assert_eq!(redact(&server, &alice, (&room, &named), "1").await.0, 200);
    let invite = json!({ "user_id": bob.user_id });
    let path = format!("{V3}/rooms/{room}/invite");
    assert_eq!(server.post(&path, &alice.token, invite).await.0, StatusCode::OK);
    let (_, sync) = server.get(&format!("{V3}/sync"), &bob.token).await;
    let invited = &sync["rooms"]["invite"][&room];
    assert!(invited.is_object(), "{sync}");
    assert!(!invited.to_string().contains("secret"), "{invited}");
}

#[tokio::test]
async fn a_redaction_that_is_to_wait_is_refused_and_not_done_at_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({})).await;
    let said = say(&server, &alice, &room, "hello").await;
    for query in ["org.matrix.msc4140.delay=5000", "org.matrix.msc4140.delay=", "delay=5000"] {
        let path = format!("1?{query}");
        let (status, body) = redact(&server, &alice, (&room, &said), &path).await;
        assert_eq!((status, text(&body, "errcode")), (400, "M_INVALID_PARAM".to_owned()));
    }
    assert_eq!(event(&server, &alice, &room, &said).await["content"]["body"], "hello");
}
