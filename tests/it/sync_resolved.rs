//! What `GET /sync` shows of a membership that state resolution changed, when branches of a room were joined.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use ruma::{OwnedEventId, RoomVersionId};
use serde_json::{Value, json};
use wick_core::rules;
use wick_harness::{
    TestServer, User,
    room_builder::{RoomBuilder, tuple},
};
use wick_room::{Incoming, Received, Verified, by_auth_events, invariants};

use crate::talk::{bodies, events, filter, sync, sync_since};

pub(crate) const ALICE: &str = "@alice:a.test";
pub(crate) const BOB: &str = "@bob:a.test";

/// A room of other servers that a user of this one has joined.
pub(crate) struct Joined {
    pub(crate) server: TestServer,
    pub(crate) dave: User,
    pub(crate) room: RoomBuilder,
}

impl Joined {
    async fn start(version: RoomVersionId) -> Self {
        Self::on(TestServer::start().await, version).await
    }

    pub(crate) async fn on(server: TestServer, version: RoomVersionId) -> Self {
        let dave = server.register("dave").await;
        let mut room = RoomBuilder::public(version, ALICE, &[BOB]);
        let id = dave.user_id.as_str();
        room.member(&room.tips(), id, id, "join");
        let create = room.event(&room.order()[0]).json();
        let graph = &server.services().graph;
        graph.receive_create(room.version(), create, &room.keys()).await.unwrap();
        let this = Self { server, dave, room };
        for id in &this.room.order()[1..] {
            this.receive(id).await;
        }
        this
    }

    fn verified(&self, id: &OwnedEventId) -> Verified {
        let rules = rules::version_rules(&self.room.version()).unwrap();
        let json = self.room.event(id).json();
        Verified::check(json, Some(&self.room.room_id()), &rules, &self.room.keys()).unwrap()
    }

    async fn take(&self, incoming: Incoming) {
        let graph = &self.server.services().graph;
        let received = graph.receive(&self.room.room_id(), &[incoming]).await.unwrap();
        assert!(matches!(received[0], Received::Accepted(_)), "{received:?}");
    }

    pub(crate) async fn receive(&self, id: &OwnedEventId) {
        self.take(self.verified(id).into()).await;
    }

    /// Receives an event of which another server had to be asked for the state before it.
    async fn receive_behind_a_gap(&self, id: &OwnedEventId) {
        let graph = &self.server.services().graph;
        let room_id = self.room.room_id();
        let state: Vec<_> = self.room.before(id).values().cloned().collect();
        let chain = self.room.auth_chain(&state).into_iter().chain(state.clone());
        let events = by_auth_events(chain.map(|id| self.verified(&id)).collect());
        graph.receive_outliers(&room_id, &self.room.version(), &events).await.unwrap();
        let state = Some(graph.state_of(&room_id, &state).await.unwrap());
        self.take(Incoming { event: self.verified(id), state }).await;
    }

    /// The room in a section of a response.
    fn of<'a>(&self, synced: &'a Value, section: &str) -> &'a Value {
        &synced["rooms"][section][self.room.room_id().as_str()]
    }

    /// The texts before the timeline of a room.
    async fn read_back(&self, update: &Value) -> Vec<String> {
        let from = update["timeline"]["prev_batch"].as_str().unwrap();
        let room = self.room.room_id();
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&from={from}");
        let (status, page) = self.server.get(&path, &self.dave.token).await;
        assert_eq!(status, 200, "{page}");
        let texts = page["chunk"].as_array().unwrap().iter();
        texts.filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
    }

    /// The user's member event after a client has applied the state and then the timeline.
    fn applied(&self, update: &Value, state: &str) -> Value {
        let own = |event: &&Value| event["state_key"] == self.dave.user_id.as_str();
        let mut all = events(&update[state]).iter().chain(events(&update["timeline"]));
        all.rfind(own).cloned().unwrap_or_default()
    }

    /// A kick that comes as part of the state of another branch. The room goes on with messages on both.
    pub(crate) async fn remove(&mut self, says: &[&str]) -> OwnedEventId {
        let root = self.room.tips();
        let id = self.dave.user_id.to_string();
        let kick = self.room.member(&root, ALICE, &id, "leave");
        let mut tips = root;
        for text in says {
            tips = vec![self.room.message(&tips, ALICE, text)];
            self.receive(&tips[0]).await;
        }
        let behind = self.room.message(std::slice::from_ref(&kick), BOB, "after the kick");
        self.receive_behind_a_gap(&behind).await;
        let last = self.room.message(&[behind, tips[0].clone()], BOB, "later");
        self.receive(&last).await;
        kick
    }
}

