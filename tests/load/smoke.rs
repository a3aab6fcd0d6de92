//! The scenarios of rooms and of timers, against a homeserver of a few lines in the same process. Its timers end the moment
//! they are set, with the time they should have ended at.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    convert::Infallible,
    rc::Rc,
};

use crate::{
    cli::{Options, Plan},
    clock,
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

/// One room that all users share; a sync position is the number of events before it.
#[derive(Default)]
struct Homeserver {
    events: RefCell<Vec<Value>>,
    arrived: Notify,
    requests: Cell<u64>,
    /// The delayed events that wait.
    delayed: RefCell<BTreeSet<String>>,
    /// Whether delayed events do wait, instead of being sent at once with the time they should have been sent at.
    patient: bool,
}

impl Homeserver {
    async fn answer(&self, path: &str, query: &str, body: &Value) -> (u16, Value) {
        self.requests.set(self.requests.get() + 1);
        let number = self.requests.get();
        let operation = path.trim_start_matches("/_matrix/client/v3/");
        if let Some(delayed) = path.split("/org.matrix.msc4140/delayed_events/").nth(1) {
            return self.manage(delayed);
        }
        match operation.split('/').next().unwrap_or_default() {
            "register" => (
                200,
                json!({ "user_id": "@a:b", "device_id": "A", "access_token": format!("{number}") }),
            ),
            "createRoom" | "join" => (200, json!({ "room_id": "!room:b" })),
            "rooms" => match query.split_once("org.matrix.msc4140.delay=") {
                Some((_, delay)) => (200, self.schedule(body.clone(), delay.parse().unwrap())),
                None => (200, self.event(body.clone(), 1)),
            },
            "sync" => (200, self.sync(query).await),
            "expiration" => (200, self.refresh(body["expire_refresh_token"].as_str().unwrap())),
            _ => (404, json!({ "errcode": "M_UNRECOGNIZED" })),
        }
    }

    /// Ends the timer, as if its whole duration had gone by.
    fn refresh(&self, token: &str) -> Value {
        let id = token.strip_prefix("token of ").unwrap();
        let event = self.events.borrow().iter().find(|event| event["event_id"] == id).cloned();
        let seconds = event.unwrap()["content"]["m.will_expire"].as_u64().unwrap();
        let terminal = json!({ "m.will_expire": "expired", "m.relates_to": { "event_id": id } });
        self.event(terminal, clock::unix_ms() + seconds * 1000);
        json!({})
    }

    fn schedule(&self, content: Value, delay: u64) -> Value {
        let id = format!("delay/{}", self.requests.get());
        if self.patient {
            self.delayed.borrow_mut().insert(id.clone());
        } else {
            self.event(content, clock::unix_ms() + delay);
        }
        json!({ "delay_id": id })
    }

    /// What is asked of a delayed event, in the form `ID/ACTION`.
    fn manage(&self, path: &str) -> (u16, Value) {
        let (id, action) = path.split_once('/').unwrap();
        let id = id.replace("%2F", "/");
        let known = match action {
            "restart" => self.delayed.borrow().contains(&id),
            "cancel" => self.delayed.borrow_mut().remove(&id),
            _ => false,
        };
        if known { (200, json!({})) } else { (404, json!({ "errcode": "M_NOT_FOUND" })) }
    }

    fn event(&self, content: Value, origin_server_ts: u64) -> Value {
        let id = format!("${}", self.events.borrow().len());
        self.events.borrow_mut().push(
            json!({ "origin_server_ts": origin_server_ts, "event_id": id, "content": content }),
        );
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
    let homeserver = Rc::default();
    run_against(&homeserver, arguments)
}

fn run_against(homeserver: &Rc<Homeserver>, arguments: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let words = ["wick-load"].into_iter().chain(arguments.split_whitespace());
        let options = Options::parse_from(words.chain(["--warmup", "0", "--url", &url]));
        let plan = Plan::new(options).unwrap();
        tokio::select! {
            report = scenario::run(&plan) => report.unwrap(),
            () = serve(listener, Rc::clone(homeserver)) => unreachable!("the homeserver never ends"),
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

#[test]
fn delays_are_scheduled_and_restarted_and_none_is_left_behind() {
    let homeserver = Rc::new(Homeserver { patient: true, ..Homeserver::default() });
    let run = |arguments: &str| run_against(&homeserver, arguments);
    assert_counts(&run("delayed-schedule --users 2 --rooms 5 --count 9"), &[9]);
    assert_counts(&run("delayed-restart --users 3 --connections 2 --timers 7 --count 50"), &[50]);
    assert!(homeserver.delayed.borrow().is_empty());
    assert!(homeserver.events.borrow().is_empty());
}

#[test]
fn every_firing_is_seen_once_by_both_clocks() {
    for scenario in ["expire-fire --duration 0", "delayed-fire --duration 1"] {
        let fire = |arguments: &str| run(&format!("{scenario} --users 2 {arguments}"));
        assert_counts(&fire("--timers 12"), &[12, 12]);
        assert_counts(&fire("--timers 12 --rooms 7 --rate 1000"), &[12, 12]);
    }
}

#[test]
fn what_could_not_be_set_is_counted_and_nothing_waits_for_it() {
    let report = run("delayed-fire --timers 3 --duration 0");
    let failures = report.measures.first().unwrap().errors.clone();
    assert_eq!(failures.into_values().collect::<Vec<u64>>(), [3], "{report}");
}
