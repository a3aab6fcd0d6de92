//! What a user gets to see of a room, by any endpoint, for every course of memberships and every history
//! visibility: exactly what the specification lets them.
//!
//! Each phase of a room leaves marks of its own in messages, state and members. A mark that an answer holds
//! must be one that the user may see.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use std::{collections::BTreeSet, time::Duration};

use ruma::OwnedEventId;
use serde_json::{Value, json};
use wick_harness::{TestRoom, TestServer, User};

use crate::talk::{filter, sync};

const HISTORIES: [(&str, &[&str]); 12] = [
    ("never in", &[]),
    ("invited", &["invite"]),
    ("declined", &["invite", "leave"]),
    ("knocked", &["knock"]),
    ("left", &["join", "leave"]),
    ("kicked", &["join", "kick"]),
    ("banned", &["join", "ban"]),
    ("left and knocked in vain", &["join", "leave", "knock", "leave"]),
    ("left and banned", &["join", "leave", "ban"]),
    ("left and invited", &["join", "leave", "invite"]),
    ("rejoined", &["join", "leave", "join"]),
    ("invited and joined", &["invite", "join"]),
];

const VISIBILITIES: [&str; 4] = ["joined", "invited", "shared", "world_readable"];

/// What a phase leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// A message, in its text or by its id.
    Message(usize),
    /// State that the next phase replaces.
    State(usize),
    /// A member who stays.
    Member(usize),
}

/// A room in which `bob` had a course of memberships, one per phase.
struct Case<'a> {
    server: &'a TestServer,
    room: TestRoom<'a>,
    alice: User,
    carol: User,
    bob: User,
    visibility: &'static str,
    memberships: Vec<&'static str>,
    knockable: bool,
    /// Bob's sync token of each phase, taken at its end.
    tokens: Vec<String>,
    /// The message of each phase.
    messages: Vec<OwnedEventId>,
    /// All other events that may be asked for.
    others: Vec<OwnedEventId>,
}

fn stranger(like: &User, name: &str) -> User {
    User { user_id: format!("@{name}:localhost").try_into().unwrap(), ..like.clone() }
}

/// An answer without the ids that events give in their own contents.
fn without_references(answer: &Value) -> Value {
    match answer {
        Value::Array(items) => items.iter().map(without_references).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !["m.relates_to", "redacts"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), without_references(value)))
            .collect(),
        other => other.clone(),
    }
}

