//! A whole server in the test's own process: no socket, a temporary folder, a mock clock.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use ruma::{OwnedDeviceId, OwnedUserId, signatures::Ed25519KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use wick_api::Peer;
use wick_calls::LiveKit;
use wick_core::{Config, config::Rate, signing::KeyStore};
use wick_database::{Database, Durability, Fault};
use wick_federation::{Network, NoServices};
use wick_media::Store;
use wick_outbound::{Outbound, Resolve, SystemResolver};
use wick_service::{Keys, Remotes, Services, database_options};

use crate::{MockClock, SeededRandom};

/// The password of every user that [`TestServer::register`] makes.
const PASSWORD: &str = "correct horse battery staple";

/// How a test wants its server.
#[derive(Default)]
pub struct Options {
    /// The configuration; the folder is set by the harness.
    pub config: Config,
    /// Makes commits fail.
    pub fault: Option<Arc<dyn Fault>>,
    /// Takes the place of a LiveKit server.
    pub livekit: Option<Arc<dyn LiveKit>>,
    /// Takes the place of the folder of files.
    pub media_store: Option<Arc<dyn Store>>,
    /// Takes the place of the system's resolver of host names.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// What the names of other servers are resolved by, in place of the system.
    pub network: Option<Network>,
}

impl Options {
    /// Without limits, with cheap passwords, and with requests to this machine.
    #[must_use]
    pub fn lenient() -> Self {
        let mut options = Self::default();
        options.config.limits.enabled = false;
        let plenty = Rate { per_second: 1e6, burst: 1_000_000 };
        (options.config.timers.keep_alive, options.config.timers.invalid) = (plenty, plenty);
        options.config.accounts.argon2_memory_kilobytes = 8;
        options.config.accounts.argon2_iterations = 1;
        options.config.outbound.deny_addresses.clear();
        options
    }
}

/// A server.
pub struct TestServer {
    /// Its clock.
    pub clock: MockClock,
    config: Arc<Config>,
    random: Arc<SeededRandom>,
    livekit: Option<Arc<dyn LiveKit>>,
    media_store: Option<Arc<dyn Store>>,
    resolver: Arc<dyn Resolve>,
    network: Network,
    signing_key: Vec<u8>,
    folder: TempDir,
    running: Option<(Arc<Services>, Router)>,
}

/// A user with a device.
#[derive(Clone, Debug)]
pub struct User {
    /// The user id.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The device's access token.
    pub token: String,
}

/// The server's response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if it is empty or no JSON.
    pub body: Value,
    /// The body as it came.
    pub bytes: Bytes,
}

