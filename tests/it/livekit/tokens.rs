//! Tokens: which members get one, for which identity, and the removal of former members.

use http::StatusCode;
use serde_json::{Value, json};
use wick_harness::TestServer;

use super::stage::{Hook, SECRET, Seat, Stage, URL, claims, configure};
use crate::expiry::call::errcode;

const UNSTABLE: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";
const STABLE: &str = "/_matrix/client/v1/rtc/livekit";
const TRANSPORTS: [&str; 2] = [
    "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
    "/_matrix/client/v1/rtc/transports",
];

#[tokio::test]
async fn one_switch_announces_the_own_token_service_in_every_form() {
    let stage = Stage::new().await;
    let server = &stage.call.server;
    let deployed = json!([{
        "type": "livekit",
        "livekit_service_url": "https://matrix.example.org/_matrix/livekit/jwt",
    }]);
    for path in TRANSPORTS {
        let (status, body) = server.get(path, &stage.call.alice.token).await;
        assert_eq!(status, StatusCode::OK);
        let newest = json!([{ "type": "m.livekit", "url": URL }]);
        assert_eq!(body, json!({ "rtc_transports": deployed, "transports": newest }));
    }
    let (_, body) = server.get("/.well-known/matrix/client", "").await;
    assert_eq!(body["org.matrix.msc4143.rtc_foci"], deployed);
}

#[tokio::test]
async fn without_a_livekit_every_endpoint_is_unknown() {
    let server = TestServer::start().await;
    for path in [
        format!("{UNSTABLE}/delegate_delayed_leave"),
        format!("{STABLE}/delegate_delayed_leave"),
        format!("{UNSTABLE}/get_token"),
        "/_matrix/livekit/jwt/delegate_delayed_leave".to_owned(),
        "/_matrix/livekit/jwt/get_token".to_owned(),
        "/_matrix/livekit/jwt/sfu/get".to_owned(),
        "/_matrix/livekit/jwt/sfu_webhook".to_owned(),
    ] {
        let told = server.post(&path, "", json!({})).await;
        assert_eq!(errcode(&told), (404, "M_UNRECOGNIZED"), "{path}");
    }
}

#[tokio::test]
async fn the_probe_for_delegation_is_answered_with_another_status_than_404() {
    let stage = Stage::new().await;
    let path = format!("{UNSTABLE}/delegate_delayed_leave");
    assert_eq!(
        errcode(&stage.call.server.post(&path, "", json!({})).await),
        (401, "M_MISSING_TOKEN")
    );
    assert_eq!(
        errcode(&stage.ask("/delegate_delayed_leave", json!({})).await),
        (400, "M_BAD_JSON")
    );
}

#[tokio::test]
async fn a_token_lets_a_member_publish_in_one_room_for_ten_minutes_and_nothing_more() {
    let stage = Stage::new().await;
    let (status, body) = stage.token(&stage.call.alice, "memberABC", None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["url"], URL);
    let claims = claims(&body);
    let now = stage.call.now() / 1000;
    assert_eq!(
        (&claims["iss"], &claims["nbf"], &claims["exp"]),
        (&json!("devkey"), &json!(now), &json!(now + 600))
    );
    let room = claims["video"]["room"].clone();
    assert_eq!(
        claims["video"],
        json!({
            "room": room, "roomJoin": true, "roomCreate": false, "canPublish": true,
            "canSubscribe": true, "canUpdateOwnMetadata": false, "hidden": false,
        })
    );
    let room = room.as_str().unwrap().to_owned();
    assert!(stage.livekit.state().rooms.contains_key(&room), "the server makes the room");
    assert!(!room.contains(stage.call.room.as_str()));
}

