//! Every endpoint of encryption under input that is nearly right: the specification's error, and not one commit.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::sync::Arc;

use http::{Method, Request, header};
use serde_json::{Value, json};
use wick_harness::{Body, Options, Strike, TestServer, User};

use crate::encryption::signer::{Signer, keys, upload};

const V3: &str = "/_matrix/client/v3";
const DEHYDRATED: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

/// A request with a good body.
struct Endpoint {
    method: Method,
    path: String,
    good: Value,
    /// JSON pointers to the values whose type is given.
    typed: &'static [&'static str],
}

/// A user with something of everything, on a server whose commits are counted.
struct World {
    server: TestServer,
    commits: Arc<Strike>,
    alice: User,
    bob: User,
    signer: Signer,
    identity: [Signer; 3],
}

impl World {
    async fn make() -> Self {
        let commits = Strike::new();
        let options = Options { fault: Some(Arc::clone(&commits) as _), ..Options::lenient() };
        let server = TestServer::start_from(options).await;
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let signer = Signer::of_device(&alice);
        let body = json!({
            "device_keys": signer.device_keys(&alice), "one_time_keys": keys([1]), "fallback_keys": keys([2]),
        });
        upload(&server, &alice, body).await;
        upload(&server, &bob, json!({ "device_keys": Signer::of_device(&bob).device_keys(&bob) }))
            .await;
        let identity = [(); 3].map(|()| Signer::of_user());
        let world = Self { server, commits, alice, bob, signer, identity };
        for endpoint in world.endpoints() {
            let (status, body) = world.ask(&endpoint, endpoint.good.clone()).await;
            assert_eq!(status, 200, "{}: {body}", endpoint.path);
        }
        world
    }

