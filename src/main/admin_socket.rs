//! `wick admin`: asks the running server over its socket and shows the answer.

mod calls;
mod federation;
mod media;

use std::{io::ErrorKind, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime};
use wick_core::Config;

use crate::{
    Failure,
    cli::{self, Admin, Calls, Timers},
};

/// The server's answer to an administrator.
pub(crate) enum Reply {
    /// It did what was asked.
    Done(Value),
    /// No server listens on the socket.
    NotRunning,
}

/// Does what was asked on the command line.
pub(crate) fn run(config: &Config, what: &Admin) -> Result<(), Failure> {
    match what {
        Admin::Status => {
            show(ask(config, Method::GET, "/status", None)?, |status| vec![status.to_string()])
        }
        Admin::Reports { limit } => {
            let path = format!("/reports?limit={limit}");
            show(ask(config, Method::GET, &path, None)?, report_lines)
        }
        Admin::Calls(Calls::Check) => calls::check(config),
        Admin::Guests { limit } => {
            let path = format!("/guests?limit={limit}");
            show(ask(config, Method::GET, &path, None)?, guest_lines)
        }
        Admin::Federation(what) => federation::run(config, what),
        Admin::Media(what) => media::run(config, what),
        Admin::Timers(Timers::List { room, user }) => {
            let path = list_path(room.as_deref(), user.as_deref());
            show(ask(config, Method::GET, &path, None)?, timer_lines)
        }
        Admin::Timers(Timers::End { timer }) => {
            let path = format!("/timers/{timer}/end");
            show(ask(config, Method::POST, &path, None)?, |_| vec![format!("timer {timer} ended")])
        }
    }
}

/// A text as one part of a path.
fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn list_path(room: Option<&str>, user: Option<&str>) -> String {
    format!("/timers?{}", query([("room_id", room), ("user_id", user)]))
}

fn query<const N: usize>(fields: [(&str, Option<&str>); N]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}

/// A timer a line, and how many run in all.
fn timer_lines(answer: &Value) -> Vec<String> {
    let fields = ["timer", "kind", "room_id", "event_id", "type", "owner", "deadline", "duration"];
    let mut lines = rows(answer, "timers", &fields);
    lines.push(format!("running: {}", text(answer, "running")));
    lines
}

/// A report a line.
fn report_lines(answer: &Value) -> Vec<String> {
    rows(answer, "reports", &["at", "reporter", "room_id", "event_id", "user_id", "reason"])
}

/// A guest a line, and how many there are in all.
fn guest_lines(answer: &Value) -> Vec<String> {
    let mut lines = rows(answer, "guests", &["user_id", "created", "last_seen"]);
    lines.push(format!("total: {}", text(answer, "total")));
    lines
}

/// A line for each object of a list, with some of its fields.
fn rows(answer: &Value, list: &str, fields: &[&str]) -> Vec<String> {
    let objects = answer.get(list).and_then(Value::as_array);
    let line = |object| {
        let fields: Vec<_> = fields.iter().map(|field| text(object, field)).collect();
        fields.join("  ")
    };
    objects.into_iter().flatten().map(line).collect()
}

/// A field without line breaks, which are escaped so that each object stays in its line.
fn text(object: &Value, field: &str) -> String {
    match object.get(field) {
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// One request to the running server.
pub(crate) fn ask(
    config: &Config,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Reply, Failure> {
    let socket = config.admin_socket();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("the runtime cannot be started", error))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "wick")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::because("this cannot be asked", error))?;
    runtime.block_on(converse(&socket, request))
}

async fn converse(socket: &Path, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        // No socket, or one that a killed server has left.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return Ok(Reply::NotRunning);
        }
        Err(error) => {
            let what = format_args!("the socket {} cannot be opened", socket.display());
            return Err(Failure::because(what, error));
        }
    };
    let broken = |error: hyper::Error| Failure::because("the server does not answer", error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let body: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::because("the server's answer cannot be read", error))?;
        if status.is_success() {
            return Ok(Reply::Done(body));
        }
        let message = body.get("error").and_then(Value::as_str).unwrap_or("no reason was given");
        Err(Failure::because("the server refused", message))
    };
    // The outcome of the exchange is enough; that of the connection adds nothing.
    let (reply, _) = tokio::join!(exchange, connection);
    reply
}

fn show(reply: Reply, lines: impl FnOnce(&Value) -> Vec<String>) -> Result<(), Failure> {
    match reply {
        Reply::Done(answer) => lines(&answer).iter().try_for_each(|line| cli::print(line)),
        Reply::NotRunning => {
            Err(Failure("no server listens on the admin socket; is it running?".to_owned()))
        }
    }
}
