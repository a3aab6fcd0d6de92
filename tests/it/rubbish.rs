//! Every endpoint under a generated stream of rubbish: bad input is answered by a Matrix error, never a
//! panic, never a 500, and nothing is broken by it.

#![expect(clippy::indexing_slicing, reason = "a test that panics has failed")]

mod encryption;
mod exemplar;
mod generator;

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use wick_core::config;
use wick_harness::{Answer, Body, TestServer, User};
use wick_room::invariants;

use self::generator::Rubbish;

const V3: &str = "/_matrix/client/v3";

/// Requests for each path of each endpoint.
const REQUESTS: usize = 40;

/// Part of every failure's message; the requests follow from it.
const SEED: u64 = 1;

/// What there is to speak of.
struct World {
    user: User,
    names: BTreeMap<&'static str, String>,
}

impl World {
    /// A new user with a room, an event and a running timer of theirs.
    async fn make(server: &TestServer, name: &str) -> Self {
        let user = server.register(name).await;
        let password = "correct horse battery staple";
        let identifier = json!({ "type": "m.id.user", "user": user.user_id });
        let mut login = json!({
            "type": "m.login.password", "password": password, "identifier": identifier,
        });
        let auth = login.to_string();
        login["refresh_token"] = json!(true);
        let post = async |path: &str, token: &str, body: Value| {
            let (status, body) = server.post(&format!("{V3}/{path}"), token, body).await;
            assert_eq!(status, StatusCode::OK, "{path}: {body}");
            body
        };
        let session = post("login", "", login).await;
        let body = json!({
            "preset": "public_chat", "room_alias_name": name, "topic": "t",
            "invite": ["@other:localhost"],
        });
        let room_id = text(&post("createRoom", &user.token, body).await, "room_id");
        let message = json!({ "msgtype": "m.text", "body": "here", "m.will_expire": 60 });
        let path = format!("{V3}/rooms/{room_id}/send/m.room.message/1");
        let (status, sent) = server.put(&path, &user.token, message).await;
        assert_eq!(status, StatusCode::OK, "{sent}");
        let filter = post(&format!("user/{}/filter", user.user_id), &user.token, json!({})).await;
        let (_, synced) = server.get(&format!("{V3}/sync"), &user.token).await;
        let since = text(&synced, "next_batch");
        let uploaded = post_media(server, &user).await;
        let media_id = uploaded.rsplit('/').next().unwrap_or_default().to_owned();
        let names = [
            ("auth", auth),
            ("at", since.clone()),
            ("device_id", user.device_id.to_string()),
            ("event_id", text(&sent, "event_id")),
            ("event_type", "m.room.topic".to_owned()),
            ("expire_refresh_token", text(&sent, "expire_refresh_token")),
            ("field", "displayname".to_owned()),
            ("filter_id", text(&filter, "filter_id")),
            ("from", since.clone()),
            ("kind", "override".to_owned()),
            ("media_id", media_id),
            ("other", "@other:localhost".to_owned()),
            ("password", password.to_owned()),
            ("receipt_type", "m.read".to_owned()),
            ("refresh_method", "refresh".to_owned()),
            ("refresh_token", text(&session, "refresh_token")),
            ("room_alias", format!("#{name}:localhost")),
            ("room_id", room_id.clone()),
            ("room_id_or_alias", room_id),
            ("rule_id", ".m.rule.master".to_owned()),
            ("scope", "global".to_owned()),
            ("sender", user.user_id.to_string()),
            ("server_name", "localhost".to_owned()),
            ("since", since),
            ("state_key", String::new()),
            ("tag", "m.favourite".to_owned()),
            ("txn_id", "2".to_owned()),
            ("type", "m.room.topic".to_owned()),
            ("user", user.user_id.to_string()),
            ("user_id", user.user_id.to_string()),
            ("version", "1".to_owned()),
        ];
        Self { user, names: BTreeMap::from(names) }
    }

    /// A text with what stands between angle brackets taken from here.
    fn fill(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
    }

    /// What is called so, if anything is.
    fn named(&self, name: &str) -> Option<String> {
        self.names.get(name).cloned()
    }
}

