//! Memberships over other servers through a kill of the user's server at every commit.

use std::{sync::Arc, time::Duration};

use ruma::OwnedRoomId;
use serde_json::{Value, json};
use wick_database::FaultAction;
use wick_harness::{Gate, Strike, TestNetwork, TestServer, User};
use wick_room::invariants;

use super::waiting::until_member;
use crate::talk::sync;

const V3: &str = "/_matrix/client/v3";

/// The kills.
const KILLS: [FaultAction; 2] = [FaultAction::StopBefore, FaultAction::StopAfter];

/// More commits than any of these use cases has.
const MANY_COMMITS: u64 = 60;

/// What changes a membership of bob in a room of the other server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Join,
    Invite,
    Leave,
    Knock,
}

/// Two servers, of which the second one, bob's, can be killed at a commit.
struct Struck {
    a: TestServer,
    b: TestServer,
    gate: Gate,
    strike: Arc<Strike>,
    alice: User,
    bob: User,
    _network: TestNetwork,
}

impl Struck {
    async fn make() -> Self {
        let (network, strike) = (TestNetwork::new(), Strike::new());
        let a = network.start("a.test").await;
        let (b, gate) = Gate::start(&network, "b.test", Some(Arc::clone(&strike) as _)).await;
        let (alice, bob) = (a.register("alice").await, b.register("bob").await);
        Self { a, b, gate, strike, alice, bob, _network: network }
    }

    /// Kills the second server, and starts it on what it has written.
    async fn crash(&mut self) {
        self.strike = Strike::new();
        self.gate.crash(&mut self.b, Some(Arc::clone(&self.strike) as _)).await;
        let read = self.b.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), []);
    }

    async fn ask(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.b.post(&format!("{V3}/{path}"), &self.bob.token, body).await;
        (status.as_u16(), answer)
    }

    async fn ask_a(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, answer) = self.a.post(&format!("{V3}/{path}"), &self.alice.token, body).await;
        (status.as_u16(), answer)
    }

    /// A room in which the act is the next thing to do.
    async fn prepare(&self, act: Act) -> OwnedRoomId {
        let rule = match act {
            Act::Join | Act::Leave => "public",
            Act::Invite => "invite",
            Act::Knock => "knock",
        };
        let rule = json!({ "type": "m.room.join_rules", "content": { "join_rule": rule } });
        let body = json!({ "preset": "public_chat", "initial_state": [rule] });
        let (_, made) = self.ask_a("createRoom", body).await;
        let room: OwnedRoomId = made["room_id"].as_str().unwrap().try_into().unwrap();
        if act == Act::Leave {
            assert_eq!(self.act(Act::Join, &room).await, 200);
        }
        room
    }

    async fn act(&self, act: Act, room: &OwnedRoomId) -> u16 {
        let none = json!({});
        let answer = match act {
            Act::Join => self.ask(&format!("join/{room}?via=a.test"), none).await,
            Act::Knock => self.ask(&format!("knock/{room}?via=a.test"), none).await,
            Act::Leave => self.ask(&format!("rooms/{room}/leave"), none).await,
            Act::Invite => {
                let body = json!({ "user_id": self.bob.user_id });
                self.ask_a(&format!("rooms/{room}/invite"), body).await
            }
        };
        answer.0
    }

    /// Both servers know what was done.
    async fn check(&self, act: Act, room: &OwnedRoomId) {
        let (wanted, section) = match act {
            Act::Join => ("join", "join"),
            Act::Invite => ("invite", "invite"),
            Act::Leave => ("leave", ""),
            Act::Knock => ("knock", "knock"),
        };
        let seen = sync(&self.b, &self.bob, "").await;
        let sections = ["join", "invite", "knock"];
        for name in sections {
            let is_there = seen["rooms"][name].get(room.as_str()).is_some();
            assert_eq!(is_there, name == section, "{act:?} {seen}");
        }
        until_member(&self.a, (&self.alice, room), (&self.bob, wanted)).await;
    }
}

/// Kills the server at one commit of an act after another.
async fn through_kills(act: Act) {
    let mut struck = Struck::make().await;
    for kill in KILLS {
        for number in 1..MANY_COMMITS {
            let room = struck.prepare(act).await;
            struck.strike.at(number, kill);
            let status = struck.act(act, &room).await;
            let has_struck = struck.strike.has_struck();
            struck.crash().await;
            if status != 200 {
                // The other server asks again only after a while.
                struck.a.clock.advance(Duration::from_secs(3_600)).await;
                let again = struck.act(act, &room).await;
                assert_eq!(again, 200, "{act:?} after {kill:?} at commit {number}");
            }
            struck.check(act, &room).await;
            if !has_struck {
                assert!(number > 1, "{act:?} is written");
                break;
            }
            assert!(number + 1 < MANY_COMMITS, "{act:?} has no end");
        }
    }
}

#[tokio::test]
async fn a_join_through_a_kill_at_any_commit_is_there_or_can_be_repeated() {
    through_kills(Act::Join).await;
}

#[tokio::test]
async fn an_invite_through_a_kill_at_any_commit_is_there_or_can_be_repeated() {
    through_kills(Act::Invite).await;
}

#[tokio::test]
async fn a_leave_through_a_kill_at_any_commit_is_there_or_can_be_repeated() {
    through_kills(Act::Leave).await;
}

#[tokio::test]
async fn a_knock_through_a_kill_at_any_commit_is_there_or_can_be_repeated() {
    through_kills(Act::Knock).await;
}

#[tokio::test]
async fn tags_follow_into_the_replacement_room_of_another_server_through_a_kill_at_any_commit() {
    let mut struck = Struck::make().await;
    for number in 1..MANY_COMMITS {
        let old = struck.prepare(Act::Leave).await;
        let tag = format!("user/{}/rooms/{old}/tags/u.work", struck.bob.user_id);
        let path = format!("{V3}/{tag}");
        assert_eq!(struck.b.put(&path, &struck.bob.token, json!({})).await.0, 200);
        let upgrade = format!("rooms/{old}/upgrade");
        let (status, made) = struck.ask_a(&upgrade, json!({ "new_version": "11" })).await;
        assert_eq!(status, 200, "{made}");
        let new: OwnedRoomId = made["replacement_room"].as_str().unwrap().try_into().unwrap();
        struck.strike.at(number, FaultAction::StopAfter);
        let status = struck.act(Act::Join, &new).await;
        let has_struck = struck.strike.has_struck();
        struck.crash().await;
        struck.b.services().rooms.resume().await.unwrap();
        if status != 200 {
            assert_eq!(struck.act(Act::Join, &new).await, 200, "commit {number}");
        }
        let path = format!("{V3}/user/{}/rooms/{new}/tags", struck.bob.user_id);
        let (_, tags) = struck.b.get(&path, &struck.bob.token).await;
        assert!(tags["tags"].get("u.work").is_some(), "commit {number}: {tags}");
        if !has_struck {
            assert!(number > 3, "a join is several commits");
            return;
        }
    }
    panic!("a join has no end");
}
