//! Names of rooms.

use http::Method;
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

use crate::rooms::{act, create, set_state, state, text};

const V3: &str = "/_matrix/client/v3";

async fn ask(
    server: &TestServer,
    (method, path): (Method, &str),
    token: &str,
    body: Value,
) -> (u16, String) {
    let (status, body) = server.request(method, &format!("{V3}/{path}"), token, body).await;
    (status.as_u16(), text(&body, "errcode"))
}

async fn add(server: &TestServer, user: &User, alias: &str, room: &str) -> (u16, String) {
    let path = format!("directory/room/%23{alias}:localhost");
    ask(server, (Method::PUT, &path), &user.token, json!({ "room_id": room })).await
}

async fn delete(server: &TestServer, user: &User, alias: &str) -> (u16, String) {
    let path = format!("directory/room/%23{alias}:localhost");
    ask(server, (Method::DELETE, &path), &user.token, Value::Null).await
}

fn error(status: u16, errcode: &str) -> (u16, String) {
    (status, errcode.to_owned())
}

#[tokio::test]
async fn members_name_their_room_and_find_it_by_that() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let room = create(&server, &alice, json!({ "preset": "public_chat" })).await;
    assert_eq!(add(&server, &bob, "one", &room).await, error(403, "M_FORBIDDEN"));
    act(&server, &bob, (&room, "join"), json!({})).await;
    assert_eq!(add(&server, &bob, "one", &room).await, error(200, ""));
    assert_eq!(add(&server, &alice, "%E8%80%81%20two", &room).await, error(200, ""));
    assert_eq!(add(&server, &alice, "one", &room).await, error(409, "M_UNKNOWN"));
    assert_eq!(add(&server, &alice, "three", "!unknown:localhost").await.0, 404);
    let elsewhere = "directory/room/%23one:elsewhere.test";
    let body = json!({ "room_id": room });
    let answer = ask(&server, (Method::PUT, elsewhere), &alice.token, body).await;
    assert_eq!(answer, error(400, "M_INVALID_PARAM"));

    let (status, body) = server.get(&format!("{V3}/directory/room/%23one:localhost"), "").await;
    assert_eq!(status.as_u16(), 200);
    assert_eq!(body, json!({ "room_id": room, "servers": ["localhost"] }));
    let path = format!("{V3}/rooms/{room}/aliases");
    let (_, body) = server.get(&path, &bob.token).await;
    assert_eq!(body, json!({ "aliases": ["#one:localhost", "#老 two:localhost"] }));
    act(&server, &bob, (&room, "leave"), json!({})).await;
    assert_eq!(server.get(&path, &bob.token).await.0.as_u16(), 403);
    for unknown in ["%23three:localhost", "%23one:elsewhere.test"] {
        let path = format!("directory/room/{unknown}");
        let answer = ask(&server, (Method::GET, &path), "", Value::Null).await;
        assert_eq!(answer, error(404, "M_NOT_FOUND"));
    }
    let answer = ask(&server, (Method::GET, "directory/room/one"), "", Value::Null).await;
    assert_eq!(answer, error(400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn an_alias_is_taken_away_by_its_creator_or_with_power() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let body = json!({ "preset": "public_chat", "room_alias_name": "main" });
    let room = create(&server, &alice, body).await;
    act(&server, &bob, (&room, "join"), json!({})).await;
    for alias in ["one", "two", "three"] {
        add(&server, &bob, alias, &room).await;
    }
    let names = json!({
        "alias": "#main:localhost", "alt_aliases": ["#one:localhost", "#two:localhost"], "x": 1,
    });
    assert_eq!(set_state(&server, &alice, (&room, "m.room.canonical_alias"), names).await.0, 200);
    assert_eq!(delete(&server, &bob, "unknown").await, error(404, "M_NOT_FOUND"));
    assert_eq!(delete(&server, &bob, "main").await, error(403, "M_FORBIDDEN"));
    // Its creator may, without the power to change the room's canonical alias.
    assert_eq!(delete(&server, &bob, "one").await, error(200, ""));
    assert_eq!(delete(&server, &bob, "one").await, error(404, "M_NOT_FOUND"));
    let names = state(&server, &alice, &room, "m.room.canonical_alias").await;
    assert_eq!(names["alt_aliases"], json!(["#one:localhost", "#two:localhost"]));
    for (alias, left) in [
        ("two", json!({ "alias": "#main:localhost", "alt_aliases": ["#one:localhost"], "x": 1 })),
        ("main", json!({ "alt_aliases": ["#one:localhost"], "x": 1 })),
        ("three", json!({ "alt_aliases": ["#one:localhost"], "x": 1 })),
    ] {
        assert_eq!(delete(&server, &alice, alias).await, error(200, ""), "{alias}");
        assert_eq!(state(&server, &alice, &room, "m.room.canonical_alias").await, left);
    }
}

#[tokio::test]
async fn a_room_has_only_its_own_names() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = create(&server, &alice, json!({ "room_alias_name": "here" })).await;
    create(&server, &alice, json!({ "room_alias_name": "there" })).await;
    for (names, expected) in [
        (json!({ "alias": "#here:localhost" }), error(200, "")),
        (json!({ "alias": "#there:localhost" }), error(400, "M_BAD_ALIAS")),
        (json!({ "alias": "#nowhere:localhost" }), error(400, "M_BAD_ALIAS")),
        (json!({ "alias": "#here:elsewhere.test" }), error(400, "M_BAD_ALIAS")),
        (json!({ "alias": "%here:localhost" }), error(400, "M_INVALID_PARAM")),
        (json!({ "alias": 1 }), error(400, "M_BAD_JSON")),
        (json!({ "alt_aliases": "#here:localhost" }), error(400, "M_BAD_JSON")),
        (json!({ "alt_aliases": ["#here:localhost"] }), error(200, "")),
        (json!({ "alt_aliases": ["#there:localhost"] }), error(400, "M_BAD_ALIAS")),
        (json!({ "alt_aliases": ["here"] }), error(400, "M_INVALID_PARAM")),
        (json!({ "alias": null }), error(200, "")),
        (json!({ "alias": "" }), error(200, "")),
        (json!({}), error(200, "")),
    ] {
        let (status, body) =
            set_state(&server, &alice, (&room, "m.room.canonical_alias"), names.clone()).await;
        assert_eq!((status, text(&body, "errcode")), expected, "{names}");
    }
    // An alias that was deleted stays in events that have it already.
    let names = json!({ "alias": "#here:localhost" });
    set_state(&server, &alice, (&room, "m.room.canonical_alias"), names).await;
    let bob = server.register("bob").await;
    act(&server, &alice, (&room, "invite"), json!({ "user_id": bob.user_id })).await;
    act(&server, &bob, (&room, "join"), json!({})).await;
    add(&server, &bob, "bobs", &room).await;
    let names = json!({ "alias": "#here:localhost", "alt_aliases": ["#bobs:localhost"] });
    set_state(&server, &alice, (&room, "m.room.canonical_alias"), names).await;
    delete(&server, &bob, "bobs").await;
    let names = json!({ "alt_aliases": ["#bobs:localhost"] });
    let set = set_state(&server, &alice, (&room, "m.room.canonical_alias"), names).await;
    assert_eq!(set.0, 200, "{}", set.1);
}
