//! Events sent to other servers: to which, in what order, and what outages and crashes change.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, routing::put};
use http::Method;
use ruma::{
    OwnedServerName, RoomId, RoomVersionId, ServerName, canonical_json::CanonicalJsonObject,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use wick_core::rules;
use wick_database::{
    FaultAction, Range, Read,
    schema::outgoing::{OUTGOING_BY_DESTINATION, PROGRESS_BY_DESTINATION},
};
use wick_harness::{Strike, TestNetwork, TestServer, User};

use super::{
    peer::answer,
    receiver::{Receiver, Transaction, bodies, shared_room, with_two_others},
    waiting::until,
};
use crate::{
    expiry::call::PATIENCE,
    talk::{member, say, set},
};

const V3: &str = "/_matrix/client/v3";

fn name(name: &str) -> OwnedServerName {
    ServerName::parse(name).unwrap()
}

/// How many rows the queue of a destination has.
fn queued(server: &TestServer, destination: &str) -> usize {
    let read = server.services().database.latest();
    read.scan(&OUTGOING_BY_DESTINATION, Range::prefix((name(destination),))).count()
}

/// Waits until a destination is found not to answer.
async fn found_down(server: &TestServer, destination: &str) {
    let federation = server.services().federation().unwrap();
    until(|| federation.retry_at(&name(destination)).unwrap().is_some()).await;
}

/// Takes a server down and sends it as many messages as its queue holds.
async fn fill_queue(server: &TestServer, sender: &User, room: &RoomId, receiver: &Receiver) {
    receiver.set_down(true);
    say(server, room, sender, "message 0").await;
    found_down(server, "b.test").await;
    for number in 1..100 {
        say(server, room, sender, &format!("message {number}")).await;
    }
    until(|| queued(server, "b.test") == 100).await;
}

#[tokio::test]
async fn events_come_once_and_in_order_to_the_servers_in_the_room() {
    let (_network, server, [mut b, mut c], alice) = with_two_others().await;
    let room = shared_room(&server, &alice, &[&b, &c]).await;
    let other = shared_room(&server, &alice, &[&c]).await;
    let mut expected = Vec::new();
    for number in 0..60 {
        expected.push(format!("message {number}"));
        say(&server, &room, &alice, &format!("message {number}")).await;
    }
    say(&server, &other, &alice, "elsewhere").await;
    // What a user of another server sends is their server's to send.
    say(&server, &room, &c.user, "not ours").await;
    say(&server, &room, &alice, "last").await;
    expected.push("last".to_owned());
    let transactions = b.upto("last").await;
    let events: Vec<_> = transactions.iter().flat_map(|one| one.pdus.clone()).collect();
    assert_eq!(bodies(&events), expected);
    assert!(events.iter().all(|event| event["signatures"]["a.test"].is_object()));
    let to_c = bodies(&c.events_upto("last").await);
    assert!(to_c.contains(&"elsewhere".to_owned()) && !to_c.contains(&"not ours".to_owned()));
    until(|| queued(&server, "b.test") == 0).await;
}

#[tokio::test]
async fn a_kicked_server_gets_its_kick_and_nothing_after_it() {
    let (_network, server, [mut b, mut c], alice) = with_two_others().await;
    let room = shared_room(&server, &alice, &[&b, &c]).await;
    let other = shared_room(&server, &alice, &[&c]).await;
    member(&server, &room, &alice, &c.user, "leave").await;
    say(&server, &room, &alice, "without c").await;
    say(&server, &other, &alice, "marker").await;
    let events = c.events_upto("marker").await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["content"]["membership"], "leave");
    let events = b.events_upto("without c").await;
    assert_eq!(events.len(), 2, "{events:?}");
}

#[tokio::test]
async fn a_server_whose_last_user_has_left_gets_nothing_more() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut c = Receiver::join(&network, "c.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&c]).await;
    let other = shared_room(&server, &alice, &[&c]).await;
    member(&server, &room, &c.user, &c.user, "leave").await;
    say(&server, &room, &alice, "without c").await;
    say(&server, &other, &alice, "marker").await;
    assert_eq!(bodies(&c.events_upto("marker").await), ["marker"]);
}

#[tokio::test]
async fn an_invitation_that_is_taken_back_is_sent_to_the_invited_server() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut c = Receiver::join(&network, "c.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[]).await;
    member(&server, &room, &alice, &c.user, "invite").await;
    member(&server, &room, &alice, &c.user, "leave").await;
    let events = c.next().await.pdus;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["content"]["membership"], "leave");
}

