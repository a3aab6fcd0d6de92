//! Every kind of change of a room, as data: what is there before it, and the request that makes it.
//!
//! Invariant: a change is deterministic, so that two worlds in which it was made differ in ids alone.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use wick_database::{
    Fault, Range, Read, Topic,
    schema::{
        delayed::FINALISED_BY_TIMER,
        directory::{LISTED_BY_ROOM, ROOM_BY_ALIAS},
        room::{HEAD_BY_ROOM, MEMBER_BY_USER},
        timer::TIMER_BY_ID,
    },
};
use wick_harness::{Options, TestServer, User};
use wick_room::{Direction, invariants};

use crate::expiry::call::PATIENCE;

const CLIENT: &str = "/_matrix/client";

/// A request, or time that passes.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// By this user, to this path below `/_matrix/client`, with this body. `{name}` stands for what
    /// [`World::remember`] knows by that name.
    Request(&'static str, Method, &'static str, Value),
    /// So many seconds, and then until no timer runs.
    Pass(u64),
}

/// A change.
pub(crate) struct Change {
    pub(crate) name: &'static str,
    pub(crate) before: Vec<Step>,
    pub(crate) step: Step,
}

/// A server with a public room of Alice's in which Bob is.
pub(crate) struct World {
    pub(crate) server: TestServer,
    users: BTreeMap<&'static str, User>,
    names: RefCell<BTreeMap<String, String>>,
}

impl World {
    /// One in which what comes before a change has happened.
    pub(crate) async fn before(change: &Change, fault: Arc<dyn Fault>) -> Self {
        let mut options = Options::lenient();
        options.fault = Some(fault);
        let server = TestServer::start_from(options).await;
        let mut users = BTreeMap::new();
        let mut names = BTreeMap::new();
        for name in ["alice", "bob", "carol"] {
            let user = server.register(name).await;
            names.insert(name.to_owned(), user.user_id.to_string());
            users.insert(name, user);
        }
        let world = Self { server, users, names: RefCell::new(names) };
        world.must(&post("alice", "v3/createRoom", json!({ "preset": "public_chat" }))).await;
        world.rename("room_id", "room");
        world.must(&post("bob", "v3/join/{room}", json!({}))).await;
        let said = json!({ "msgtype": "m.text", "body": "said" });
        world.must(&put("alice", "v3/rooms/{room}/send/m.room.message/said", said)).await;
        world.rename("event_id", "said");
        for step in &change.before {
            world.must(step).await;
        }
        world
    }

    async fn must(&self, step: &Step) {
        let (status, body) = self.take(step).await;
        assert_eq!(status, StatusCode::OK, "{step:?}: {body}");
    }

    /// Takes a step, and remembers the texts of the answer by their names.
    pub(crate) async fn take(&self, step: &Step) -> (StatusCode, Value) {
        let (by, method, path, body) = match step {
            Step::Request(by, method, path, body) => (by, method, path, body),
            Step::Pass(seconds) => {
                self.pass(Duration::from_secs(*seconds)).await;
                return (StatusCode::OK, Value::Null);
            }
        };
        let (path, body) = self.filled_in(path, body);
        let token = self.users.get(by).map_or("", |user| &user.token);
        let answer = self.server.request(method.clone(), &path, token, body).await;
        for (name, value) in answer.1.as_object().into_iter().flatten() {
            if let Some(text) = value.as_str() {
                self.names.borrow_mut().insert(name.clone(), text.to_owned());
            }
        }
        answer
    }

    /// The path and the body of a request with what the names in it stand for.
    pub(crate) fn filled_in(&self, path: &str, body: &Value) -> (String, Value) {
        let (mut path, mut body) = (format!("{CLIENT}/{path}"), body.to_string());
        for (name, value) in &*self.names.borrow() {
            let name = format!("{{{name}}}");
            path = path.replace(&name, &value.replace('#', "%23"));
            body = body.replace(&name, value);
        }
        (path, serde_json::from_str(&body).expect("it is JSON still"))
    }

    fn rename(&self, from: &str, to: &str) {
        let mut names = self.names.borrow_mut();
        let value = names.get(from).expect("it was answered").clone();
        names.insert(to.to_owned(), value);
    }

