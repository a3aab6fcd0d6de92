//! Read receipts and read markers over HTTP, and in the syncs of other users.

use ruma::OwnedEventId;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{ephemeral, joined, member, room, say, send, sync, sync_since, types};

async fn post(server: &TestServer, user: &User, path: &str, body: Value) -> (u16, Value) {
    let (status, body) =
        server.post(&format!("/_matrix/client/v3/rooms/{path}"), &user.token, body).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn everybody_sees_a_public_receipt_and_a_private_one_is_seen_by_its_user_alone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let said = say(&server, &room_id, &alice, "read me").await;
    let first = sync(&server, &alice, "").await;
    let first_of_bob = sync(&server, &bob, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let reading = async {
        let private = format!("{room_id}/receipt/m.read.private/{said}");
        assert_eq!(post(&server, &bob, &private, json!({})).await, (200, json!({})));
        let public = format!("{room_id}/receipt/m.read/{said}");
        assert_eq!(post(&server, &bob, &public, json!({})).await, (200, json!({})));
    };
    let (_, ()) = tokio::join!(waiting, reading);
    let told = ephemeral(&sync_since(&server, &alice, &first, "").await, &room_id, "m.receipt");
    let now = told[said.as_str()]["m.read"]["@bob:localhost"]["ts"].clone();
    assert!(now.is_u64(), "{told}");
    let public = json!({ "@bob:localhost": { "ts": now } });
    assert_eq!(told, json!({ said.as_str(): { "m.read": public } }));
    let own = sync_since(&server, &bob, &first_of_bob, "").await;
    let expected = json!({ said.as_str(): { "m.read": public, "m.read.private": public } });
    assert_eq!(ephemeral(&own, &room_id, "m.receipt"), expected);
    let anew = sync(&server, &alice, "").await;
    assert_eq!(ephemeral(&anew, &room_id, "m.receipt"), told);
}

#[tokio::test]
async fn a_receipt_does_not_move_backwards() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let older = say(&server, &room_id, &alice, "older").await;
    let newer = say(&server, &room_id, &alice, "newer").await;
    for event_id in [&newer, &older] {
        let path = format!("{room_id}/receipt/m.read/{event_id}");
        assert_eq!(post(&server, &alice, &path, json!({})).await.0, 200);
        let both = json!({ "m.fully_read": event_id, "m.read": event_id });
        let path = format!("{room_id}/read_markers");
        assert_eq!(post(&server, &alice, &path, both).await, (200, json!({})));
    }
    let told = sync(&server, &alice, "").await;
    let receipts = ephemeral(&told, &room_id, "m.receipt");
    assert!(receipts[newer.as_str()].is_object() && receipts[older.as_str()].is_null());
    let account_data = &joined(&told, &room_id)["account_data"]["events"];
    let marker = json!([{ "type": "m.fully_read", "content": { "event_id": newer } }]);
    assert_eq!(account_data, &marker);
}

#[tokio::test]
async fn of_two_receipts_at_one_event_the_one_about_no_thread_is_told() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let said = say(&server, &room_id, &alice, "read me").await;
    let path = format!("{room_id}/receipt/m.read/{said}");
    let first = sync(&server, &alice, "").await;
    post(&server, &alice, &path, json!({ "thread_id": "main" })).await;
    let second = sync_since(&server, &alice, &first, "").await;
    let told = ephemeral(&second, &room_id, "m.receipt");
    let mine = |told: &Value| told[said.as_str()]["m.read"]["@alice:localhost"].clone();
    assert_eq!(mine(&told)["thread_id"], "main");
    post(&server, &alice, &path, json!({})).await;
    for since in [&first, &second] {
        let told = sync_since(&server, &alice, since, "").await;
        let told = mine(&ephemeral(&told, &room_id, "m.receipt"));
        assert!(told["ts"].is_u64() && told["thread_id"].is_null(), "{told}");
    }
}

