//! What was sent to a room between the leave of the last user here and the next join.

use ruma::{EventId, OwnedRoomId, RoomId};
use serde_json::{Value, json};
use wick_harness::{Gate, TestNetwork, TestServer, User};
use wick_room::invariants;

use super::waiting::until_member;
use crate::talk::{bodies, sync, sync_since};

const V3: &str = "/_matrix/client/v3";

/// Two servers: alice's, which has the room, and bob's, who leaves it and comes back.
struct Pair {
    a: TestServer,
    b: TestServer,
    alice: User,
    bob: User,
    room: OwnedRoomId,
    /// Before alice's server.
    gate: Gate,
    network: TestNetwork,
}

impl Pair {
    /// Bob has joined alice's room.
    async fn make() -> Self {
        let pair = Self::apart().await;
        pair.join("a.test").await;
        pair
    }

    /// Bob has not joined alice's room yet.
    async fn apart() -> Self {
        let network = TestNetwork::new();
        let (a, gate) = Gate::start(&network, "a.test", None).await;
        let b = network.start("b.test").await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        let body = json!({ "preset": "public_chat" });
        let (_, made) = a.post(&format!("{V3}/createRoom"), &alice.token, body).await;
        let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
        Self { a, b, alice, bob, room, gate, network }
    }

    /// Bob joins over a server.
    async fn join(&self, via: &str) {
        let path = format!("{V3}/join/{}?via={via}", self.room);
        let (status, body) = self.b.post(&path, &self.bob.token, json!({})).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Bob leaves, and alice's server knows.
    async fn leave(&self) {
        let path = format!("{V3}/rooms/{}/leave", self.room);
        assert_eq!(self.b.post(&path, &self.bob.token, json!({})).await.0, 200);
        self.a_has(&self.bob, "leave").await;
    }

    /// Waits until a user has a membership at alice's server.
    async fn a_has(&self, user: &User, membership: &str) {
        until_member(&self.a, (&self.alice, &self.room), (user, membership)).await;
    }

    /// Alice says numbers.
    async fn say(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            crate::talk::say(&self.a, &self.room, &self.alice, &number.to_string()).await;
        }
    }

    /// Alice says numbers, and bob sees them.
    async fn tell(&self, numbers: std::ops::Range<usize>) -> Value {
        let last = (numbers.end - 1).to_string();
        let mut news = sync(&self.b, &self.bob, "").await;
        self.say(numbers).await;
        while self.timeline(&news).0.last() != Some(&&*last) {
            news = sync_since(&self.b, &self.bob, &news, "&timeout=30000").await;
        }
        news
    }

    /// Bob's page backwards.
    async fn page(&self, from: &str, limit: usize) -> Value {
        let path = format!("{V3}/rooms/{}/messages?dir=b&limit={limit}{from}", self.room);
        let (status, page) = self.b.get(&path, &self.bob.token).await;
        assert_eq!(status, 200, "{page}");
        page
    }

    /// Everything that bob reads backwards in pages from a token on: the bodies of messages and the memberships of bob.
    async fn read_back(&self, from: &str, limit: usize) -> Vec<String> {
        let (mut found, mut from) = (Vec::new(), from.to_owned());
        loop {
            let page = self.page(&from, limit).await;
            found.extend(page["chunk"].as_array().unwrap().iter().filter_map(|event| {
                let content = &event["content"];
                let own = event["state_key"] == self.bob.user_id.as_str();
                let shown = if own { &content["membership"] } else { &content["body"] };
                shown.as_str().map(str::to_owned)
            }));
            let Some(end) = page["end"].as_str() else { return found };
            from = format!("&from={end}");
        }
    }

    /// The newest messages of a sync of bob, and where it says that older ones are to be had.
    fn timeline<'a>(&self, sync: &'a Value) -> (Vec<&'a str>, bool) {
        let timeline = &sync["rooms"]["join"][self.room.as_str()]["timeline"];
        (bodies(timeline), timeline["limited"] == true)
    }
}

/// Numbers as they are said, the newest first, with what stands around them.
fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.rev().map(|number| number.to_string()).collect()
}

fn with(parts: &[&[String]]) -> Vec<String> {
    parts.concat()
}

fn own(memberships: &[&str]) -> Vec<String> {
    memberships.iter().map(|membership| (*membership).to_owned()).collect()
}

fn prev_batch(sync: &Value, room: &RoomId) -> String {
    let token = &sync["rooms"]["join"][room.as_str()]["timeline"]["prev_batch"];
    format!("&from={}", token.as_str().unwrap())
}

fn assert_sound(server: &TestServer) {
    let read = server.services().database.published();
    assert_eq!(invariants::check(&read).unwrap(), []);
}

