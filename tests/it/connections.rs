//! Connections: each phase has a time limit, and no address takes all of them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use wick_api::{Closed, Connections, Peer};
use wick_harness::{TestServer, User};

const VERSIONS: &[u8] = b"GET /_matrix/client/versions HTTP/1.1\r\nHost: localhost\r\n\r\n";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

/// More than any buffer on the way.
const BUFFER: usize = 1 << 20;

fn peer() -> Peer {
    Peer::Address([192, 0, 2, 1].into())
}

/// Serves one connection of a client that runs `client`.
async fn serve<F: Future<Output = ()>>(
    server: &TestServer,
    buffer: usize,
    client: impl FnOnce(DuplexStream) -> F,
) -> Closed {
    let services = Arc::clone(server.services());
    let connections = Connections::new(Arc::clone(&services), 10);
    let slot = connections.admit(peer()).expect("a free slot");
    let (near, far) = duplex(buffer);
    let router = wick_api::router(services);
    let (closed, ()) = tokio::join!(connections.serve(slot, near, peer(), router), client(far));
    closed
}

/// Reads an answer's head and as much of its body as is there.
async fn read_answer(stream: &mut DuplexStream) -> String {
    let mut answer = vec![0; 10_000];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_connection_without_a_whole_first_request_is_closed() {
    let server = TestServer::start().await;
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost:", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let closed = serve(&server, BUFFER, async |mut stream| {
            stream.write_all(sent.as_bytes()).await.unwrap();
            server.clock.advance(Duration::from_secs(29)).await;
            stream.write_all(b"").await.unwrap();
            server.clock.advance(Duration::from_secs(1)).await;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        assert_eq!(closed.await, Closed::NoRequest, "{sent:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_next_request_is_closed() {
    let server = TestServer::start().await;
    let closed = serve(&server, BUFFER, async |mut stream| {
        for _ in 0..2 {
            stream.write_all(VERSIONS).await.unwrap();
            let answer = read_answer(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            server.clock.advance(Duration::from_secs(74)).await;
        }
        server.clock.advance(Duration::from_secs(1)).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    });
    assert_eq!(closed.await, Closed::Idle);
}

#[tokio::test]
async fn the_head_of_a_later_request_may_not_trickle() {
    let server = TestServer::start().await;
    let closed = serve(&server, BUFFER, async |mut stream| {
        stream.write_all(VERSIONS).await.unwrap();
        read_answer(&mut stream).await;
        for byte in &VERSIONS[..30] {
            stream.write_all(&[*byte]).await.unwrap();
            server.clock.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    });
    assert_eq!(closed.await, Closed::SlowHead);
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed() {
    let server = TestServer::start().await;
    let closed = serve(&server, BUFFER, async |stream| {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let requests = async {
            let request = Request::get("http://localhost/_matrix/client/versions");
            let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.unwrap();
            server.clock.advance(Duration::from_secs(74)).await;
            assert!(!sender.is_closed());
            server.clock.advance(Duration::from_secs(1)).await;
        };
        let (ended, ()) = tokio::join!(connection, requests);
        ended.unwrap();
    });
    assert_eq!(closed.await, Closed::Idle);
}

async fn user_with_much_data(server: &TestServer) -> (User, String) {
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.test", alice.user_id);
    let (status, _) = server.put(&path, &alice.token, json!({ "a": "x".repeat(900_000) })).await;
    assert_eq!(status, StatusCode::OK);
    (alice, path)
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let server = TestServer::start().await;
    let (alice, path) = user_with_much_data(&server).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        alice.token
    );
    let closed = serve(&server, 1024, async |mut stream| {
        stream.write_all(request.as_bytes()).await.unwrap();
        // Reading some of it is progress.
        for _ in 0..3 {
            server.clock.advance(Duration::from_secs(29)).await;
            stream.read_exact(&mut [0; 100_000]).await.unwrap();
        }
        server.clock.advance(Duration::from_secs(30)).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() < 900_000);
    });
    assert_eq!(Box::pin(closed).await, Closed::SlowReader);
}

#[tokio::test]
async fn a_client_that_reads_a_large_answer_gets_all_of_it() {
    let server = TestServer::start().await;
    let (alice, path) = user_with_much_data(&server).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        alice.token
    );
    let closed = serve(&server, 1024, async |mut stream| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(body, json!({ "a": "x".repeat(900_000) }).to_string());
    });
    assert_eq!(closed.await, Closed::Ended);
}

#[tokio::test]
async fn an_http2_stream_that_is_never_read_does_not_keep_its_connection() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let closed = serve(&server, BUFFER, async |stream| {
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(0)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let request = Request::get(format!("http://localhost{WHOAMI}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let requests = async {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            server.clock.advance(Duration::from_secs(30 + 75 + 30)).await;
            answer.into_body().collect().await.unwrap_err();
        };
        let (_broken, ()) = tokio::join!(connection, requests);
    });
    assert_eq!(closed.await, Closed::Idle);
}

#[tokio::test]
async fn no_address_takes_all_connections_and_a_trusted_proxy_may() {
    let server = TestServer::start_with(|config| {
        config.connections.max_per_address = 3;
        config.server.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
    })
    .await;
    let connections = Connections::new(Arc::clone(server.services()), 8);
    let at = |address: &str| connections.admit(Peer::Address(address.parse().unwrap()));
    let of_one: Vec<_> = (1..=3).map(|n| at(&format!("2001:db8::{n}")).unwrap()).collect();
    assert!(at("2001:db8::4").is_none());
    let others: Vec<_> = (0..5).map(|_| at("10.0.0.1").unwrap()).collect();
    assert!(at("192.0.2.1").is_none() && connections.admit(Peer::Local).is_none());
    drop(others);
    at("192.0.2.1").unwrap();
    drop(of_one);
    at("2001:db8::4").unwrap();
}

/// The connections of a whole process, whose file descriptors are limited.
mod of_a_process {
    use std::{net::SocketAddr, process::Command};

    use http::Method;
    use http_body_util::Full;
    use hyper::client::conn::http1;
    use serde_json::Value;
    use tempfile::tempdir;
    use tokio::net::{TcpSocket, TcpStream};
    use wick_harness::process::Process;

    use super::*;

    const HEALTH: &str = "/_wick/health";

    async fn connect_from(source: [u8; 4], server: &Process) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        socket.connect(server.address()).await.unwrap()
    }

    /// A connection for several requests.
    struct Client(http1::SendRequest<Full<Bytes>>);

    impl Client {
        async fn new(stream: TcpStream) -> Self {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            hyper::rt::Executor::execute(&TokioExecutor::new(), async move {
                // A broken connection shows in the requests.
                drop(connection.await);
            });
            Self(sender)
        }

        async fn ask(
            &mut self,
            method: Method,
            path: &str,
            token: &str,
            body: Value,
        ) -> (StatusCode, Value) {
            let mut request =
                Request::builder().method(method).uri(path).header(header::HOST, "localhost");
            if !token.is_empty() {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let body = Full::new(Bytes::from(body.to_string()));
            let answer = self.0.send_request(request.body(body).unwrap()).await.unwrap();
            let status = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap())
        }

        async fn register(&mut self, name: &str) -> String {
            let body = json!({
                "username": name, "password": "correct horse", "auth": { "type": "m.login.dummy" },
            });
            let path = "/_matrix/client/v3/register";
            let (status, body) = self.ask(Method::POST, path, "", body).await;
            assert_eq!(status, StatusCode::OK, "{body}");
            body["access_token"].as_str().unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn silent_connections_leave_descriptors_for_others_and_for_the_database() {
        let folder = tempdir().unwrap();
        // 128 descriptors and those of the table files are kept from connections: 108 are left.
        let arguments = [
            "--set",
            "database.max_open_files=64",
            "--set",
            "connections.header_timeout=1s",
            "--set",
            "limits.enabled=false",
        ];
        let server = Process::start_with_descriptors(folder.path(), &arguments, (256, 300));
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(connect_from([127, 0, 0, 1], &server).await);
        }
        // The address has its share, half of all; another one gets through and can write.
        let mut client = Client::new(connect_from([127, 0, 0, 2], &server).await).await;
        client.register("alice").await;
        assert_eq!(client.ask(Method::GET, HEALTH, "", Value::Null).await.1["status"], "ok");
        for mut stream in silent {
            // Closed at once or after the time for a first request, reset or not.
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
        let mut again = Client::new(connect_from([127, 0, 0, 1], &server).await).await;
        again.register("bob").await;
    }

    #[test]
    fn too_few_descriptors_are_refused_at_the_start() {
        let folder = tempdir().unwrap();
        let ended = Process::run_with_descriptors(folder.path(), (256, 300));
        assert!(!ended.status.success());
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(told.contains("database.max_open_files"), "{told}");
    }

    #[tokio::test]
    async fn a_database_that_could_not_be_written_recovers_without_a_restart() {
        let folder = tempdir().unwrap();
        let arguments = [
            "--set",
            "limits.enabled=false",
            "--set",
            "database.write_buffer_megabytes=8",
            "--set",
            "connections.idle_timeout=1h",
        ];
        let mut server = Process::start(folder.path(), &arguments);
        let limit_descriptors = |soft: usize| {
            let limited = Command::new("prlimit")
                .arg(format!("--pid={}", server.id()))
                .arg(format!("--nofile={soft}:"))
                .status();
            assert!(limited.unwrap().success());
        };
        let mut client = Client::new(TcpStream::connect(server.address()).await.unwrap()).await;
        let token = client.register("alice").await;
        let (_, room) =
            client.ask(Method::POST, "/_matrix/client/v3/createRoom", &token, json!({})).await;
        let room = room["room_id"].as_str().unwrap();
        // No file can be opened any more; sooner or later the database needs one for its next log.
        limit_descriptors(3);
        let mut sent = 0;
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{sent}");
            let body = json!({ "msgtype": "m.text", "body": "x".repeat(60_000) });
            let (status, _) = client.ask(Method::PUT, &path, &token, body).await;
            if status != StatusCode::OK {
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
                break;
            }
            sent += 1;
            assert!(sent < 2_000, "the database opens no file");
        }
        let (status, body) = client.ask(Method::GET, HEALTH, "", Value::Null).await;
        assert_eq!(
            (status, &body["status"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("read-only"))
        );
        limit_descriptors(4096);
        server.wait_for("ready");
        let mut client = Client::new(TcpStream::connect(server.address()).await.unwrap()).await;
        let (status, _) = client.ask(Method::GET, HEALTH, "", Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/after");
        let body = json!({ "msgtype": "m.text", "body": "after" });
        let (status, body) = client.ask(Method::PUT, &path, &token, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let (_, page) = client
            .ask(
                Method::GET,
                &format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=3"),
                &token,
                Value::Null,
            )
            .await;
        let bodies: Vec<_> =
            page["chunk"].as_array().unwrap().iter().map(|e| &e["content"]["body"]).collect();
        assert_eq!(*bodies[0], "after");
        assert_eq!(bodies[1].as_str().unwrap().len(), 60_000);
    }
}
