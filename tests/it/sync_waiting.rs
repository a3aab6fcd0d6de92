//! Syncs that wait: what ends the wait, and what does not.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "what a test asks for is there")]

use std::time::Duration;

use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::talk::{
    SYNC, bodies, events, filter, joined, member, room, say, set, sync, sync_since, types,
};

/// The answer to a sync from a token that is `ahead` positions beyond that of an earlier one.
async fn sync_ahead(
    server: &TestServer,
    user: &User,
    before: &Value,
    ahead: u64,
    more: &str,
) -> (String, Value) {
    let number: u64 = before["next_batch"].as_str().unwrap()[1..].parse().unwrap();
    let token = format!("s{}", number + ahead);
    let answer = sync(server, user, &format!("?since={token}{more}")).await;
    (token, answer)
}

#[tokio::test]
async fn a_token_from_the_future_times_out_with_itself() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    let (token, answer) = sync_ahead(&server, &alice, &first, 1000, "").await;
    assert_eq!(answer["next_batch"], token);
    assert!(answer["rooms"].is_null(), "{answer}");
    let waiting = sync_ahead(&server, &alice, &first, 1000, "&timeout=30000");
    let ((token, answer), ()) =
        tokio::join!(waiting, server.clock.advance(Duration::from_secs(31)));
    assert_eq!(answer["next_batch"], token);
}

#[tokio::test]
async fn a_token_from_the_future_waits_until_it_is_reached_and_goes_on_there() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &alice, "?set_presence=offline").await;
    let waiting = sync_ahead(&server, &alice, &first, 2, "&timeout=30000&set_presence=offline");
    let saying = async {
        for body in ["one", "two", "three"] {
            tokio::task::yield_now().await;
            say(&server, &room_id, &alice, body).await;
        }
    };
    let ((_, answer), ()) = tokio::join!(waiting, saying);
    assert_eq!(bodies(&joined(&answer, &room_id)["timeline"]), ["three"]);
}

#[tokio::test]
async fn a_sync_that_waits_with_a_revoked_token_ends_with_401_and_without_news() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let other = server.log_in(&alice).await;
    let room_id = room(&server, &alice).await;
    let first = sync(&server, &other, "").await;
    let path = format!("{SYNC}?since={}&timeout=30000", first["next_batch"].as_str().unwrap());
    let waiting = server.get(&path, &other.token);
    let revoking = async {
        tokio::task::yield_now().await;
        let path = "/_matrix/client/v3/logout";
        assert_eq!(server.post(path, &other.token, json!({})).await.0.as_u16(), 200);
        say(&server, &room_id, &alice, "not for the other device").await;
    };
    let ((status, body), ()) = tokio::join!(waiting, revoking);
    assert_eq!((status.as_u16(), &body["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")), "{body}");
}

#[tokio::test]
async fn a_sync_goes_on_waiting_when_its_filter_leaves_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let quiet = filter(&json!({
        "presence": { "types": [] },
        "room": { "timeline": { "types": ["m.room.message"] }, "state": { "types": [] } },
    }));
    let first = sync(&server, &alice, &format!("?{quiet}")).await;
    let more = format!("&timeout=30000&{quiet}");
    let waiting = sync_since(&server, &alice, &first, &more);
    let (second, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        let named = json!({ "membership": "join", "displayname": "Al" });
        set(&server, &room_id, &alice, ("m.room.member", "@alice:localhost"), named).await;
        set(&server, &room_id, &alice, ("m.room.topic", ""), json!({ "topic": "t" })).await;
        server.clock.advance(Duration::from_secs(20)).await;
        say(&server, &room_id, &alice, "hello").await;
    });
    assert_eq!(bodies(&joined(&second, &room_id)["timeline"]), ["hello"]);
}

#[tokio::test]
async fn a_room_that_was_joined_long_ago_still_wakes_after_others_came_and_went() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = room(&server, &alice).await;
    let mut last = sync(&server, &alice, "").await;
    for round in 0..3 {
        let other = room(&server, &alice).await;
        member(&server, &other, &alice, &alice, "leave").await;
        last = sync_since(&server, &alice, &last, "").await;
        let waiting = sync_since(&server, &alice, &last, "&timeout=30000");
        let (told, _) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            say(&server, &room_id, &alice, &format!("round {round}")).await
        });
        assert_eq!(bodies(&joined(&told, &room_id)["timeline"]), [format!("round {round}")]);
        last = told;
    }
}

#[tokio::test]
async fn a_sync_tells_the_same_whether_few_or_many_rooms_were_busy() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = room(&server, &alice).await;
    let invited_to = room(&server, &bob).await;
    let left = room(&server, &alice).await;
    let first = sync(&server, &alice, "").await;
    say(&server, &room_id, &alice, "hello").await;
    member(&server, &invited_to, &bob, &alice, "invite").await;
    member(&server, &left, &alice, &alice, "leave").await;
    let few = sync_since(&server, &alice, &first, "&set_presence=offline").await;
    for _ in 0..40 {
        room(&server, &bob).await;
    }
    let many = sync_since(&server, &alice, &first, "&set_presence=offline").await;
    assert_eq!(few["rooms"], many["rooms"]);
    assert_eq!(bodies(&joined(&few, &room_id)["timeline"]), ["hello"]);
    assert!(few["rooms"]["invite"][invited_to.as_str()].is_object());
    let own = &few["rooms"]["leave"][left.as_str()]["timeline"];
    assert_eq!((types(own), events(own).len()), (vec!["m.room.member"], 1));
}
