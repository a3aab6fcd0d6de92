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
    room.send(&alice, "m.room.message", edit_of(&root, "edited")).await;
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

async fn event(server: &TestServer, room: &RoomId, event: &ruma::EventId, user: &User) -> Value {
    get(server, &format!("/_matrix/client/v3/rooms/{room}/event/{event}"), user).await
}

fn bundled(event: &Value) -> &Value {
    &event["unsigned"]["m.relations"]
}

fn edit_of(event: &ruma::EventId, body: &str) -> Value {
    let new = json!({ "msgtype": "m.text", "body": body });
    let relation = json!({ "rel_type": "m.replace", "event_id": event });
    json!({ "msgtype": "m.text", "body": body, "m.new_content": new, "m.relates_to": relation })
}

async fn ignore(server: &TestServer, user: &User, ignored: &User) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", user.user_id);
    let list = json!({ "ignored_users": { ignored.user_id.as_str(): {} } });
    assert_eq!(server.put(&path, &user.token, list).await.0, StatusCode::OK);
}

#[tokio::test]
async fn children_by_ignored_users_do_not_count() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let troll = server.register("troll").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    room.member(&troll, &troll, "join").await;
    let root = room.say(&alice, "root").await;
    let mut kept = Vec::new();
    for (user, body) in [(&bob, "one"), (&troll, "noise"), (&bob, "two"), (&troll, "more")] {
        room.relate(user, "m.thread", &root, body).await;
        let reference = room.relate(user, "m.reference", &root, body).await;
        if user.user_id == bob.user_id {
            kept.push(json!({ "event_id": reference }));
        }
    }
    let alone = room.say(&alice, "answered by the troll alone").await;
    room.relate(&troll, "m.thread", &alone, "noise").await;
    ignore(&server, &alice, &troll).await;
    let shown = event(&server, &room.id, &root, &alice).await;
    let relations = bundled(&shown);
    assert_eq!(relations["m.thread"]["count"], 2);
    assert_eq!(relations["m.thread"]["latest_event"]["content"]["body"], "two");
    assert_eq!(relations["m.reference"]["chunk"], json!(kept));
    assert!(bundled(&event(&server, &room.id, &alone, &alice).await).is_null());
    let shown = event(&server, &room.id, &root, &bob).await;
    assert_eq!(bundled(&shown)["m.thread"]["count"], 4);
    assert_eq!(bundled(&shown)["m.thread"]["latest_event"]["content"]["body"], "more");

    let sync = get(&server, "/_matrix/client/v3/sync", &alice).await;
    let events = sync["rooms"]["join"][room.id.as_str()]["timeline"]["events"].clone();
    let found = events.as_array().unwrap().iter().find(|event| event["event_id"] == json!(root));
    assert_eq!(bundled(found.unwrap())["m.thread"]["count"], 2);
}

#[tokio::test]
async fn a_redacted_event_keeps_its_thread_and_its_references_but_was_not_edited() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "answer").await;
    room.relate(&alice, "m.reference", &root, "reference").await;
    room.send(&alice, "m.room.message", edit_of(&root, "edited")).await;
    let shown = event(&server, &room.id, &root, &alice).await;
    assert_eq!(bundled(&shown).as_object().unwrap().len(), 3);
    room.redact(&alice, &root).await;
    let shown = event(&server, &room.id, &root, &alice).await;
    let mut kinds: Vec<_> = bundled(&shown).as_object().unwrap().keys().collect();
    kinds.sort();
    assert_eq!(kinds, ["m.reference", "m.thread"]);
}

#[tokio::test]
async fn the_latest_event_of_a_thread_comes_with_its_own_edit() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    let answer = room.relate(&alice, "m.thread", &root, "answer").await;
    room.send(&alice, "m.room.message", edit_of(&answer, "better answer")).await;
    let shown = event(&server, &room.id, &root, &alice).await;
    let latest = &bundled(&shown)["m.thread"]["latest_event"];
    assert_eq!(latest["event_id"], json!(answer));
    assert_eq!(bundled(latest)["m.replace"]["content"]["body"], "better answer");
}

