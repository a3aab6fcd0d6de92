//! Push rules over HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_harness::{TestServer, User};

const RULES: &str = "/_matrix/client/v3/pushrules";

fn errcode(body: &Value) -> &str {
    body["errcode"].as_str().unwrap_or_default()
}

async fn put(server: &TestServer, user: &User, path: &str, body: Value) -> (u16, String) {
    let (status, body) = server.put(&format!("{RULES}/global/{path}"), &user.token, body).await;
    (status.as_u16(), errcode(&body).to_owned())
}

fn ids(body: &Value) -> Vec<&str> {
    let rules = body.as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().filter_map(|rule| rule["rule_id"].as_str()).collect()
}

#[tokio::test]
async fn a_new_user_has_the_servers_rules() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (status, all) = server.get(&format!("{RULES}/"), &alice.token).await;
    assert_eq!(status, StatusCode::OK);
    let rules = &all["global"];
    assert_eq!(ids(&rules["override"]).first(), Some(&".m.rule.master"));
    assert!(ids(&rules["override"]).contains(&".org.matrix.msc3930.rule.poll_response"));
    assert!(ids(&rules["underride"]).contains(&".m.rule.message"));
    let place = |id| ids(&rules["override"]).iter().position(|&other| other == id);
    assert!(place(".m.rule.is_user_mention") < place(".m.rule.contains_display_name"));
    assert!(place(".m.rule.contains_display_name") < place(".m.rule.is_room_mention"));
    assert!(place(".m.rule.roomnotif") < place(".m.rule.tombstone"));
    assert_eq!(rules["content"][0]["pattern"], "alice");
    let (_, poll) = server
        .get(&format!("{RULES}/global/underride/.org.matrix.msc3930.rule.poll_end"), &alice.token)
        .await;
    let ends = json!({
        "kind": "event_match", "key": "type", "pattern": "org.matrix.msc3381.poll.end",
    });
    assert_eq!(poll["conditions"], json!([ends]));
    let (_, global) = server.get(&format!("{RULES}/global/"), &alice.token).await;
    assert_eq!(&global, rules);
    let data = "/_matrix/client/v3/user/@alice:localhost/account_data/m.push_rules";
    let (status, content) = server.get(data, &alice.token).await;
    assert_eq!((status, &content["global"]), (StatusCode::OK, rules));
}

#[tokio::test]
async fn rules_are_made_and_changed_and_removed() {
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    let ok = (200, String::new());
    let body = json!({ "actions": ["notify"] });
    for path in ["room/!foo:example.com", "sender/@bob:localhost"] {
        assert_eq!(put(&server, &alice, path, body.clone()).await, ok);
        assert_eq!(
            put(&server, &alice, &format!("{path}/enabled"), json!({ "enabled": false })).await,
            ok
        );
        let actions = json!({ "actions": ["dont_notify", { "set_tweak": "highlight" }] });
        assert_eq!(put(&server, &alice, &format!("{path}/actions"), actions.clone()).await, ok);
        server.restart().await;
        let path = format!("{RULES}/global/{path}");
        let (status, rule) = server.get(&path, &alice.token).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(rule["enabled"], false);
        assert_eq!(rule["default"], false);
        assert_eq!(rule["actions"][0], "dont_notify");
        let (_, enabled) = server.get(&format!("{path}/enabled"), &alice.token).await;
        assert_eq!(enabled, json!({ "enabled": false }));
        let (_, told) = server.get(&format!("{path}/actions"), &alice.token).await;
        assert_eq!(told["actions"][0], "dont_notify");
        let (status, _) = server.request(Method::DELETE, &path, &alice.token, Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let (status, body) = server.get(&path, &alice.token).await;
        assert_eq!((status.as_u16(), errcode(&body)), (404, "M_NOT_FOUND"));
    }
}

#[tokio::test]
async fn rules_are_placed_before_and_after_others() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let body = json!({ "pattern": "x", "actions": [] });
    for (path, expected) in [
        ("content/a", 200),
        ("content/b", 200),
        ("content/c?after=b", 200),
        ("content/d?before=b", 200),
        ("content/b?after=a", 200),
        ("content/e?before=nobody", 404),
        ("content/e?after=.m.rule.contains_user_name", 400),
        ("content/a?after=a", 404),
    ] {
        let (status, _) = put(&server, &alice, path, body.clone()).await;
        assert_eq!(status, expected, "{path}");
    }
    let (_, all) = server.get(&format!("{RULES}/global/"), &alice.token).await;
    let own: Vec<_> = ids(&all["content"]).into_iter().filter(|id| !id.starts_with('.')).collect();
    assert_eq!(own, ["d", "c", "a", "b"]);
}

