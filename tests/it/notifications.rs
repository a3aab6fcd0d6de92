//! The list of what a user was notified of.

use serde_json::{Value, json};
use wick_harness::{TestRoom, TestServer, User};

const PATH: &str = "/_matrix/client/v3/notifications";

/// What a query of the list is answered: the bodies, and the whole.
async fn list(server: &TestServer, user: &User, query: &str) -> (Vec<String>, Value) {
    let (status, body) = server.get(&format!("{PATH}{query}"), &user.token).await;
    assert_eq!(status, 200, "{body}");
    let found = body.get("notifications").and_then(Value::as_array).into_iter().flatten();
    let said = found.filter_map(|found| found.pointer("/event/content/body")?.as_str());
    (said.map(ToOwned::to_owned).collect(), body)
}

async fn together<'a>(server: &'a TestServer, alice: &User, bob: &User) -> TestRoom<'a> {
    let room = server.room(alice, "shared").await;
    room.say(alice, "before bob came").await;
    room.member(bob, bob, "join").await;
    room
}

#[tokio::test]
async fn what_notifies_is_listed_over_all_rooms_the_newest_first() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let one = together(&server, &alice, &bob).await;
    let two = together(&server, &alice, &bob).await;
    one.say(&alice, "first").await;
    two.say(&alice, "second").await;
    one.say(&bob, "an answer of his own").await;
    let third = one.say(&alice, "hello bob").await;
    let (bodies, body) = list(&server, &bob, "").await;
    assert_eq!(bodies, ["hello bob", "second", "first"]);
    let newest = &body["notifications"][0];
    assert_eq!(newest["room_id"], json!(one.id));
    assert_eq!(newest["event"]["event_id"], json!(third));
    assert_eq!(newest["event"].get("room_id"), None);
    assert_eq!(newest["read"], false);
    assert_eq!(newest["ts"], newest["event"]["origin_server_ts"]);
    assert!(newest["actions"].as_array().unwrap().contains(&json!("notify")));
    assert_eq!(body.get("next_token"), None);

    assert_eq!(list(&server, &bob, "?only=highlight").await.0, ["hello bob"]);
    assert!(list(&server, &alice, "").await.0.contains(&"an answer of his own".to_owned()));
}

#[tokio::test]
async fn the_list_comes_in_pieces_and_none_is_there_twice() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let rooms = [together(&server, &alice, &bob).await, together(&server, &alice, &bob).await];
    let mut said = Vec::new();
    for (number, room) in rooms.iter().cycle().take(7).enumerate() {
        said.insert(0, format!("{number}"));
        room.say(&alice, &format!("{number}")).await;
    }
    let (mut found, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let (bodies, body) = list(&server, &bob, &query).await;
        assert!(bodies.len() <= 3);
        found.extend(bodies);
        let Some(next) = body.get("next_token").and_then(Value::as_str) else { break };
        query = format!("?limit=3&from={next}");
    }
    assert_eq!(found, said);
    let (status, body) = server.get(&format!("{PATH}?from=nonsense"), &bob.token).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn what_is_read_says_so_and_what_is_redacted_or_muted_is_gone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = together(&server, &alice, &bob).await;
    let read = room.say(&alice, "read").await;
    let unread = room.say(&alice, "unread").await;
    let path = room.path(&format!("/receipt/m.read/{read}"));
    assert_eq!(server.post(&path, &bob.token, json!({})).await.0, 200);
    let (_, body) = list(&server, &bob, "").await;
    let told = |number: usize| &body["notifications"][number]["read"];
    assert_eq!((told(0), told(1)), (&json!(false), &json!(true)));
    room.redact(&alice, &unread).await;
    assert_eq!(list(&server, &bob, "").await.0, ["read"]);

    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", room.id);
    let (status, body) = server.put(&rule, &bob.token, json!({ "actions": [] })).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(list(&server, &bob, "").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn an_invitation_is_listed_and_unread_before_and_after_it_is_accepted() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = together(&server, &alice, &bob).await;
    let said = room.say(&alice, "while bob was there").await;
    let path = room.path(&format!("/receipt/m.read/{said}"));
    assert_eq!(server.post(&path, &bob.token, json!({})).await.0, 200);
    room.member(&bob, &bob, "leave").await;
    room.say(&alice, "while bob was away").await;
    room.member(&alice, &bob, "invite").await;
    for membership in ["invite", "join"] {
        if membership == "join" {
            room.member(&bob, &bob, "join").await;
        }
        let (bodies, body) = list(&server, &bob, "").await;
        assert_eq!(bodies, Vec::<String>::new(), "{body}");
        let found = &body["notifications"];
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{membership}: {body}");
        assert_eq!(found[0]["event"]["content"]["membership"], "invite");
        assert_eq!(found[0]["event"]["state_key"], "@bob:localhost");
        assert_eq!((&found[0]["read"], &found[0]["room_id"]), (&json!(false), &json!(room.id)));
    }
}

#[tokio::test]
async fn ones_own_answer_reads_what_came_before_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = together(&server, &alice, &bob).await;
    room.say(&alice, "question").await;
    room.say(&bob, "answer").await;
    room.say(&alice, "thanks").await;
    let (bodies, body) = list(&server, &bob, "").await;
    assert_eq!(bodies, ["thanks", "question"]);
    let read = [0, 1].map(|number| body["notifications"][number]["read"] == true);
    assert_eq!(read, [false, true]);
}

#[tokio::test]
async fn an_invite_that_is_not_shown_is_not_listed() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    for inviter in [&alice, &carol] {
        let room = server.room(inviter, "theirs").await;
        room.member(inviter, &bob, "invite").await;
    }
    let senders = |body: &Value| -> Vec<Value> {
        let found = body["notifications"].as_array().unwrap().iter();
        found.map(|found| found["event"]["sender"].clone()).collect()
    };
    let config = "/_matrix/client/v3/user/@bob:localhost/account_data";
    for (kind, content, shown) in [
        ("org.matrix.msc4155.invite_permission_config", json!({}), vec![&carol, &alice]),
        (
            "org.matrix.msc4155.invite_permission_config",
            json!({ "ignored_users": [alice.user_id] }),
            vec![&carol],
        ),
        ("m.invite_permission_config", json!({ "default_action": "block" }), vec![]),
    ] {
        let path = format!("{config}/{kind}");
        assert_eq!(server.put(&path, &bob.token, content).await.0, 200);
        let shown: Vec<_> = shown.iter().map(|user| json!(user.user_id)).collect();
        assert_eq!(senders(&list(&server, &bob, "").await.1), shown, "{kind}");
    }
}
