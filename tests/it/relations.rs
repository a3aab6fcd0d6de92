//! Relations and threads over HTTP.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use http::StatusCode;
use ruma::RoomId;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

async fn get(server: &TestServer, path: &str, user: &User) -> Value {
    let (status, body) = server.get(path, &user.token).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

fn v1(room: &RoomId, rest: &str) -> String {
    format!("/_matrix/client/v1/rooms/{room}{rest}")
}

fn bodies(events: &Value) -> Vec<&str> {
    let events = events["chunk"].as_array().unwrap();
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn relations_are_found_by_kind_and_type_in_both_directions() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "one").await;
    room.relate(&alice, "m.reference", &root, "two").await;
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    let sticker = json!({ "body": "three", "m.relates_to": relation });
    room.send(&alice, "m.sticker", sticker).await;
    room.say(&alice, "unrelated").await;
    for (rest, expected) in [
        ("", vec!["three", "two", "one"]),
        ("?dir=f", vec!["one", "two", "three"]),
        ("/m.thread", vec!["three", "one"]),
        ("/m.reference", vec!["two"]),
        ("/m.thread/m.room.message", vec!["one"]),
        ("/m.thread/m.sticker?dir=f", vec!["three"]),
        ("/m.annotation", vec![]),
    ] {
        let path = v1(&room.id, &format!("/relations/{root}{rest}"));
        let found = get(&server, &path, &alice).await;
        assert_eq!(bodies(&found), expected, "{rest}");
        assert!(found.get("next_batch").is_none() && found.get("recursion_depth").is_none());
    }
    let path = v1(&room.id, "/relations/$nowhere");
    assert_eq!(server.get(&path, &alice.token).await.0, StatusCode::NOT_FOUND);
    let bob = server.register("bob").await;
    let path = v1(&room.id, &format!("/relations/{root}"));
    assert_eq!(server.get(&path, &bob.token).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn relations_are_paged_in_both_directions_also_from_a_token_of_a_sync() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    for n in 0..5 {
        let kind = if n % 2 == 0 { "m.thread" } else { "m.reference" };
        room.relate(&alice, kind, &root, &n.to_string()).await;
    }
    let sync = get(&server, "/_matrix/client/v3/sync", &alice).await;
    let since = sync["next_batch"].as_str().unwrap();
    room.relate(&alice, "m.thread", &root, "late").await;
    for (direction, first, expected) in [
        ("b", format!("&from={since}"), ["4", "3", "2", "1", "0"].as_slice()),
        ("f", String::new(), &["0", "1", "2", "3", "4", "late"]),
        ("f", format!("&to={since}"), &["0", "1", "2", "3", "4"]),
        ("f", format!("&from={since}"), &["late"]),
    ] {
        let (mut seen, mut from, mut pages) = (Vec::new(), first, 0);
        loop {
            let path = format!("/relations/{root}?dir={direction}&limit=2{from}");
            let page = get(&server, &v1(&room.id, &path), &alice).await;
            seen.extend(bodies(&page).into_iter().map(str::to_owned));
            pages += 1;
            let Some(next) = page["next_batch"].as_str() else { break };
            let to = from.split('&').find(|part| part.starts_with("to=")).map(str::to_owned);
            from = format!("&from={next}{}", to.map(|to| format!("&{to}")).unwrap_or_default());
        }
        assert_eq!(seen, expected, "{direction}");
        assert_eq!(pages, expected.len().div_ceil(2));
    }
}

#[tokio::test]
async fn relations_of_relations_are_found_when_asked_for() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    let child = room.relate(&alice, "m.thread", &root, "child").await;
    let grandchild = room.relate(&alice, "m.reference", &child, "grandchild").await;
    let third = room.relate(&alice, "m.thread", &grandchild, "third").await;
    room.relate(&alice, "m.thread", &third, "too far").await;
    room.relate(&alice, "m.thread", &root, "second child").await;
    let path = v1(&room.id, &format!("/relations/{root}?recurse=true"));
    let found = get(&server, &path, &alice).await;
    assert_eq!(bodies(&found), ["second child", "third", "grandchild", "child"]);
    assert_eq!(found["recursion_depth"], 3);
    let path = v1(&room.id, &format!("/relations/{root}/m.thread?recurse=true&limit=1"));
    assert_eq!(bodies(&get(&server, &path, &alice).await), ["second child"]);
}

#[tokio::test]
async fn a_redacted_event_relates_to_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "first").await;
    let second = room.relate(&alice, "m.thread", &root, "second").await;
    room.redact(&alice, &second).await;
    let found = get(&server, &v1(&room.id, &format!("/relations/{root}")), &alice).await;
    assert_eq!(bodies(&found), ["first"]);
    let threads = get(&server, &v1(&room.id, "/threads"), &alice).await;
    let thread = &threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!(thread["latest_event"]["content"]["body"], "first");
    assert_eq!(thread["count"], 1);
}

#[tokio::test]
async fn threads_are_listed_by_their_newest_answer_in_pages() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let mut roots = Vec::new();
    for n in 0..3 {
        let root = room.say(&alice, &format!("root {n}")).await;
        room.relate(&alice, "m.thread", &root, "answer").await;
        roots.push(root);
    }
    room.relate(&bob, "m.thread", &roots[0], "newest").await;
    let all = get(&server, &v1(&room.id, "/threads"), &bob).await;
    assert_eq!(bodies(&all), ["root 0", "root 2", "root 1"]);
    let thread = &all["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
    assert_eq!(thread["latest_event"]["content"]["body"], "newest");
    assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(true)));

    let first = get(&server, &v1(&room.id, "/threads?limit=2"), &alice).await;
    assert_eq!(bodies(&first), ["root 0", "root 2"]);
    let next = first["next_batch"].as_str().unwrap();
    let rest = get(&server, &v1(&room.id, &format!("/threads?from={next}")), &alice).await;
    assert_eq!(bodies(&rest), ["root 1"]);
    assert!(rest.get("next_batch").is_none());

    let own = get(&server, &v1(&room.id, "/threads?include=participated"), &bob).await;
    assert_eq!(bodies(&own), ["root 0"]);
}

#[tokio::test]
async fn what_was_said_after_one_left_is_not_bundled_with_what_was_said_before() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "answer").await;
    room.member(&bob, &bob, "leave").await;
    room.relate(&alice, "m.thread", &root, "secret").await;
    room.relate(&alice, "m.replace", &root, "edited").await;
    room.relate(&alice, "m.reference", &root, "reference").await;
    let path = format!("/_matrix/client/v3/rooms/{}/event/{root}", room.id);
    for (user, latest) in [(&alice, "secret"), (&bob, "answer")] {
        let event = get(&server, &path, user).await;
        let relations = &event["unsigned"]["m.relations"];
        assert_eq!(relations["m.thread"]["latest_event"]["content"]["body"], latest);
        assert_eq!(relations.get("m.replace").is_some(), latest == "secret");
        assert_eq!(relations.get("m.reference").is_some(), latest == "secret");
    }
    let path = v1(&room.id, &format!("/relations/{root}"));
    assert_eq!(bodies(&get(&server, &path, &bob).await), ["answer"]);
}
