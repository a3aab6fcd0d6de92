//! What is pushed, and what is in it.

use std::time::Duration;

use serde_json::{Value, json};

use super::gateway::{Two, set};

#[tokio::test]
async fn a_message_is_pushed_with_all_that_the_specification_lists() {
    let two = Two::new().await;
    let mut pusher = two.gateway.pusher("key");
    pusher["data"]["default_payload"] = json!({ "aps": {} });
    set(&two.server, &two.bob, pusher).await;
    let room = two.room().await;
    room.set(&two.alice, ("m.room.name", ""), json!({ "name": "Tea" })).await;
    let alias = json!({ "alias": "#tea:localhost" });
    room.set(&two.alice, ("m.room.canonical_alias", ""), alias).await;
    let content = json!({
        "msgtype": "m.text", "body": "hello", "m.mentions": { "user_ids": ["@bob:localhost"] },
    });
    let said = room.send(&two.alice, "m.room.message", content.clone()).await;
    let notification = two.gateway.next().await;
    let set_at = notification["devices"][0]["pushkey_ts"].as_u64().unwrap();
    assert_eq!(set_at, 1_790_000_000);
    assert_eq!(
        notification,
        json!({
            "event_id": said, "room_id": room.id, "type": "m.room.message", "content": content,
            "sender": "@alice:localhost", "sender_display_name": "alice",
            "room_name": "Tea", "room_alias": "#tea:localhost",
            "counts": { "unread": 1 },
            "devices": [{
                "app_id": "app", "pushkey": "key", "pushkey_ts": set_at,
                "data": { "default_payload": { "aps": {} } },
                "tweaks": { "sound": "default", "highlight": true },
            }],
        })
    );
}

#[tokio::test]
async fn a_room_without_a_name_has_the_name_that_clients_compute() {
    let two = Two::new().await;
    let carol = two.server.register("carol").await;
    let room = two.room().await;
    for expected in ["alice", "alice and carol"] {
        room.say(&two.alice, "hello").await;
        assert_eq!(two.gateway.next().await["room_name"], expected);
        room.member(&carol, &carol, "join").await;
    }
    let alias = json!({ "alias": "#tea:localhost" });
    room.set(&two.alice, ("m.room.canonical_alias", ""), alias).await;
    room.say(&two.alice, "hello").await;
    assert_eq!(two.gateway.next().await["room_name"], "#tea:localhost");
    let other = two.server.room(&carol, "shared").await;
    other.member(&two.alice, &two.alice, "join").await;
    other.member(&two.alice, &two.bob, "invite").await;
    let invitation = two.gateway.next().await;
    assert_eq!(invitation["room_name"], "alice", "an invitation shows no other member");
}

#[tokio::test]
async fn a_pusher_that_wants_ids_alone_gets_no_content() {
    let two = Two::new().await;
    let mut pusher = two.gateway.pusher("key");
    pusher["data"]["format"] = json!("event_id_only");
    set(&two.server, &two.bob, pusher).await;
    let room = two.room().await;
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "secret" });
    let said = room.send(&two.alice, "m.room.encrypted", content).await;
    let notification = two.gateway.next().await;
    assert_eq!(
        notification,
        json!({
            "event_id": said, "room_id": room.id, "counts": { "unread": 1 },
            "devices": [{
                "app_id": "app", "pushkey": "key", "pushkey_ts": 1_790_000_000,
                "data": { "format": "event_id_only" },
            }],
        })
    );
}

#[tokio::test]
async fn what_makes_a_sound_or_is_encrypted_is_urgent_and_the_rest_is_not() {
    let two = Two::new().await;
    let carol = two.server.register("carol").await;
    let room = two.room().await;
    room.member(&carol, &carol, "join").await;
    room.say(&two.alice, "to all").await;
    assert_eq!(two.gateway.next().await["prio"], "low");
    let content = json!({
        "msgtype": "m.text", "body": "to bob", "m.mentions": { "user_ids": ["@bob:localhost"] },
    });
    room.send(&two.alice, "m.room.message", content).await;
    assert_eq!(two.gateway.next().await["prio"], Value::Null, "high is the default");
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "secret" });
    room.send(&two.alice, "m.room.encrypted", content).await;
    assert_eq!(two.gateway.next().await["prio"], Value::Null);
}

