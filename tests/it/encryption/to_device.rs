//! Messages from device to device.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the helpers of tests, which clippy does not take for tests"
)]

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};

use http::Method;
use serde_json::{Value, json};
use tokio::task::yield_now;
use wick_database::{
    Fault, FaultAction, Range, Read,
    schema::to_device::{
        OUTSTANDING_BY_SENDER, TO_DEVICE_MESSAGE_BY_POSITION, TO_DEVICE_SENT_BY_TRANSACTION,
        TO_DEVICE_TRANSACTION_BY_TIME,
    },
};
use wick_harness::{FATES, Options, Strike, TestServer, User};

const V3: &str = "/_matrix/client/v3";

/// Two users with a device each.
struct Pair {
    server: TestServer,
    alice: User,
    bob: User,
}

impl Pair {
    async fn start() -> Self {
        Self::on(TestServer::start().await).await
    }

    async fn on(server: TestServer) -> Self {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        Self { server, alice, bob }
    }

    async fn send(&self, transaction: &str, messages: Value) -> (u16, Value) {
        let path = format!("{V3}/sendToDevice/test.type/{transaction}");
        let body = json!({ "messages": messages });
        let (status, body) = self.server.put(&path, &self.alice.token, body).await;
        (status.as_u16(), body)
    }

    /// Sends `{"n": number}` to Bob's device.
    async fn send_number(&self, number: u64) {
        let messages = to(&self.bob, json!({ "n": number }));
        let sent = self.send(&format!("number-{number}"), messages).await;
        assert_eq!(sent, (200, json!({})));
    }

    async fn sync(&self, user: &User, since: Option<&str>) -> (Vec<Value>, String) {
        let since = since.map(|since| format!("?since={since}")).unwrap_or_default();
        let (status, body) = self.server.get(&format!("{V3}/sync{since}"), &user.token).await;
        assert_eq!(status.as_u16(), 200, "{body}");
        let events = body["to_device"]["events"].as_array().cloned().unwrap_or_default();
        (events, body["next_batch"].as_str().unwrap().to_owned())
    }

    /// The numbers that a sync of Bob's brings, and its token.
    async fn numbers(&self, since: Option<&str>) -> (Vec<u64>, String) {
        let (events, next) = self.sync(&self.bob, since).await;
        let number = |event: &Value| event["content"]["n"].as_u64().unwrap();
        (events.iter().map(number).collect(), next)
    }

    fn is_nothing_left(&self) -> bool {
        let latest = self.server.services().database.latest();
        latest.first(&TO_DEVICE_MESSAGE_BY_POSITION, Range::all()).unwrap().is_none()
            && latest.first(&OUTSTANDING_BY_SENDER, Range::all()).unwrap().is_none()
    }
}

fn to(user: &User, content: Value) -> Value {
    json!({ user.user_id.as_str(): { user.device_id.as_str(): content } })
}

#[tokio::test]
async fn a_message_reaches_its_device_alone_and_says_who_sent_it() {
    let pair = Pair::start().await;
    let other = pair.server.log_in(&pair.bob).await;
    // No field is the server's to read, nor those that describe the sender's device (MSC4147).
    let content = json!({
        "secret": "x", "float": 0.5, "sender_device_keys": { "keys": {} },
        "org.matrix.msc4147.device_keys": { "signatures": null },
    });
    let sent = pair.send("1", to(&pair.bob, content.clone())).await;
    assert_eq!(sent, (200, json!({})));
    let (events, _) = pair.sync(&pair.bob, None).await;
    let expected = json!({
        "sender": "@alice:localhost",
        "type": "test.type",
        "content": content,
    });
    assert_eq!(events, [expected]);
    assert_eq!(pair.sync(&other, None).await.0, Vec::<Value>::new());
    assert_eq!(pair.sync(&pair.alice, None).await.0, Vec::<Value>::new());
}

#[tokio::test]
async fn a_star_reaches_every_device_and_who_does_not_exist_is_passed_over() {
    let pair = Pair::start().await;
    let other = pair.server.log_in(&pair.bob).await;
    let messages = json!({
        "@bob:localhost": { "*": { "n": 1 }, "NOTHERE": { "n": 2 } },
        "@nobody:localhost": { "*": { "n": 3 } },
        "@bob:elsewhere.example": { "*": { "n": 4 } },
    });
    assert_eq!(pair.send("1", messages).await, (200, json!({})));
    for device in [&pair.bob, &other] {
        let (events, _) = pair.sync(device, None).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["content"], json!({ "n": 1 }));
    }
}