#[tokio::test]
async fn what_is_no_rule_is_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let actions = json!({ "actions": [] });
    for (path, body, expected) in [
        ("content/a", actions.clone(), (400, "M_BAD_JSON")),
        ("content/a", json!({ "pattern": "x" }), (400, "M_BAD_JSON")),
        ("room/nonsense", actions.clone(), (400, "M_INVALID_PARAM")),
        ("override/.mine", json!({ "conditions": [], "actions": [] }), (400, "M_INVALID_PARAM")),
        ("room/!a:b/enabled", json!({ "enabled": true }), (404, "M_NOT_FOUND")),
        ("room/!a:b/actions", actions.clone(), (404, "M_NOT_FOUND")),
        ("nonsense/a/actions", actions.clone(), (404, "M_NOT_FOUND")),
        ("override/.m.rule.master/enabled", json!({}), (400, "M_BAD_JSON")),
    ] {
        let (status, errcode) = put(&server, &alice, path, body).await;
        assert_eq!((status, &*errcode), expected, "{path}");
    }
    for (path, expected) in
        [("room/!a:b", (404, "M_NOT_FOUND")), ("override/.m.rule.master", (400, "M_INVALID_PARAM"))]
    {
        let path = format!("{RULES}/global/{path}");
        let (status, body) = server.request(Method::DELETE, &path, &alice.token, Value::Null).await;
        assert_eq!((status.as_u16(), errcode(&body)), expected, "{path}");
    }
}

#[tokio::test]
async fn one_of_the_servers_rules_can_be_switched_off() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = "underride/.m.rule.message";
    put(&server, &alice, &format!("{path}/enabled"), json!({ "enabled": false })).await;
    let (_, rule) = server.get(&format!("{RULES}/global/{path}"), &alice.token).await;
    assert_eq!((&rule["enabled"], &rule["default"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_pattern_that_is_too_long_is_refused_and_one_of_many_wildcards_is_matched() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = server.room(&alice, "room").await;
    room.member(&bob, &bob, "join").await;
    let with = |pattern: &str| json!({ "actions": ["notify"], "pattern": pattern });
    let long = "?".repeat(100_000);
    let refused = put(&server, &bob, "content/long", with(&long)).await;
    assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()));
    let condition = json!({ "kind": "event_match", "key": "content.body", "pattern": long });
    for kind in ["override", "underride"] {
        let rule = json!({ "actions": ["notify"], "conditions": [condition] });
        let refused = put(&server, &bob, &format!("{kind}/long"), rule).await;
        assert_eq!(refused, (400, "M_INVALID_PARAM".to_owned()));
    }
    let pattern = format!("cake{}", "*?".repeat(250));
    let rule = json!({
        "actions": ["notify", { "set_tweak": "highlight" }], "pattern": pattern,
    });
    assert_eq!(put(&server, &bob, "content/wild", rule).await, (200, String::new()));
    room.say(&alice, &format!("cake {}", "x".repeat(10_000))).await;
    let path = "/_matrix/client/v3/notifications?only=highlight";
    let (status, body) = server.get(path, &bob.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let found = body["notifications"].as_array().map(Vec::len);
    assert_eq!(found, Some(1));
}