#[tokio::test]
async fn receipts_that_make_no_sense_are_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let said = say(&server, &room_id, &alice, "read me").await;
    let other = room(&server, &alice).await;
    for (user, path, body, expected) in [
        (&bob, format!("{room_id}/receipt/m.read/{said}"), json!({}), (403, "M_FORBIDDEN")),
        (&alice, format!("{other}/receipt/m.read/{said}"), json!({}), (404, "M_NOT_FOUND")),
        (&alice, format!("{room_id}/receipt/m.read/$unknown"), json!({}), (404, "M_NOT_FOUND")),
        (&alice, format!("{room_id}/receipt/m.odd/{said}"), json!({}), (400, "M_INVALID_PARAM")),
        (
            &alice,
            format!("{room_id}/receipt/m.read/{said}"),
            json!({ "thread_id": "nonsense" }),
            (400, "M_INVALID_PARAM"),
        ),
        (
            &alice,
            format!("{room_id}/receipt/m.fully_read/{said}"),
            json!({ "thread_id": "main" }),
            (400, "M_INVALID_PARAM"),
        ),
    ] {
        let (status, answer) = post(&server, user, &path, body).await;
        assert_eq!((status, answer["errcode"].as_str().unwrap()), expected, "{path}");
    }
}

#[tokio::test]
async fn a_filter_can_leave_receipts_out() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    member(&server, &room_id, &bob, &bob, "join").await;
    let said = say(&server, &room_id, &alice, "read me").await;
    let first = sync(&server, &alice, "").await;
    post(&server, &bob, &format!("{room_id}/receipt/m.read/{said}"), json!({})).await;
    let without = crate::talk::filter(&json!({ "room": { "ephemeral": { "types": [] } } }));
    let second = sync_since(&server, &alice, &first, &format!("&{without}")).await;
    assert!(second["rooms"].is_null(), "{second}");
    let second = sync_since(&server, &alice, &first, "").await;
    assert_eq!(types(&joined(&second, &room_id)["ephemeral"]), ["m.receipt"]);
}

#[tokio::test]
async fn a_threaded_receipt_is_for_an_event_of_its_thread() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let (root, other) =
        (say(&server, &room_id, &alice, "root").await, say(&server, &room_id, &alice, "o").await);
    let answer = json!({
        "msgtype": "m.text", "body": "answer",
        "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    let answer = send(&server, &room_id, &alice, answer).await;
    for (event, thread, expected) in [
        (&root, "main", 200),
        (&other, "main", 200),
        (&answer, "main", 400),
        (&root, root.as_str(), 200),
        (&answer, root.as_str(), 200),
        (&other, root.as_str(), 400),
        (&answer, other.as_str(), 400),
        (&answer, "$nothing", 400),
    ] {
        for kind in ["m.read", "m.read.private"] {
            let path = format!("{room_id}/receipt/{kind}/{event}");
            let (status, body) = post(&server, &alice, &path, json!({ "thread_id": thread })).await;
            assert_eq!(status, expected, "{event} {thread}: {body}");
            if status == 400 {
                assert_eq!(body["errcode"], "M_INVALID_PARAM");
            }
        }
    }
}

#[tokio::test]
async fn what_relates_to_the_root_of_a_thread_is_in_the_thread_and_in_the_main_timeline() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let related = async |rel_type: &str, event_id: &OwnedEventId| {
        let content = json!({
            "msgtype": "m.text", "body": "related",
            "m.relates_to": { "rel_type": rel_type, "event_id": event_id },
        });
        send(&server, &room_id, &alice, content).await
    };
    let root = say(&server, &room_id, &alice, "root").await;
    let answer = related("m.thread", &root).await;
    let of_answer = related("m.reference", &answer).await;
    let of_root = related("m.reference", &root).await;
    let second = related("m.annotation", &of_root).await;
    let third = related("m.reference", &second).await;
    let fourth = related("m.reference", &third).await;
    for (event, thread, expected) in [
        (&of_root, root.as_str(), 200),
        (&of_root, "main", 200),
        (&second, root.as_str(), 200),
        (&second, "main", 200),
        (&third, root.as_str(), 200),
        (&fourth, root.as_str(), 400),
        (&of_answer, root.as_str(), 200),
        (&of_answer, "main", 400),
        (&of_answer, answer.as_str(), 400),
    ] {
        let path = format!("{room_id}/receipt/m.read/{event}");
        let (status, body) = post(&server, &alice, &path, json!({ "thread_id": thread })).await;
        assert_eq!(status, expected, "{event} {thread}: {body}");
    }
}
