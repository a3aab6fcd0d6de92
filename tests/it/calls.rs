//! What calls need besides timers: media and TURN servers, and proof of a user's id for them.

use http::StatusCode;
use serde_json::json;
use wick_account::Proof;
use wick_harness::TestServer;

const TRANSPORTS: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
const USER_INFO: &str = "/_matrix/federation/v1/openid/userinfo";

#[tokio::test]
async fn the_service_for_livekit_tokens_is_told_where_clients_look_for_it() {
    let url = "https://rtc.example.org/livekit/jwt";
    let server = TestServer::start_with(|config| {
        config.server.well_known_client = "https://matrix.example.org".to_owned();
        config.calls.livekit_service_url = url.to_owned();
    })
    .await;
    let alice = server.register("alice").await;
    let service = json!([{ "type": "livekit", "livekit_service_url": url }]);
    let (_, body) = server.get("/.well-known/matrix/client", "").await;
    assert_eq!(body["org.matrix.msc4143.rtc_foci"], service);
    let (status, body) = server.get(TRANSPORTS, &alice.token).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "rtc_transports": service })));
    assert_eq!(server.get(TRANSPORTS, "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_one_there_is_none() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let (status, body) = server.get(TRANSPORTS, &alice.token).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "rtc_transports": [] })));
}

#[tokio::test]
async fn a_service_learns_who_an_openid_token_is_proof_of() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", alice.user_id);
    let (_, body) = server.post(&path, &alice.token, json!({})).await;
    let token = body["access_token"].as_str().unwrap();
    let (status, body) = server.get(&format!("{USER_INFO}?access_token={token}"), "").await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "sub": alice.user_id })));

    let (short, _) = server.services().users.get(&alice.user_id).unwrap().unwrap();
    server.services().users.deactivate(short, &Proof::not_needed(), false).await.unwrap();
    let (status, body) = server.get(&format!("{USER_INFO}?access_token={token}"), "").await;
    assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNKNOWN_TOKEN")));

    for (query, errcode) in [
        ("?access_token=nobodys", "M_UNKNOWN_TOKEN"),
        (&*format!("?access_token={}", alice.token), "M_UNKNOWN_TOKEN"),
        ("", "M_MISSING_TOKEN"),
    ] {
        let (status, body) = server.get(&format!("{USER_INFO}{query}"), "").await;
        assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!(errcode)));
    }
}

#[tokio::test]
async fn who_guesses_openid_tokens_has_to_wait() {
    let server = TestServer::start_with(|config| {
        config.timers.invalid = wick_core::config::Rate { per_second: 0.5, burst: 5 };
    })
    .await;
    let path = format!("{USER_INFO}?access_token=nobodys");
    for _ in 0..5 {
        assert_eq!(server.get(&path, "").await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(server.get(&path, "").await.0, StatusCode::TOO_MANY_REQUESTS);
}

const TURN_SERVER: &str = "/_matrix/client/v3/voip/turnServer";

/// Computed with `openssl dgst -sha1 -hmac` from the secret and the username of the test.
#[tokio::test]
async fn the_credentials_for_turn_servers_are_what_a_turn_server_computes() {
    let uris = ["turn:turn.example.org?transport=udp", "turns:turn.example.org:5349"];
    let server = TestServer::start_with(|config| {
        config.turn.uris = uris.map(str::to_owned).to_vec();
        config.turn.secret = "shared with coturn".to_owned().into();
        config.turn.lifetime = wick_core::config::Period::from_secs(3600);
    })
    .await;
    let alice = server.register("alice").await;
    let ends = server.services().clock.now().0 / 1000 + 3600;
    let (status, body) = server.get(TURN_SERVER, &alice.token).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["username"], format!("{ends}:{}", alice.user_id));
    assert_eq!((&body["uris"], &body["ttl"]), (&json!(uris), &json!(3600)));
    assert_eq!(body["password"], json!("6NgoV4Gb0ZxsuzRswmITnGKXN3M="));
    assert_eq!(server.get(TURN_SERVER, "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_a_turn_server_the_answer_is_empty() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    assert_eq!(server.get(TURN_SERVER, &alice.token).await, (StatusCode::OK, json!({})));
}
