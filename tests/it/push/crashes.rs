//! What becomes of notifications if a commit fails or the process crashes at it.

#![expect(clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};
use wick_database::{FaultAction, Range, Read, schema::push::PENDING_PUSH_BY_POSITION};
use wick_harness::{FATES, Options, Strike, TestServer};

use super::gateway::Two;

/// More commits than it takes to send a message and to push it.
const COMMITS: u64 = 8;

const SECOND: Duration = Duration::from_secs(1);

struct Struck {
    two: Two,
    strike: Arc<Strike>,
    fate: FaultAction,
    room: String,
    /// What was sent before.
    ready: Value,
    /// Whether the process has crashed already.
    is_over: bool,
}

impl Struck {
    async fn new(fate: FaultAction, commit: u64) -> Self {
        let strike = Strike::new();
        let mut options = Options { fault: Some(Arc::clone(&strike) as _), ..Options::lenient() };
        options.config.push.allow_http = true;
        let two = Two::on(TestServer::start_from(options).await).await;
        let room = two.room().await;
        let room = room.path("/send/m.room.message");
        let mut this = Self { two, strike, fate, room, ready: Value::Null, is_over: false };
        this.ready = this.send("ready").await;
        assert_eq!(this.two.gateway.next().await["event_id"], this.ready);
        this.strike.at(commit, fate);
        this
    }

    /// Comes back to life if it was struck.
    async fn revive(&mut self) {
        if self.strike.has_struck() && !self.is_over {
            self.is_over = true;
            if self.fate != FaultAction::Fail {
                self.two.server.crash().await;
            }
        }
    }

    /// Sends a message, as often as it takes.
    async fn send(&mut self, body: &str) -> Value {
        loop {
            let content = json!({ "msgtype": "m.text", "body": body });
            let path = format!("{}/{body}", self.room);
            let (status, sent) = self.two.server.put(&path, &self.two.alice.token, content).await;
            if status == StatusCode::OK {
                return sent["event_id"].clone();
            }
            self.revive().await;
        }
    }

    /// Everything that is pushed up to this event.
    async fn pushed_up_to(&mut self, last: &Value) -> Vec<Value> {
        let mut pushed = vec![self.ready.clone()];
        while pushed.last() != Some(last) {
            let strike = Arc::clone(&self.strike);
            tokio::select! {
                biased;
                notification = self.two.gateway.next() => {
                    pushed.push(notification["event_id"].clone());
                }
                () = strike.struck(), if !self.is_over && self.fate != FaultAction::Fail => {
                    self.revive().await;
                }
                () = tokio::task::yield_now() => {
                    if self.two.server.clock.is_awaited(SECOND) {
                        self.two.server.clock.advance(SECOND).await;
                    }
                }
            }
        }
        pushed
    }

    /// Lets the server finish, and returns how many notifications are still stored.
    async fn left(&self) -> usize {
        let server = &self.two.server;
        let stored = || {
            let latest = server.services().database.latest();
            latest.scan(&PENDING_PUSH_BY_POSITION, Range::all()).count()
        };
        for _ in 0..100 {
            if stored() == 0 {
                break;
            }
            server.clock.advance(SECOND).await;
        }
        stored()
    }
}

#[tokio::test]
async fn every_notification_is_sent_in_order_and_one_at_most_twice_whatever_becomes_of_a_commit() {
    for fate in FATES {
        for commit in 1..=COMMITS {
            let mut struck = Struck::new(fate, commit).await;
            let mut sent = vec![struck.ready.clone()];
            for body in ["one", "two", "three", "four"] {
                sent.push(struck.send(body).await);
            }
            let mut pushed = struck.pushed_up_to(&sent[4]).await;
            let count = pushed.len();
            pushed.dedup();
            assert_eq!(pushed, sent, "{fate:?} at {commit}");
            assert!(count <= sent.len() + 1, "{fate:?} at {commit}: {count}");
            assert_eq!(struck.left().await, 0, "{fate:?} at {commit}");
        }
    }
}
