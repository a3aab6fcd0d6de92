//! One HTTP/1.1 keep-alive connection, driven by its caller: no task, no pool, one request at a time.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::{Failure, Result};

/// How long an answer may take: longer than any long poll of ours.
const PATIENCE: Duration = Duration::from_secs(60);

type Driver = Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    used: bool,
}

/// A connection that opens itself when first used, and again if the server closed it.
pub(crate) struct Connection {
    authority: String,
    link: Option<Link>,
}

/// One request: method, path with query, token, JSON body.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) token: Option<&'a str>,
    pub(crate) body: Option<Value>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: String, token: &'a str) -> Self {
        Self { method: Method::GET, path, token: Some(token), body: None }
    }

    pub(crate) fn put(path: String, token: Option<&'a str>, body: Value) -> Self {
        Self { method: Method::PUT, path, token, body: Some(body) }
    }

    pub(crate) fn post(path: &str, token: Option<&'a str>, body: Value) -> Self {
        Self { method: Method::POST, path: path.to_owned(), token, body: Some(body) }
    }

    /// The same request to send an event, which is then to be sent after `delay` only.
    pub(crate) fn delayed(mut self, delay: Duration) -> Self {
        self.path.push_str(&format!("?org.matrix.msc4140.delay={}", delay.as_millis()));
        self
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    errcode: String,
    retry_after_ms: Option<u64>,
}

impl Connection {
    /// A connection to `authority` (`host:port`), not yet open.
    pub(crate) fn new(authority: &str) -> Self {
        Self { authority: authority.to_owned(), link: None }
    }

    /// Sends and reads the whole answer. Anything but 200 is a `Failure::Answer`.
    pub(crate) async fn call(&mut self, call: &Call<'_>) -> Result<Bytes> {
        let (status, body) = self.exchange(call).await?;
        if status == 200 {
            return Ok(body);
        }
        let error: ErrorBody = serde_json::from_slice(&body).unwrap_or_default();
        Err(Failure::Answer {
            status,
            errcode: error.errcode,
            retry_after_ms: error.retry_after_ms,
        })
    }

    /// As [`Self::call`], reading the answer as `T`.
    pub(crate) async fn call_json<T: DeserializeOwned>(&mut self, call: &Call<'_>) -> Result<T> {
        Ok(serde_json::from_slice(&self.call(call).await?)?)
    }

    /// Sends and reads status and body, whatever the status.
    pub(crate) async fn exchange(&mut self, call: &Call<'_>) -> Result<(u16, Bytes)> {
        let reused = self.link.as_ref().is_some_and(|link| link.used);
        match self.try_within(call).await {
            // A server may close an idle connection just as the request leaves; a fresh one settles it.
            Err(Failure::Http(error)) if reused && !error.is_parse() => self.try_within(call).await,
            outcome => outcome,
        }
    }

    async fn try_within(&mut self, call: &Call<'_>) -> Result<(u16, Bytes)> {
        match tokio::time::timeout(PATIENCE, self.try_exchange(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Other(format!("no answer to {} {}", call.method, call.path))),
        }
    }

    async fn try_exchange(&mut self, call: &Call<'_>) -> Result<(u16, Bytes)> {
        let request = self.request(call)?;
        let Link { mut sender, mut driver, .. } = match self.link.take() {
            Some(link) => link,
            None => open(&self.authority).await?,
        };
        let exchange = pin!(async move {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, Failure>((sender, status, body))
        });
        match select(exchange, driver.as_mut()).await {
            Either::Left((outcome, _)) => {
                let (sender, status, body) = outcome?;
                self.link = Some(Link { sender, driver, used: true });
                Ok((status, body))
            }
            // The connection is at its end, but the answer may have come before. With the driver goes the
            // other end of its channel, so that a request it never took is not waited for.
            Either::Right((_, exchange)) => {
                drop(driver);
                exchange.await.map(|(_, status, body)| (status, body))
            }
        }
    }

    fn request(&self, call: &Call<'_>) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(header::HOST, &self.authority);
        if let Some(token) = call.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match &call.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        Ok(request.body(Full::new(body))?)
    }
}

async fn open(authority: &str) -> Result<Link> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok(Link { sender, driver: Box::pin(connection), used: false })
}

/// Percent-encodes one path segment or query value.
pub(crate) fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len() + 8);
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn identifiers_are_encoded_as_one_segment() {
        assert_eq!(encode("!a/b:c.d"), "%21a%2Fb%3Ac.d");
        assert_eq!(encode("ü"), "%C3%BC");
    }

    #[tokio::test]
    async fn a_connection_the_server_closed_is_opened_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = Connection::new(&listener.local_addr().unwrap().to_string());
        let serving = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                if stream.read(&mut request).await.unwrap() > 0 {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                        .await
                        .unwrap();
                }
            }
        };
        let asking = async {
            for _ in 0..3 {
                let answer = connection.call(&Call::get("/".to_owned(), "token")).await;
                assert_eq!(answer.unwrap().as_ref(), b"{}");
            }
        };
        tokio::select! {
            () = asking => {}
            () = serving => unreachable!("the server never ends"),
        }
    }
}