impl TestServer {
    /// A server called `localhost` without limits and with cheap passwords.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with some changes to its configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut options = Options::lenient();
        change(&mut options.config);
        Self::start_from(options).await
    }

    /// A server with exactly these options.
    pub async fn start_from(options: Options) -> Self {
        let Options { mut config, fault, livekit, media_store, resolver, network } = options;
        let of_system =
            || Network { hosts: Arc::new(SystemResolver), services: Arc::new(NoServices) };
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        config.database.path = folder.path().join("data");
        config.database.cache_megabytes = 8;
        config.database.write_buffer_megabytes = 8;
        assert_eq!(config.check(), [], "the test's configuration makes no sense");
        let mut server = Self {
            clock: MockClock::new(),
            config: Arc::new(config),
            random: Arc::new(SeededRandom::new(1)),
            livekit,
            media_store,
            resolver: resolver.unwrap_or_else(|| Arc::new(SystemResolver)),
            network: network.unwrap_or_else(of_system),
            signing_key: Ed25519KeyPair::generate().to_vec(),
            folder,
            running: None,
        };
        server.open(fault).await;
        server
    }

    /// Stops the server in order and starts it anew on what it has written.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.open(None).await;
    }

    /// The same with some changes to its configuration.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.stop().await;
        change(Arc::make_mut(&mut self.config));
        self.open(None).await;
    }

    /// Drops the server in the middle of what it does, as a kill would, and starts it anew.
    pub async fn crash(&mut self) {
        self.crash_into(None).await;
    }

    /// The same with a fault from then on.
    pub async fn crash_into(&mut self, fault: Option<Arc<dyn Fault>>) {
        if let Some((services, _)) = self.running.take() {
            services.supervisor.abort().await;
        }
        self.open(fault).await;
    }

    /// Stops the server in order.
    pub async fn stop(&mut self) {
        if let Some((services, _)) = self.running.take() {
            assert!(services.supervisor.stop(Duration::MAX).await, "tasks did not end");
            services.database.close().await.expect("the database closes");
        }
    }

    /// The use cases, for what has no endpoint.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.running.as_ref().expect("the server runs").0
    }

    /// How many tasks run when nothing is being done: lower than at this moment if what was answered last is still
    /// ending.
    ///
    /// # Panics
    /// If the database cannot be written.
    pub async fn idle_tasks(&self) -> usize {
        let services = self.services();
        let mut least = services.supervisor.tasks();
        for _ in 0..3 {
            // What waits for the disk has it now.
            let batch = services.database.batch();
            services.database.commit(batch, Durability::Synced).await.expect("the disk is sound");
            for _ in 0..20 {
                tokio::task::yield_now().await;
                least = least.min(services.supervisor.tasks());
            }
        }
        least
    }

    /// Its endpoints, for other servers to connect to.
    pub fn router(&self) -> Router {
        self.running.as_ref().expect("the server runs").1.clone()
    }

    /// A request with a JSON body (or none, if it is null) and an access token (or none, if it is
    /// empty).
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = self.send(request.body(body).expect("the request is well-formed")).await;
        (answer.status, answer.body)
    }

    /// `GET`.
    pub async fn get(&self, path: &str, token: &str) -> (StatusCode, Value) {
        self.request(Method::GET, path, token, Value::Null).await
    }

    /// `PUT`.
    pub async fn put(&self, path: &str, token: &str, body: Value) -> (StatusCode, Value) {
        self.request(Method::PUT, path, token, body).await
    }

    /// `POST`.
    pub async fn post(&self, path: &str, token: &str, body: Value) -> (StatusCode, Value) {
        self.request(Method::POST, path, token, body).await
    }

    /// Any request at all. It comes from 127.0.0.1 unless [`Peer`] is set.
    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        let (_, router) = self.running.as_ref().expect("the server runs");
        if request.extensions().get::<Peer>().is_none() {
            request.extensions_mut().insert(Peer::Address(IpAddr::from([127, 0, 0, 1])));
        }
        answer(router.clone(), request).await
    }

    /// What the administrator's socket answers to a `GET`.
    pub async fn ask_admin(&self, path: &str) -> Value {
        let answer = self.admin(Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    /// The administrator's socket's answer to a request without a body.
    pub async fn admin(&self, method: Method, path: &str) -> Answer {
        let router = wick_api::admin_router(Arc::clone(self.services()));
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        answer(router, request.expect("the request is well-formed")).await
    }

    /// A new user with a device.
    pub async fn register(&self, name: &str) -> User {
        let body = json!({
            "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" },
        });
        let (status, body) = self.post("/_matrix/client/v3/register", "", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        User::from_login(&body)
    }

    /// A new guest, where guests are switched on.
    pub async fn register_guest(&self) -> User {
        let (status, body) =
            self.post("/_matrix/client/v3/register?kind=guest", "", json!({})).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        User::from_login(&body)
    }

    /// Another device of a user that [`TestServer::register`] made.
    pub async fn log_in(&self, user: &User) -> User {
        let body = json!({
            "type": "m.login.password", "password": PASSWORD,
            "identifier": { "type": "m.id.user", "user": user.user_id },
        });
        let (status, body) = self.post("/_matrix/client/v3/login", "", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        User::from_login(&body)
    }

    /// The folder with the server's data.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    async fn open(&mut self, fault: Option<Arc<dyn Fault>>) {
        let mut options = database_options(&self.config.database);
        options.fault = fault;
        let database =
            Database::open(&self.config.database.store(), options).expect("the database opens");
        let signing =
            Ed25519KeyPair::from_der(&self.signing_key, "1".to_owned()).expect("the key is a key");
        let clock = Arc::new(self.clock.clone());
        let outbound =
            Outbound::new(&self.config.outbound, clock.clone(), Arc::clone(&self.resolver))
                .expect("outbound requests can be made");
        let services = Services::build(
            Arc::clone(&self.config),
            clock,
            Arc::clone(&self.random) as _,
            database,
            Keys { signing: Arc::new(signing.into()), store: Arc::new(NotKept), timer: [7; 32] },
            Remotes {
                outbound: Arc::new(outbound),
                network: self.network.clone(),
                livekit: self.livekit.clone(),
                media_store: self.media_store.clone(),
            },
        )
        .expect("the services can be built");
        services.start().await.expect("the services start");
        let router = wick_api::router(Arc::clone(&services));
        self.running = Some((services, router));
    }
}

/// Forgets new signing keys at the next start.
struct NotKept;

impl KeyStore for NotKept {
    fn add(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("the body is there").to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, body, bytes }
}

impl User {
    fn from_login(body: &Value) -> Self {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            user_id: text("user_id").try_into().expect("a user id"),
            device_id: text("device_id").into(),
            token: text("access_token"),
        }
    }
}
