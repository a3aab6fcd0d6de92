//! Account data, tags and filters over HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::TestServer;

const USER: &str = "/_matrix/client/v3/user/@alice:localhost";
const ROOM: &str = "/_matrix/client/v3/user/@alice:localhost/rooms/!room:localhost";
const DELETE: &str = "/_matrix/client/unstable/org.matrix.msc3391/user/@alice:localhost";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn account_data_is_kept_globally_and_by_room() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    for place in [USER, ROOM] {
        let path = format!("{place}/account_data/test.key");
        let (status, body) = server.get(&path, &alice.token).await;
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
        for value in ["first", "second"] {
            let content = json!({ "value": value, "place": place, "precise": 0.1 });
            let (status, body) = server.put(&path, &alice.token, content.clone()).await;
            assert_eq!((status, body), (StatusCode::OK, json!({})));
            let (status, body) = server.get(&path, &alice.token).await;
            assert_eq!((status, body), (StatusCode::OK, content));
        }
    }
    server.restart().await;
    let (_, body) = server.get(&format!("{ROOM}/account_data/test.key"), &alice.token).await;
    assert_eq!(body["place"], ROOM);
}

#[tokio::test]
async fn account_data_is_deleted_in_both_ways() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (place, delete) in [
        (USER.to_owned(), DELETE.to_owned()),
        (ROOM.to_owned(), format!("{DELETE}/rooms/!room:localhost")),
    ] {
        let path = format!("{place}/account_data/test.key");
        for by_put in [true, false] {
            server.put(&path, &alice.token, json!({ "n": 1 })).await;
            let (status, body) = if by_put {
                server.put(&path, &alice.token, json!({})).await
            } else {
                let delete = format!("{delete}/account_data/test.key");
                server.request(Method::DELETE, &delete, &alice.token, Value::Null).await
            };
            assert_eq!((status, body), (StatusCode::OK, json!({})));
            assert_eq!(server.get(&path, &alice.token).await.0, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn account_data_that_cannot_be_written_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    server.register("bob").await;
    let of_bob = "/_matrix/client/v3/user/@bob:localhost/account_data/a".to_owned();
    for (path, content, expected) in [
        (format!("{USER}/account_data/m.push_rules"), json!({}), (405, "M_BAD_JSON")),
        (format!("{ROOM}/account_data/m.fully_read"), json!({}), (405, "M_BAD_JSON")),
        (format!("{USER}/account_data/a"), json!([]), (400, "M_BAD_JSON")),
        (format!("{USER}/account_data/a"), json!("text"), (400, "M_BAD_JSON")),
        (format!("{USER}/account_data/{}", "a".repeat(300)), json!({}), (400, "M_INVALID_PARAM")),
        (format!("{USER}/rooms/nonsense/account_data/a"), json!({}), (400, "M_INVALID_PARAM")),
        (of_bob, json!({}), (403, "M_FORBIDDEN")),
    ] {
        let (status, body) = server.put(&path, &alice.token, content).await;
        assert_eq!((status.as_u16(), errcode(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn rooms_are_tagged() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let tags = format!("{ROOM}/tags");
    let (status, body) = server.get(&tags, &alice.token).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "tags": {} })));
    for (tag, info) in [("m.favourite", json!({ "order": 0.25 })), ("u.work", json!({}))] {
        let (status, body) = server.put(&format!("{tags}/{tag}"), &alice.token, info).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})));
    }
    let both = json!({ "tags": { "m.favourite": { "order": 0.25 }, "u.work": {} } });
    assert_eq!(server.get(&tags, &alice.token).await.1, both);
    let as_account_data = format!("{ROOM}/account_data/m.tag");
    assert_eq!(server.get(&as_account_data, &alice.token).await.1, both);
    for tag in ["u.work", "u.never"] {
        let path = format!("{tags}/{tag}");
        let (status, _) = server.request(Method::DELETE, &path, &alice.token, Value::Null).await;
        assert_eq!(status, StatusCode::OK);
    }
    let one = json!({ "tags": { "m.favourite": { "order": 0.25 } } });
    assert_eq!(server.get(&tags, &alice.token).await.1, one);
    let long = format!("{tags}/{}", "t".repeat(256));
    let (status, body) = server.put(&long, &alice.token, json!({})).await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_filter_is_kept_once() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("{USER}/filter");
    let filter = json!({ "room": { "timeline": { "limit": 10 } }, "event_format": "client" });
    let (status, body) = server.post(&path, &alice.token, filter.clone()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let id = body["filter_id"].as_str().unwrap();
    assert!(!id.is_empty() && !id.starts_with('{'));
    assert_eq!(server.post(&path, &alice.token, filter).await.1["filter_id"], id);
    let (status, body) = server.get(&format!("{path}/{id}"), &alice.token).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["room"]["timeline"]["limit"], 10);
    let (status, body) = server.get(&format!("{path}/12345"), &alice.token).await;
    assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
    let bob = server.register("bob").await;
    let (status, _) = server.get(&format!("{path}/{id}"), &bob.token).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_filter_that_is_none_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for filter in [
        json!({ "presence": "not_an_object" }),
        json!({ "room": { "timeline": "not_an_object" } }),
        json!({ "room": { "timeline": { "rooms": ["not_a_room_id"] } } }),
        json!({ "room": { "timeline": { "senders": ["not_a_sender_id"] } } }),
        json!({ "room": { "timeline": { "limit": -1 } } }),
        json!({ "event_fields": "content" }),
        json!([]),
    ] {
        let (status, body) =
            server.post(&format!("{USER}/filter"), &alice.token, filter.clone()).await;
        assert_eq!((status.as_u16(), errcode(&body)), (400, "M_BAD_JSON"), "{filter}");
    }
}
