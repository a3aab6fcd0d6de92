//! `POST /pushers/set`: what a pusher may be, and what ends it.

use serde_json::{Value, json};
use wick_harness::TestServer;

use super::gateway::{PUSHERS, Reply, SET, Two, pushers, set};

fn pusher(url: &Value) -> Value {
    json!({
        "kind": "http", "app_id": "app", "pushkey": "key", "lang": "en",
        "app_display_name": "App", "device_display_name": "Phone", "data": { "url": url },
    })
}

#[tokio::test]
async fn the_url_of_a_gateway_is_https_with_the_path_of_the_specification() {
    const PATH: &str = "/_matrix/push/v1/notify";
    let mut server = TestServer::start().await;
    let alice = server.register("alice").await;
    for (url, expected, expected_with_http) in [
        (format!("https://push.example.org{PATH}"), 200, 200),
        (format!("https://push.example.org:8443{PATH}"), 200, 200),
        (format!("https://[2001:db8::1]{PATH}"), 200, 200),
        (format!("http://push.example.org{PATH}"), 400, 200),
        (format!("ftp://push.example.org{PATH}"), 400, 400),
        (format!("https://push.example.org{PATH}/"), 400, 400),
        (format!("https://push.example.org{PATH}?key=1"), 400, 400),
        (format!("https://push.example.org/up{PATH}"), 400, 400),
        (format!("https://user@push.example.org{PATH}"), 400, 400),
        (format!("https://{PATH}"), 400, 400),
        ("https://push.example.org/".to_owned(), 400, 400),
        ("https://push.example.org".to_owned(), 400, 400),
        (String::new(), 400, 400),
    ] {
        for (allow_http, expected) in [(false, expected), (true, expected_with_http)] {
            server.restart_with(|config| config.push.allow_http = allow_http).await;
            let (status, body) = server.post(SET, &alice.token, pusher(&json!(url))).await;
            assert_eq!(status.as_u16(), expected, "{url}: {body}");
            assert!(status.is_success() || body["errcode"] == "M_INVALID_PARAM", "{url}: {body}");
        }
    }
}

#[tokio::test]
async fn pushers_of_other_kinds_and_without_a_url_are_refused() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for kind in ["email", "org.example.pigeon"] {
        let mut pusher = pusher(&json!("https://push.example.org/_matrix/push/v1/notify"));
        pusher["kind"] = json!(kind);
        let (status, body) = server.post(SET, &alice.token, pusher).await;
        assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
    }
    for data in [json!({}), json!({ "url": 1 }), json!(null)] {
        let mut pusher = pusher(&json!(""));
        pusher["data"] = data;
        let (status, body) = server.post(SET, &alice.token, pusher).await;
        assert_eq!(status.as_u16(), 400, "{body}");
    }
    assert_eq!(pushers(&server, &alice).await, 0);
}

#[tokio::test]
async fn a_rejected_pusher_is_deleted_and_a_rejected_key_of_another_is_not() {
    let two = Two::new().await;
    let room = two.room().await;
    two.gateway.reply([Reply::Rejected(vec!["other"]), Reply::Rejected(vec!["key"])]);
    let (first, second) = (room.say(&two.alice, "one").await, room.say(&two.alice, "two").await);
    assert_eq!(two.gateway.next_event().await, first);
    assert_eq!(two.gateway.next_event().await, second);
    while pushers(&two.server, &two.bob).await > 0 {
        tokio::task::yield_now().await;
    }
    room.say(&two.alice, "for nobody").await;
    two.gateway.set(&two.server, &two.bob, "new").await;
    let fourth = room.say(&two.alice, "for the new one").await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(fourth));
    assert_eq!(notification["devices"][0]["pushkey"], "new");
}

#[tokio::test]
async fn a_pusher_ends_with_its_device_and_what_it_was_still_to_send_with_it() {
    let two = Two::new().await;
    let other = two.server.log_in(&two.bob).await;
    let room = two.room().await;
    two.gateway.reply([Reply::Never]);
    room.say(&two.alice, "never answered").await;
    two.gateway.next().await;
    room.say(&two.alice, "never sent").await;
    two.server.post("/_matrix/client/v3/logout", &two.bob.token, json!({})).await;
    let (_, body) = two.server.get(PUSHERS, &other.token).await;
    assert_eq!(body, json!({ "pushers": [] }));
    two.gateway.set(&two.server, &other, "other").await;
    let third = room.say(&two.alice, "sent").await;
    assert_eq!(two.gateway.next_event().await, third);
}

#[tokio::test]
async fn a_pusher_that_is_set_again_goes_on_where_it_was_and_one_that_is_new_begins_now() {
    let two = Two::new().await;
    let room = two.room().await;
    two.gateway.reply([Reply::Never]);
    let first = room.say(&two.alice, "while the old one waits").await;
    assert_eq!(two.gateway.next_event().await, first);
    let mut second = two.gateway.pusher("second");
    second["append"] = json!(true);
    set(&two.server, &two.bob, second).await;
    two.gateway.set(&two.server, &two.bob, "key").await;
    let next = room.say(&two.alice, "for both").await;
    let notification = two.gateway.next().await;
    assert_eq!(notification["event_id"], json!(next), "the new one has nothing older");
    assert_eq!(notification["devices"][0]["pushkey"], "second");
    assert_eq!(pushers(&two.server, &two.bob).await, 2);
}

#[tokio::test]
async fn any_device_of_the_user_can_disable_and_enable_a_pusher() {
    const ENABLED: &str = "org.matrix.msc3881.enabled";
    let two = Two::new().await;
    let other = two.server.log_in(&two.bob).await;
    let room = two.room().await;
    for enabled in [false, true] {
        let mut pusher = two.gateway.pusher("key");
        pusher[ENABLED] = json!(enabled);
        set(&two.server, &other, pusher).await;
        let (_, body) = two.server.get(PUSHERS, &other.token).await;
        assert_eq!(body["pushers"][0][ENABLED], enabled, "{body}");
        let device = &body["pushers"][0]["org.matrix.msc3881.device_id"];
        assert_eq!(*device, json!(two.bob.device_id), "it stays with the device that set it");
        let said = room.say(&two.alice, "hello").await;
        if enabled {
            assert_eq!(two.gateway.next_event().await, said, "what came before was dropped");
        }
    }
    let mut pusher = two.gateway.pusher("key");
    pusher[ENABLED] = json!("yes");
    let (status, body) = two.server.post(SET, &other.token, pusher).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (400, &json!("M_BAD_JSON")));
    two.server.post("/_matrix/client/v3/logout", &two.bob.token, json!({})).await;
    assert_eq!(pushers(&two.server, &other).await, 0);
}

#[tokio::test]
async fn each_pusher_of_a_user_sends_what_notifies() {
    let two = Two::new().await;
    for push_key in ["second", "third"] {
        two.gateway.set(&two.server, &two.bob, push_key).await;
    }
    let said = two.room().await.say(&two.alice, "hello").await;
    let mut push_keys = Vec::new();
    for _ in 0..3 {
        let notification = two.gateway.next().await;
        assert_eq!(notification["event_id"], json!(said));
        push_keys.push(notification["devices"][0]["pushkey"].as_str().unwrap().to_owned());
    }
    push_keys.sort();
    assert_eq!(push_keys, ["key", "second", "third"]);
}