#[tokio::test]
async fn a_server_that_was_down_gets_all_of_a_short_outage_once_it_gives_a_sign_of_life() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    b.set_down(true);
    let mut expected = Vec::new();
    for number in 0..20 {
        expected.push(format!("message {number}"));
        say(&server, &room, &alice, &format!("message {number}")).await;
    }
    found_down(&server, "b.test").await;
    b.set_down(false);
    b.give_sign_of_life(&server).await;
    assert_eq!(bodies(&b.events_upto("message 19").await), expected);
}

#[tokio::test]
async fn a_server_that_was_down_is_asked_again_by_itself() {
    let network = TestNetwork::new();
    let mut server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    for restarts in [false, true] {
        b.set_down(true);
        say(&server, &room, &alice, "hello").await;
        found_down(&server, "b.test").await;
        if restarts {
            server.restart().await;
        }
        b.set_down(false);
        server.clock.advance(Duration::from_secs(15)).await;
        assert_eq!(bodies(&b.events_upto("hello").await), ["hello"]);
        let federation = server.services().federation().unwrap();
        until(|| federation.retry_at(&name("b.test")).unwrap().is_none()).await;
    }
}

#[tokio::test]
async fn a_server_that_was_down_for_long_gets_the_newest_event_of_each_room() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let (other, third) =
        (shared_room(&server, &alice, &[&b]).await, shared_room(&server, &alice, &[&b]).await);
    fill_queue(&server, &alice, &room, &b).await;
    for number in 100..120 {
        say(&server, &room, &alice, &format!("message {number}")).await;
        say(&server, &other, &alice, &format!("other {number}")).await;
    }
    member(&server, &third, &alice, &b.user, "leave").await;
    say(&server, &third, &alice, "without b").await;
    let has_gap = || {
        let read = server.services().database.latest();
        let progress = read.get(&PROGRESS_BY_DESTINATION, &name("b.test")).unwrap();
        progress.is_some_and(|progress| progress.gap.is_some())
    };
    // The kick is kept: nothing that comes after it would show it.
    until(|| has_gap() && queued(&server, "b.test") == 101).await;
    b.set_down(false);
    b.give_sign_of_life(&server).await;
    let mut events = Vec::new();
    while bodies(&events).len() < 102 {
        events.extend(b.next().await.pdus);
    }
    until(|| !has_gap()).await;
    say(&server, &room, &alice, "after").await;
    events.extend(b.events_upto("after").await);
    let mut expected: Vec<_> = (0..100).map(|number| format!("message {number}")).collect();
    expected.extend(["message 119", "other 119", "after"].map(str::to_owned));
    assert_eq!(bodies(&events), expected);
    let is_kick = |event: &&Value| event["content"]["membership"] == "leave";
    assert_eq!(events.iter().filter(is_kick).count(), 1);
}

/// The user of another server joins a room over `a.test`.
async fn join_over(server: &TestServer, other: &Receiver, room: &RoomId) {
    let (peer, user) = (&other.peer, &other.user.user_id);
    let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver=10&ver=11&ver=12");
    let request = peer.signed((Method::GET, &path), "a.test", &Value::Null);
    let (status, made) = answer(server, request).await;
    assert_eq!(status, 200, "{made}");
    let version = RoomVersionId::try_from(made["room_version"].as_str().unwrap()).unwrap();
    let rules = rules::version_rules(&version).unwrap();
    let mut event: CanonicalJsonObject = serde_json::from_value(made["event"].clone()).unwrap();
    let id = rules::hash_and_sign(&mut event, &rules, &peer.name, &peer.key).unwrap();
    let path = format!("/_matrix/federation/v2/send_join/{room}/{id}");
    let event = serde_json::to_value(event).unwrap();
    let request = peer.signed((Method::PUT, &path), "a.test", &event);
    assert_eq!(answer(server, request).await.0, 200);
}

