//! Whatever a client sends to the endpoints of accounts, the server answers it: never with a fault
//! of its own, and always with an errcode if it refuses.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use wick_harness::TestServer;

const USER: &str = "/_matrix/client/v3/user/@alice:localhost";

/// Method and path, with what stands for `{}` taken from [`PARTS`].
const ENDPOINTS: &[(&str, &str)] = &[
    ("POST", "/_matrix/client/v3/register"),
    ("POST", "/_matrix/client/v3/register?kind={}"),
    ("GET", "/_matrix/client/v3/register/available?username={}"),
    ("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token={}"),
    ("GET", "/_matrix/client/v3/login"),
    ("POST", "/_matrix/client/v3/login"),
    ("POST", "/_matrix/client/v3/refresh"),
    ("GET", "/_matrix/client/v3/account/whoami"),
    ("POST", "/_matrix/client/v3/account/password"),
    ("POST", "/_matrix/client/v3/account/deactivate"),
    ("GET", "/_matrix/client/v3/devices"),
    ("GET", "/_matrix/client/v3/devices/{}"),
    ("PUT", "/_matrix/client/v3/devices/{}"),
    ("DELETE", "/_matrix/client/v3/devices/{}"),
    ("POST", "/_matrix/client/v3/delete_devices"),
    ("GET", "/_matrix/client/v3/profile/{}"),
    ("GET", "/_matrix/client/v3/profile/@alice:localhost/{}"),
    ("PUT", "/_matrix/client/v3/profile/@alice:localhost/{}"),
    ("DELETE", "/_matrix/client/v3/profile/@alice:localhost/{}"),
    ("PUT", "/_matrix/client/v3/profile/@alice:localhost/displayname"),
    ("GET", "USER/account_data/{}"),
    ("PUT", "USER/account_data/{}"),
    ("PUT", "USER/rooms/{}/account_data/a"),
    ("PUT", "USER/rooms/!a:localhost/tags/{}"),
    ("DELETE", "USER/rooms/!a:localhost/tags/{}"),
    ("GET", "USER/rooms/{}/tags"),
    ("POST", "USER/filter"),
    ("GET", "USER/filter/{}"),
    ("POST", "USER/openid/request_token"),
    ("GET", "/_matrix/client/v3/pushrules/global/{}/a"),
    ("GET", "/_matrix/client/v3/pushrules/global/override/{}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/override/{}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/content/{}?before={}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/room/{}"),
    ("PUT", "/_matrix/client/v3/pushrules/global/{}/a"),
    ("PUT", "/_matrix/client/v3/pushrules/global/override/.m.rule.master/actions"),
    ("DELETE", "/_matrix/client/v3/pushrules/global/{}/a"),
    ("GET", "/_matrix/client/v3/pushers"),
    ("POST", "/_matrix/client/v3/pushers/set"),
    ("GET", "/_matrix/client/v3/thirdparty/protocol/{}"),
];

const PARTS: &[&str] =
    &["a", "", "%00", "%ff", "%F0%9F%92%A9", "%2F..%2F", "!", "@", "null", "LONG"];

fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        json!(null),
        json!(1),
        json!("text"),
        json!([]),
        json!([{}]),
        json!({}),
        json!({ "auth": [] }),
        json!({ "auth": 1 }),
        json!({ "auth": {} }),
        json!({ "auth": { "type": null } }),
        json!({ "auth": { "type": 1, "session": 1 } }),
        json!({ "auth": { "type": "m.login.dummy", "session": "nobody" }, "username": [] }),
        json!({ "auth": { "type": "m.login.password", "identifier": {} } }),
        json!({ "auth": { "type": "m.login.magic", "session": null } }),
        json!({ "auth": { "session": "nobody" } }),
        json!({ "type": null }),
        json!({ "type": 1, "identifier": [] }),
        json!({ "type": "m.login.password", "identifier": { "type": 1 }, "password": "x" }),
        json!({ "type": "m.login.token", "token": 1 }),
        json!({ "username": "", "password": "", "device_id": "", "auth": { "type": "m.login.dummy" } }),
        json!({ "devices": {}, "display_name": {}, "new_password": null, "refresh_token": [] }),
        json!({ "actions": [1, null, {}, [], "x"], "conditions": [null], "pattern": 1 }),
        json!({ "actions": [], "conditions": [{ "kind": "event_match" }], "enabled": "yes" }),
        json!({ "kind": {}, "app_id": 1, "pushkey": null, "data": [] }),
        json!({ "kind": null }),
        json!({ "order": "first", "tags": 1 }),
        json!({ "a": -1e300, "displayname": { "nested": null } }),
        json!({ "room": { "timeline": { "limit": 1e300 } }, "event_fields": [1] }),
    ]
    .iter()
    .map(|body| body.to_string().into_bytes())
    .collect();
    bodies.extend([
        Vec::new(),
        b"{".to_vec(),
        b"\xff\xfe".to_vec(),
        b"{ \"test\": \"a\x81\" }".to_vec(),
        b"{\"a\":1}{\"b\":2}".to_vec(),
        b"{\"type\":\"m.login.password\",\"type\":\"m.login.token\"}".to_vec(),
        [vec![b'['; 5000], vec![b']'; 5000]].concat(),
        [b"{\"a\":".repeat(5000), b"1".to_vec(), b"}".repeat(5000)].concat(),
    ]);
    bodies
}

#[tokio::test]
async fn no_request_makes_the_server_stumble() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let bodies = bodies();
    let long = "x".repeat(3000);
    for (method, pattern) in ENDPOINTS {
        let method: Method = method.parse().unwrap();
        let parts = if pattern.contains("{}") { PARTS } else { &["a"] };
        let bodies = if method == Method::GET { bodies.get(..1).unwrap() } else { &bodies };
        for part in parts {
            let part = if *part == "LONG" { &*long } else { *part };
            let path = pattern.replace("USER", USER).replace("{}", part);
            for body in bodies {
                let request = Request::builder()
                    .method(method.clone())
                    .uri(&path)
                    .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
                    .body(Body::from(body.clone()))
                    .unwrap();
                let answer = server.send(request).await;
                let about = format!("{method} {path}: {}", String::from_utf8_lossy(body));
                let about = about.get(..300).unwrap_or(&about);
                assert!(answer.status.as_u16() < 500, "{about}: {:?}", answer.body);
                let told = answer.body["errcode"].is_string() || answer.body["flows"].is_array();
                assert!(told || answer.status == StatusCode::OK, "{about}: {}", answer.status);
            }
        }
    }
    let (status, _) = server.get("/_matrix/client/v3/account/whoami", &alice.token).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_called_that() {
    let server = TestServer::start().await;
    for body in [&b"{ \"test\": \"a\x81\" }"[..], b"{", b"{\"a\":1}{\"b\":2}"] {
        let request = Request::post("/_matrix/client/v3/register").body(Body::from(body)).unwrap();
        let answer = server.send(request).await;
        let errcode = answer.body["errcode"].as_str().unwrap_or_default();
        assert_eq!((answer.status.as_u16(), errcode), (400, "M_NOT_JSON"));
    }
    let huge = Value::String("x".repeat(2_000_000));
    let (status, body) =
        server.post("/_matrix/client/v3/register", "", json!({ "username": huge })).await;
    assert_eq!((status.as_u16(), &body["errcode"]), (413, &json!("M_TOO_LARGE")));
}