    async fn pass(&self, time: Duration) {
        self.server.clock.advance(time).await;
        let database = &self.server.services().database;
        let waiting = async {
            loop {
                let mut watch = database.watch().topic(Topic::Stream);
                if database.published().scan(&TIMER_BY_ID, Range::all()).next().is_none() {
                    return;
                }
                watch.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("all timers end");
    }

    /// All that rooms consist of, without ids.
    pub(crate) fn outcome(&self) -> Value {
        let services = self.server.services();
        let read = services.database.published();
        assert_eq!(invariants::check(&read).expect("everything can be read"), []);
        let graph = &services.graph;
        let rooms: Vec<_> = read
            .scan(&HEAD_BY_ROOM, Range::all())
            .map(|row| {
                let (room, head) = row.expect("it can be read");
                let events: Vec<_> = graph
                    .timeline(&read, room, i64::MIN, Direction::Forward)
                    .map(|item| graph.load_event(&read, item.expect("it can be read").event))
                    .map(|event| {
                        let event = event.expect("it can be read");
                        let content: Value = event.content_as().expect("it is JSON");
                        json!([event.event_type, event.state_key, event.sender, content])
                    })
                    .collect();
                json!({ "depth": head.depth, "joined": head.counts.joined, "events": events })
            })
            .collect();
        let members = read.scan(&MEMBER_BY_USER, Range::all()).map(|row| {
            let ((user, _), row) = row.expect("it can be read");
            json!([user.0, row.membership as u8, row.forgotten])
        });
        without_ids(json!({
            "rooms": rooms,
            "members": members.collect::<Vec<_>>(),
            "timers": read.scan(&TIMER_BY_ID, Range::all()).count(),
            "finalised": read.scan(&FINALISED_BY_TIMER, Range::all()).count(),
            "listed": read.scan(&LISTED_BY_ROOM, Range::all()).count(),
            "aliases": read.scan(&ROOM_BY_ALIAS, Range::all()).count(),
        }))
    }
}

/// What is left of a value when that is taken out of it which is another each time.
pub(crate) fn without_ids(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('$') => json!("an event"),
        Value::String(text) if text.starts_with('!') => json!("a room"),
        Value::Array(values) => values.into_iter().map(without_ids).collect(),
        Value::Object(fields) => {
            let secret = ["expire_refresh_token", "delay_id"];
            let fields = fields.into_iter().map(|(key, value)| {
                let value =
                    if secret.contains(&&*key) { json!("a handle") } else { without_ids(value) };
                (key, value)
            });
            Value::Object(fields.collect())
        }
        other => other,
    }
}

pub(crate) fn put(by: &'static str, path: &'static str, body: Value) -> Step {
    Step::Request(by, Method::PUT, path, body)
}

pub(crate) fn post(by: &'static str, path: &'static str, body: Value) -> Step {
    Step::Request(by, Method::POST, path, body)
}

fn change(name: &'static str, before: Vec<Step>, step: Step) -> Change {
    Change { name, before, step }
}

/// Every kind of change.
pub(crate) fn all() -> Vec<Change> {
    let mut all = events();
    all.extend(memberships());
    all.extend(rooms());
    all.extend(timers());
    all.extend(accounts());
    all
}

fn events() -> Vec<Change> {
    let topic = |topic: &str| {
        put("alice", "v3/rooms/{room}/state/m.room.topic/", json!({ "topic": topic }))
    };
    let state = put("alice", "v3/rooms/{room}/state/org.example.here/", expiring());
    let reaction = json!({ "m.relates_to": {
        "rel_type": "m.annotation", "event_id": "{said}", "key": "+",
    }});
    let answer =
        json!({ "body": "x", "m.relates_to": { "rel_type": "m.thread", "event_id": "{said}" }});
    vec![
        change(
            "a message",
            vec![],
            put("bob", "v3/rooms/{room}/send/m.room.message/1", json!({ "body": "x" })),
        ),
        change("a reaction", vec![], put("bob", "v3/rooms/{room}/send/m.reaction/1", reaction)),
        change("a thread", vec![], put("bob", "v3/rooms/{room}/send/m.room.message/1", answer)),
        change("state", vec![topic("one")], topic("two")),
        change("the same state", vec![topic("one")], topic("one")),
        change("state that expires in place of such", vec![state.clone()], state),
        change(
            "a redaction",
            vec![],
            put("alice", "v3/rooms/{room}/redact/{said}/1", json!({ "reason": "x" })),
        ),
        change(
            "a redaction sent as a message",
            vec![],
            put("alice", "v3/rooms/{room}/send/m.room.redaction/1", json!({ "redacts": "{said}" })),
        ),
        change(
            "a redaction of what expires",
            vec![put("alice", "v3/rooms/{room}/send/org.example.here/2", expiring())],
            put("alice", "v3/rooms/{room}/redact/{event_id}/1", json!({})),
        ),
    ]
}

fn memberships() -> Vec<Change> {
    let rules = |rule: &str| {
        put("alice", "v3/rooms/{room}/state/m.room.join_rules/", json!({ "join_rule": rule }))
    };
    let leave = post("bob", "v3/rooms/{room}/leave", json!({}));
    let ban = post("alice", "v3/rooms/{room}/ban", json!({ "user_id": "{bob}", "reason": "x" }));
    vec![
        change("a join", vec![], post("carol", "v3/join/{room}", json!({ "reason": "x" }))),
        change("another join", vec![leave.clone()], post("bob", "v3/rooms/{room}/join", json!({}))),
        change("a leave", vec![], leave.clone()),
        change(
            "an invitation",
            vec![],
            post("alice", "v3/rooms/{room}/invite", json!({ "user_id": "{carol}" })),
        ),
        change(
            "a kick",
            vec![],
            post("alice", "v3/rooms/{room}/kick", json!({ "user_id": "{bob}" })),
        ),
        change("a ban", vec![], ban.clone()),
        change(
            "an unban",
            vec![ban],
            post("alice", "v3/rooms/{room}/unban", json!({ "user_id": "{bob}" })),
        ),
        change("a knock", vec![rules("knock")], post("carol", "v3/knock/{room}", json!({}))),
        change(
            "a membership as state",
            vec![],
            put(
                "carol",
                "v3/rooms/{room}/state/m.room.member/{carol}",
                json!({ "membership": "join" }),
            ),
        ),
        change("forgetting", vec![leave], post("bob", "v3/rooms/{room}/forget", json!({}))),
    ]
}

fn rooms() -> Vec<Change> {
    let create = json!({
        "preset": "private_chat", "name": "A room", "room_alias_name": "made", "invite": ["{bob}"],
        "visibility": "public",
    });
    let alias = put("alice", "v3/directory/room/%23old:localhost", json!({ "room_id": "{room}" }));
    let canonical = put(
        "alice",
        "v3/rooms/{room}/state/m.room.canonical_alias/",
        json!({ "alias": "#old:localhost" }),
    );
    let tag = put("bob", "v3/user/{bob}/rooms/{room}/tags/m.favourite", json!({ "order": 0.5 }));
    let upgrade = post("alice", "v3/rooms/{room}/upgrade", json!({ "new_version": "11" }));
    let hidden = json!({ "visibility": "public" });
    let untake = "v3/directory/room/%23old:localhost";
    vec![
        change("a room", vec![], post("alice", "v3/createRoom", create)),
        change("an upgrade", vec![alias.clone(), canonical.clone()], upgrade.clone()),
        change(
            "a join after an upgrade",
            vec![tag, upgrade],
            post("bob", "v3/join/{replacement_room}", json!({})),
        ),
        change("an alias", vec![], alias.clone()),
        change(
            "an alias less",
            vec![alias, canonical],
            Step::Request("alice", Method::DELETE, untake, Value::Null),
        ),
        change("a listing", vec![], put("alice", "v3/directory/list/room/{room}", hidden)),
    ]
}

fn expiring() -> Value {
    json!({ "m.will_expire": 10, "body": "here" })
}

fn timers() -> Vec<Change> {
    let arm = put("alice", "v3/rooms/{room}/send/org.example.here/1", expiring());
    let handle = json!({ "expire_refresh_token": "{expire_refresh_token}" });
    let delay = "v3/rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=10000";
    let delay = put("alice", delay, json!({ "body": "late" }));
    let restate = "v3/rooms/{room}/state/m.room.topic/?org.matrix.msc4140.delay=10000";
    let restate = put("alice", restate, json!({ "topic": "late" }));
    let manage = |action: &str| {
        let path = "unstable/org.matrix.msc4140/delayed_events/{delay_id}";
        post("alice", path, json!({ "action": action }))
    };
    vec![
        change("an event that expires", vec![], arm.clone()),
        change("a keep-alive", vec![arm.clone()], put("", "v3/expiration/refresh", handle.clone())),
        change("an end", vec![arm.clone()], put("", "v3/expiration/end", handle)),
        change("an expiry", vec![arm], Step::Pass(10)),
        change("a delayed event", vec![], delay.clone()),
        change("a delayed event that is due", vec![delay.clone()], Step::Pass(10)),
        change("delayed state that is due", vec![restate], Step::Pass(10)),
        change("a delayed event that is restarted", vec![delay.clone()], manage("restart")),
        change("a delayed event that is sent", vec![delay.clone()], manage("send")),
        change("a delayed event that is cancelled", vec![delay], manage("cancel")),
    ]
}

fn accounts() -> Vec<Change> {
    let name = json!({ "displayname": "Bobby" });
    let deactivate = json!({ "auth": {
        "type": "m.login.password", "password": "correct horse battery staple",
        "identifier": { "type": "m.id.user", "user": "{bob}" },
    }});
    let delay = "v3/rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=10000";
    let suffer = vec![
        put("bob", "v3/rooms/{room}/send/org.example.here/2", expiring()),
        put("bob", delay, json!({ "body": "late" })),
    ];
    vec![
        change("a new name", vec![], put("bob", "v3/profile/{bob}/displayname", name)),
        change("a deactivation", suffer, post("bob", "v3/account/deactivate", deactivate)),
    ]
}