#[tokio::test]
async fn a_server_that_was_down_for_long_is_told_of_those_who_joined_over_this_one() {
    let (_network, server, [mut b, c], alice) = with_two_others().await;
    let room = shared_room(&server, &alice, &[&b]).await;
    set(&server, &room, &alice, ("m.room.join_rules", ""), json!({ "join_rule": "public" })).await;
    say(&server, &room, &alice, "before").await;
    b.events_upto("before").await;
    until(|| queued(&server, "b.test") == 0).await;
    fill_queue(&server, &alice, &room, &b).await;
    say(&server, &room, &alice, "in the gap").await;
    join_over(&server, &c, &room).await;
    say(&server, &room, &alice, "newest").await;
    until(|| queued(&server, "b.test") == 101).await;
    b.set_down(false);
    b.give_sign_of_life(&server).await;
    let events = b.events_upto("newest").await;
    let is_join = |event: &Value| event["state_key"] == c.user.user_id.as_str();
    assert!(events.iter().any(is_join));
}

#[tokio::test]
async fn servers_that_do_not_answer_hold_up_no_other() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let silent = || put(std::future::pending::<()>);
    let mut gone = b.user.clone();
    for number in 0..40 {
        let name = format!("gone{number}.test");
        if number < 20 {
            let router = Router::new().route("/_matrix/federation/v1/send/{id}", silent());
            network.join(&name, router).await;
        }
        gone.user_id = ruma::UserId::parse(format!("@user:{name}")).unwrap();
        member(&server, &room, &gone, &gone, "join").await;
    }
    say(&server, &room, &alice, "first").await;
    say(&server, &room, &alice, "second").await;
    assert_eq!(bodies(&b.events_upto("second").await), ["first", "second"]);
}

#[tokio::test]
async fn an_event_is_sent_whatever_commit_the_server_crashes_at_and_again_only_as_the_same_transaction()
 {
    // The first commit is the event's own; the others put it into the queue, move the cursor and acknowledge.
    for (number, fate) in (2..=5).flat_map(|number| {
        [FaultAction::StopBefore, FaultAction::StopAfter].map(|fate| (number, fate))
    }) {
        let network = TestNetwork::new();
        let strike = Strike::new();
        let mut options = network.options("a.test");
        options.fault = Some(Arc::clone(&strike) as _);
        let mut server = TestServer::start_from(options).await;
        let mut b = Receiver::join(&network, "b.test").await;
        let alice = server.register("alice").await;
        let room = shared_room(&server, &alice, &[&b]).await;
        strike.at(number, fate);
        say(&server, &room, &alice, "one").await;
        strike.struck().await;
        server.crash().await;
        say(&server, &room, &alice, "two").await;
        let transactions = b.upto("two").await;
        let of_one =
            transactions.iter().filter(|one| bodies(&one.pdus).contains(&"one".to_owned()));
        let contents = |one: &Transaction| (one.pdus.len(), one.edus.len());
        let ids: Vec<_> = of_one.map(|one| (one.id.clone(), contents(one))).collect();
        assert!(!ids.is_empty(), "{number} {fate:?}: {transactions:?}");
        // A repeated one is the same, or has news and another id.
        let are_same = ids.iter().all(|(id, count)| (id == &ids[0].0) == (*count == ids[0].1));
        assert!(are_same, "{number} {fate:?}: {ids:?}");
    }
}

#[tokio::test]
async fn redactions_and_state_arrive() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let said = say(&server, &room, &alice, "to be redacted").await;
    let path = format!("{V3}/rooms/{room}/redact/{said}/1");
    assert_eq!(server.put(&path, &alice.token, json!({})).await.0, 200);
    set(&server, &room, &alice, ("m.room.topic", ""), json!({ "topic": "news" })).await;
    say(&server, &room, &alice, "last").await;
    let events = b.events_upto("last").await;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = ["m.room.message", "m.room.redaction", "m.room.topic", "m.room.message"];
    assert_eq!(types, expected);
    assert_eq!(events[1]["content"]["redacts"], json!(said));
}

#[tokio::test]
async fn an_event_that_expires_is_sent_running_and_then_its_end() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let path = format!("{V3}/rooms/{room}/send/m.room.message/1");
    let content = json!({ "msgtype": "m.text", "body": "here", "m.will_expire": 10 });
    let (status, sent) = server.put(&path, &alice.token, content).await;
    assert_eq!(status, 200, "{sent}");
    let running = b.next().await.pdus;
    assert_eq!(running[0]["content"]["m.will_expire"], "running");
    assert!(running[0]["unsigned"].is_null(), "{running:?}");
    server.clock.advance(Duration::from_secs(10)).await;
    let ended = b.next().await.pdus;
    assert_eq!(ended[0]["content"]["m.will_expire"], "expired");
    assert_eq!(ended[0]["content"]["m.relates_to"]["event_id"], sent["event_id"]);
}