    /// Every endpoint of encryption that takes a body, in an order in which their good bodies are accepted.
    fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints = self.of_keys();
        endpoints.extend(self.of_devices());
        endpoints.extend(of_backups());
        endpoints
    }

    fn of_keys(&self) -> Vec<Endpoint> {
        let (alice, bob) = (self.alice.user_id.as_str(), self.bob.user_id.as_str());
        let device = self.alice.device_id.as_str();
        let identity = self.keys_of_identity(&self.alice);
        let signed = self.identity[1].sign(&self.alice, &self.signer.device_keys(&self.alice));
        vec![
            endpoint(
                Method::POST,
                format!("{V3}/keys/upload"),
                json!({ "device_keys": self.signer.device_keys(&self.alice), "one_time_keys": keys([1]), "fallback_keys": keys([2]) }),
                &[
                    "/device_keys",
                    "/device_keys/user_id",
                    "/device_keys/device_id",
                    "/device_keys/algorithms",
                    "/device_keys/keys",
                    "/device_keys/signatures",
                    "/device_keys/signatures/@alice:localhost",
                    "/one_time_keys",
                    "/one_time_keys/signed_curve25519:1",
                    "/one_time_keys/signed_curve25519:1/key",
                    "/one_time_keys/signed_curve25519:1/signatures",
                    "/fallback_keys",
                    "/fallback_keys/signed_curve25519:2",
                    "/fallback_keys/signed_curve25519:2/key",
                ],
            ),
            endpoint(
                Method::POST,
                format!("{V3}/keys/query"),
                json!({ "device_keys": { alice: [device], bob: [] }, "timeout": 1 }),
                &[
                    "/device_keys",
                    "/device_keys/@alice:localhost",
                    "/device_keys/@alice:localhost/0",
                    "/timeout",
                ],
            ),
            endpoint(
                Method::POST,
                format!("{V3}/keys/claim"),
                // Nothing is there to be claimed: a claim that is accepted would be a commit.
                json!({ "one_time_keys": { bob: { self.bob.device_id.as_str(): "signed_curve25519" } }, "timeout": 1 }),
                &["/one_time_keys", "/one_time_keys/@bob:localhost", "/timeout"],
            ),
            endpoint(
                Method::POST,
                format!("{V3}/keys/device_signing/upload"),
                identity,
                &[
                    "/master_key",
                    "/master_key/user_id",
                    "/master_key/usage",
                    "/master_key/keys",
                    "/self_signing_key",
                    "/self_signing_key/keys",
                    "/self_signing_key/signatures",
                    "/user_signing_key",
                    "/user_signing_key/usage",
                ],
            ),
            endpoint(
                Method::POST,
                format!("{V3}/keys/signatures/upload"),
                json!({ alice: { device: signed } }),
                &["", "/@alice:localhost"],
            ),
        ]
    }

    fn of_devices(&self) -> Vec<Endpoint> {
        let (alice, asleep) = (self.alice.user_id.as_str(), self.asleep());
        vec![
            endpoint(
                Method::PUT,
                format!("{V3}/sendToDevice/m.test/1"),
                json!({ "messages": { alice: { "*": { "a": 1 } } } }),
                &["", "/messages", "/messages/@alice:localhost", "/messages/@alice:localhost/*"],
            ),
            endpoint(
                Method::PUT,
                DEHYDRATED.to_owned(),
                asleep,
                &[
                    "",
                    "/device_id",
                    "/device_data",
                    "/device_keys",
                    "/device_keys/keys",
                    "/one_time_keys",
                    "/fallback_keys",
                ],
            ),
            endpoint(
                Method::POST,
                format!("{DEHYDRATED}/ASLEEP/events"),
                json!({ "next_batch": "0" }),
                &["", "/next_batch"],
            ),
        ]
    }

    fn asleep(&self) -> Value {
        let device = User { device_id: "ASLEEP".into(), ..self.alice.clone() };
        json!({
            "device_id": "ASLEEP", "device_data": { "algorithm": "org.example" }, "initial_device_display_name": "asleep",
            "device_keys": Signer::of_device(&device).device_keys(&device), "one_time_keys": keys([1]), "fallback_keys": keys([2]),
        })
    }

    fn keys_of_identity(&self, user: &User) -> Value {
        let [master, self_signing, user_signing] = &self.identity;
        json!({
            "master_key": master.cross_signing_key(user, "master"),
            "self_signing_key": master.sign(user, &self_signing.cross_signing_key(user, "self_signing")),
            "user_signing_key": master.sign(user, &user_signing.cross_signing_key(user, "user_signing")),
        })
    }

    async fn ask(&self, endpoint: &Endpoint, body: Value) -> (u16, Value) {
        let Endpoint { method, path, .. } = endpoint;
        let (status, body) =
            self.server.request(method.clone(), path, &self.alice.token, body).await;
        (status.as_u16(), body)
    }

    /// A request with a body as it is.
    async fn ask_raw(&self, endpoint: &Endpoint, body: &'static [u8]) -> (u16, Value) {
        let request = Request::builder()
            .method(endpoint.method.clone())
            .uri(&endpoint.path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.alice.token))
            .body(Body::from(body));
        let answer = self.server.send(request.unwrap()).await;
        (answer.status.as_u16(), answer.body)
    }

    /// Requires an answer, and that it took no commit.
    async fn refuses(&self, method: Method, path: &str, body: Value, expected: (u16, &str)) {
        let before = self.commits.commits();
        let shown = body.to_string();
        let (status, answer) =
            self.server.request(method.clone(), path, &self.alice.token, body).await;
        let errcode = answer["errcode"].as_str().unwrap_or_default();
        assert_eq!((status.as_u16(), errcode), expected, "{method} {path} {shown:.300}: {answer}");
        assert_eq!(self.commits.commits(), before, "{method} {path} {shown:.300} is stored");
    }
}

fn endpoint(method: Method, path: String, good: Value, typed: &'static [&'static str]) -> Endpoint {
    Endpoint { method, path, good, typed }
}

fn of_backups() -> Vec<Endpoint> {
    let session = session();
    let sessions = json!({ "sessions": { "one": session } });
    let algorithm = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": "key" } });
    vec![
        endpoint(
            Method::POST,
            format!("{V3}/room_keys/version"),
            algorithm.clone(),
            &["", "/algorithm", "/auth_data"],
        ),
        endpoint(
            Method::PUT,
            format!("{V3}/room_keys/version/1"),
            algorithm,
            &["", "/algorithm", "/auth_data"],
        ),
        endpoint(
            Method::PUT,
            format!("{V3}/room_keys/keys?version=1"),
            json!({ "rooms": { "!a:x": sessions } }),
            &[
                "",
                "/rooms",
                "/rooms/!a:x",
                "/rooms/!a:x/sessions",
                "/rooms/!a:x/sessions/one",
                "/rooms/!a:x/sessions/one/first_message_index",
                "/rooms/!a:x/sessions/one/is_verified",
            ],
        ),
        endpoint(
            Method::PUT,
            format!("{V3}/room_keys/keys/!a:x?version=1"),
            sessions,
            &["", "/sessions", "/sessions/one", "/sessions/one/forwarded_count"],
        ),
        endpoint(
            Method::PUT,
            format!("{V3}/room_keys/keys/!a:x/one?version=1"),
            session,
            &["", "/first_message_index", "/forwarded_count", "/is_verified", "/session_data"],
        ),
    ]
}

