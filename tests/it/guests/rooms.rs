//! Guests in rooms.

use super::*;

#[tokio::test]
async fn a_guest_joins_only_rooms_that_let_guests_in() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let room = server.room(&alice, "shared").await;
    assert_eq!(join(&server, &guest, &room).await.errcode(), FORBIDDEN, "without `guest_access`");
    set_access(&room, &alice, "forbidden").await;
    room.member(&alice, &guest, "invite").await;
    assert_eq!(
        join(&server, &guest, &room).await.errcode(),
        FORBIDDEN,
        "an invitation is not enough"
    );
    let own = format!("rooms/{}/state/m.room.member/{}", room.id, guest.user_id);
    let content = json!({ "membership": "join" });
    let by_state = call(&server, &guest, (Method::PUT, &own), content).await;
    assert_eq!(by_state.errcode(), FORBIDDEN);
    let path = format!("join/{}", room.id);
    let by_path = call(&server, &guest, (Method::POST, &path), json!({})).await;
    assert_eq!(by_path.errcode(), FORBIDDEN);
    let redacted = set_access(&room, &alice, "can_join").await;
    room.redact(&alice, &redacted).await;
    assert_eq!(join(&server, &guest, &room).await.errcode(), FORBIDDEN, "it was redacted");

    set_access(&room, &alice, "can_join").await;
    join(&server, &guest, &room).await.ok();
    assert_eq!(membership(&server, &alice, &room, &guest).await, "join");
    let message = json!({ "msgtype": "m.text", "body": "hello" });
    let path = format!("rooms/{}/send/m.room.message/1", room.id);
    call(&server, &guest, (Method::PUT, &path), message).await.ok();
}

#[tokio::test]
async fn guests_leave_a_room_that_no_longer_lets_guests_in() {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let guests = [server.register_guest().await, server.register_guest().await];
    let upgraded = server.register_guest().await;
    let room = open_room(&server, &alice).await;
    let other = open_room(&server, &alice).await;
    for user in guests.iter().chain([&bob, &upgraded]) {
        join(&server, user, &room).await.ok();
        join(&server, user, &other).await.ok();
    }
    accounts::upgrade(&server, &upgraded).await.ok();
    set_access(&room, &alice, "forbidden").await;
    for guest in &guests {
        until_left(&server, &alice, &room, guest).await;
        assert_eq!(membership(&server, &alice, &other, guest).await, "join");
        assert_eq!(join(&server, guest, &room).await.errcode(), FORBIDDEN);
    }
    for user in [&alice, &bob, &upgraded] {
        assert_eq!(membership(&server, &alice, &room, user).await, "join");
    }
}

#[tokio::test]
async fn guests_leave_a_room_whose_guest_access_is_redacted() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let room = server.room(&alice, "shared").await;
    let access = set_access(&room, &alice, "can_join").await;
    join(&server, &guest, &room).await.ok();
    room.redact(&alice, &access).await;
    until_left(&server, &alice, &room, &guest).await;
}

#[tokio::test]
async fn guests_leave_after_a_crash_too() {
    let mut server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let room = open_room(&server, &alice).await;
    join(&server, &guest, &room).await.ok();
    let path = format!("{V3}/rooms/{}/state/m.room.guest_access/", room.id);
    let member = format!("{V3}/rooms/{}/state/m.room.member/{}", room.id, guest.user_id);
    let content = json!({ "guest_access": "forbidden" });
    server.put(&path, &alice.token, content).await;
    server.crash().await;
    let mut since = String::new();
    while server.get(&member, &alice.token).await.1["membership"] != "leave" {
        let (_, body) = server.get(&format!("{V3}/sync?timeout=30000{since}"), &alice.token).await;
        since = format!("&since={}", body["next_batch"].as_str().unwrap());
    }
}

#[tokio::test]
async fn a_guest_reads_a_world_readable_room_without_joining_and_no_other() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    for (visibility, is_open) in [("world_readable", true), ("shared", false)] {
        let room = server.room(&alice, visibility).await;
        let event = room.say(&alice, "hello").await;
        for (rest, key) in [
            ("messages?dir=b".to_owned(), "chunk"),
            ("state".to_owned(), ""),
            ("state/m.room.member/@alice:localhost".to_owned(), "membership"),
            (format!("context/{event}"), "event"),
            ("members".to_owned(), "chunk"),
            ("initialSync".to_owned(), "messages"),
            (format!("event/{event}"), "content"),
        ] {
            let path = format!("rooms/{}/{rest}", room.id);
            let answer = call(&server, &guest, (Method::GET, &path), Value::Null).await;
            if is_open {
                let body = answer.ok();
                assert!(
                    if key.is_empty() { body.is_array() } else { !body[key].is_null() },
                    "{rest}"
                );
            } else {
                let (status, errcode) = answer.errcode();
                assert!(matches!(status, 403 | 404), "{rest}: {status} {errcode}");
            }
        }
    }
}

#[tokio::test]
async fn a_guest_watches_a_world_readable_room_without_joining() {
    let server = server().await;
    let alice = server.register("alice").await;
    let guest = server.register_guest().await;
    let room = server.room(&alice, "world_readable").await;
    room.say(&alice, "before").await;
    let path = format!("rooms/{}/initialSync", room.id);
    let preview = call(&server, &guest, (Method::GET, &path), Value::Null).await.ok();
    assert_eq!(preview["room_id"], room.id.as_str());
    assert_eq!(preview["visibility"], "private");
    assert!(preview["membership"].is_null(), "{preview}");
    assert_eq!(bodies(&preview["messages"]).last().unwrap(), "before");
    assert!(preview["state"].as_array().unwrap().len() >= 5);

    let watch = async |from: &Value, timeout: u32| {
        let from = from.as_str().unwrap();
        let path = format!("events?room_id={}&from={from}&timeout={timeout}", room.id);
        call(&server, &guest, (Method::GET, &path), Value::Null).await.ok()
    };
    let nothing = watch(&preview["messages"]["end"], 0).await;
    assert_eq!(nothing["chunk"], json!([]));
    let said = async {
        room.say(&alice, "after").await;
    };
    let (news, ()) = tokio::join!(watch(&nothing["end"], 30_000), said);
    assert_eq!(bodies(&news), ["after"]);
    room.say(&alice, "later").await;
    assert_eq!(bodies(&watch(&news["end"], 30_000).await), ["later"]);

    let history = json!({ "history_visibility": "shared" });
    room.set(&alice, ("m.room.history_visibility", ""), history).await;
    let path = format!("events?room_id={}", room.id);
    let closed = call(&server, &guest, (Method::GET, &path), Value::Null).await;
    assert_eq!(closed.errcode(), (403, "M_FORBIDDEN"));
}

/// The texts of a chunk's messages.
fn bodies(page: &Value) -> Vec<Value> {
    let events = page["chunk"].as_array().unwrap().iter();
    events.map(|event| event["content"]["body"].clone()).filter(|body| !body.is_null()).collect()
}
