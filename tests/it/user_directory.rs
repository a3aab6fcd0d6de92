//! The user directory over HTTP, rooms in common, reports.

#![expect(clippy::unwrap_used, reason = "what a test asks for is there")]

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

async fn find(server: &TestServer, user: &User, term: &str, limit: usize) -> Value {
    let body = json!({ "search_term": term, "limit": limit });
    let path = "/_matrix/client/v3/user_directory/search";
    let (status, body) = server.post(path, &user.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn ids(found: &Value) -> BTreeSet<&str> {
    let results = found["results"].as_array().unwrap();
    results.iter().map(|user| user["user_id"].as_str().unwrap()).collect()
}

async fn rename(server: &TestServer, user: &User, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", user.user_id);
    let (status, body) = server.put(&path, &user.token, json!({ "displayname": name })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

#[tokio::test]
async fn users_are_found_by_the_name_in_their_profile_and_by_their_user_id() {
    let server = TestServer::start().await;
    let alice = server.register("user-1-alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    rename(&server, &alice, "Alice Cooper").await;
    let name = json!({ "membership": "join", "displayname": "Freddy" });
    room.set(&alice, ("m.room.member", alice.user_id.as_str()), name).await;
    let everybody = BTreeSet::from(["@user-1-alice:localhost"]);
    for term in ["alice", "COOP", "cooper al", "@user-1-alice:localhost", "@user-1", "1 cooper"] {
        let found = find(&server, &bob, term, 10).await;
        assert_eq!(ids(&found), everybody, "{term}");
        assert_eq!(found["results"][0]["display_name"], "Alice Cooper");
        assert_eq!(found["limited"], false);
    }
    for term in ["freddy", "cooper bob", "ooper", "", "@", "@user-1-alice:elsewhere"] {
        assert!(ids(&find(&server, &bob, term, 10).await).is_empty(), "{term}");
    }
    rename(&server, &alice, "Vincent").await;
    assert!(ids(&find(&server, &bob, "cooper", 10).await).is_empty());
    assert_eq!(ids(&find(&server, &bob, "vin", 10).await), everybody);
    assert_eq!(ids(&find(&server, &bob, "alice", 10).await), everybody);
}

#[tokio::test]
async fn users_are_found_by_those_who_could_have_met_them() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    room.set(&alice, ("m.room.join_rules", ""), json!({ "join_rule": "invite" })).await;
    assert!(ids(&find(&server, &bob, "alice", 10).await).is_empty());
    room.member(&alice, &bob, "invite").await;
    assert!(ids(&find(&server, &bob, "alice", 10).await).is_empty());
    room.member(&bob, &bob, "join").await;
    assert_eq!(ids(&find(&server, &bob, "alice", 10).await), BTreeSet::from(["@alice:localhost"]));
}

#[tokio::test]
async fn more_users_than_asked_for_are_said_to_be_there() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = server.room(&alice, "shared").await;
    for n in 0..4 {
        let user = server.register(&format!("test{n}")).await;
        room.member(&user, &user, "join").await;
    }
    let found = find(&server, &alice, "test", 3).await;
    assert_eq!((ids(&found).len(), &found["limited"]), (3, &json!(true)));
    let found = find(&server, &alice, "test", 4).await;
    assert_eq!((ids(&found).len(), &found["limited"]), (4, &json!(false)));
}

#[tokio::test]
async fn rooms_in_common_are_told() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let both = server.room(&alice, "shared").await;
    both.member(&bob, &bob, "join").await;
    let invited = server.room(&alice, "shared").await;
    invited.member(&alice, &bob, "invite").await;
    let path = "/_matrix/client/v1/mutual_rooms?user_id=";
    let (_, body) = server.get(&format!("{path}@bob:localhost"), &alice.token).await;
    assert_eq!(body, json!({ "count": 1, "joined": [both.id] }));
    let (status, body) = server.get(&format!("{path}@alice:localhost"), &alice.token).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
}

#[tokio::test]
async fn what_one_may_know_of_can_be_reported_and_is_kept() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = server.room(&alice, "shared").await;
    let event = room.say(&alice, "spam").await;
    let id = room.id.clone();
    let (on_event, on_room) = (room.path(&format!("/report/{event}")), room.path("/report"));
    let on_user = "/_matrix/client/v3/users/@alice:localhost/report".to_owned();
    let reason = json!({ "reason": "it is spam" });
    let (status, body) = server.post(&on_event, &bob.token, reason.clone()).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (404, &json!("M_NOT_FOUND")));
    server.room(&bob, "shared").await;
    room.member(&bob, &bob, "join").await;
    for path in [&on_event, &on_room, &on_user] {
        let (status, body) = server.post(path, &bob.token, reason.clone()).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})), "{path}");
    }
    for path in [
        room.path("/report/$nowhere"),
        "/_matrix/client/v3/rooms/!nowhere:localhost/report".to_owned(),
        "/_matrix/client/v3/users/@nobody:localhost/report".to_owned(),
    ] {
        let (status, body) = server.post(&path, &bob.token, reason.clone()).await;
        assert_eq!((status.as_u16(), &body["errcode"]), (404, &json!("M_NOT_FOUND")), "{path}");
    }
    server.restart().await;
    let reports = server.services().reports.newest(10).unwrap();
    let about: Vec<_> = reports
        .iter()
        .map(|report| (report.room_id.clone(), report.event_id.clone(), report.user_id.clone()))
        .collect();
    let user = (None, None, Some(alice.user_id.clone()));
    assert_eq!(about, [user, (Some(id.clone()), None, None), (Some(id), Some(event), None)]);
    assert_eq!(server.services().reports.newest(1).unwrap().len(), 1);
    assert!(reports.iter().all(|report| report.reporter == bob.user_id));
}

