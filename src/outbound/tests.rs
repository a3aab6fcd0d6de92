//! Requests to servers on this machine: what is denied, and what is bounded.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use ruma::api::error::RetryAfter;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, rustls};
use wick_core::{Clock, Monotonic, Timestamp, clock::Sleep, config};

use crate::{Bounds, Failure, Outbound, Resolve, Resolving};

type Body = BoxBody<Bytes, Infallible>;

/// A clock that stands until it is moved.
#[derive(Clone)]
struct Hand(watch::Sender<Duration>);

impl Hand {
    fn new() -> Self {
        Self(watch::channel(Duration::ZERO).0)
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(*self.0.borrow())
    }

    fn sleep_until(&self, deadline: Monotonic) -> Sleep {
        let mut passed = self.0.subscribe();
        Box::pin(async move {
            passed.wait_for(|passed| *passed >= deadline.0).await.unwrap();
        })
    }
}

/// Resolves every name to what comes next.
#[derive(Default)]
struct Scripted {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().rev().map(addresses).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop().unwrap_or_default();
        Box::pin(async move { Ok(answer) })
    }
}

/// A server, and how many requests it got.
struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(
        respond: impl Fn(Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, respond).await
    }

    /// On every address of this machine.
    async fn start_with(
        tls: Option<TlsAcceptor>,
        respond: impl Fn(Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (counted, respond, tls) = (Arc::clone(&counted), respond.clone(), tls.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let response = respond(request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A client that hangs up is an error here, which is what some tests want.
                    match tls {
                        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(builder.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, _tasks: tasks }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn full(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

fn redirect(status: u16, to: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(header::LOCATION, to)
        .body(full("").into_body())
        .unwrap()
}

/// Denies 127.0.0.2 alone.
fn config() -> config::Outbound {
    let deny_addresses = vec!["127.0.0.2".parse().unwrap()];
    config::Outbound { deny_addresses, ..config::Outbound::default() }
}

fn outbound(config: &config::Outbound, resolver: Arc<Scripted>) -> Outbound {
    Outbound::new(config, Arc::new(Hand::new()), resolver).unwrap()
}

const SMALL: Bounds = Bounds { bytes: 1_000, time: Duration::from_secs(30) };

async fn get(outbound: &Outbound, url: &str) -> Result<Bytes, Failure> {
    outbound.get(url, HeaderMap::new(), SMALL).await?.success()?.bytes().await
}

#[tokio::test]
async fn a_name_that_resolves_to_denied_addresses_is_refused_and_nothing_is_sent() {
    let server = Server::start(|_| full("secret")).await;
    let resolver = Scripted::new(&[&["127.0.0.1", "::1", "10.0.0.1"]]);
    let outbound = outbound(&config::Outbound::default(), resolver);
    let url = server.url("gateway.test", "/");
    assert_eq!(get(&outbound, &url).await, Err(Failure::DeniedAddress));
    let literal = server.url("127.0.0.1", "/");
    assert_eq!(get(&outbound, &literal).await, Err(Failure::DeniedAddress));
    let post = outbound.post_json(&literal, "{}", SMALL).await;
    assert_eq!(post.err(), Some(Failure::DeniedAddress));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_another_address_each_time_leads_to_no_denied_one() {
    let server = Server::start(|_| {
        let close = Response::builder().header(header::CONNECTION, "close");
        close.body(full("hello").into_body()).unwrap()
    })
    .await;
    let resolver =
        Scripted::new(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.2", "127.0.0.1"], &[]]);
    let outbound = outbound(&config(), Arc::clone(&resolver));
    let url = server.url("gateway.test", "/");
    assert_eq!(get(&outbound, &url).await.unwrap(), "hello");
    assert_eq!(get(&outbound, &url).await, Err(Failure::DeniedAddress));
    assert_eq!(server.requests(), 1);
    assert_eq!(get(&outbound, &url).await.unwrap(), "hello", "an allowed address is used");
    let nowhere = get(&outbound, &url).await;
    assert_eq!(nowhere, Err(Failure::Unreachable("the host has no address")));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_redirect_to_a_denied_address_or_name_is_refused() {
    let server = Server::start(|request| match request.uri().path() {
        "/literal" => redirect(302, "http://127.0.0.2/"),
        "/spelled" => redirect(302, "http://0x7f000002/"),
        "/mapped" => redirect(307, "http://[::ffff:127.0.0.2]/"),
        "/name" => redirect(301, "http://internal.test/"),
        "/scheme" => redirect(302, "ftp://127.0.0.1/"),
        "/here" => redirect(303, "/there"),
        "/loop" => redirect(302, "/loop"),
        _ => full("there"),
    })
    .await;
    let answers: [&[&str]; 1] = [&["127.0.0.2"]];
    let outbound = outbound(&config(), Scripted::new(&answers));
    for path in ["/literal", "/spelled", "/mapped", "/name"] {
        let answer = get(&outbound, &server.url("127.0.0.1", path)).await;
        assert_eq!(answer, Err(Failure::DeniedAddress), "{path}");
    }
    assert!(get(&outbound, &server.url("127.0.0.1", "/scheme")).await.is_err());
    assert_eq!(get(&outbound, &server.url("127.0.0.1", "/here")).await.unwrap(), "there");
    let looping = get(&outbound, &server.url("127.0.0.1", "/loop")).await;
    assert_eq!(looping, Err(Failure::TooManyRedirects));
}

#[tokio::test]
async fn a_post_is_not_repeated_at_the_end_of_a_redirect() {
    let server = Server::start(|_| redirect(307, "/elsewhere")).await;
    let outbound = outbound(&config(), Arc::default());
    let url = server.url("127.0.0.1", "/");
    let answer = outbound.post_json(&url, "{}", SMALL).await.unwrap().success();
    let status = StatusCode::TEMPORARY_REDIRECT;
    assert_eq!(answer.err(), Some(Failure::Status { status, retry_after: None }));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_body_that_comes_slowly_times_out_by_the_clock() {
    let (send, receive) = mpsc::unbounded_channel::<Bytes>();
    let receive = Arc::new(Mutex::new(Some(receive)));
    let server = Server::start(move |_| {
        let pieces = receive.lock().unwrap().take().unwrap();
        let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        });
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    })
    .await;
    let clock = Hand::new();
    let outbound = Outbound::new(&config(), Arc::new(clock.clone()), Scripted::new(&[])).unwrap();
    send.send(Bytes::from_static(b"a")).unwrap();
    let url = server.url("127.0.0.1", "/");
    let mut response = outbound.get(&url, HeaderMap::new(), SMALL).await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "a");
    clock.0.send_replace(Duration::from_secs(29));
    send.send(Bytes::from_static(b"b")).unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "b");
    clock.0.send_replace(Duration::from_secs(30));
    assert_eq!(response.chunk().await, Err(Failure::TimedOut));
}

#[tokio::test]
async fn a_server_that_never_answers_times_out_by_the_clock() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let clock = Hand::new();
    let outbound = Outbound::new(&config(), Arc::new(clock.clone()), Scripted::new(&[])).unwrap();
    let moving = async {
        let _silent = listener.accept().await.unwrap();
        clock.0.send_replace(Duration::from_secs(30));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = outbound.post_json(&url, "{}", SMALL) => {
            assert_eq!(answer.err(), Some(Failure::TimedOut));
        }
        () = moving => {}
    }
}

#[tokio::test]
async fn a_body_is_cut_at_its_bound_whatever_its_headers_say() {
    let server = Server::start(|request| match request.uri().path() {
        "/announced" => full(vec![b'a'; 1_001]),
        "/fits" => full(vec![b'a'; 1_000]),
        _ => {
            let endless = futures_util::stream::repeat_with(|| {
                Ok(Frame::data(Bytes::from_static(&[b'a'; 100])))
            });
            Response::new(BodyExt::boxed(StreamBody::new(endless)))
        }
    })
    .await;
    let outbound = outbound(&config(), Arc::default());
    for path in ["/announced", "/endless"] {
        let answer = get(&outbound, &server.url("127.0.0.1", path)).await;
        assert_eq!(answer, Err(Failure::TooLarge), "{path}");
    }
    assert_eq!(get(&outbound, &server.url("127.0.0.1", "/fits")).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn failures_tell_a_status_from_no_connection_and_hold_no_url() {
    let server = Server::start(|_| {
        let busy = Response::builder().status(429).header(header::RETRY_AFTER, "17");
        busy.body(full("").into_body()).unwrap()
    })
    .await;
    let outbound = outbound(&config(), Arc::default());
    let busy = get(&outbound, &server.url("127.0.0.1", "/")).await.unwrap_err();
    let status = StatusCode::TOO_MANY_REQUESTS;
    let after = RetryAfter::Delay(Duration::from_secs(17));
    assert_eq!(busy, Failure::Status { status, retry_after: Some(after) });
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = get(&outbound, &format!("http://{gone}/?key=secret")).await.unwrap_err();
    assert_eq!(gone, Failure::Unreachable("no connection"));
    assert!(!format!("{gone} {gone:?}").contains("secret"));
    for url in ["", "gateway", "ftp://gateway.test/", "http://"] {
        assert_eq!(get(&outbound, url).await, Err(Failure::InvalidUrl), "{url}");
    }
}

/// An authority and a server certificate for `gateway.test` by it.
fn certificates(folder: &tempfile::TempDir) -> (PathBuf, TlsAcceptor) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let path = folder.path().join("authority.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (path, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn an_authority_is_trusted_once_it_is_configured_and_connections_are_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let (ca_certificates, tls) = certificates(&folder);
    let server = Server::start_with(Some(tls), |request| {
        assert_eq!(request.version(), Version::HTTP_2);
        full("hello")
    })
    .await;
    let url = format!("https://gateway.test:{}/", server.address.port());
    let here: [&[&str]; 2] = [&["127.0.0.1"], &["127.0.0.1"]];
    let distrusting = outbound(&config(), Scripted::new(&here));
    assert_eq!(get(&distrusting, &url).await, Err(Failure::Unreachable("no connection")));

    let config = config::Outbound { ca_certificates, ..config() };
    let resolver = Scripted::new(&here);
    let trusting = outbound(&config, Arc::clone(&resolver));
    for _ in 0..3 {
        assert_eq!(get(&trusting, &url).await.unwrap(), "hello");
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1, "the connection is used again");

    let missing = config::Outbound { ca_certificates: folder.path().join("none.pem"), ..config };
    assert!(Outbound::new(&missing, Arc::new(Hand::new()), Scripted::new(&[])).is_err());
}