#[tokio::test]
async fn a_message_comes_again_until_its_token_comes_back_and_then_never() {
    let pair = Pair::start().await;
    let (_, start) = pair.numbers(None).await;
    pair.send_number(1).await;
    let (first, token) = pair.numbers(Some(&start)).await;
    assert_eq!(first, [1]);
    assert_eq!(pair.numbers(Some(&start)).await.0, [1], "the answer may have been lost");
    assert_eq!(pair.numbers(None).await.0, [1], "a sync from nothing acknowledges nothing");
    pair.send_number(2).await;
    let (second, token) = pair.numbers(Some(&token)).await;
    assert_eq!(second, [2]);
    assert_eq!(pair.numbers(Some(&token)).await.0, [0; 0]);
    assert_eq!(pair.numbers(None).await.0, [0; 0]);
    assert!(pair.is_nothing_left());
}

#[tokio::test]
async fn an_old_token_acknowledges_only_what_it_covers() {
    let pair = Pair::start().await;
    let (_, start) = pair.numbers(None).await;
    pair.send_number(1).await;
    let (_, token) = pair.numbers(Some(&start)).await;
    pair.send_number(2).await;
    let (_, _newer) = pair.numbers(Some(&token)).await;
    assert_eq!(pair.numbers(Some(&start)).await.0, [2], "the first was acknowledged before");
    assert_eq!(pair.numbers(Some(&token)).await.0, [2]);
}

#[tokio::test]
async fn a_long_inbox_comes_in_portions_in_order_and_each_wakes_the_next() {
    let pair = Pair::start().await;
    let (_, mut token) = pair.numbers(None).await;
    for number in 0..250 {
        pair.send_number(number).await;
    }
    let mut received = Vec::new();
    for portion in [100, 100, 50] {
        // A sync that would wait, if nothing were there.
        let since = format!("{token}&timeout=600000");
        let (numbers, next) = pair.numbers(Some(&since)).await;
        assert_eq!(numbers.len(), portion);
        received.extend(numbers);
        token = next;
    }
    assert_eq!(received, (0..250).collect::<Vec<_>>());
    assert_eq!(pair.numbers(Some(&token)).await.0, [0; 0]);
    assert!(pair.is_nothing_left());
}

#[tokio::test]
async fn the_token_of_a_portion_still_serves_for_the_timeline() {
    let pair = Pair::start().await;
    let (_, start) = pair.numbers(None).await;
    for number in 0..101 {
        pair.send_number(number).await;
    }
    let (_, token) = pair.numbers(Some(&start)).await;
    let (status, body) = pair
        .server
        .request(Method::POST, &format!("{V3}/createRoom"), &pair.bob.token, json!({}))
        .await;
    assert_eq!(status.as_u16(), 200);
    let room = body["room_id"].as_str().unwrap();
    let (_, body) = pair.server.get(&format!("{V3}/sync?since={token}"), &pair.bob.token).await;
    assert!(body["rooms"]["join"][room].is_object());
    let path = format!("{V3}/rooms/{room}/messages?dir=b&from={token}");
    assert_eq!(pair.server.get(&path, &pair.bob.token).await.0.as_u16(), 200);
}

#[tokio::test]
async fn a_waiting_sync_is_answered_with_a_message() {
    let pair = Pair::start().await;
    let (_, start) = pair.numbers(None).await;
    let since = format!("{start}&timeout=600000");
    let (waited, ()) = tokio::join!(pair.numbers(Some(&since)), pair.send_number(7));
    assert_eq!(waited.0, [7]);
}

#[tokio::test]
async fn a_repeated_request_is_carried_out_once_also_after_a_restart() {
    let mut pair = Pair::start().await;
    for _ in 0..2 {
        for _ in 0..2 {
            pair.send_number(1).await;
        }
        pair.server.restart().await;
    }
    assert_eq!(pair.numbers(None).await.0, [1]);
    let path = format!("{V3}/sendToDevice/another.type/number-1");
    let body = json!({ "messages": to(&pair.bob, json!({ "n": 2 })) });
    assert_eq!(pair.server.put(&path, &pair.alice.token, body).await.0.as_u16(), 200);
    assert_eq!(pair.numbers(None).await.0, [1, 2], "another type is another request");
}

