//! Every scenario that needs no real time to pass, against a homeserver of a few lines in the same process.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    rc::Rc,
};

use crate::{
    cli::{Options, Plan},
    report::Report,
    scenario,
};
use bytes::Bytes;
use clap::Parser;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

/// One room that everybody shares; a sync position is the number of events before it.
#[derive(Default)]
struct Homeserver {
    events: RefCell<Vec<Value>>,
    arrived: Notify,
    requests: Cell<u64>,
}

impl Homeserver {
    async fn answer(&self, path: &str, query: &str, body: &Value) -> (u16, Value) {
        self.requests.set(self.requests.get() + 1);
        let number = self.requests.get();
        let operation = path.trim_start_matches("/_matrix/client/v3/");
        match operation.split('/').next().unwrap_or_default() {
            "register" => (200, json!({ "user_id": "@a:b", "access_token": format!("{number}") })),
            "createRoom" | "join" => (200, json!({ "room_id": "!room:b" })),
            "rooms" => (200, self.event(body.clone())),
            "sync" => (200, self.sync(query).await),
            "expiration" if body["expire_refresh_token"].is_string() => (200, json!({})),
            _ => (404, json!({ "errcode": "M_UNRECOGNIZED" })),
        }
    }

    fn event(&self, content: Value) -> Value {
        let id = format!("${}", self.events.borrow().len());
        self.events
            .borrow_mut()
            .push(json!({ "origin_server_ts": 1, "event_id": id, "content": content }));
        self.arrived.notify_waiters();
        json!({ "event_id": id, "expire_refresh_token": format!("token of {id}") })
    }

    async fn sync(&self, query: &str) -> Value {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("since="));
        let since = since.map_or(0, |since| since.parse().unwrap());
        while query.contains("timeout=") && self.events.borrow().len() <= since {
            self.arrived.notified().await;
        }
        let events = self.events.borrow();
        json!({
            "next_batch": events.len().to_string(),
            "rooms": { "join": { "!room:b": { "timeline": { "events": events[since..] } } } },
        })
    }
}

async fn serve(listener: TcpListener, homeserver: Rc<Homeserver>) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let homeserver = Rc::clone(&homeserver);
                let service = service_fn(move |request| handle(Rc::clone(&homeserver), request));
                let stream = TokioIo::new(accepted.unwrap().0);
                connections.push(http1::Builder::new().serve_connection(stream, service));
            }
            Some(ended) = connections.next() => drop(ended),
        }
    }
}

async fn handle(
    homeserver: Rc<Homeserver>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) =
        homeserver.answer(head.uri.path(), head.uri.query().unwrap_or_default(), &body).await;
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(answer.to_string()))).unwrap())
}

fn run(arguments: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let words = ["wick-load"].into_iter().chain(arguments.split_whitespace());
        let options = Options::parse_from(words.chain(["--warmup", "0", "--url", &url]));
        let plan = Plan::new(options).unwrap();
        tokio::select! {
            report = scenario::run(&plan) => report.unwrap(),
            () = serve(listener, Rc::default()) => unreachable!("the homeserver never ends"),
        }
    })
}

fn assert_counts(report: &Report, expected: &[u64]) {
    let counts: Vec<u64> = report.measures.iter().map(|measure| measure.count).collect();
    assert_eq!(counts, expected, "{report}");
    assert!(report.measures.iter().all(|measure| measure.errors.is_empty()), "{report}");
}

#[test]
fn messages_and_state_are_sent_exactly_as_often_as_asked() {
    assert_counts(&run("send --users 3 --connections 5 --count 40"), &[40]);
    assert_counts(&run("state --users 2 --rooms 5 --count 30"), &[30]);
}

#[test]
fn every_user_joins_once() {
    assert_counts(&run("join --users 21 --connections 4"), &[21]);
}

#[test]
fn each_message_reaches_each_watcher() {
    assert_counts(&run("sync-fanout --users 6 --count 5 --rate 1000"), &[30, 5]);
}

#[test]
fn first_syncs_are_measured_after_the_history_is_written() {
    assert_counts(&run("sync-initial --rooms 2 --messages 3 --count 4"), &[4]);
}

#[test]
fn timers_are_armed_and_refreshed() {
    assert_counts(&run("expire-arm --users 2 --count 9"), &[9]);
    assert_counts(&run("expire-refresh --users 2 --timers 7 --count 50"), &[50]);
}