/// Uploads a file; gives its content URI.
async fn post_media(server: &TestServer, user: &User) -> String {
    let request = Request::post("/_matrix/media/v3/upload")
        .header(http::header::AUTHORIZATION, format!("Bearer {}", user.token))
        .body(Body::from("GIF89a"));
    let answer = server.send(request.expect("the request is well-formed")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    text(&answer.body, "content_uri")
}

fn text(body: &Value, key: &str) -> String {
    body[key].as_str().unwrap_or_default().to_owned()
}

/// A server with cheap writes and small bodies, and another user on it.
async fn server() -> TestServer {
    let server = TestServer::start_with(|config| {
        config.database.durability = config::Durability::Flushed;
        config.server.max_body_kilobytes = 256;
    })
    .await;
    server.register("other").await;
    server
}

/// The answer to a request, however long it would have to be waited for.
async fn answer(server: &TestServer, request: Request<Body>) -> Answer {
    let mut answer = std::pin::pin!(server.send(request));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = server.clock.advance(Duration::from_secs(1)) => {}
        }
    }
}

/// What is wrong with an answer, if anything is.
fn fault(method: &Method, answer: &Answer) -> Option<&'static str> {
    let body = &answer.body;
    if answer.status.is_server_error() {
        return Some("it is a server error");
    }
    if !answer.status.is_client_error() || method == Method::HEAD {
        return None;
    }
    // User-interactive authentication answers with its flows instead of an error.
    if answer.status == StatusCode::UNAUTHORIZED && body["flows"].is_array() {
        return None;
    }
    let errcode = body["errcode"].as_str().unwrap_or_default();
    if !errcode.starts_with("M_") && !errcode.starts_with("ORG.MATRIX.") {
        return Some("it has no errcode");
    }
    (!body["error"].is_string()).then_some("it has no error text")
}

/// Sends rubbish to one endpoint; gives how many requests were taken for good ones.
async fn disturb(
    server: &TestServer,
    rubbish: &Rubbish,
    (method, path): &(Method, String),
    world: &World,
) -> usize {
    let mut taken = 0;
    for _ in 0..REQUESTS {
        let request = rubbish.request(method, path, world);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (parts, body) = request.into_parts();
        let body = body_of(body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(2_000)]).into_owned();
        let answer = answer(server, Request::from_parts(parts, Body::from(body))).await;
        let fault = fault(&method, &answer);
        assert_eq!(fault, None, "seed {SEED}: {method} {uri}\n{shown}\n{answer:?}");
        taken += usize::from(answer.status.is_success());
    }
    taken
}

async fn body_of(body: Body) -> bytes::Bytes {
    use http_body_util::BodyExt;
    body.collect().await.expect("it is in memory").to_bytes()
}

fn sound(server: &TestServer) {
    let read = server.services().database.published();
    assert_eq!(invariants::check(&read).expect("everything can be read"), [], "seed {SEED}");
}

#[tokio::test]
async fn no_endpoint_breaks_under_rubbish() {
    let mut server = server().await;
    let rubbish = Rubbish::new(SEED);
    let mut taken = 0;
    for (number, endpoint) in wick_api::endpoints().iter().enumerate() {
        // Each begins anew, for among the rubbish are log-outs, new passwords and departures.
        let world = World::make(&server, &format!("user{number}")).await;
        taken += disturb(&server, &rubbish, endpoint, &world).await;
    }
    assert!(taken > 0, "not one request was good enough to do anything");
    sound(&server);
    server.restart().await;
    sound(&server);
    World::make(&server, "afterwards").await;
}

#[tokio::test]
async fn no_path_breaks_the_server() {
    let server = server().await;
    let rubbish = Rubbish::new(SEED);
    let world = World::make(&server, "alice").await;
    for pattern in [
        "/{a}",
        "/{a}/{b}",
        "/_matrix/{a}",
        "/_matrix/client/{a}",
        "/_matrix/client/v3/{a}/{b}",
        "/_matrix/client/v3/rooms/{room_id}/{a}/{b}/{c}",
        "/_matrix/client/unstable/{a}/{b}",
        "/_matrix/federation/v1/{a}/{b}",
        "/_matrix/media/v3/{a}/{b}/{c}",
        "/_wick/{a}",
        "//_matrix//client/{a}",
        "/.well-known/{a}",
        "/{a}/../{b}/./{c}",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            disturb(&server, &rubbish, &(method, pattern.to_owned()), &world).await;
        }
    }
    sound(&server);
}