#[tokio::test]
async fn a_removal_by_state_resolution_is_shown_once_with_the_event_that_removed_the_user() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        for says in [&[][..], &["before"][..]] {
            let mut joined = Joined::start(version.clone()).await;
            let first = sync(&joined.server, &joined.dave, "").await;
            assert!(joined.of(&first, "join").is_object());
            let kick = joined.remove(says).await;
            let without_state = filter(&json!({ "room": { "state": { "types": [] } } }));
            for (query, state) in [
                ("", "state"),
                ("&use_state_after=true", "state_after"),
                (&format!("&{without_state}"), ""),
            ] {
                let synced = sync_since(&joined.server, &joined.dave, &first, query).await;
                assert!(joined.of(&synced, "join").is_null(), "{version} {query}: {synced}");
                let left = joined.of(&synced, "leave");
                assert!(left.is_object(), "{version} {query}: {synced}");
                // What is here from before the gap is read back.
                assert_eq!(bodies(&left["timeline"]), [""; 0], "{version} {query}");
                assert_eq!(left["timeline"]["limited"], true, "{version} {query}");
                assert_eq!(joined.read_back(left).await, says, "{version} {query}");
                if !state.is_empty() {
                    let own = joined.applied(left, state);
                    assert_eq!(own["event_id"], kick.as_str(), "{version} {query}: {left}");
                }
                let again = sync_since(&joined.server, &joined.dave, &synced, query).await;
                assert!(joined.of(&again, "leave").is_null(), "{version} {query}: {again}");
                assert!(joined.of(&again, "join").is_null(), "{version} {query}: {again}");
            }
            let with_left = filter(&json!({ "room": { "include_leave": true } }));
            let anew = sync(&joined.server, &joined.dave, &format!("?{with_left}")).await;
            let own = joined.applied(joined.of(&anew, "leave"), "state");
            assert_eq!(own["event_id"], kick.as_str(), "{version}: {anew}");
        }
    }
}

#[tokio::test]
async fn a_profile_change_that_a_removal_overrules_is_not_the_last_that_a_client_applies() {
    let mut joined = Joined::start(RoomVersionId::V11).await;
    let root = joined.room.tips();
    let first = sync(&joined.server, &joined.dave, "").await;
    let id = joined.dave.user_id.to_string();
    let renewed = joined.room.member(&root, &id, &id, "join");
    joined.receive(&renewed).await;
    let rules = json!({ "join_rule": "invite" });
    let rules = joined.room.state(&root, ALICE, "m.room.join_rules", rules);
    let kick = joined.room.member(&[rules], ALICE, &id, "leave");
    let behind = joined.room.message(std::slice::from_ref(&kick), BOB, "after the kick");
    joined.receive_behind_a_gap(&behind).await;
    let synced = sync_since(&joined.server, &joined.dave, &first, "").await;
    let left = joined.of(&synced, "leave");
    assert_eq!(joined.applied(left, "state")["event_id"], kick.as_str(), "{synced}");
    assert_eq!(bodies(&left["timeline"]), [""; 0]);
}

