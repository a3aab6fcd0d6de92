//! What the log and the metrics of the real binary show: none of the secrets that pass through it.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use wick_harness::process::Process;

const V3: &str = "/_matrix/client/v3";
const DEHYDRATED: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
const DELAYED: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

/// What is not to be shown: what it is, and its text.
type Secrets = Vec<(&'static str, String)>;

/// A text that is nowhere else.
fn made_up(what: &str) -> String {
    format!("confidential-{}", what.replace(' ', "-"))
}

/// A server of all that the homeserver calls: LiveKit and a push gateway. It keeps the proofs that it was shown.
async fn outside(tasks: &mut JoinSet<()>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let answer = async |State(shown): State<Arc<Mutex<Vec<String>>>>,
                        headers: HeaderMap,
                        Json(mut body): Json<Value>| {
        let proof = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        shown
            .lock()
            .unwrap()
            .extend(proof.map(|proof| proof.trim_start_matches("Bearer ").to_owned()));
        // A room that is made is called as it was asked for, and nobody is in it.
        body["participants"] = json!([]);
        body["rejected"] = json!([]);
        Json(body)
    };
    let router = Router::new().fallback(answer).with_state(Arc::clone(&shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, shown)
}

/// A configuration in which everything has a secret, and everything is logged.
fn configure(folder: &Path, outside: SocketAddr, secrets: &mut Secrets) {
    let mut secret = |what| {
        secrets.push((what, made_up(what)));
        made_up(what)
    };
    let file = format!(
        r#"
        server.well_known_client = "https://matrix.example.org"
        registration = {{ mode = "open", token = "{}", shared_secret = "{}" }}
        turn = {{ uris = ["turn:turn.example.org"], secret = "{}" }}
        calls = {{ livekit_url = "ws://{outside}", livekit_key = "devkey", livekit_secret = "{}" }}
        push.allow_http = true
        outbound.deny_addresses = []
        metrics = {{ enabled = true, listen = "127.0.0.1:0" }}
        logging.filter = "trace"
        "#,
        secret("registration token"),
        secret("shared secret of registration"),
        secret("shared secret of turn servers"),
        secret("secret of the livekit key"),
    );
    fs::write(folder.join("wick.toml"), file).unwrap();
}

/// A user of the server, and what was secret so far.
struct Scenario {
    server: Process,
    secrets: Secrets,
    user: Value,
    token: String,
}

impl Scenario {
    /// A secret of the test's own.
    fn new_secret(&mut self, what: &'static str) -> String {
        self.secrets.push((what, made_up(what)));
        made_up(what)
    }

    /// Keeps a secret that the server made.
    fn keep(&mut self, what: &'static str, secret: &Value) -> String {
        let secret = secret.as_str().unwrap_or_default().to_owned();
        assert!(secret.len() > 8, "there is no {what}");
        self.secrets.push((what, secret.clone()));
        secret
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.server.request(method.clone(), path, &self.token, body).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {answer}");
        answer
    }

    /// A request that is refused for what is wrong with it.
    async fn fail(&self, method: Method, path: &str, body: Value) {
        let (status, answer) = self.server.request(method.clone(), path, &self.token, body).await;
        assert!(status.is_client_error(), "{method} {path}: {status} {answer}");
    }

    fn keep_session(&mut self, session: &Value) {
        self.token = self.keep("access token", &session["access_token"]);
        self.keep("refresh token", &session["refresh_token"]);
    }

    async fn log_in(&mut self) -> String {
        let password = self.new_secret("password");
        let body = json!({
            "username": "alice", "password": password, "auth": { "type": "m.login.dummy" }, "refresh_token": true,
        });
        let session = self.ask(Method::POST, &format!("{V3}/register"), body).await;
        self.user = session["user_id"].clone();
        self.keep_session(&session);
        let wrong = self.new_secret("wrong password");
        let login = |password: &Value| {
            json!({
                "type": "m.login.password", "password": password, "refresh_token": true,
                "identifier": { "type": "m.id.user", "user": "alice" },
            })
        };
        let path = format!("{V3}/login");
        self.fail(Method::POST, &path, login(&json!(wrong))).await;
        self.fail(Method::POST, &path, login(&json!([password]))).await;
        let session = self.ask(Method::POST, &path, login(&json!(password))).await;
        self.keep_session(&session);
        let body = json!({ "refresh_token": session["refresh_token"] });
        let session = self.ask(Method::POST, &format!("{V3}/refresh"), body).await;
        self.keep_session(&session);
        let none = self.new_secret("access token that is none");
        let token = std::mem::replace(&mut self.token, none);
        self.fail(Method::GET, &format!("{V3}/sync"), Value::Null).await;
        self.token = String::new();
        self.ask(Method::GET, &format!("{V3}/account/whoami?access_token={token}"), Value::Null)
            .await;
        self.token = token;
        let shown = self.new_secret("shown registration token");
        let path = format!(
            "/_matrix/client/v1/register/m.login.registration_token/validity?token={shown}"
        );
        self.server.request(Method::GET, &path, "", Value::Null).await;
        let nonce = self
            .server
            .request(Method::GET, "/_synapse/admin/v1/register", "", Value::Null)
            .await
            .1;
        let body = json!({
            "nonce": nonce["nonce"], "username": "admin", "password": self.new_secret("password of an administrator"),
            "mac": self.new_secret("mac of an account"),
        });
        self.fail(Method::POST, "/_synapse/admin/v1/register", body).await;
        password
    }

    /// Keys, their backup, messages from device to device, a dehydrated device.
    async fn encrypt(&mut self) {
        let device =
            self.ask(Method::GET, &format!("{V3}/account/whoami"), Value::Null).await["device_id"]
                .clone();
        let key = |key: &str| json!({ format!("curve25519:{}", key.len()): key });
        let once = self.new_secret("one-time key");
        let fallback = self.new_secret("fallback key of the device");
        let path = format!("{V3}/keys/upload");
        let body = json!({ "one_time_keys": key(&once), "fallback_keys": key(&fallback) });
        self.ask(Method::POST, &path, body).await;
        self.fail(Method::POST, &path, json!({ "one_time_keys": { "m.unknown:1": once } })).await;
        self.fail(Method::POST, &path, json!({ "device_keys": { "keys": fallback } })).await;
        let user = self.user.as_str().unwrap().to_owned();
        let claim = json!({ "one_time_keys": { user.as_str(): { device.as_str().unwrap(): "curve25519" } } });
        for _ in 0..2 {
            self.ask(Method::POST, &format!("{V3}/keys/claim"), claim.clone()).await;
        }

        let version = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": "a" } });
        self.ask(Method::POST, &format!("{V3}/room_keys/version"), version).await;
        let ciphertext = self.new_secret("session in the backup");
        let path = format!("{V3}/room_keys/keys/!a:x/one?version=1");
        let mut session = json!({
            "first_message_index": 1, "forwarded_count": 0, "is_verified": true, "session_data": { "ciphertext": ciphertext },
        });
        self.ask(Method::PUT, &path, session.clone()).await;
        self.ask(Method::GET, &path, Value::Null).await;
        session["is_verified"] = json!(ciphertext);
        self.fail(Method::PUT, &path, session).await;

        let ciphertext = self.new_secret("message from device to device");
        let path = format!("{V3}/sendToDevice/m.room.encrypted/1");
        let messages = json!({ user.as_str(): { "*": { "ciphertext": ciphertext } } });
        self.ask(Method::PUT, &path, json!({ "messages": messages })).await;
        self.fail(Method::PUT, &path, json!({ "messages": { user.as_str(): ciphertext } })).await;
        let synced = self.ask(Method::GET, &format!("{V3}/sync"), Value::Null).await;
        assert_eq!(synced["to_device"]["events"][0]["content"]["ciphertext"], json!(ciphertext));

        let data = self.new_secret("dehydrated device");
        let keys = json!({
            "user_id": user, "device_id": "ASLEEP", "algorithms": ["a"], "keys": { "ed25519:ASLEEP": "b" },
            "signatures": { user.as_str(): { "ed25519:ASLEEP": "c" } },
        });
        let body = json!({ "device_id": "ASLEEP", "device_data": { "algorithm": "a", "device": data }, "device_keys": keys });
        self.ask(Method::PUT, DEHYDRATED, body).await;
        self.ask(Method::GET, DEHYDRATED, Value::Null).await;

        let secret = self.new_secret("secret in the account data");
        let path = format!("{V3}/user/{user}/account_data/m.cross_signing.master");
        self.ask(Method::PUT, &path, json!({ "encrypted": { "key": { "ciphertext": secret } } }))
            .await;
    }

    /// Events, those that expire or are delayed, their timers' handles, a call.
    async fn talk(&mut self) {
        let room =
            self.ask(Method::POST, &format!("{V3}/createRoom"), json!({})).await["room_id"].clone();
        let send = format!("{V3}/rooms/{}/send/m.room.encrypted", room.as_str().unwrap());
        let ciphertext = self.new_secret("ciphertext of an event");
        let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": ciphertext, "m.will_expire": 60 });
        let sent = self.ask(Method::PUT, &format!("{send}/1"), content).await;
        let refresh =
            self.keep("refresh token of an expiring event", &sent["expire_refresh_token"]);
        for method in ["refresh", "end", "refresh"] {
            let body = json!({ "expire_refresh_token": refresh });
            self.server.request(Method::PUT, &format!("{V3}/expiration/{method}"), "", body).await;
        }
        let content = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": ciphertext });
        let delayed = self
            .ask(Method::PUT, &format!("{send}/2?org.matrix.msc4140.delay=60000"), content)
            .await;
        let delay_id = self.keep("id of a delayed event", &delayed["delay_id"]);
        self.ask(Method::POST, &format!("{DELAYED}/{delay_id}"), json!({ "action": "restart" }))
            .await;

        let user = self.user.as_str().unwrap().to_owned();
        let openid = self
            .ask(Method::POST, &format!("{V3}/user/{user}/openid/request_token"), json!({}))
            .await;
        let token = self.keep("openid token", &openid["access_token"]);
        let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
        self.ask(Method::GET, &path, Value::Null).await;
        let body = json!({
            "room_id": room, "slot_id": "m.call#ROOM", "openid_token": openid, "delay_id": delay_id, "delay_timeout": 60_000,
            "delay_cs_api_url": "https://matrix.example.org",
            "member": { "id": "m", "claimed_user_id": user, "claimed_device_id": "D" },
        });
        let call = self.ask(Method::POST, "/_matrix/livekit/jwt/get_token", body).await;
        self.keep("token of a call", &call["jwt"]);
        self.ask(Method::POST, &format!("{DELAYED}/{delay_id}/send"), json!({})).await;
        let turn = self.ask(Method::GET, &format!("{V3}/voip/turnServer"), Value::Null).await;
        self.keep("password of a turn server", &turn["password"]);
    }

    /// A pusher, which gets a message of another user.
    async fn push(&mut self, outside: SocketAddr) {
        let pushkey = self.new_secret("push key");
        let pusher = json!({
            "pushkey": pushkey, "kind": "http", "app_id": "a", "app_display_name": "b", "device_display_name": "c",
            "lang": "en", "data": { "url": format!("http://{outside}/_matrix/push/v1/notify") },
        });
        self.ask(Method::POST, &format!("{V3}/pushers/set"), pusher).await;
        let password = self.new_secret("password of another user");
        let body =
            json!({ "username": "bob", "password": password, "auth": { "type": "m.login.dummy" } });
        let (_, bob) = self.server.request(Method::POST, &format!("{V3}/register"), "", body).await;
        let bob = self.keep("access token of another user", &bob["access_token"]);
        let invite =
            json!({ "invite": [self.user], "preset": "trusted_private_chat", "is_direct": true });
        let (_, room) =
            self.server.request(Method::POST, &format!("{V3}/createRoom"), &bob, invite).await;
        let room = room["room_id"].as_str().unwrap().to_owned();
        self.ask(Method::POST, &format!("{V3}/rooms/{room}/join"), json!({})).await;
        let body = self.new_secret("text of a message");
        let path = format!("{V3}/rooms/{room}/send/m.room.message/1");
        let content = json!({ "msgtype": "m.text", "body": body });
        let (status, sent) = self.server.request(Method::PUT, &path, &bob, content).await;
        assert_eq!(status, StatusCode::OK, "{sent}");
    }

    /// A new password, and the end of the account.
    async fn end(&mut self, password: &str) {
        let auth = |password: &str| json!({ "type": "m.login.password", "password": password, "identifier": { "type": "m.id.user", "user": "alice" } });
        let new = self.new_secret("new password");
        let body = json!({ "new_password": new, "logout_devices": false, "auth": auth(password) });
        self.ask(Method::POST, &format!("{V3}/account/password"), body).await;
        self.ask(Method::POST, &format!("{V3}/account/deactivate"), json!({ "auth": auth(&new) }))
            .await;
    }
}

/// The page of the metrics, at the address that the log names besides the server's own.
async fn metrics(server: &mut Process) -> String {
    let own = format!("listening address={}", server.address());
    let is_other = |line: &&String| line.contains("listening address=") && !line.contains(&own);
    let line = server.log_so_far().iter().find(is_other).unwrap().clone();
    let address = line.rsplit_once('=').unwrap().1;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.contains("200 OK") && page.contains("wick_info"), "{page}");
    page
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_the_metrics_whatever_is_done_with_it() {
    let folder = tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let (address, proofs) = outside(&mut tasks).await;
    let mut secrets = Secrets::new();
    configure(folder.path(), address, &mut secrets);
    let server =
        Process::start(folder.path(), &["--config", "wick.toml", "--set", "metrics.enabled=true"]);
    let mut scenario = Scenario { server, secrets, user: Value::Null, token: String::new() };
    let password = scenario.log_in().await;
    scenario.encrypt().await;
    scenario.talk().await;
    scenario.push(address).await;
    scenario.end(&password).await;

    let Scenario { mut server, mut secrets, .. } = scenario;
    let page = metrics(&mut server).await;
    server.terminate();
    assert!(server.ended().success());
    let key = fs::read(folder.path().join("wick-data/signing.key")).unwrap();
    let key = String::from_utf8_lossy(&key);
    secrets.extend(
        key.split_whitespace()
            .filter(|word| word.len() > 20)
            .map(|word| ("signing key", word.to_owned())),
    );
    let proofs = proofs.lock().unwrap().clone();
    assert!(!proofs.is_empty(), "LiveKit was not asked");
    secrets.extend(proofs.into_iter().map(|proof| ("proof for LiveKit", proof)));
    let log = server.whole_log();
    for level in ["TRACE", "DEBUG", "INFO"] {
        assert!(log.iter().any(|line| line.contains(level)), "nothing is logged at {level}");
    }
    let shown = |(what, secret): &(&'static str, String)| {
        let line = log
            .iter()
            .map(String::as_str)
            .chain(page.lines())
            .find(|line| line.contains(secret))?;
        Some(format!("{what}: {line}"))
    };
    let shown: Vec<_> = secrets.iter().filter_map(shown).collect();
    assert!(shown.is_empty(), "{} secrets are shown:\n{}", shown.len(), shown.join("\n"));
    assert!(secrets.len() > 30);
}
