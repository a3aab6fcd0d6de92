//! Requests to a server that may be killed at any moment.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{
    clock,
    outcome::{Result, Stop},
};

/// Where the server is for now.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    address: SocketAddr,
}

/// The server's response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// When it was asked, in milliseconds since 1970.
    pub(crate) asked: u64,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        self.ask(Method::GET, path, token, &Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::PUT, path, token, body).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::POST, path, token, body).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Result<Answer> {
        self.ask(Method::DELETE, path, token, &Value::Null).await
    }

    /// A request on a connection of its own, to a path after version 3 or to a whole one. Whatever keeps the answer from
    /// coming means that the server is gone.
    async fn ask(&self, method: Method, path: &str, token: &str, body: &Value) -> Result<Answer> {
        let asked = clock::unix_ms();
        let (status, body) =
            self.exchange(method, path, token, body).await.map_err(|_| Stop::Gone)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status, body, asked })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> std::result::Result<(u16, Bytes), Box<dyn std::error::Error>> {
        let version = if path.starts_with('/') { "" } else { "/_matrix/client/v3/" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{version}{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close");
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, body))
        };
        // How the connection ends does not matter once the answer is there.
        let (answer, _ended) = tokio::join!(exchange, connection);
        Ok(answer?)
    }
}