#[tokio::test]
async fn the_generations_meet_in_one_room_under_their_own_identities() {
    let stage = Stage::new().await;
    let (call, alice) = (&stage.call, &stage.call.alice);
    let openid = stage.openid(alice).await;
    let body = json!({ "room": call.room, "openid_token": openid, "device_id": alice.device_id });
    let legacy = Seat::of(&stage.ask("/sfu/get", body).await);
    assert_eq!(legacy.identity, format!("{}:{}", alice.user_id, alice.device_id));

    let deployed = Seat::of(&stage.token(alice, "m", None).await);
    let mut body = json!({
        "url": URL, "room_id": call.room, "slot_id": "m.call#ROOM",
        "member": { "id": "m", "claimed_device_id": alice.device_id },
    });
    let path = format!("{UNSTABLE}/get_token");
    let told = call.server.post(&path, &alice.token, body.clone()).await;
    assert_eq!(Seat::of(&told), deployed, "the same by the homeserver's endpoint");
    assert_eq!(told.1["url"], URL);

    body["member"].take();
    body["member_id"] = json!("m");
    let path = format!("{STABLE}/get_token");
    let told = call.server.post(&path, &alice.token, body).await;
    assert_eq!(told.1.as_object().unwrap().len(), 1, "{}", told.1);
    let newest = Seat::of(&told);
    assert_eq!((&legacy.room, &deployed.room), (&newest.room, &newest.room));
    assert_ne!(newest.identity, deployed.identity);
}

#[tokio::test]
async fn only_members_of_the_room_get_tokens_and_an_unknown_room_looks_the_same() {
    let stage = Stage::new().await;
    let call = &stage.call;
    let stranger = call.server.register("stranger").await;
    let told = stage.token(&stranger, "m", None).await;
    assert_eq!(errcode(&told), (403, "M_FORBIDDEN"));
    let mut body = stage.body(&stranger, "m").await;
    body["room_id"] = json!("!nowhere:localhost");
    assert_eq!(stage.ask("/get_token", body).await, told);

    let bob = call.join("bob").await;
    Seat::of(&stage.token(&bob, "m", None).await);
    assert_eq!(call.post(&call.alice, "kick", json!({ "user_id": bob.user_id })).await.0, 200);
    assert_eq!(stage.token(&bob, "m", None).await, told);
}

