//! What account changes do to memberships: profiles reach member events, the deactivated leave.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use http::StatusCode;
use ruma::{
    OwnedRoomId, RoomId, RoomVersionId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::StateEventType,
    room_id, user_id,
};
use serde_json::{Value, json};
use wick_account::Proof;
use wick_core::Draft;
use wick_database::{Fault, FaultAction};
use wick_harness::{Options, TestServer};
use wick_room::{Direction, Effects, NewRoom};

const NAME: &str = "/_matrix/client/v3/profile/@alice:localhost/displayname";
const PASSWORD: &str = "correct horse battery staple";

fn content(pairs: &[(&str, &str)]) -> CanonicalJsonObject {
    pairs
        .iter()
        .map(|(key, value)| ((*key).into(), CanonicalJsonValue::String((*value).into())))
        .collect()
}

/// A room that Alice has made and is in.
async fn room_of_alice(server: &TestServer) -> OwnedRoomId {
    let alice = user_id!("@alice:localhost");
    let state = |room: &RoomId, event_type, key: &str, content| {
        Draft::state(room.to_owned(), alice.to_owned(), event_type, key, content)
    };
    let somewhere = room_id!("!somewhere:localhost");
    let create = state(somewhere, StateEventType::RoomCreate, "", content(&[]));
    let new_room = NewRoom { version: RoomVersionId::V11, create };
    let created = server.services().graph.create(new_room, |room| {
        let id = room.room_id().to_owned();
        let joined = content(&[("membership", "join"), ("displayname", "alice")]);
        let member = state(&id, StateEventType::RoomMember, alice.as_str(), joined);
        room.append(member, Effects::default())?;
        let invite = content(&[("join_rule", "invite")]);
        let rules = state(&id, StateEventType::RoomJoinRules, "", invite);
        room.append(rules, Effects::default()).map(drop)
    });
    let (room_id, ()) = created.await.expect("the room can be made");
    room_id
}

fn member(server: &TestServer, room_id: &RoomId, user_id: &UserId) -> Value {
    let graph = &server.services().graph;
    let read = server.services().database.published();
    let room = graph.short(&read, room_id).expect("readable").expect("a room");
    let event = graph
        .state_event(&read, room, &StateEventType::RoomMember, user_id.as_str())
        .expect("readable")
        .expect("a member");
    event.content_as().expect("content")
}

fn alice_in(server: &TestServer, room_id: &RoomId) -> Value {
    member(server, room_id, user_id!("@alice:localhost"))
}

#[tokio::test]
async fn a_new_name_is_in_every_joined_room() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rooms = [room_of_alice(&server).await, room_of_alice(&server).await];
    let avatar = "/_matrix/client/v3/profile/@alice:localhost/avatar_url";
    server.put(NAME, &alice.token, json!({ "displayname": "Alice L." })).await;
    server.put(avatar, &alice.token, json!({ "avatar_url": "mxc://a/b" })).await;
    for room_id in &rooms {
        let expected = json!({
            "membership": "join", "displayname": "Alice L.", "avatar_url": "mxc://a/b",
        });
        assert_eq!(alice_in(&server, room_id), expected);
    }
    let before = server.services().database.position();
    server.put(NAME, &alice.token, json!({ "displayname": "Alice L." })).await;
    let time_zone = "/_matrix/client/v3/profile/@alice:localhost/m.tz";
    server.put(time_zone, &alice.token, json!({ "m.tz": "Europe/Berlin" })).await;
    assert_eq!(server.services().database.position(), before, "an event without need");
}

#[tokio::test]
async fn names_that_change_at_once_end_alike_everywhere() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rooms = [room_of_alice(&server).await, room_of_alice(&server).await];
    let names = |number: usize| {
        let name = json!({ "displayname": format!("name {number}") });
        server.put(NAME, &alice.token, name)
    };
    let answers = futures(0..20, names).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK), "{answers:?}");
    let (_, profile) = server.get(NAME, "").await;
    for room_id in &rooms {
        assert_eq!(alice_in(&server, room_id)["displayname"], profile["displayname"]);
    }
}

#[tokio::test]
async fn of_names_that_changed_before_a_pass_begins_one_is_announced() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = room_of_alice(&server).await;
    let services = server.services();
    let session = services.sessions.authenticate(&alice.token).await.unwrap();
    for number in 0..20 {
        let name = json!(format!("name {number}"));
        let set = services.profiles.set(&session, &alice.user_id, "displayname", Some(&name));
        set.await.unwrap();
    }
    let passes = futures(0..20, |_| services.memberships.spread_profile(session.user)).await;
    assert!(passes.iter().all(Result::is_ok), "{passes:?}");
    assert_eq!(alice_in(&server, &room)["displayname"], "name 19");
    let read = services.database.published();
    let short = services.graph.short(&read, &room).unwrap().unwrap();
    let timeline = services.graph.timeline(&read, short, i64::MAX, Direction::Backward);
    // Creation, join and join rules, and one of the names.
    assert_eq!(timeline.count(), 3 + 1);
}