#[tokio::test]
async fn an_invitation_is_pushed_to_its_target() {
    let two = Two::new().await;
    let room = two.server.room(&two.alice, "shared").await;
    room.say(&two.alice, "before").await;
    let invitation = room.member(&two.alice, &two.bob, "invite").await;
    room.say(&two.alice, "not for the invited").await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(invitation));
    assert_eq!(notification["user_is_target"], true);
    assert_eq!(notification["content"]["membership"], "invite");
    assert_eq!(notification["counts"]["unread"], 1);
    room.member(&two.bob, &two.bob, "join").await;
    assert_eq!(two.gateway.next().await["counts"]["unread"], 0);
    let said = room.say(&two.alice, "after").await;
    assert_eq!(two.gateway.next_event().await, said);
}

#[tokio::test]
async fn what_does_not_notify_is_not_pushed() {
    let two = Two::new().await;
    let carol = two.server.register("carol").await;
    let (room, quiet) = (two.room().await, two.room().await);
    room.member(&carol, &carol, "join").await;
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", quiet.id);
    two.server.put(&rule, &two.bob.token, json!({ "actions": [] })).await;
    let ignored = "/_matrix/client/v3/user/@bob:localhost/account_data/m.ignored_user_list";
    let list = json!({ "ignored_users": { "@carol:localhost": {} } });
    two.server.put(ignored, &two.bob.token, list).await;

    quiet.say(&two.alice, "in a muted room").await;
    room.say(&carol, "from somebody who is ignored").await;
    room.say(&two.bob, "from bob himself").await;
    room.set(&two.alice, ("m.room.topic", ""), json!({ "topic": "a topic" })).await;
    let notice = json!({ "msgtype": "m.notice", "body": "from a bot" });
    room.send(&two.alice, "m.room.message", notice).await;
    room.send(&two.alice, "m.reaction", json!({})).await;
    let said = room.say(&two.alice, "hello").await;
    assert_eq!(two.gateway.next_event().await, said);
}

#[tokio::test]
async fn the_copy_that_ends_an_event_is_not_pushed_and_a_delayed_event_is_when_it_is_sent() {
    let two = Two::new().await;
    let room = two.room().await;
    let send = |id: &str| room.path(&format!("/send/m.room.message/{id}"));
    let content = |body: &str| json!({ "msgtype": "m.text", "body": body });
    let mut expiring = content("for a while");
    expiring["m.will_expire"] = json!(10);
    let (status, sent) = two.server.put(&send("1"), &two.alice.token, expiring).await;
    assert_eq!(status, 200, "{sent}");
    assert_eq!(two.gateway.next().await["event_id"], sent["event_id"]);
    let delayed = format!("{}?org.matrix.msc4140.delay=20000", send("2"));
    let (status, body) = two.server.put(&delayed, &two.alice.token, content("later")).await;
    assert_eq!(status, 200, "{body}");
    two.server.clock.advance(Duration::from_secs(15)).await;
    let between = room.say(&two.alice, "between").await;
    assert_eq!(two.gateway.next_event().await, between);
    two.server.clock.advance(Duration::from_secs(5)).await;
    assert_eq!(two.gateway.next().await["content"]["body"], "later");
}

#[tokio::test]
async fn an_event_of_before_the_user_came_is_not_pushed() {
    let two = Two::new().await;
    let room = two.server.room(&two.alice, "shared").await;
    room.say(&two.alice, "hello bob, before he came").await;
    room.member(&two.bob, &two.bob, "join").await;
    let said = room.say(&two.alice, "hello").await;
    assert_eq!(two.gateway.next_event().await, said);
}