fn session() -> Value {
    json!({
        "first_message_index": 1, "forwarded_count": 1, "is_verified": true,
        "session_data": { "ephemeral": "a", "ciphertext": "b", "mac": "c" },
    })
}

/// Values of other types than this one.
fn of_other_types(value: &Value) -> Vec<Value> {
    let others = [json!(true), json!(1), json!("x"), json!(["x"]), json!({ "x": 1 })];
    let is_same = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(value);
    others.into_iter().filter(|other| !is_same(other)).collect()
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_by_every_endpoint_of_encryption() {
    let world = World::make().await;
    let before = world.commits.commits();
    for endpoint in world.endpoints() {
        for body in [&b"{"[..], b"{\"a\":1", b"{\"a\":\"\xff\"}", b"{}{}", b"nothing", b"{'a':1}"] {
            let (status, answer) = world.ask_raw(&endpoint, body).await;
            let about = format!("{} {}", endpoint.path, String::from_utf8_lossy(body));
            assert_eq!((status, &answer["errcode"]), (400, &json!("M_NOT_JSON")), "{about}");
        }
    }
    assert_eq!(world.commits.commits(), before);
}

#[tokio::test]
async fn a_value_of_another_type_is_bad_json_and_nothing_is_stored() {
    let world = World::make().await;
    for endpoint in world.endpoints() {
        for pointer in endpoint.typed {
            for other in of_other_types(endpoint.good.pointer(pointer).unwrap()) {
                let mut body = endpoint.good.clone();
                *body.pointer_mut(pointer).unwrap() = other;
                world
                    .refuses(endpoint.method.clone(), &endpoint.path, body, (400, "M_BAD_JSON"))
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn keys_of_others_unknown_algorithms_and_signatures_that_do_not_fit_are_refused_and_nothing_is_stored()
 {
    let world = World::make().await;
    let World { alice, bob, signer, identity, .. } = &world;
    let upload = format!("{V3}/keys/upload");
    let other_device = User { device_id: "OTHER".into(), ..alice.clone() };
    for owner in [bob, &other_device] {
        let body = json!({ "device_keys": signer.device_keys(owner), "one_time_keys": keys([7]) });
        world.refuses(Method::POST, &upload, body, (400, "M_BAD_JSON")).await;
        let mut asleep = world.asleep();
        asleep["device_keys"] = signer.device_keys(owner);
        world.refuses(Method::PUT, DEHYDRATED, asleep, (400, "M_BAD_JSON")).await;
    }
    let unknown = json!({ "m.unknown:1": { "key": "AAAA", "signatures": {} } });
    for field in ["one_time_keys", "fallback_keys"] {
        world
            .refuses(Method::POST, &upload, json!({ field: unknown }), (400, "M_INVALID_PARAM"))
            .await;
        let mut asleep = world.asleep();
        asleep[field] = unknown.clone();
        world.refuses(Method::PUT, DEHYDRATED, asleep, (400, "M_INVALID_PARAM")).await;
    }
    let mut asleep = world.asleep();
    asleep["device_id"] = json!(alice.device_id);
    asleep["device_keys"] = signer.device_keys(alice);
    world.refuses(Method::PUT, DEHYDRATED, asleep, (400, "M_INVALID_PARAM")).await;

    let claim = json!({ "one_time_keys": { alice.user_id.as_str(): { alice.device_id.as_str(): "m.unknown" } } });
    world.refuses(Method::POST, &format!("{V3}/keys/claim"), claim, (200, "")).await;

    let signing = format!("{V3}/keys/device_signing/upload");
    let of_bob = world.keys_of_identity(bob);
    world.refuses(Method::POST, &signing, of_bob, (400, "M_INVALID_PARAM")).await;
    let mut unfit = world.keys_of_identity(alice);
    let key = Signer::of_user().cross_signing_key(alice, "self_signing");
    unfit["self_signing_key"] = identity[1].sign(alice, &key);
    world.refuses(Method::POST, &signing, unfit, (400, "M_INVALID_SIGNATURE")).await;

    // Signatures fail one by one.
    let mut altered = signer.device_keys(alice);
    altered["algorithms"] = json!(["other"]);
    let device = alice.device_id.as_str();
    let own = signer.device_keys(alice);
    for (user, name, signed, errcode) in [
        (alice, device, identity[1].sign(alice, &altered), "M_INVALID_PARAM"),
        (alice, device, Signer::of_user().sign(alice, &own), "M_INVALID_SIGNATURE"),
        (alice, device, identity[2].sign(alice, &own), "M_INVALID_SIGNATURE"),
        (alice, "OTHER", identity[1].sign(alice, &own), "M_NOT_FOUND"),
        (
            bob,
            bob.device_id.as_str(),
            identity[1].sign(alice, &Signer::of_device(bob).device_keys(bob)),
            "M_NOT_FOUND",
        ),
    ] {
        let before = world.commits.commits();
        let body = json!({ user.user_id.as_str(): { name: signed } });
        let (status, answer) =
            world.server.post(&format!("{V3}/keys/signatures/upload"), &alice.token, body).await;
        let failure = &answer["failures"][user.user_id.as_str()][name]["errcode"];
        assert_eq!((status.as_u16(), failure), (200, &json!(errcode)), "{name}: {answer}");
        assert_eq!(world.commits.commits(), before, "{name}");
    }
}

#[tokio::test]
async fn backups_that_are_not_there_and_parameters_that_are_none_are_refused_in_every_depth() {
    let world = World::make().await;
    let bodies = [
        ("", json!({ "rooms": { "!a:x": { "sessions": { "new": session() } } } })),
        ("/!a:x", json!({ "sessions": { "new": session() } })),
        ("/!a:x/new", session()),
    ];
    for (depth, body) in bodies {
        let path = format!("{V3}/room_keys/keys{depth}");
        for method in [Method::PUT, Method::DELETE] {
            for version in ["0", "7", "-1", "+1", "01", "x", "", "99999999999999999999"] {
                let path = format!("{path}?version={version}");
                let expected = (403, "M_WRONG_ROOM_KEYS_VERSION");
                world.refuses(method.clone(), &path, body.clone(), expected).await;
            }
            world.refuses(method, &path, body.clone(), (400, "M_MISSING_PARAM")).await;
        }
        for version in ["0", "7", "x", ""] {
            let path = format!("{path}?version={version}");
            world.refuses(Method::GET, &path, Value::Null, (404, "M_NOT_FOUND")).await;
        }
        world.refuses(Method::GET, &path, Value::Null, (400, "M_MISSING_PARAM")).await;
    }
    for depth in ["/no-room", "/no-room/one", "/@a:x"] {
        let path = format!("{V3}/room_keys/keys{depth}?version=1");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            world.refuses(method, &path, json!({}), (400, "M_INVALID_PARAM")).await;
        }
    }
    for version in ["0", "7", "x"] {
        let path = format!("{V3}/room_keys/version/{version}");
        let body =
            json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {} });
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            world.refuses(method, &path, body.clone(), (404, "M_NOT_FOUND")).await;
        }
    }
    let other = json!({ "algorithm": "m.unknown", "auth_data": {} });
    world
        .refuses(Method::PUT, &format!("{V3}/room_keys/version/1"), other, (400, "M_INVALID_PARAM"))
        .await;
}

#[tokio::test]
async fn other_places_of_encryption_refuse_what_is_not_there() {
    let world = World::make().await;
    for (query, expected) in [
        ("", (400, "M_MISSING_PARAM")),
        ("?from=s1", (400, "M_MISSING_PARAM")),
        ("?from=rubbish&to=s1", (400, "M_INVALID_PARAM")),
        ("?from=s1&to=", (400, "M_INVALID_PARAM")),
    ] {
        let path = format!("{V3}/keys/changes{query}");
        world.refuses(Method::GET, &path, Value::Null, expected).await;
    }
    for (path, expected) in
        [("OTHER/events", (403, "M_FORBIDDEN")), ("ASLEEP/events?from=x", (400, "M_INVALID_PARAM"))]
    {
        let path = format!("{DEHYDRATED}/{path}");
        world.refuses(Method::GET, &path, Value::Null, expected).await;
    }
    for user in ["alice", "@alice", "", "@\u{0}:localhost"] {
        let body = json!({ "messages": { user: { "*": {} } } });
        let path = format!("{V3}/sendToDevice/m.test/2");
        world.refuses(Method::PUT, &path, body, (400, "M_BAD_JSON")).await;
        let body = json!({ "device_keys": { user: [] } });
        world.refuses(Method::POST, &format!("{V3}/keys/query"), body, (400, "M_BAD_JSON")).await;
        let body = json!({ "one_time_keys": { user: {} } });
        world.refuses(Method::POST, &format!("{V3}/keys/claim"), body, (400, "M_BAD_JSON")).await;
    }
    // Without a token none of them is served.
    for endpoint in world.endpoints() {
        let answer = world.server.request(endpoint.method, &endpoint.path, "", endpoint.good).await;
        assert_eq!(
            (answer.0.as_u16(), &answer.1["errcode"]),
            (401, &json!("M_MISSING_TOKEN")),
            "{}",
            endpoint.path
        );
    }
}