/// Requests at the same time.
async fn futures<T>(numbers: std::ops::Range<usize>, request: impl Fn(usize) -> T) -> Vec<T::Output>
where
    T: Future,
{
    let mut requests: Vec<_> = numbers.map(|number| Box::pin(request(number))).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|context| {
        requests.retain_mut(|request| match request.as_mut().poll(context) {
            Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            Poll::Pending => true,
        });
        if requests.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers
}

#[tokio::test]
async fn messages_of_an_erased_user_are_redacted_for_those_who_join_later() {
    let server = TestServer::start().await;
    let [alice, bob, carol] = [
        server.register("alice").await,
        server.register("bob").await,
        server.register("carol").await,
    ];
    let room = server.room(&alice, "shared").await;
    room.member(&bob, &bob, "join").await;
    let said = room.say(&bob, "said before").await;
    let services = server.services();
    let (user, _) = services.users.get(&bob.user_id).unwrap().unwrap();
    services.deactivate(user, Proof::not_needed(), true).await.unwrap();
    room.member(&carol, &carol, "join").await;
    let path = room.path(&format!("/event/{said}"));
    let (_, event) = server.get(&path, &alice.token).await;
    assert_eq!(event["content"]["body"], "said before", "to those who were there");
    let (status, event) = server.get(&path, &carol.token).await;
    assert_eq!((status, &event["content"]), (StatusCode::OK, &json!({})));
}

#[tokio::test]
async fn who_is_deactivated_leaves_all_rooms() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rooms = [room_of_alice(&server).await, room_of_alice(&server).await];
    let body = json!({ "auth": {
        "type": "m.login.password", "password": PASSWORD,
        "identifier": { "type": "m.id.user", "user": "alice" },
    } });
    let path = "/_matrix/client/v3/account/deactivate";
    let (status, body) = server.post(path, &alice.token, body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    for room_id in &rooms {
        assert_eq!(alice_in(&server, room_id), json!({ "membership": "leave" }));
    }
    assert!(server.services().users.departing().unwrap().is_empty());
}

/// Stops the server at some commit after it was armed.
#[derive(Default)]
struct StopAt(AtomicU64);

impl Fault for StopAt {
    fn before_commit(&self, _number: u64) -> FaultAction {
        match self.0.load(Ordering::SeqCst) {
            0 => FaultAction::Proceed,
            1 => FaultAction::StopBefore,
            left => {
                self.0.store(left - 1, Ordering::SeqCst);
                FaultAction::Proceed
            }
        }
    }
}

async fn server_that_stops() -> (TestServer, Arc<StopAt>) {
    let stop = Arc::new(StopAt::default());
    let mut options = Options::default();
    options.config.limits.enabled = false;
    options.config.accounts.argon2_memory_kilobytes = 8;
    options.config.accounts.argon2_iterations = 1;
    options.fault = Some(Arc::clone(&stop) as Arc<dyn Fault>);
    (TestServer::start_from(options).await, stop)
}

#[tokio::test]
async fn what_a_crash_leaves_undone_is_done_at_the_next_start() {
    for deactivate in [false, true] {
        for commit in 2..=4 {
            let (mut server, stop) = server_that_stops().await;
            let alice = server.register("alice").await;
            let rooms = [room_of_alice(&server).await, room_of_alice(&server).await];
            server.get("/_matrix/client/v3/account/whoami", &alice.token).await;
            stop.0.store(commit, Ordering::SeqCst);
            let answer = if deactivate {
                let (user, _) = server.services().users.get(&alice.user_id).unwrap().unwrap();
                let done =
                    server.services().users.deactivate(user, &Proof::not_needed(), false).await;
                done.and(server.services().memberships.depart(user).await).is_ok()
            } else {
                let name = json!({ "displayname": "new" });
                server.put(NAME, &alice.token, name).await.0 == StatusCode::OK
            };
            assert!(!answer, "commit {commit}");
            server.crash().await;
            server.services().memberships.resume().await.unwrap();
            for room_id in &rooms {
                let expected = if deactivate {
                    json!({ "membership": "leave" })
                } else {
                    json!({ "membership": "join", "displayname": "new" })
                };
                assert_eq!(alice_in(&server, room_id), expected, "commit {commit}");
            }
            assert!(server.services().users.departing().unwrap().is_empty());
        }
    }
}