#[tokio::test]
async fn an_invite_that_state_resolution_takes_back_is_gone() {
    let mut joined = Joined::start(RoomVersionId::V11).await;
    let erin = joined.server.register("erin").await;
    let root = joined.room.tips();
    let invite = joined.room.member(&root, BOB, erin.user_id.as_str(), "invite");
    let ban = joined.room.member(&root, ALICE, erin.user_id.as_str(), "ban");
    joined.receive(&invite).await;
    let first = sync(&joined.server, &erin, "").await;
    assert!(joined.of(&first, "invite").is_object(), "{first}");
    let behind = joined.room.message(std::slice::from_ref(&ban), BOB, "after the ban");
    joined.receive_behind_a_gap(&behind).await;
    let synced = sync_since(&joined.server, &erin, &first, "").await;
    let left = joined.of(&synced, "leave");
    assert_eq!(events(&left["state"]).len(), 1, "{synced}");
    assert_eq!(left["state"]["events"][0]["event_id"], ban.as_str());
    assert_eq!(events(&left["timeline"]).len(), 0, "{left}");
}

#[tokio::test]
async fn a_user_whose_join_state_resolution_refuses_has_left_the_room() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let mut joined = Joined::start(version.clone()).await;
        let first = sync(&joined.server, &joined.dave, "").await;
        assert!(joined.of(&first, "join").is_object());
        let id = joined.dave.user_id.to_string();
        let order = joined.room.order();
        let before = order[order.len() - 2].clone();
        let rules = json!({ "join_rule": "invite" });
        let rules = joined.room.state(&[before], ALICE, "m.room.join_rules", rules);
        joined.receive(&rules).await;
        let behind = joined.room.message(std::slice::from_ref(&rules), BOB, "among ourselves");
        joined.receive(&behind).await;
        let synced = sync_since(&joined.server, &joined.dave, &first, "").await;
        assert!(joined.of(&synced, "join").is_null(), "{version}: {synced}");
        let left = joined.of(&synced, "leave");
        assert!(left.is_object(), "{version}: {synced}");
        assert_eq!(joined.applied(left, "state"), Value::Null, "{version}: {left}");
        assert_eq!(bodies(&left["timeline"]), [""; 0], "{version}: {left}");
        let again = sync_since(&joined.server, &joined.dave, &synced, "").await;
        assert!(joined.of(&again, "leave").is_null(), "{version}: {again}");
        let invite = joined.room.member(std::slice::from_ref(&behind), ALICE, &id, "invite");
        joined.receive(&invite).await;
        let invited = sync_since(&joined.server, &joined.dave, &again, "").await;
        assert!(joined.of(&invited, "invite").is_object(), "{version}: {invited}");
        let read = joined.server.services().database.published();
        assert_eq!(invariants::check(&read).unwrap(), [], "{version}");
    }
}

#[tokio::test]
async fn a_user_whose_removal_state_resolution_undoes_gets_the_room_whole() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let mut joined = Joined::start(version.clone()).await;
        let root = joined.room.tips();
        let join = root[0].clone();
        let id = joined.dave.user_id.to_string();
        let first = sync(&joined.server, &joined.dave, "").await;
        let kick = joined.room.member(&root, BOB, &id, "leave");
        joined.receive(&kick).await;
        let second = sync_since(&joined.server, &joined.dave, &first, "").await;
        assert!(joined.of(&second, "leave").is_object(), "{version}: {second}");
        // On the other branch bob may not kick.
        let levels = joined.room.before(&kick)[&tuple("m.room.power_levels", "")].clone();
        let mut levels: Value = joined.room.event(&levels).pdu.content_as().unwrap();
        levels["users"][BOB] = json!(0);
        let demotion = joined.room.state(&root, ALICE, "m.room.power_levels", levels);
        joined.receive(&demotion).await;
        for (query, state) in [("", "state"), ("&use_state_after=true", "state_after")] {
            let synced = sync_since(&joined.server, &joined.dave, &second, query).await;
            assert!(joined.of(&synced, "leave").is_null(), "{version} {query}: {synced}");
            let update = joined.of(&synced, "join");
            let own = joined.applied(update, state);
            assert_eq!(own["event_id"], join.as_str(), "{version} {query}: {update}");
            let kinds: Vec<_> =
                events(&update[state]).iter().map(|event| event["type"].clone()).collect();
            assert!(kinds.contains(&json!("m.room.create")), "{version} {query}: {update}");
            let again = sync_since(&joined.server, &joined.dave, &synced, query).await;
            assert!(joined.of(&again, "join").is_null(), "{version} {query}: {again}");
        }
    }
}