#[tokio::test]
async fn invalid_edits_are_not_bundled_and_hide_no_valid_one() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let original = room.say(&alice, "original").await;
    let edit = room.send(&alice, "m.room.message", edit_of(&original, "edited")).await;
    room.send(&alice, "m.room.message", edit_of(&edit, "edit of an edit")).await;
    room.relate(&alice, "m.replace", &original, "without new content").await;
    let mut broken = edit_of(&original, "new content that is none");
    broken["m.new_content"] = json!("text");
    room.send(&alice, "m.room.message", broken).await;
    room.send(&alice, "m.sticker", edit_of(&original, "another type")).await;
    for n in 0..210 {
        room.send(&bob, "m.room.message", edit_of(&original, &format!("junk {n}"))).await;
    }
    let shown = event(&server, &room.id, &original, &alice).await;
    assert_eq!(bundled(&shown)["m.replace"]["event_id"], json!(edit));
    assert!(bundled(&event(&server, &room.id, &edit, &alice).await).is_null());

    let encrypted = json!({ "ciphertext": "a" });
    let original = room.send(&alice, "m.room.encrypted", encrypted).await;
    let relation = json!({ "rel_type": "m.replace", "event_id": original });
    let content = json!({ "ciphertext": "b", "m.relates_to": relation });
    let edit = room.send(&alice, "m.room.encrypted", content).await;
    let shown = event(&server, &room.id, &original, &alice).await;
    assert_eq!(bundled(&shown)["m.replace"]["event_id"], json!(edit));
}

#[tokio::test]
async fn events_of_other_rooms_are_not_related_to() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let other = server.room(&alice, "shared").await;
    let root = room.say(&alice, "root").await;
    for rel_type in ["m.thread", "m.reference"] {
        other.relate(&alice, rel_type, &root, "elsewhere").await;
    }
    other.send(&alice, "m.room.message", edit_of(&root, "edited elsewhere")).await;
    assert!(bundled(&event(&server, &room.id, &root, &alice).await).is_null());
    for id in [&room.id, &other.id] {
        let threads = get(&server, &v1(id, "/threads"), &alice).await;
        assert_eq!(bodies(&threads), [] as [&str; 0]);
    }
    let relations = get(&server, &v1(&room.id, &format!("/relations/{root}")), &alice).await;
    assert_eq!(bodies(&relations), [] as [&str; 0]);
}

#[tokio::test]
async fn a_user_whose_only_answer_is_redacted_did_not_participate() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "answer").await;
    let first = room.relate(&bob, "m.thread", &root, "first").await;
    let second = room.relate(&bob, "m.thread", &root, "second").await;
    for (redacted, participated) in [(first, true), (second, false)] {
        room.redact(&bob, &redacted).await;
        let own = get(&server, &v1(&room.id, "/threads?include=participated"), &bob).await;
        assert_eq!(!bodies(&own).is_empty(), participated);
        let shown = event(&server, &room.id, &root, &bob).await;
        let thread = &bundled(&shown)["m.thread"];
        assert_eq!(thread["current_user_participated"], participated);
    }
}

#[tokio::test]
async fn state_events_come_without_aggregations() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let topic = room.set(&alice, ("m.room.topic", ""), json!({ "topic": "a" })).await;
    room.relate(&alice, "m.reference", &topic, "see there").await;
    room.relate(&alice, "m.thread", &topic, "talk about it").await;
    assert!(bundled(&event(&server, &room.id, &topic, &alice).await).is_null());
    let relations = get(&server, &v1(&room.id, &format!("/relations/{topic}")), &alice).await;
    assert_eq!(bodies(&relations).len(), 2);
}

#[tokio::test]
async fn a_redaction_that_was_redacted_names_no_target_of_null() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    let original = room.say(&alice, "original").await;
    let redaction = room.redact(&alice, &original).await;
    let because = event(&server, &room.id, &original, &alice).await;
    assert_eq!(because["unsigned"]["redacted_because"]["redacts"], json!(original));
    room.redact(&alice, &redaction).await;
    let because = event(&server, &room.id, &original, &alice).await;
    let because = &because["unsigned"]["redacted_because"];
    assert_eq!(because["event_id"], json!(redaction));
    assert!(because.get("redacts").is_none_or(|redacts| !redacts.is_null()), "{because}");
}

#[tokio::test]
async fn ignoring_oneself_hides_nothing_of_ones_own() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    ignore(&server, &alice, &alice).await;
    let root = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &root, "answer").await;
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b", room.id);
    assert_eq!(bodies(&get(&server, &path, &alice).await), ["answer", "root"]);
    let threads = get(&server, &v1(&room.id, "/threads"), &alice).await;
    assert_eq!(bodies(&threads), ["root"]);
    let sync = get(&server, "/_matrix/client/v3/sync", &alice).await;
    let events = &sync["rooms"]["join"][room.id.as_str()]["timeline"]["events"];
    assert!(events.to_string().contains("answer"));
}