#[tokio::test]
async fn the_searcher_and_members_of_world_readable_rooms_are_found() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let found = find(&server, &alice, "alice", 10).await;
    assert_eq!(ids(&found), BTreeSet::from(["@alice:localhost"]));
    assert!(ids(&find(&server, &alice, "bob", 10).await).is_empty());
    let room = server.room(&bob, "shared").await;
    room.set(&bob, ("m.room.join_rules", ""), json!({ "join_rule": "invite" })).await;
    assert!(ids(&find(&server, &alice, "bob", 10).await).is_empty());
    let visibility = json!({ "history_visibility": "world_readable" });
    let set = room.set(&bob, ("m.room.history_visibility", ""), visibility).await;
    assert_eq!(ids(&find(&server, &alice, "bob", 10).await), BTreeSet::from(["@bob:localhost"]));
    room.redact(&bob, &set).await;
    assert_eq!(ids(&find(&server, &alice, "bob", 10).await), BTreeSet::from(["@bob:localhost"]));
}

#[tokio::test]
async fn a_user_id_is_found_with_its_server_and_with_or_without_its_sigil() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    server.room(&bob, "shared").await;
    for term in ["@bob:localhost", "bob:localhost", "@bob", "bob", "bob:local"] {
        let found = find(&server, &alice, term, 10).await;
        assert_eq!(ids(&found), BTreeSet::from(["@bob:localhost"]), "{term}");
    }
    assert!(ids(&find(&server, &alice, "bob:elsewhere", 10).await).is_empty());
}

#[tokio::test]
async fn a_term_with_a_sigil_finds_the_searcher_by_the_whole_user_id_alone() {
    let server = TestServer::start().await;
    let alice = server.register("user-1-alice").await;
    let bob = server.register("user-2-bob").await;
    let eve = server.register("user-3-eve").await;
    let private = server.room(&alice, "private").await;
    private.set(&alice, ("m.room.join_rules", ""), json!({ "join_rule": "invite" })).await;
    let member = |membership: &str| json!({ "membership": membership });
    private.set(&alice, ("m.room.member", bob.user_id.as_str()), member("invite")).await;
    private.set(&bob, ("m.room.member", bob.user_id.as_str()), member("join")).await;
    server.room(&alice, "public").await;
    for searcher in [&bob, &eve] {
        for term in ["@user", "@user-1-alice:localhost", "@user-1-alice"] {
            let found = find(&server, searcher, term, 10).await;
            assert_eq!(ids(&found), BTreeSet::from(["@user-1-alice:localhost"]), "{term}");
        }
        let own = searcher.user_id.as_str();
        assert_eq!(ids(&find(&server, searcher, own, 10).await), BTreeSet::from([own]));
        let by_word = find(&server, searcher, "user", 10).await;
        assert_eq!(ids(&by_word), BTreeSet::from(["@user-1-alice:localhost", own]));
    }
    // The whole user ID is one, however many users there are whose names begin like it.
    for name in ["user-1-alice-2", "user-1-alice-3"] {
        let other = server.register(name).await;
        server.room(&other, name).await;
    }
    let found = find(&server, &eve, "@user-1-alice:localhost", 1).await;
    assert_eq!(ids(&found), BTreeSet::from(["@user-1-alice:localhost"]));
    assert_eq!(found["limited"], false);
    assert!(ids(&find(&server, &eve, "@user-1:localhost", 10).await).is_empty());
}
