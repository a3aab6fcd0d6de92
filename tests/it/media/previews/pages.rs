//! A web server with a few pages, most of them odd.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::media::pictures;

/// The server. Each connection has one request.
pub(super) struct Pages {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Pages {
    pub(super) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(answer(stream));
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How many requests there were.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const HTML: &str = "text/html; charset=utf-8";

const PAGE: &str = "<meta property='og:title' content='A title'>\
                    <meta property='og:image' content='/image.png'>\
                    <meta property='og:image:width' content='9999'><p>Some text";

/// Status, content type and body of what has an end.
fn response(path: &str) -> (&'static str, &'static str, Vec<u8>) {
    let ok = |kind, body: &str| ("200 OK", kind, body.as_bytes().to_vec());
    let path = path.split('?').next().unwrap_or_default();
    match path {
        "/page" => ok(HTML, PAGE),
        "/image.png" => ("200 OK", "image/png", pictures::png(120, 80)),
        "/broken" => ok(HTML, "<title>t</title><img src='/image.txt'>"),
        "/image.txt" => ok("image/png", "no image"),
        "/file" => ok("application/pdf", "%PDF"),
        "/long" => {
            let late = "<meta property=og:title content=late>";
            ok(HTML, &format!("<title>long</title>{}{late}", "x".repeat(2 << 20)))
        }
        "/latin" => ("200 OK", "text/html; charset=ISO-8859-1", b"<title>f\xfcr</title>".to_vec()),
        "/mislabelled" => ("200 OK", HTML, b"<title>f\xfcr</title>".to_vec()),
        "/nested" => ok(HTML, &format!("<title>deep</title>{}", "<div>".repeat(100_000))),
        "/many" => {
            let metas = (0..10_000).map(|n| format!("<meta property='og:x{n}' content='y'>"));
            ok(HTML, &metas.collect::<String>())
        }
        "/image-away" => ok(HTML, "<title>away</title><img src='http://127.0.0.2:1/a.png'>"),
        "/away" => ("302 Found\r\nlocation: http://127.0.0.2:1/", HTML, Vec::new()),
        "/moved" => ("301 Moved Permanently\r\nlocation: /page", HTML, Vec::new()),
        "/loop" => ("302 Found\r\nlocation: /loop", HTML, Vec::new()),
        "/error" => ("500 Internal Server Error", HTML, Vec::new()),
        _ => ("404 Not Found", HTML, Vec::new()),
    }
}

/// One request, and its connection is over.
async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await {
            Ok(length) if length > 0 => head.extend(&bytes[..length]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let endless = match path {
        _ if path.starts_with("/silent") => return std::future::pending().await,
        "/huge" => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 9999999999\r\n\r\n";
            drop(stream.write_all(head.as_bytes()).await);
            return std::future::pending().await;
        }
        "/elsewhere" => {
            let port = stream.local_addr().unwrap().port();
            let head = format!(
                "HTTP/1.1 302 Found\r\nlocation: http://localhost:{port}/page\r\ncontent-length: 0\r\n\r\n"
            );
            drop(stream.write_all(head.as_bytes()).await);
            return;
        }
        "/endless" => Some(("text/html", "<title>endless</title><img src='/endless.png'>")),
        "/endless.png" => Some(("image/png", "\u{89}PNG")),
        _ => None,
    };
    let Some((kind, beginning)) = endless else {
        let (status, kind, body) = response(path);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len(),
        );
        // The client may have enough before the end.
        if stream.write_all(head.as_bytes()).await.is_ok() {
            drop(stream.write_all(&body).await);
        }
        return;
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n{beginning}");
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(&[b' '; 65_536]).await;
    }
}
