//! Profiles over HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::TestServer;

const PROFILE: &str = "/_matrix/client/v3/profile/@alice:localhost";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_new_user_is_called_by_their_name() {
    let server = TestServer::start().await;
    server.register("alice").await;
    let (status, body) = server.get(PROFILE, "").await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "displayname": "alice" })));
}

#[tokio::test]
async fn fields_are_set_read_and_taken_away() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (key, value) in [
        ("displayname", json!("LemurLover")),
        ("avatar_url", json!("mxc://example.com/SEsfnsuifSDFSSEF")),
        ("m.tz", json!("Europe/Berlin")),
        ("org.example.custom", json!({ "nested": [1, null, true] })),
    ] {
        let path = format!("{PROFILE}/{key}");
        let (status, body) = server.put(&path, &alice.token, json!({ key: value })).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})), "{key}");
        let (status, body) = server.get(&path, "").await;
        assert_eq!((status, body), (StatusCode::OK, json!({ key: value })));
        let (_, body) = server.get(PROFILE, "").await;
        assert_eq!(body[key], value);
        let (status, body) = server.request(Method::DELETE, &path, &alice.token, Value::Null).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})));
        let (status, body) = server.get(&path, "").await;
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
    }
    let (_, body) = server.get(PROFILE, "").await;
    assert_eq!(body, json!({}));
}

#[tokio::test]
async fn old_clients_take_name_and_avatar_away_with_null_or_nothing() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for key in ["displayname", "avatar_url"] {
        let path = format!("{PROFILE}/{key}");
        for nothing in [json!({ key: null }), json!({ key: "" }), json!({})] {
            server.put(&path, &alice.token, json!({ key: "mxc://a/b" })).await;
            let (status, _) = server.put(&path, &alice.token, nothing).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(server.get(&path, "").await.0, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    server.register("bob").await;
    let long_key = "a".repeat(256);
    let big = "x".repeat(70_000);
    for (key, body, expected) in [
        ("displayname", json!({ "displayname": 1 }), (400, "M_BAD_JSON")),
        ("displayname", json!({ "displayname": "x".repeat(300) }), (400, "M_INVALID_PARAM")),
        ("avatar_url", json!({ "avatar_url": [] }), (400, "M_BAD_JSON")),
        ("org.example", json!({ "other": 1 }), (400, "M_BAD_JSON")),
        ("org.example", json!([]), (400, "M_BAD_JSON")),
        ("Upper", json!({ "Upper": 1 }), (400, "M_INVALID_PARAM")),
        (&*long_key, json!({ &*long_key: 1 }), (400, "M_KEY_TOO_LARGE")),
        ("org.example", json!({ "org.example": big }), (400, "M_PROFILE_TOO_LARGE")),
    ] {
        let (status, answer) = server.put(&format!("{PROFILE}/{key}"), &alice.token, body).await;
        assert_eq!((status.as_u16(), errcode(&answer)), expected, "{key}");
    }
    let other = "/_matrix/client/v3/profile/@bob:localhost/displayname";
    let (status, body) = server.put(other, &alice.token, json!({ "displayname": "x" })).await;
    assert_eq!((status.as_u16(), errcode(&body)), (403, "M_FORBIDDEN"));
    let (status, body) = server.put(other, "", json!({ "displayname": "x" })).await;
    assert_eq!((status.as_u16(), errcode(&body)), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn a_profile_is_small_as_a_whole() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let half = "x".repeat(30_000);
    for (key, expected) in [("a", 200), ("b", 200), ("c", 400), ("a", 200)] {
        let path = format!("{PROFILE}/{key}");
        let (status, body) = server.put(&path, &alice.token, json!({ key: half })).await;
        assert_eq!(status.as_u16(), expected, "{key}: {body}");
    }
}

#[tokio::test]
async fn somebody_who_is_not_here_has_no_profile() {
    let server = TestServer::start().await;
    for user in ["@nobody:localhost", "@alice:elsewhere.test"] {
        for path in ["", "/displayname"] {
            let path = format!("/_matrix/client/v3/profile/{user}{path}");
            let (status, body) = server.get(&path, "").await;
            assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"), "{path}");
        }
    }
    let (status, body) = server.get("/_matrix/client/v3/profile/nonsense", "").await;
    assert_eq!((status.as_u16(), errcode(&body)), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn names_that_rooms_are_shown_are_set_only_so_often() {
    let server = TestServer::start_with(|config| config.limits.enabled = true).await;
    let alice = server.register("alice").await;
    let mut statuses = Vec::new();
    for number in 0..11 {
        let name = json!({ "displayname": format!("name {number}") });
        let path = format!("{PROFILE}/displayname");
        statuses.push(server.put(&path, &alice.token, name).await.0.as_u16());
    }
    assert_eq!(statuses.pop(), Some(429));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // What stays in the profile is no event in any room.
    let zone = json!({ "m.tz": "Europe/Berlin" });
    assert_eq!(server.put(&format!("{PROFILE}/m.tz"), &alice.token, zone).await.0, StatusCode::OK);
}