impl<'a> Case<'a> {
    async fn play(
        server: &'a TestServer,
        users: (&User, &User),
        (number, steps): (usize, &[&'static str]),
        visibility: &'static str,
    ) -> Self {
        let bob = server.register(&format!("bob{number}")).await;
        let room = server.room(users.0, visibility).await;
        let knockable = steps.contains(&"knock");
        let mut case = Self {
            server,
            room,
            alice: users.0.clone(),
            carol: users.1.clone(),
            bob,
            visibility,
            memberships: Vec::new(),
            knockable,
            tokens: Vec::new(),
            messages: Vec::new(),
            others: Vec::new(),
        };
        let Case { room, alice, carol, .. } = &case;
        let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        room.set(alice, ("m.room.encryption", ""), algorithm).await;
        room.member(carol, carol, "join").await;
        if !steps.contains(&"invite") || knockable {
            let rule = if knockable { "knock" } else { "public" };
            room.set(alice, ("m.room.join_rules", ""), json!({ "join_rule": rule })).await;
        }
        case.phase("leave").await;
        for step in steps {
            case.step(step).await;
        }
        case
    }

    async fn step(&mut self, step: &'static str) {
        let Case { room, alice, bob, .. } = &self;
        // For a join by a rule that refuses all.
        let rule = |rule: &'static str| json!({ "join_rule": rule });
        if step == "join" {
            room.set(alice, ("m.room.join_rules", ""), rule("public")).await;
        }
        let (by, membership) = match step {
            "kick" => (alice, "leave"),
            "invite" | "ban" => (alice, step),
            _ => (bob, step),
        };
        if step == "knock" {
            room.set(alice, ("m.room.join_rules", ""), rule("knock")).await;
        }
        let own = room.member(by, bob, membership).await;
        let closed = if self.knockable { "knock" } else { "invite" };
        room.set(alice, ("m.room.join_rules", ""), rule(closed)).await;
        self.others.push(own);
        self.phase(membership).await;
    }

    /// Leaves the marks of a phase.
    async fn phase(&mut self, membership: &'static str) {
        let Case { room, alice, carol, .. } = &self;
        let phase = self.memberships.len();
        let member = stranger(alice, &format!("member.{phase}"));
        room.set(alice, ("m.room.join_rules", ""), json!({ "join_rule": "public" })).await;
        room.member(&member, &member, "join").await;
        let closed = if self.knockable { "knock" } else { "invite" };
        room.set(alice, ("m.room.join_rules", ""), json!({ "join_rule": closed })).await;
        let topic = json!({ "topic": format!("needle topic.{phase}") });
        let topic = room.set(alice, ("m.room.topic", ""), topic).await;
        let name = json!({ "membership": "join", "displayname": format!("name.{phase}") });
        let named = room.set(carol, ("m.room.member", carol.user_id.as_str()), name).await;
        let text = format!("needle message.{phase}");
        let message = room.say(carol, &text).await;
        if let (Some(root), Some(last)) = (self.messages.first(), self.messages.last()) {
            for rel_type in ["m.thread", "m.reference"] {
                room.relate(carol, rel_type, root, &text).await;
            }
            let relates_to = json!({ "rel_type": "m.replace", "event_id": root });
            let content = json!({ "msgtype": "m.text", "body": text,
                "m.new_content": { "msgtype": "m.text", "body": text }, "m.relates_to": relates_to });
            room.send(carol, "m.room.message", content).await;
            if phase > 1 {
                let content = json!({ "redacts": last, "reason": text });
                room.send(alice, "m.room.redaction", content).await;
            }
        }
        self.server.clock.advance(Duration::from_secs(60)).await;
        self.memberships.push(membership);
        self.messages.push(message);
        self.others.extend([topic, named]);
        let now = sync(self.server, &self.bob, "").await;
        self.tokens.push(now["next_batch"].as_str().unwrap().to_owned());
    }

    fn last(&self) -> usize {
        self.memberships.len() - 1
    }

    fn is(&self, phase: usize, membership: &str) -> bool {
        self.memberships.get(phase).is_some_and(|now| *now == membership)
    }

    /// Whether bob is joined in this phase or a later one.
    fn joins_from(&self, phase: usize) -> bool {
        (phase..=self.last()).any(|later| self.is(later, "join"))
    }

    /// Whether an event of a phase may be seen.
    fn event_allowed(&self, phase: usize) -> bool {
        self.is(phase, "join")
            || match self.visibility {
                "world_readable" => true,
                "shared" => self.joins_from(phase),
                "invited" => self.is(phase, "invite"),
                _ => false,
            }
    }

    /// Whether the state of a phase may be known. It lasts until the next phase replaces it.
    fn state_allowed(&self, phase: usize) -> bool {
        let next = phase + 1;
        let stripped = phase == self.last()
            && (self.knockable || self.is(phase, "invite") || self.is(phase, "knock"));
        self.event_allowed(phase)
            || self.is(next, "join")
            || (self.visibility == "invited" && self.is(next, "invite"))
            || stripped
    }

    fn allowed(&self, mark: Mark) -> bool {
        match mark {
            Mark::Message(phase) => self.event_allowed(phase),
            Mark::State(phase) => self.state_allowed(phase),
            Mark::Member(phase) => (phase..=self.last()).any(|later| {
                self.event_allowed(later)
                    || self.is(later + 1, "join")
                    || (self.visibility == "invited" && self.is(later + 1, "invite"))
            }),
        }
    }

    fn marks(&self, answer: &Value) -> BTreeSet<Mark> {
        let text = without_references(answer).to_string();
        let mut marks = BTreeSet::new();
        for phase in 0..=self.last() {
            let id = self.messages[phase].as_str();
            if text.contains(&format!("message.{phase}")) || text.contains(&format!("\"{id}\"")) {
                marks.insert(Mark::Message(phase));
            }
            if text.contains(&format!("topic.{phase}")) || text.contains(&format!("name.{phase}")) {
                marks.insert(Mark::State(phase));
            }
            if text.contains(&format!("member.{phase}")) {
                marks.insert(Mark::Member(phase));
            }
        }
        marks
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.server.get(path, &self.bob.token).await;
        assert!([200, 403, 404].contains(&status.as_u16()), "{path}: {status} {body}");
        if status.as_u16() == 200 { body } else { Value::Null }
    }

    /// What every endpoint that reads rooms answers to bob.
    async fn answers(&self) -> Vec<(String, Value)> {
        let lazily = filter(&json!({ "lazy_load_members": true }));
        let mut paths: Vec<String> = [
            "/state".to_owned(),
            "/state/m.room.topic/".to_owned(),
            format!("/state/m.room.member/{}", self.carol.user_id),
            "/members".to_owned(),
            "/joined_members".to_owned(),
            "/messages?dir=b&limit=200".to_owned(),
            format!("/messages?dir=f&limit=200&{lazily}"),
            "/aliases".to_owned(),
            "/initialSync".to_owned(),
        ]
        .map(|path| self.room.path(&path))
        .into();
        for token in &self.tokens {
            paths.push(self.room.path(&format!("/members?at={token}")));
            paths.push(self.room.path(&format!("/messages?dir=b&from={token}&{lazily}")));
            for lazily in [false, true] {
                let filter = filter(&json!({ "room": { "include_leave": true,
                    "state": { "lazy_load_members": lazily }, "timeline": { "limit": 3 } } }));
                paths.push(format!("/_matrix/client/v3/sync?since={token}&{filter}"));
                paths.push(format!("/_matrix/client/v3/sync?full_state=true&since={token}"));
                paths.push(format!("/_matrix/client/v3/sync?{filter}"));
            }
        }
        for event in self.messages.iter().chain(&self.others) {
            paths.push(self.room.path(&format!("/context/{event}?limit=2")));
            paths.push(self.room.path(&format!("/context/{event}?limit=0&{lazily}")));
        }
        let id = &self.room.id;
        let v1 = |rest: &str| format!("/_matrix/client/v1/rooms/{id}{rest}");
        paths.push(v1("/threads"));
        paths.push(v1("/hierarchy"));
        paths.push(v1(&format!("/relations/{}?recurse=true", self.messages[0])));
        paths.push(format!("/_matrix/client/v1/room_summary/{id}"));
        paths.push("/_matrix/client/v3/notifications?limit=100".to_owned());
        let mut answers = Vec::new();
        for path in paths {
            let answer = self.get(&path).await;
            answers.push((path, answer));
        }
        answers.push(("search".to_owned(), self.search().await));
        answers
    }

    async fn search(&self) -> Value {
        let criteria = json!({ "search_categories": { "room_events": {
            "search_term": "needle", "include_state": true, "filter": { "limit": 50 },
            "event_context": { "include_profile": true },
        } } });
        self.server.post("/_matrix/client/v3/search", &self.bob.token, criteria).await.1
    }

    /// The answers that hold an event's mark exactly if the event may be seen.
    async fn ensure_exact(&self, name: &str) {
        let Case { visibility, .. } = self;
        for (phase, message) in self.messages.iter().enumerate() {
            let event = self.get(&self.room.path(&format!("/event/{message}"))).await;
            let allowed = self.allowed(Mark::Message(phase));
            assert_eq!(event.is_object(), allowed, "{name}, {visibility}: event of {phase}");
            for mark in self.marks(&event["unsigned"]) {
                assert!(self.allowed(mark), "{name}, {visibility}: {mark:?} in {event}");
            }
        }
        let told = self.get(&self.room.path("/messages?dir=b&limit=200")).await;
        let seen = self.marks(&told);
        for phase in 0..=self.last() {
            // A timeline ends where the last join did, unless the room is world-readable.
            let reached = *visibility == "world_readable" || self.joins_from(phase);
            let allowed = reached && self.allowed(Mark::Message(phase));
            let found = seen.contains(&Mark::Message(phase));
            assert_eq!(found, allowed, "{name}, {visibility}: message of {phase} in {told}");
        }
    }
}

#[tokio::test]
async fn no_endpoint_shows_what_happened_while_a_user_could_not_see_the_room() {
    let server = TestServer::start().await;
    let (alice, carol) = (server.register("alice").await, server.register("carol").await);
    let mut leaks = Vec::new();
    for (number, (name, steps)) in HISTORIES.into_iter().enumerate() {
        for (other, visibility) in VISIBILITIES.into_iter().enumerate() {
            let number = number * VISIBILITIES.len() + other;
            let case = Case::play(&server, (&alice, &carol), (number, steps), visibility).await;
            for (path, answer) in case.answers().await {
                let leaked = case.marks(&answer).into_iter().filter(|mark| !case.allowed(*mark));
                leaks
                    .extend(leaked.map(|mark| format!("{name}, {visibility}: {mark:?} in {path}")));
            }
            case.ensure_exact(name).await;
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[tokio::test]
async fn the_event_at_a_moment_is_one_that_the_user_may_see() {
    let server = TestServer::start().await;
    let (alice, carol) = (server.register("alice").await, server.register("carol").await);
    let began = wick_core::Clock::now(&server.clock).0;
    let steps = ["join", "leave", "join"];
    let case = Case::play(&server, (&alice, &carol), (0, &steps), "joined").await;
    for direction in ["f", "b"] {
        for phase in 0..=case.last() {
            let at = began + 60_000 * phase as u64;
            let path = format!(
                "/_matrix/client/v1/rooms/{}/timestamp_to_event?ts={at}&dir={direction}",
                case.room.id
            );
            let answer = case.get(&path).await;
            for mark in case.marks(&answer) {
                assert!(case.allowed(mark), "{mark:?} in {path}: {answer}");
            }
        }
    }
}