#[tokio::test]
async fn a_delayed_event_is_sent_when_it_is_due() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let path = format!("{V3}/rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=5000");
    let content = json!({ "msgtype": "m.text", "body": "later" });
    assert_eq!(server.put(&path, &alice.token, content).await.0, 200);
    say(&server, &room, &alice, "now").await;
    assert_eq!(bodies(&b.events_upto("now").await), ["now"]);
    server.clock.advance(Duration::from_secs(5)).await;
    assert_eq!(bodies(&b.events_upto("later").await), ["later"]);
}

#[tokio::test]
async fn a_transaction_that_is_not_taken_for_now_is_sent_again_and_a_refused_one_is_not() {
    let network = TestNetwork::new();
    let server = TestServer::start_from(network.options("a.test")).await;
    let mut b = Receiver::join(&network, "b.test").await;
    let alice = server.register("alice").await;
    let room = shared_room(&server, &alice, &[&b]).await;
    for (status, is_kept) in [
        (401, true),
        (404, true),
        (429, true),
        (500, true),
        (504, true),
        (400, false),
        (403, false),
        (413, false),
    ] {
        let before = b.refused.load(Ordering::SeqCst);
        b.set_status(status);
        let (first, last) = (format!("met with {status}"), format!("after {status}"));
        say(&server, &room, &alice, &first).await;
        until(|| b.refused.load(Ordering::SeqCst) > before).await;
        until(|| is_kept || queued(&server, "b.test") == 0).await;
        b.set_status(200);
        say(&server, &room, &alice, &last).await;
        let passing = async {
            loop {
                server.clock.advance(Duration::from_secs(5)).await;
            }
        };
        let events = tokio::select! {
            events = b.events_upto(&last) => events,
            () = passing => Vec::new(),
        };
        assert_eq!(bodies(&events).contains(&first), is_kept, "{status}: {events:?}");
    }
}

#[tokio::test]
async fn a_server_that_limits_transactions_is_sent_the_next_one_when_it_says() {
    let (_network, server, [mut b, _c], alice) = with_two_others().await;
    let room = shared_room(&server, &alice, &[&b]).await;
    let wait = Duration::from_secs(1234);
    b.set_limit("1234");
    say(&server, &room, &alice, "hello").await;
    assert!(timeout(PATIENCE, server.clock.awaited(wait)).await.is_ok(), "it waits otherwise");
    let refused = b.refused.load(Ordering::SeqCst);
    b.set_status(200);
    server.clock.advance(wait).await;
    assert_eq!(bodies(&b.events_upto("hello").await), ["hello"]);
    assert_eq!(b.refused.load(Ordering::SeqCst), refused);
}

#[tokio::test]
async fn a_server_that_the_acl_denies_gets_the_list_that_says_so_and_nothing_of_the_room_after_it()
{
    let (_network, server, [mut b, mut c], alice) = with_two_others().await;
    let room = shared_room(&server, &alice, &[&b, &c]).await;
    let other = shared_room(&server, &alice, &[&b]).await;
    let acl = json!({ "allow": ["*"], "deny": ["B.test"] });
    set(&server, &room, &alice, ("m.room.server_acl", ""), acl).await;
    let said = say(&server, &room, &alice, "for c alone").await;
    let typing = format!("{V3}/rooms/{room}/typing/{}", alice.user_id);
    server.put(&typing, &alice.token, json!({ "typing": true, "timeout": 20_000 })).await;
    let receipt = format!("{V3}/rooms/{room}/receipt/m.read/{said}");
    server.post(&receipt, &alice.token, json!({})).await;
    assert_eq!(c.edu("m.typing").await["user_id"], json!(alice.user_id));
    // A kick is no exception: the server takes no part in the room any more.
    member(&server, &room, &alice, &b.user, "leave").await;
    say(&server, &other, &alice, "last").await;
    let transactions = b.upto("last").await;
    let events: Vec<_> = transactions.iter().flat_map(|one| one.pdus.clone()).collect();
    let of_room = |event: &&Value| event["room_id"] == room.as_str();
    let types: Vec<_> = events.iter().filter(of_room).map(|event| &event["type"]).collect();
    assert_eq!(types, ["m.room.server_acl"]);
    let mut edus = transactions.iter().flat_map(|one| &one.edus);
    let is_of_room = |edu: &Value| edu["edu_type"] == "m.typing" || edu["edu_type"] == "m.receipt";
    assert!(!edus.any(is_of_room), "{transactions:?}");
}