#[tokio::test]
async fn an_old_transaction_is_forgotten() {
    let pair = Pair::start().await;
    pair.send_number(1).await;
    let database = &pair.server.services().database;
    let is_known = || {
        let latest = database.latest();
        let known = latest.first(&TO_DEVICE_SENT_BY_TRANSACTION, Range::all()).unwrap().is_some();
        let by_time = latest.first(&TO_DEVICE_TRANSACTION_BY_TIME, Range::all()).unwrap();
        assert_eq!(known, by_time.is_some());
        known
    };
    pair.server.clock.advance(std::time::Duration::from_secs(6 * 86_400)).await;
    assert!(is_known());
    let mut hours = 0;
    while is_known() {
        hours += 1;
        assert!(hours < 100, "it is still known after {hours} more hours");
        pair.server.clock.advance(std::time::Duration::from_secs(3_600)).await;
        pair.server
            .request(Method::GET, &format!("{V3}/account/whoami"), &pair.bob.token, Value::Null)
            .await;
    }
}

#[tokio::test]
async fn a_device_that_ends_takes_its_inbox_along() {
    let pair = Pair::start().await;
    pair.send_number(1).await;
    let logout = format!("{V3}/logout");
    let (status, _) = pair.server.request(Method::POST, &logout, &pair.bob.token, json!({})).await;
    assert_eq!(status.as_u16(), 200);
    assert!(pair.is_nothing_left());
    pair.send_number(2).await;
    assert!(pair.is_nothing_left(), "no inbox is made for a device that is gone");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_nothing_of_it_is_delivered() {
    let pair = Pair::start().await;
    let large = json!({ "n": 1, "filler": "x".repeat(66_000) });
    let mut messages = to(&pair.bob, large);
    messages["@alice:localhost"] = json!({ "*": { "n": 2 } });
    let (status, body) = pair.send("1", messages).await;
    assert_eq!((status, &body["errcode"]), (413, &json!("M_TOO_LARGE")));
    let many: serde_json::Map<_, _> = (0..6_000).map(|n| (format!("D{n}"), json!({}))).collect();
    let (status, body) = pair.send("2", json!({ "@bob:localhost": many })).await;
    assert_eq!((status, &body["errcode"]), (400, &json!("M_INVALID_PARAM")));
    assert!(pair.is_nothing_left());
    for malformed in [json!([]), json!({ "@bob:localhost": [] }), json!({ "bob": {} })] {
        let (status, body) = pair.send("3", malformed.clone()).await;
        assert_eq!(status, 400, "{malformed}: {body}");
    }
}

#[tokio::test]
async fn a_sender_cannot_fill_the_disk() {
    let pair = Pair::start().await;
    let content = json!({ "n": 1, "filler": "x".repeat(65_000) });
    let messages = to(&pair.bob, content);
    let mut accepted = 0;
    let refused = loop {
        let (status, body) = pair.send(&format!("flood-{accepted}"), messages.clone()).await;
        if status != 200 {
            break (status, body);
        }
        accepted += 1;
        assert!(accepted < 5_000, "nothing stops it");
    };
    assert_eq!((refused.0, &refused.1["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")));
    assert!(accepted > 3_000, "{accepted} messages of 65 kB are not much");
    // Once the recipient has taken some of it, there is room again.
    let (_, token) = pair.numbers(None).await;
    pair.numbers(Some(&token)).await;
    assert_eq!(pair.send("again", messages).await.0, 200);
}

/// Plays a part of a story on a server of its own for each fate at each of the next commits.
async fn at_each_commit(story: impl AsyncFn(Pair, &Strike, u64, FaultAction)) {
    for fate in FATES {
        for commit in 1..=COMMITS {
            let strike = Strike::new();
            let options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
            let pair = Pair::on(TestServer::start_from(options).await).await;
            story(pair, &strike, commit, fate).await;
        }
    }
}

/// Starts the server again if its commit was to stop it; returns whether the request came to that commit.
async fn survive(pair: &mut Pair, strike: &Strike, commit: u64, fate: FaultAction) -> bool {
    let struck = strike.has_struck();
    assert!(struck || commit > 1, "the request writes nothing");
    if struck && fate != FaultAction::Fail {
        pair.server.crash().await;
    }
    struck
}

/// More commits than a request makes, what the server notes of its device among them.
const COMMITS: u64 = 3;

#[tokio::test]
async fn a_message_is_stored_once_or_not_at_all_and_the_repetition_completes_it() {
    at_each_commit(async |mut pair, strike, commit, fate| {
        strike.at(commit, fate);
        let messages = to(&pair.bob, json!({ "n": 1 }));
        let (status, _) = pair.send("1", messages.clone()).await;
        if !survive(&mut pair, strike, commit, fate).await {
            return;
        }
        let (numbers, _) = pair.numbers(None).await;
        assert!(numbers.len() <= 1 && (status != 200 || numbers == [1]), "{fate:?} at {commit}");
        assert_eq!(pair.send("1", messages).await.0, 200, "{fate:?} at {commit}");
        assert_eq!(pair.numbers(None).await.0, [1], "{fate:?} at {commit}");
    })
    .await;
}

/// A disk whose syncs wait while it is slow.
#[derive(Default)]
struct SlowDisk {
    is_slow: AtomicBool,
    is_syncing: AtomicBool,
    gate: (Mutex<bool>, Condvar),
}

impl SlowDisk {
    /// Resolves once a sync waits.
    async fn syncing(&self) {
        while !self.is_syncing.load(Ordering::SeqCst) {
            yield_now().await;
        }
    }

    fn release(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

impl Fault for SlowDisk {
    fn before_commit(&self, _number: u64) -> FaultAction {
        FaultAction::Proceed
    }

    fn before_sync(&self) -> bool {
        if self.is_slow.load(Ordering::SeqCst) {
            self.is_syncing.store(true, Ordering::SeqCst);
            let open = self.gate.0.lock().unwrap();
            drop(self.gate.1.wait_while(open, |open| !*open).unwrap());
        }
        true
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_not_delivered_again_while_the_disk_is_slow() {
    let disk = Arc::new(SlowDisk::default());
    let mut options = Options { fault: Some(Arc::clone(&disk) as _), ..Options::lenient() };
    options.config.presence.enabled = false;
    let pair = Pair::on(TestServer::start_from(options).await).await;
    pair.send_number(1).await;
    let (numbers, token) = pair.numbers(None).await;
    assert_eq!(numbers, [1]);
    disk.is_slow.store(true, Ordering::SeqCst);
    let path = format!("{V3}/user/{}/account_data/test", pair.alice.user_id);
    let other = pair.server.put(&path, &pair.alice.token, json!({ "a": 1 }));
    let acknowledged = async {
        disk.syncing().await;
        pair.numbers(Some(&token)).await;
        pair.numbers(None).await.0
    };
    let release = async {
        disk.syncing().await;
        for _ in 0..1_000 {
            yield_now().await;
        }
        disk.release();
    };
    let ((status, _), numbers, ()) = tokio::join!(other, acknowledged, release);
    assert_eq!(status, 200);
    assert_eq!(numbers, [0; 0]);
}

#[tokio::test]
async fn a_crash_at_the_acknowledgement_loses_nothing_that_was_not_acknowledged() {
    at_each_commit(async |mut pair, strike, commit, fate| {
        pair.send_number(1).await;
        let (numbers, token) = pair.numbers(None).await;
        assert_eq!(numbers, [1]);
        pair.send_number(2).await;
        strike.at(commit, fate);
        let path = format!("{V3}/sync?since={token}");
        let _struck = pair.server.get(&path, &pair.bob.token).await;
        if !survive(&mut pair, strike, commit, fate).await {
            return;
        }
        let (numbers, token) = pair.numbers(Some(&token)).await;
        assert_eq!(numbers, [2], "{fate:?} at {commit}");
        assert_eq!(pair.numbers(Some(&token)).await.0, [0; 0], "{fate:?} at {commit}");
        assert!(pair.is_nothing_left(), "{fate:?} at {commit}");
    })
    .await;
}