#[tokio::test]
async fn what_was_sent_between_a_leave_and_the_next_join_is_read_in_order_and_once() {
    let pair = Pair::make().await;
    pair.tell(0..3).await;
    pair.leave().await;
    // More than one answer of backfill holds.
    pair.say(3..233).await;
    pair.join("a.test").await;
    let news = pair.tell(233..235).await;
    let seen = sync(&pair.b, &pair.bob, "").await;
    assert_eq!(pair.timeline(&seen), (vec!["233", "234"], true), "the timeline ends at the gap");

    let missed = with(&[&numbers(3..233), &own(&["leave"]), &numbers(0..3), &own(&["join"])]);
    let all = with(&[&numbers(233..235), &own(&["join"]), &missed]);
    assert_eq!(pair.read_back("", 7).await, all);
    for limit in [1000, 100, 13] {
        assert_eq!(pair.read_back("", limit).await, all, "{limit}");
        assert_eq!(pair.read_back(&prev_batch(&seen, &pair.room), limit).await, missed);
    }

    // What came into the gap is no news.
    let quiet = sync_since(&pair.b, &pair.bob, &news, "").await;
    assert_eq!(pair.timeline(&quiet), (vec![], false));
    let again = sync(&pair.b, &pair.bob, "").await;
    assert_eq!(pair.timeline(&again), (vec!["233", "234"], true));
    let count = |sync: &Value| {
        let room = &sync["rooms"]["join"][pair.room.as_str()];
        room["unread_notifications"]["notification_count"].clone()
    };
    assert_eq!((count(&seen), count(&again)), (json!(2), json!(2)));
    assert_sound(&pair.b);
}

