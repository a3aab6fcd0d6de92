//! A network of servers on the loopback interface, with host names, SRV records and an authority of its own.
//!
//! Invariant: names end in `.test` and lead to this machine alone; those that end in `.silent.test` are never resolved.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body, response::IntoResponse};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, string::Ia5String,
};
use ruma::ServerName;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use wick_api::Peer;
use wick_core::config::Mode;
use wick_database::Fault;
use wick_federation::{LookingUp, Network, Service, Services};
use wick_outbound::{Resolve, Resolving, ResolvingEndpoints};

use crate::{Options, TestServer};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Servers that reach each other by TLS.
pub struct TestNetwork {
    authority: Issuer<'static, KeyPair>,
    folder: TempDir,
    names: Arc<Names>,
    listeners: Mutex<JoinSet<()>>,
}

/// What its names lead to.
#[derive(Default)]
struct Names {
    /// By host: the port for URLs without one.
    ports: Mutex<HashMap<String, u16>>,
    /// By name of an SRV record.
    services: Mutex<HashMap<String, Vec<Service>>>,
    /// How often names that are never resolved were looked up.
    silent: AtomicUsize,
}

impl TestNetwork {
    /// A network without servers.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let authority = params.self_signed(&key).expect("a certificate can be made");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("authority.pem"), authority.pem())
            .expect("the certificate can be written");
        Self {
            authority: Issuer::new(params, key),
            folder,
            names: Arc::default(),
            listeners: Mutex::default(),
        }
    }

    /// The certificate of its authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// What its names are resolved by.
    #[must_use]
    pub fn resolvers(&self) -> Network {
        let (hosts, services) = (Arc::clone(&self.names), Arc::clone(&self.names));
        Network { hosts, services }
    }

    /// The options of a server of this network.
    #[must_use]
    pub fn options(&self, name: &str) -> Options {
        let mut options = Options::lenient();
        options.config.server.name = ServerName::parse(name).expect("it is a server name");
        options.config.registration.mode = Mode::Open;
        let federation = &mut options.config.federation;
        federation.enabled = true;
        federation.deny_addresses.clear();
        federation.extra_roots = self.authority();
        options.network = Some(self.resolvers());
        options
    }

    /// Starts a server that is reached at `name` by an SRV record. It is reached as it was started: not after a restart.
    pub async fn start(&self, name: &str) -> TestServer {
        let server = TestServer::start_from(self.options(name)).await;
        self.join(name, server.router()).await;
        server
    }

    /// Serves `router` at `name`, by an SRV record.
    pub async fn join(&self, name: &str, router: Router) {
        let address = self.serve(&[name], router).await;
        self.set_service(&format!("_matrix-fed._tcp.{name}"), &[(name, address.port())]);
    }

    /// Serves `router` with a certificate for these names and addresses.
    pub async fn serve(&self, names: &[&str], router: Router) -> SocketAddr {
        let listener = TcpListener::bind((LOCAL, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let tls = self.tls(names);
        self.listeners().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, router) = (tls.clone(), router.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(router.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A client that hangs up is an error here, which is what some tests want.
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        address
    }

    /// Sets the records of a name such as `_matrix._tcp.example.test`: hosts with ports.
    pub fn set_service(&self, name: &str, targets: &[(&str, u16)]) {
        let service = |&(target, port): &(&str, u16)| Service {
            priority: 1,
            weight: 1,
            port,
            target: target.to_owned(),
        };
        lock(&self.names.services).insert(name.to_owned(), targets.iter().map(service).collect());
    }

    /// Sets the port of a host for URLs without a port, which is 443 elsewhere.
    pub fn set_port(&self, host: &str, port: u16) {
        lock(&self.names.ports).insert(host.to_owned(), port);
    }

    /// How often names that are never resolved were looked up.
    #[must_use]
    pub fn silent_look_ups(&self) -> usize {
        self.names.silent.load(Ordering::SeqCst)
    }

    fn tls(&self, names: &[&str]) -> TlsAcceptor {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    Ia5String::try_from((*name).to_owned()).expect("names are ASCII"),
                ),
            })
            .collect();
        let key = KeyPair::generate().expect("a key can be made");
        let certificate =
            params.signed_by(&key, &self.authority).expect("a certificate can be made");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())
            .expect("the key is one");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the certificate is for the key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn listeners(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is between a server and its network: while it is closed, every request is answered 502. A server behind it can
/// be restarted.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Option<Router>>>);

impl Gate {
    /// Starts a server behind a gate, reached at its name.
    pub async fn start(
        network: &TestNetwork,
        name: &str,
        fault: Option<Arc<dyn Fault>>,
    ) -> (TestServer, Self) {
        let mut options = network.options(name);
        options.fault = fault;
        let server = TestServer::start_from(options).await;
        let gate = Self::default();
        gate.open(&server);
        network.join(name, gate.routes()).await;
        (server, gate)
    }

    /// Kills the server behind it in the middle of what it does, and starts it anew on its database.
    pub async fn crash(&self, server: &mut TestServer, fault: Option<Arc<dyn Fault>>) {
        self.close();
        server.crash_into(fault).await;
        self.open(server);
    }

    /// Lets requests through to a server.
    pub fn open(&self, server: &TestServer) {
        self.open_to(server.router());
    }

    /// Lets requests through to these endpoints.
    pub fn open_to(&self, router: Router) {
        *lock(&self.0) = Some(router);
    }

    /// Lets no request through, and lets go of the server.
    pub fn close(&self) {
        *lock(&self.0) = None;
    }

    /// Its endpoints, for [`TestNetwork::join`].
    pub fn routes(&self) -> Router {
        let gate = self.clone();
        Router::new().fallback(move |request: Request<Body>| {
            let router = lock(&gate.0).clone();
            async move {
                match router {
                    Some(router) => router.oneshot(request).await,
                    None => Ok(http::StatusCode::BAD_GATEWAY.into_response()),
                }
            }
        })
    }
}

impl Default for TestNetwork {
    fn default() -> Self {
        Self::new()
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Peer::Address(LOCAL));
    router.oneshot(request).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        let is_known = host.ends_with(".test");
        Box::pin(async move { Ok(if is_known { vec![LOCAL] } else { Vec::new() }) })
    }

    fn endpoints(&self, host: &str) -> ResolvingEndpoints {
        let port = lock(&self.ports).get(host).copied();
        let (is_known, is_silent) = (host.ends_with(".test"), host.ends_with(".silent.test"));
        self.silent.fetch_add(is_silent.into(), Ordering::SeqCst);
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            Ok(match port {
                Some(port) => vec![SocketAddr::new(LOCAL, port)],
                // No server listens on the discard port.
                None if is_known => vec![SocketAddr::new(LOCAL, 9)],
                None => Vec::new(),
            })
        })
    }
}

impl Services for Names {
    fn look_up(&self, name: &str) -> LookingUp {
        let found = lock(&self.services).get(name).cloned().unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }
}