#[tokio::test]
async fn a_token_in_the_name_of_another_user_is_refused() {
    let stage = Stage::new().await;
    let bob = stage.call.join("bob").await;
    let mut claims_alice = stage.body(&bob, "m").await;
    claims_alice["member"]["claimed_user_id"] = json!(stage.call.alice.user_id);
    assert_eq!(errcode(&stage.ask("/get_token", claims_alice).await), (403, "M_FORBIDDEN"));

    let seats = [
        Seat::of(&stage.token(&stage.call.alice, "m", None).await),
        Seat::of(&stage.token(&bob, "m", None).await),
    ];
    assert_ne!(seats[0].identity, seats[1].identity, "the same member id is another identity");

    let body = json!({
        "room": stage.call.room, "openid_token": stage.openid(&bob).await, "device_id": "8448:D",
    });
    assert_eq!(errcode(&stage.ask("/sfu/get", body).await), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn an_openid_token_must_be_known_and_of_this_server() {
    let stage = Stage::new().await;
    let good = stage.body(&stage.call.alice, "m").await;
    for (field, value, expected) in [
        ("access_token", "nobodys", (401, "M_UNAUTHORIZED")),
        ("access_token", &*stage.call.alice.token, (401, "M_UNAUTHORIZED")),
        ("matrix_server_name", "example.org", (403, "M_FORBIDDEN")),
    ] {
        let mut body = good.clone();
        body["openid_token"][field] = json!(value);
        assert_eq!(errcode(&stage.ask("/get_token", body).await), expected, "{field} {value}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_an_errcode() {
    let stage = Stage::new().await;
    let good = stage.body(&stage.call.alice, "m").await;
    for field in ["room_id", "slot_id", "openid_token", "member"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(errcode(&stage.ask("/get_token", body).await), (400, "M_BAD_JSON"), "{field}");
    }
    for (path, value) in [
        ("/slot_id", json!("")),
        ("/member/id", json!("x".repeat(256))),
        ("/member/claimed_device_id", json!("")),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap() = value;
        assert_eq!(
            errcode(&stage.ask("/get_token", body).await),
            (400, "M_INVALID_PARAM"),
            "{path}"
        );
    }
    let alice = &stage.call.alice;
    let foreign = json!({
        "url": "wss://other.example.org", "room_id": stage.call.room, "slot_id": "s", "member_id": "m",
    });
    let path = format!("{STABLE}/get_token");
    let told = stage.call.server.post(&path, &alice.token, foreign).await;
    assert_eq!(errcode(&told), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn a_livekit_that_does_not_answer_is_a_502_without_details() {
    let stage = Stage::new().await;
    stage.livekit.state().is_down = true;
    let told = stage.token(&stage.call.alice, "m", None).await;
    assert_eq!(errcode(&told), (502, "M_UNKNOWN"));
    assert!(!told.1.to_string().contains("down"), "{}", told.1);
}

#[tokio::test]
async fn a_member_that_is_kicked_banned_or_leaves_is_removed_from_the_call() {
    let mut stage = Stage::new().await;
    let mut seats = Vec::new();
    for (name, how) in [("bob", "kick"), ("carol", "ban"), ("dan", "leave")] {
        let user = stage.call.join(name).await;
        let seat = Seat::of(&stage.token(&user, "m", None).await);
        stage.enters(&seat).await;
        let (by, body) = match how {
            "leave" => (&user, json!({})),
            _ => (&stage.call.alice, json!({ "user_id": user.user_id })),
        };
        assert_eq!(stage.call.post(by, how, body).await.0, 200);
        let removed = (seat.room.clone(), seat.identity.clone());
        stage.until(how, || stage.livekit.state().removed.contains(&removed)).await;
        seats.push((user, seat));
    }
    // Their tokens are still valid for LiveKit, which reports their use; also after a restart.
    stage.call.server.restart().await;
    stage.livekit.state().removed.clear();
    let is_in = |seat: &Seat| stage.livekit.is_connected(seat);
    for (_, seat) in &seats {
        stage.enters(seat).await;
        stage.until("the removal", || !is_in(seat)).await;
    }
    // Without a web hook they are found as well, as long as a token works, which LiveKit renews.
    for _ in 0..3 {
        for (_, seat) in &seats {
            stage.livekit.connect(seat);
        }
        stage.pass(60).await;
        assert!(!seats.iter().any(|(_, seat)| is_in(seat)));
        stage.pass(500).await;
    }
    stage.pass(700).await;
    let asked = stage.livekit.state().asked;
    stage.pass(60).await;
    assert_eq!(stage.livekit.state().asked, asked, "no token works any more");
}

#[tokio::test]
async fn a_former_member_is_removed_from_a_call_that_is_looked_at_however_it_came_back() {
    let stage = Stage::new().await;
    stage.delegated().await;
    let bob = stage.call.join("bob").await;
    let seat = Seat::of(&stage.token(&bob, "m", None).await);
    let kicked = json!({ "user_id": bob.user_id });
    assert_eq!(stage.call.post(&stage.call.alice, "kick", kicked).await.0, 200);
    stage.pass(800).await;
    stage.livekit.connect(&seat);
    stage.pass(20).await;
    assert!(!stage.livekit.is_connected(&seat));
}

#[tokio::test]
async fn a_member_that_was_removed_and_joins_again_comes_back_with_a_new_token() {
    let stage = Stage::new().await;
    let bob = stage.call.join("bob").await;
    let seat = Seat::of(&stage.token(&bob, "m", None).await);
    stage.enters(&seat).await;
    let kicked = json!({ "user_id": bob.user_id });
    for _ in 0..2 {
        assert_eq!(stage.call.post(&stage.call.alice, "kick", kicked.clone()).await.0, 200);
        stage.until("the removal", || !stage.livekit.is_connected(&seat)).await;
        assert_eq!(stage.call.post(&bob, "join", json!({})).await.0, 200);
        assert_eq!(Seat::of(&stage.token(&bob, "m", None).await), seat);
        stage.enters(&seat).await;
        stage.pass(60).await;
        assert!(stage.livekit.is_connected(&seat));
    }
}

#[tokio::test]
async fn a_removal_that_livekit_did_not_hear_is_made_up_for() {
    let stage = Stage::new().await;
    let bob = stage.call.join("bob").await;
    let seat = Seat::of(&stage.token(&bob, "m", None).await);
    stage.enters(&seat).await;
    stage.livekit.state().is_down = true;
    assert_eq!(
        stage.call.post(&stage.call.alice, "kick", json!({ "user_id": bob.user_id })).await.0,
        200
    );
    stage.pass(4).await;
    stage.livekit.state().is_down = false;
    stage.pass(300).await;
    assert!(!stage.livekit.state().rooms[&seat.room].contains_key(&seat.identity));
}

#[tokio::test]
async fn a_web_hook_that_livekit_did_not_sign_is_refused() {
    let stage = Stage::new().await;
    let seat = Seat::of(&stage.token(&stage.call.alice, "m", None).await);
    let good = stage.hook("participant_left", &seat, "PA_1", "CLIENT_INITIATED");
    let forged = Hook::signed(stage.call.now() / 1000, "another secret", &json!({ "event": "x" }));
    for hook in [
        forged,
        Hook { body: good.body.replace("PA_1", "PA_2"), ..good.clone() },
        Hook { token: String::new(), ..good.clone() },
    ] {
        assert_eq!(stage.deliver(&hook).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(stage.deliver(&good).await, StatusCode::OK);
    stage.call.server.clock.advance(std::time::Duration::from_secs(600)).await;
    assert_eq!(stage.deliver(&good).await, StatusCode::UNAUTHORIZED, "it is too old");
    let rubbish = Hook::signed(stage.call.now() / 1000, SECRET, &json!([]));
    assert_eq!(stage.deliver(&rubbish).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_check_names_what_is_missing() {
    let stage = Stage::new().await;
    let calls = stage.call.server.services().calls.clone().unwrap();
    let (problems, ()) = tokio::join!(calls.diagnose(), stage.pass(6));
    assert!(problems[0].contains("/_matrix/livekit/jwt/sfu_webhook"), "{problems:?}");
    assert!(problems[1].contains("https://localhost/.well-known/matrix/client"), "{problems:?}");
    assert!(problems[1].contains("not served"), "{problems:?}");
    let seat = Seat { room: "r".to_owned(), identity: "i".to_owned() };
    let (_, served) = stage.call.server.get("/.well-known/matrix/client", "").await;
    for (field, missing) in [
        ("m.homeserver", "m.homeserver.base_url is not https://matrix.example.org"),
        ("org.matrix.msc4143.rtc_foci", "org.matrix.msc4143.rtc_foci has no https://matrix"),
    ] {
        let mut partly = served.clone();
        partly.as_object_mut().unwrap().remove(field);
        stage.livekit.state().well_known = partly;
        let (problems, _) = tokio::join!(calls.diagnose(), stage.enters(&seat));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(missing), "{problems:?}");
    }
    stage.livekit.state().well_known = served;
    let (problems, _) = tokio::join!(calls.diagnose(), stage.enters(&seat));
    assert_eq!(problems, Vec::<String>::new());
    stage.livekit.state().is_down = true;
    let problems = calls.diagnose().await;
    assert!(problems[0].contains("cannot be reached"), "{problems:?}");
}

#[test]
fn a_half_configured_livekit_is_told_at_start() {
    let mut config = wick_core::Config::default();
    configure(&mut config);
    assert_eq!(config.check(), []);
    let keys = |change: fn(&mut wick_core::Config)| -> Vec<String> {
        let mut config = config.clone();
        change(&mut config);
        config.check().into_iter().map(|problem| problem.key).collect()
    };
    assert_eq!(
        keys(|config| config.server.well_known_client.clear()),
        ["server.well_known_client"]
    );
    assert_eq!(keys(|config| config.calls.livekit_key.clear()), ["calls.livekit_key"]);
    assert_eq!(
        keys(|config| config.calls.livekit_url = "https://x".to_owned()),
        ["calls.livekit_url"]
    );
    assert_eq!(
        keys(|config| config.calls.livekit_service_url = "https://x".to_owned()),
        ["calls.livekit_service_url"]
    );
    assert_eq!(keys(|config| config.calls.livekit_url.clear()), ["calls.livekit_url"]);
    assert!(!format!("{config:?}").contains(SECRET));
    let _: Value = serde_json::to_value(&config).unwrap();
}