#[tokio::test]
async fn each_of_two_gaps_is_filled_also_forwards() {
    let pair = Pair::make().await;
    pair.tell(0..2).await;
    for numbers in [2..12, 12..22] {
        pair.leave().await;
        pair.say(numbers).await;
        pair.join("a.test").await;
    }
    let path = format!("{V3}/rooms/{}/messages?dir=f&limit=500", pair.room);
    let (mut forward, mut from) = (Vec::new(), String::new());
    loop {
        let (status, page) = pair.b.get(&format!("{path}{from}"), &pair.bob.token).await;
        assert_eq!(status, 200, "{page}");
        let chunk = page["chunk"].as_array().unwrap();
        let body = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
        forward.extend(chunk.iter().filter_map(body));
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    forward.reverse();
    let first = forward.iter().position(|body| body == "2").unwrap();
    assert_eq!(forward[..=first], numbers(2..22));
    let stay = own(&["join"]);
    let between = own(&["leave"]);
    let all = [&stay[..], &numbers(12..22), &between, &stay, &numbers(2..12), &between];
    let all = with(&[&with(&all), &numbers(0..2), &stay]);
    assert_eq!(pair.read_back("", 4).await, all);
    assert_sound(&pair.b);
}

#[tokio::test]
async fn a_gap_that_no_server_can_fill_is_passed_over_and_filled_later() {
    let pair = Pair::make().await;
    pair.tell(0..2).await;
    pair.leave().await;
    pair.say(2..6).await;
    pair.join("a.test").await;
    pair.gate.close();
    let before = pair.page("", 1).await;
    let from = format!("&from={}", before["end"].as_str().unwrap());
    let short = with(&[&own(&["leave"]), &numbers(0..2), &own(&["join"])]);
    assert_eq!(pair.read_back(&from, 2).await, short);
    let beyond = pair.page(&from, 1).await;
    let beyond = format!("&from={}", beyond["end"].as_str().unwrap());

    pair.gate.open(&pair.a);
    // A request of the other server ends the back-off.
    pair.tell(6..7).await;
    // Tokens from before: one stands above the gap, the other one below it.
    assert_eq!(pair.read_back(&from, 2).await, with(&[&numbers(2..6), &short]));
    assert_eq!(pair.read_back(&beyond, 2).await, short[1..]);
    assert_sound(&pair.b);
}

#[tokio::test]
async fn a_third_server_has_what_was_missed_if_the_second_is_gone() {
    let pair = Pair::make().await;
    let c = pair.network.start("c.test").await;
    let carol = c.register("carol").await;
    let path = format!("{V3}/join/{}?via=a.test", pair.room);
    assert_eq!(c.post(&path, &carol.token, json!({})).await.0, 200);
    pair.a_has(&carol, "join").await;
    pair.leave().await;
    pair.say(0..5).await;
    let mut seen = sync(&c, &carol, "").await;
    while pair.timeline(&seen).0.last() != Some(&"4") {
        seen = sync_since(&c, &carol, &seen, "&timeout=30000").await;
    }
    pair.join("c.test").await;
    pair.gate.close();
    let read = pair.read_back("", 3).await;
    assert_eq!(read[..7], with(&[&own(&["join"]), &numbers(0..5), &own(&["leave"])]));
    assert_sound(&pair.b);
}

#[tokio::test]
async fn what_was_for_members_alone_stays_hidden_from_one_who_was_away() {
    let pair = Pair::make().await;
    let path = format!("{V3}/rooms/{}/state/m.room.history_visibility", pair.room);
    let body = json!({ "history_visibility": "joined" });
    assert_eq!(pair.a.put(&path, &pair.alice.token, body).await.0, 200);
    pair.tell(0..2).await;
    pair.leave().await;
    pair.say(2..6).await;
    pair.join("a.test").await;
    pair.tell(6..7).await;
    let read = pair.read_back("", 2).await;
    let seen = with(&[&numbers(6..7), &own(&["join", "leave"]), &numbers(0..2)]);
    assert_eq!(read[..seen.len()], seen);
    assert_sound(&pair.b);
}

/// A message of alice's that relates to another one.
async fn relate(pair: &Pair, kind: &str, parent: &EventId, body: &str) {
    let relates_to = json!({ "rel_type": kind, "event_id": parent });
    let content = json!({ "msgtype": "m.text", "body": body, "m.relates_to": relates_to });
    crate::talk::send(&pair.a, &pair.room, &pair.alice, content).await;
}

/// Waits until bob has the message of alice's that comes last.
async fn caught_up(pair: &Pair, last: &str) {
    let mut news = sync(&pair.b, &pair.bob, "").await;
    while pair.timeline(&news).0.last() != Some(&last) {
        news = sync_since(&pair.b, &pair.bob, &news, "&timeout=30000").await;
    }
}

/// Two messages of a list of bob's, and the token behind them.
async fn two(pair: &Pair, path: &str, from: &str) -> (Vec<String>, Option<String>) {
    let path = format!("/_matrix/client/v1/rooms/{}/{path}limit=2{from}", pair.room);
    let (status, page) = pair.b.get(&path, &pair.bob.token).await;
    assert_eq!(status, 200, "{page}");
    let body = |event: &Value| event["content"]["body"].as_str().unwrap().to_owned();
    let found = page["chunk"].as_array().unwrap().iter().map(body).collect();
    (found, page["next_batch"].as_str().map(|token| format!("&from={token}")))
}

/// What bob reads of a list from a token on.
async fn rest(pair: &Pair, path: &str, mut from: Option<String>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(token) = from {
        let (found, next) = two(pair, path, &token).await;
        all.extend(found);
        from = next;
    }
    all
}

#[tokio::test]
async fn relations_and_threads_that_come_into_a_gap_are_read_once_by_a_client_that_is_above_it() {
    let pair = Pair::make().await;
    let mut roots = Vec::new();
    for number in 0..6 {
        let body = format!("root {number}");
        roots.push(crate::talk::say(&pair.a, &pair.room, &pair.alice, &body).await);
    }
    // Two answers below the gap, two in it and two above it.
    for (number, root) in roots.iter().enumerate() {
        if number == 2 {
            caught_up(&pair, "child 1").await;
            pair.leave().await;
        }
        if number == 4 {
            pair.join("a.test").await;
        }
        relate(&pair, "m.thread", root, &format!("answer {number}")).await;
        relate(&pair, "m.reference", &roots[0], &format!("child {number}")).await;
    }
    caught_up(&pair, "child 5").await;

    let threads = "threads?";
    let backward = format!("relations/{}/m.reference?dir=b&", roots[0]);
    let forward = format!("relations/{}/m.reference?dir=f&", roots[0]);
    let mut begun = Vec::new();
    for (path, expected) in [
        (threads, ["root 5", "root 4"]),
        (&backward, ["child 5", "child 4"]),
        (&forward, ["child 0", "child 1"]),
    ] {
        let (found, next) = two(&pair, path, "").await;
        assert_eq!(found, expected, "{path}");
        begun.push((path, next));
    }
    pair.read_back("", 100).await;
    let mut read = Vec::new();
    for (path, next) in begun {
        read.push(rest(&pair, path, next).await);
    }
    assert_eq!(read[0], ["root 3", "root 2", "root 1", "root 0"]);
    assert_eq!(read[1], ["child 3", "child 2", "child 1", "child 0"]);
    assert_eq!(read[2], ["child 2", "child 3", "child 4", "child 5"]);
}

#[tokio::test]
async fn a_thread_whose_root_comes_after_an_answer_is_listed_and_counted() {
    let pair = Pair::apart().await;
    let root = crate::talk::say(&pair.a, &pair.room, &pair.alice, "root").await;
    pair.join("a.test").await;
    relate(&pair, "m.thread", &root, "answer 1").await;
    caught_up(&pair, "answer 1").await;
    pair.read_back("", 100).await;
    for count in 1..3 {
        assert_eq!(two(&pair, "threads?", "").await.0, ["root"]);
        let path = format!("{V3}/rooms/{}/event/{root}", pair.room);
        let (status, shown) = pair.b.get(&path, &pair.bob.token).await;
        assert_eq!(status, 200, "{shown}");
        let thread = &shown["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(thread["count"], count, "{thread}");
        assert_eq!(thread["latest_event"]["content"]["body"], format!("answer {count}"));
        relate(&pair, "m.thread", &root, &format!("answer {}", count + 1)).await;
        caught_up(&pair, &format!("answer {}", count + 1)).await;
    }
    assert_sound(&pair.b);
}
