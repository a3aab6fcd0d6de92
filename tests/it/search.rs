//! `/search` over HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::time::Duration;

use http::StatusCode;
use ruma::{OwnedEventId, events::TimelineEventType};
use serde_json::{Value, json};
use wick_core::Draft;
use wick_database::{Range, Read, schema::lookup::EVENT_BY_WORD};
use wick_harness::{TestServer, User};
use wick_room::Effects;

use crate::talk::{sync, sync_since};

const SEARCH: &str = "/_matrix/client/v3/search";

async fn search_page(server: &TestServer, user: &User, next: &str, criteria: Value) -> Value {
    let path =
        if next.is_empty() { SEARCH.to_owned() } else { format!("{SEARCH}?next_batch={next}") };
    let body = json!({ "search_categories": { "room_events": criteria } });
    let (status, body) = server.post(&path, &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["search_categories"]["room_events"].clone()
}

async fn search(server: &TestServer, user: &User, criteria: Value) -> Value {
    search_page(server, user, "", criteria).await
}

fn bodies(found: &Value) -> Vec<&str> {
    let results = found["results"].as_array().unwrap();
    results.iter().filter_map(|row| row["result"]["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn events_are_found_by_all_of_their_words_whatever_the_case() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    room.say(&alice, "The quick brown fox").await;
    room.say(&alice, "A slow brown dog").await;
    room.set(&alice, ("m.room.name", ""), json!({ "name": "Brown things" })).await;
    room.set(&alice, ("m.room.topic", ""), json!({ "topic": "all that is brown" })).await;
    room.send(&alice, "m.room.message", json!({ "body": ["brown"] })).await;
    for (term, expected) in [
        ("BROWN fox", vec!["The quick brown fox"]),
        ("brown", vec!["A slow brown dog", "The quick brown fox"]),
        ("bro", vec![]),
        ("fox dog", vec![]),
        ("?!", vec![]),
    ] {
        let criteria = json!({ "search_term": term, "order_by": "recent" });
        assert_eq!(bodies(&search(&server, &alice, criteria).await), expected, "{term}");
    }
    for (keys, count) in [
        (json!(["content.body"]), 2),
        (json!(["content.name"]), 1),
        (json!(["content.topic", "content.name"]), 2),
    ] {
        let found = search(&server, &alice, json!({ "search_term": "brown", "keys": keys })).await;
        assert_eq!(found["count"], count, "{keys}");
        assert_eq!(found["highlights"], json!(["brown"]));
    }
    let (status, body) =
        server.post(SEARCH, &alice.token, json!({ "search_categories": {} })).await;
    assert_eq!(
        (status, &body["search_categories"]["room_events"]["count"]),
        (StatusCode::OK, &json!(0))
    );
    let (status, body) = server.post(SEARCH, &alice.token, json!({})).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_BAD_JSON")));
}

#[tokio::test]
async fn only_what_one_may_see_is_found_and_nothing_that_was_redacted() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "joined").await;
    room.say(&alice, "secret before").await;
    room.member(&bob, &bob, "join").await;
    let redacted = room.say(&alice, "secret regretted").await;
    room.say(&alice, "secret afterwards").await;
    let elsewhere = server.room(&alice, "shared").await;
    elsewhere.say(&alice, "secret elsewhere").await;
    let term = json!({ "search_term": "secret", "order_by": "recent" });
    let found = search(&server, &bob, term.clone()).await;
    assert_eq!(bodies(&found), ["secret afterwards", "secret regretted"]);
    room.redact(&alice, &redacted).await;
    server.restart().await;
    let found = search(&server, &bob, term.clone()).await;
    assert_eq!((bodies(&found), &found["count"]), (vec!["secret afterwards"], &json!(1)));
    assert_eq!(search(&server, &alice, term).await["count"], 3);
    let found = search(&server, &alice, json!({ "search_term": "regretted" })).await;
    assert_eq!((&found["count"], &found["results"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn results_come_in_pages_ordered_by_time_or_by_rank() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rooms = [server.room(&alice, "shared").await, server.room(&alice, "shared").await];
    for n in 0..7 {
        rooms[n % 2].say(&alice, &format!("word {}", "filler ".repeat(n))).await;
    }
    for order in ["recent", "rank"] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let criteria = json!({
                "search_term": "word", "order_by": order, "filter": { "limit": 3 },
            });
            let page = search_page(&server, &alice, &next, criteria).await;
            assert_eq!(page["count"], 7);
            seen.extend(bodies(&page).iter().map(|body| body.matches("filler").count()));
            let Some(token) = page["next_batch"].as_str() else { break };
            token.clone_into(&mut next);
        }
        let all = json!({ "search_term": "word", "order_by": order, "filter": { "limit": 7 } });
        let full = search_page(&server, &alice, "", all.clone()).await;
        let after = search_page(&server, &alice, full["next_batch"].as_str().unwrap(), all).await;
        assert_eq!((&after["count"], &after["results"]), (&json!(7), &json!([])));
        assert!(after["next_batch"].is_null());
        let mut expected: Vec<_> = (0..7).collect();
        if order == "recent" {
            expected.reverse();
        }
        assert_eq!(seen, expected, "{order}");
    }
    let body = json!({ "search_categories": { "room_events": { "search_term": "word" } } });
    let (status, _) = server.post(&format!("{SEARCH}?next_batch=x"), &alice.token, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn results_are_grouped_filtered_and_shown_in_their_context() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let (one, two) = (server.room(&alice, "shared").await, server.room(&alice, "shared").await);
    one.member(&bob, &bob, "join").await;
    one.say(&alice, "before").await;
    let first = one.say(&bob, "needle").await;
    one.say(&alice, "after").await;
    let second = two.say(&alice, "needle two").await;
    let grouped = search(
        &server,
        &alice,
        json!({ "search_term": "needle", "order_by": "recent", "include_state": true,
                "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] } }),
    )
    .await;
    assert_eq!(grouped["groups"]["room_id"][one.id.as_str()]["results"], json!([first]));
    assert_eq!(grouped["groups"]["sender"]["@alice:localhost"]["results"], json!([second]));
    assert_eq!(grouped["state"][one.id.as_str()].as_array().unwrap().len(), 6);
    assert!(grouped["results"][0].get("context").is_none());

    let found = search(
        &server,
        &alice,
        json!({ "search_term": "needle", "filter": { "rooms": [one.id] },
                "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true } }),
    )
    .await;
    assert_eq!(found["count"], 1);
    let context = &found["results"][0]["context"];
    assert_eq!(context["events_before"][0]["content"]["body"], "before");
    assert_eq!(context["events_after"][0]["content"]["body"], "after");
    assert_eq!(context["profile_info"]["@bob:localhost"]["displayname"], "bob");
    let start = context["start"].as_str().unwrap();
    let path = one.path(&format!("/messages?dir=b&limit=1&from={start}"));
    let page = server.get(&path, &alice.token).await.1;
    assert_eq!(page["chunk"][0]["type"], "m.room.member");

    for (filter, count) in [
        (json!({ "senders": ["@bob:localhost"] }), 1),
        (json!({ "not_rooms": [one.id, two.id] }), 0),
        (json!({ "rooms": ["!nowhere:localhost"] }), 0),
        (json!({ "types": ["m.room.name"] }), 0),
    ] {
        let found =
            search(&server, &alice, json!({ "search_term": "needle", "filter": filter })).await;
        assert_eq!(found["count"], count, "{filter}");
    }
}

#[tokio::test]
async fn the_room_that_a_room_was_upgraded_from_is_searched_too() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let old = server.room(&alice, "shared").await;
    old.say(&alice, "needle before").await;
    let predecessor = json!({ "room_id": old.id, "event_id": "$unknown" });
    let create = json!({ "creation_content": { "predecessor": predecessor } });
    let (_, body) = server.post("/_matrix/client/v3/createRoom", &alice.token, create).await;
    let new = body["room_id"].as_str().unwrap();
    let path = format!("/_matrix/client/v3/rooms/{new}/send/m.room.message/1");
    server.put(&path, &alice.token, json!({ "msgtype": "m.text", "body": "needle after" })).await;
    let criteria =
        json!({ "search_term": "needle", "order_by": "recent", "filter": { "rooms": [new] } });
    let found = search(&server, &alice, criteria).await;
    assert_eq!(bodies(&found), ["needle after", "needle before"]);
}

#[tokio::test]
async fn texts_without_spaces_and_long_words_are_found() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let long = "x".repeat(100);
    let texts = ["全文検索の機能を実装しました", "我们今天去北京大学看朋友", &long];
    for text in texts {
        room.say(&alice, text).await;
    }
    for (term, expected) in
        [("検索", texts[0]), ("北京", texts[1]), ("京", texts[1]), (&*long, texts[2])]
    {
        let found = search(&server, &alice, json!({ "search_term": term })).await;
        assert_eq!(bodies(&found), [expected], "{term}");
    }
    let found = search(&server, &alice, json!({ "search_term": "京北" })).await;
    assert_eq!(found["count"], 0);
}

#[tokio::test]
async fn an_event_that_is_redacted_in_its_own_batch_leaves_no_word() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let graph = &server.services().graph;
    let draft = |event_type: &str, content| {
        let (room, sender) = (room.id.clone(), alice.user_id.clone());
        let content = serde_json::from_value(content).unwrap();
        Draft::message(room, sender, TimelineEventType::from(event_type), content)
    };
    graph
        .transact(&room.id, |room| {
            let message = json!({ "msgtype": "m.text", "body": "needle" });
            let sent = room.append(draft("m.room.message", message), Effects::default())?;
            let redaction = json!({ "redacts": sent.pdu.event_id });
            room.append(draft("m.room.redaction", redaction), Effects::default())
        })
        .await
        .unwrap();
    let words = server.services().database.published();
    assert_eq!(words.scan(&EVENT_BY_WORD, Range::all()).count(), 0);
}

#[tokio::test]
async fn what_repeats_a_redacted_event_is_not_found_any_more() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let words = || {
        let read = server.services().database.published();
        let rows: Vec<_> = read.scan(&EVENT_BY_WORD, Range::all()).map(Result::unwrap).collect();
        rows.into_iter().map(|((_, word, _), _)| word).collect::<Vec<_>>()
    };
    let edit = async |of: &OwnedEventId, body: &str| {
        room.relate(&alice, "m.replace", of, body).await;
    };
    let (gone, kept) = (room.say(&alice, "needle").await, room.say(&alice, "kept").await);
    edit(&gone, "pin").await;
    edit(&kept, "brooch").await;
    let expiring = json!({ "msgtype": "m.text", "body": "candle", "m.will_expire": 1 });
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/1", room.id);
    let (status, expiring) = server.put(&path, &alice.token, expiring).await;
    assert_eq!(status, StatusCode::OK, "{expiring}");
    let expiring: OwnedEventId = expiring["event_id"].as_str().unwrap().try_into().unwrap();
    let first = sync(&server, &alice, "").await;
    let waiting = sync_since(&server, &alice, &first, "&timeout=30000");
    let (second, ()) = tokio::join!(waiting, server.clock.advance(Duration::from_secs(2)));
    assert!(second.to_string().contains("expired"), "{second}");
    assert_eq!(search(&server, &alice, json!({ "search_term": "candle" })).await["count"], 2);
    for event in [&gone, &expiring] {
        room.redact(&alice, event).await;
    }
    assert_eq!(words(), ["brooch", "kept"]);
    edit(&gone, "later").await;
    assert_eq!(words(), ["brooch", "kept"]);
    let found = search(&server, &alice, json!({ "search_term": "brooch" })).await;
    assert_eq!(bodies(&found), ["brooch"]);
}

#[tokio::test]
async fn no_edit_of_a_redacted_event_is_found_however_many_there_are() {
    let server = TestServer::start_with(|config| config.limits.enabled = false).await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let gone = room.say(&alice, "needle").await;
    for _ in 0..101 {
        room.relate(&alice, "m.replace", &gone, "pin").await;
    }
    assert_eq!(search(&server, &alice, json!({ "search_term": "pin" })).await["count"], 101);
    room.redact(&alice, &gone).await;
    assert_eq!(search(&server, &alice, json!({ "search_term": "pin" })).await["count"], 0);
}
