//! What other servers ask of the rooms of this one: joins, knocks, leaves, events, transactions.

use axum::Router;
use http::Method;
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId,
    events::StateEventType,
};
use serde_json::{Value, json};
use wick_core::{Draft, rules};
use wick_harness::{Options, TestNetwork, TestServer, User};

use super::peer::{Peer, answer, pair};
use crate::talk;

pub(super) const HERE: &str = "a.test";
pub(super) const V1: &str = "/_matrix/federation/v1";
const V2: &str = "/_matrix/federation/v2";
pub(super) const BOB: &str = "@bob:b.test";

/// A server with a room, and another one that is driven by hand.
pub(super) struct Rooms {
    pub(super) server: TestServer,
    pub(super) alice: User,
    pub(super) peer: Peer,
    /// Has the certificates that a restart reads.
    _network: TestNetwork,
}

/// The body of a request without one.
const NONE: Value = Value::Null;

impl Rooms {
    pub(super) async fn start() -> Self {
        Self::start_with(Router::new(), |_| {}).await
    }

    /// The same with these endpoints of the other server, and these options of this one.
    pub(super) async fn start_with(others: Router, change: impl FnOnce(&mut Options)) -> Self {
        let network = TestNetwork::new();
        let mut options = network.options(HERE);
        change(&mut options);
        let server = TestServer::start_from(options).await;
        let peer = Peer::join_with(&network, "b.test", others).await;
        let alice = server.register("alice").await;
        let rooms = Self { server, alice, peer, _network: network };
        // Fetches the keys while the network is there.
        assert_eq!(rooms.get("/query/profile?user_id=@alice:a.test").await.0, 200);
        rooms
    }

    pub(super) async fn create(&self, version: &str, join_rule: Value) -> OwnedRoomId {
        let rule = json!({ "type": "m.room.join_rules", "content": join_rule });
        let body = json!({ "room_version": version, "initial_state": [rule] });
        let path = "/_matrix/client/v3/createRoom";
        let (status, body) = self.server.post(path, &self.alice.token, body).await;
        assert_eq!(status, 200, "{body}");
        body["room_id"].as_str().unwrap().try_into().unwrap()
    }

    pub(super) async fn public(&self) -> OwnedRoomId {
        self.create("11", json!({ "join_rule": "public" })).await
    }

    pub(super) async fn ask(&self, endpoint: (Method, &str), body: &Value) -> (u16, Value) {
        answer(&self.server, self.peer.signed(endpoint, HERE, body)).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask((Method::GET, &format!("{V1}{path}")), &NONE).await
    }

    pub(super) async fn transaction(
        &self,
        id: &str,
        pdus: &[Value],
        edus: &[Value],
    ) -> (u16, Value) {
        let body = json!({ "origin": "b.test", "origin_server_ts": 1, "pdus": pdus, "edus": edus });
        self.ask((Method::PUT, &format!("{V1}/send/{id}")), &body).await
    }

    pub(super) fn signed(&self, version: &str, event: Value) -> (OwnedEventId, Value) {
        let rules = rules::version_rules(&RoomVersionId::try_from(version).unwrap()).unwrap();
        let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let id = rules::hash_and_sign(&mut event, &rules, &self.peer.name, &self.peer.key).unwrap();
        (id, serde_json::to_value(event).unwrap())
    }

    /// A member event of bob, made here and signed there.
    pub(super) async fn make(
        &self,
        room: &OwnedRoomId,
        membership: &str,
    ) -> Result<(OwnedEventId, Value), Value> {
        let versions = "ver=10&ver=11&ver=12";
        let (status, made) = self.get(&format!("/make_{membership}/{room}/{BOB}?{versions}")).await;
        if status != 200 {
            return Err(json!([status, made["errcode"]]));
        }
        let version = made["room_version"].as_str().unwrap();
        Ok(self.signed(version, made["event"].clone()))
    }

    async fn send_join(&self, room: &OwnedRoomId, query: &str) -> (u16, Value) {
        let (id, join) = self.make(room, "join").await.unwrap();
        let path = format!("{V2}/send_join/{room}/{id}{query}");
        self.ask((Method::PUT, &path), &join).await
    }

    pub(super) async fn join(&self, room: &OwnedRoomId) {
        let (status, body) = self.send_join(room, "").await;
        assert_eq!(status, 200, "{body}");
    }

    async fn leave(&self, room: &OwnedRoomId) {
        let (id, leave) = self.make(room, "leave").await.unwrap();
        let path = format!("{V2}/send_leave/{room}/{id}");
        assert_eq!(self.ask((Method::PUT, &path), &leave).await, (200, json!({})));
    }

    /// A message of bob on top of the room as it is here.
    pub(super) fn message(&self, room: &OwnedRoomId, body: &str) -> (OwnedEventId, Value) {
        let content = json!({ "msgtype": "m.text", "body": body });
        self.signed("11", self.draft(room, (BOB, "m.room.message", None), content))
    }

    /// An event of a user of the other server on top of the room as it is here, not signed yet.
    pub(super) fn draft(
        &self,
        room: &OwnedRoomId,
        (sender, event_type, state_key): (&str, &str, Option<&str>),
        content: Value,
    ) -> Value {
        let sender = OwnedUserId::try_from(sender).unwrap();
        let draft = match state_key {
            Some(key) => talk::state_draft(room, &sender, event_type, key, content),
            None => {
                Draft::message(room.clone(), sender, event_type.into(), talk::canonical(content))
            }
        };
        let event = self.server.services().graph.template(draft).unwrap();
        serde_json::to_value(event).unwrap()
    }

    pub(super) async fn set(&self, room: &OwnedRoomId, event_type: &str, content: Value) {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/{event_type}/");
        let (status, body) = self.server.put(&path, &self.alice.token, content).await;
        assert_eq!(status, 200, "{body}");
    }

    fn membership(&self, room: &OwnedRoomId, user: &str) -> Option<String> {
        let (graph, user) = (&self.server.services().graph, <&UserId>::try_from(user).unwrap());
        let read = graph.database().published();
        let room = graph.short(&read, room).unwrap().unwrap();
        let member = StateEventType::RoomMember;
        let event = graph.state_event(&read, room, &member, user.as_str()).unwrap();
        event.map(|event| {
            let content: Value = event.content_as().unwrap();
            content["membership"].as_str().unwrap().to_owned()
        })
    }

    /// The bodies of the room's messages as alice gets them.
    pub(super) async fn bodies(&self, room: &OwnedRoomId) -> Vec<String> {
        self.server.services().federated().unwrap().inbound.idle().await;
        let synced = talk::sync(&self.server, &self.alice, "").await;
        let events = &synced["rooms"]["join"][room.as_str()]["timeline"]["events"];
        let bodies =
            events.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.message");
        bodies.map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect()
    }
}

/// Status and errcode of an answer.
pub(super) fn refusal((status, body): (u16, Value)) -> Value {
    json!([status, body["errcode"]])
}

#[tokio::test]
async fn a_user_of_another_server_joins_talks_and_leaves() {
    let rooms = Rooms::start().await;
    for version in ["10", "11", "12"] {
        let room = rooms.create(version, json!({ "join_rule": "public" })).await;
        let (status, answer) = rooms.send_join(&room, "").await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["event"]["sender"], BOB);
        assert_eq!(answer.get("members_omitted"), None);
        let types: Vec<_> =
            answer["state"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
        assert!(types.contains(&&json!("m.room.create")), "{types:?}");
        assert_eq!(rooms.membership(&room, BOB).as_deref(), Some("join"));
        rooms.leave(&room).await;
        assert_eq!(rooms.membership(&room, BOB).as_deref(), Some("leave"));
    }
}

#[tokio::test]
async fn the_events_of_a_transaction_reach_the_users_once_however_often_it_comes() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let (id, message) = rooms.message(&room, "hello");
    let wanted = (200, json!({ "pdus": { id.as_str(): {} } }));
    for _ in 0..2 {
        assert_eq!(rooms.transaction("1", std::slice::from_ref(&message), &[]).await, wanted);
        assert_eq!(rooms.bodies(&room).await, ["hello"]);
    }
    assert_eq!(rooms.transaction("2", &[message], &[]).await, wanted);
    assert_eq!(rooms.bodies(&room).await, ["hello"]);
}

#[tokio::test]
async fn a_receipt_counts_that_comes_with_the_event_it_is_for() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let (id, message) = rooms.message(&room, "hello");
    let data = json!({ "event_ids": [id], "data": { "ts": 1 } });
    let content = json!({ room.as_str(): { "m.read": { BOB: data } } });
    let receipt = json!({ "edu_type": "m.receipt", "content": content });
    assert_eq!(rooms.transaction("1", &[message], &[receipt]).await.0, 200);
    let seen = talk::sync(&rooms.server, &rooms.alice, "").await;
    let events = seen["rooms"]["join"][room.as_str()]["ephemeral"]["events"].to_string();
    assert!(events.contains("m.receipt") && events.contains(id.as_str()), "{seen}");
}

#[tokio::test]
async fn what_was_acknowledged_to_another_server_survives_a_crash() {
    let mut rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let (_, message) = rooms.message(&room, "hello");
    assert_eq!(rooms.transaction("1", &[message], &[]).await.0, 200);
    rooms.server.crash().await;
    assert_eq!(rooms.bodies(&room).await, ["hello"]);
}

#[tokio::test]
async fn a_transaction_that_is_forged_too_long_or_of_another_origin_changes_nothing() {
    let mut rooms = Rooms::start().await;
    let room = rooms.public().await;
    rooms.join(&room).await;
    let (_, message) = rooms.message(&room, "hello");
    let foreign = json!({ "origin": "c.test", "origin_server_ts": 1, "pdus": [message] });
    let path = format!("{V1}/send/1");
    let refused = rooms.ask((Method::PUT, &path), &foreign).await;
    assert_eq!(refusal(refused), json!([403, "M_FORBIDDEN"]));
    let too_many = rooms.transaction("2", &vec![message.clone(); 51], &[]).await;
    assert_eq!(refusal(too_many), json!([400, "M_INVALID_PARAM"]));
    let edu = json!({ "edu_type": "m.typing", "content": {} });
    let too_many = rooms.transaction("3", &[], &vec![edu.clone(); 101]).await;
    assert_eq!(refusal(too_many), json!([400, "M_INVALID_PARAM"]));
    let broken = rooms.transaction("4", &[json!({ "room_id": room })], &[edu]).await;
    assert_eq!(broken, (200, json!({ "pdus": {} })));

    let key = std::mem::replace(&mut rooms.peer.key, pair("1"));
    let (_, forged) = rooms.message(&room, "forged");
    rooms.peer.key = key;
    assert_eq!(rooms.transaction("5", &[forged], &[]).await.0, 200);
    assert!(rooms.bodies(&room).await.is_empty());
}

#[tokio::test]
async fn the_events_of_a_room_are_shown_to_the_servers_in_it_alone() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let event = talk::say(&rooms.server, &room, &rooms.alice, "hello").await;
    let missing = json!({ "earliest_events": [], "latest_events": [event] });
    let endpoints = [
        (Method::GET, format!("/event/{event}"), NONE),
        (Method::GET, format!("/state/{room}?event_id={event}"), NONE),
        (Method::GET, format!("/state_ids/{room}?event_id={event}"), NONE),
        (Method::GET, format!("/event_auth/{room}/{event}"), NONE),
        (Method::GET, format!("/backfill/{room}?v={event}&limit=10"), NONE),
        (Method::GET, format!("/timestamp_to_event/{room}?ts=0&dir=f"), NONE),
        (Method::POST, format!("/get_missing_events/{room}"), missing),
    ];
    let ask_all = async || {
        let mut statuses = Vec::new();
        for (method, path, body) in &endpoints {
            let path = format!("{V1}{path}");
            let (status, body) = rooms.ask((method.clone(), &path), body).await;
            let errcode = body.get("errcode").cloned().unwrap_or_default();
            statuses.push((status, errcode));
        }
        statuses
    };
    let forbidden = vec![(403, json!("M_FORBIDDEN")); endpoints.len()];
    assert_eq!(ask_all().await, forbidden);
    rooms.join(&room).await;
    assert_eq!(ask_all().await, vec![(200, NONE); endpoints.len()]);
    rooms.set(&room, "m.room.server_acl", json!({ "allow": ["*"], "deny": ["B.test"] })).await;
    assert_eq!(ask_all().await, forbidden);
    let refused = rooms.make(&room, "leave").await.unwrap_err();
    assert_eq!(refused, json!([403, "M_FORBIDDEN"]));
    let (id, message) = rooms.message(&room, "denied");
    let (status, body) = rooms.transaction("1", &[message], &[]).await;
    assert_eq!(status, 200);
    assert!(body["pdus"][id.as_str()]["error"].is_string(), "{body}");
    assert!(!rooms.bodies(&room).await.contains(&"denied".to_owned()));
}

#[tokio::test]
async fn states_of_more_events_than_one_portion_are_whole() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    for number in 0..120 {
        let path = format!("/_matrix/client/v3/rooms/{room}/state/org.example/{number}");
        let set = rooms.server.put(&path, &rooms.alice.token, json!({ "number": number })).await;
        assert_eq!(set.0, 200);
    }
    let (status, joined) = rooms.send_join(&room, "").await;
    assert_eq!(status, 200);
    let event = talk::say(&rooms.server, &room, &rooms.alice, "hello").await;
    let (_, state) = rooms.get(&format!("/state/{room}?event_id={event}")).await;
    let (_, ids) = rooms.get(&format!("/state_ids/{room}?event_id={event}")).await;
    let count = |list: &Value| list.as_array().unwrap().len();
    // The create event, alice, power levels, join rules, history visibility, guest access; then bob.
    assert_eq!(count(&joined["state"]), 126, "{joined}");
    assert_eq!(joined["event"]["sender"], BOB);
    assert_eq!(count(&state["pdus"]), 127);
    assert_eq!(count(&ids["pdu_ids"]), 127);
    assert_eq!(count(&state["auth_chain"]), count(&ids["auth_chain_ids"]));
    let numbers: std::collections::HashSet<_> =
        state["pdus"].as_array().unwrap().iter().map(|event| &event["content"]["number"]).collect();
    assert_eq!(numbers.len(), 121);
}

#[tokio::test]
async fn events_have_the_form_of_the_specification() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let event = talk::say(&rooms.server, &room, &rooms.alice, "hello").await;
    rooms.join(&room).await;
    let (_, body) = rooms.get(&format!("/event/{event}")).await;
    assert_eq!(body["pdus"][0]["content"]["body"], "hello");
    assert_eq!(body["origin"], HERE);
    let (_, ids) = rooms.get(&format!("/state_ids/{room}?event_id={event}")).await;
    let (_, state) = rooms.get(&format!("/state/{room}?event_id={event}")).await;
    let length = |value: &Value| value.as_array().unwrap().len();
    assert_eq!(length(&ids["pdu_ids"]), length(&state["pdus"]));
    assert_eq!(length(&ids["auth_chain_ids"]), length(&state["auth_chain"]));
    let (_, body) = rooms.get(&format!("/backfill/{room}?v={event}&limit=3")).await;
    assert_eq!(length(&body["pdus"]), 3);
    let (_, body) = rooms.get(&format!("/timestamp_to_event/{room}?ts=0&dir=f")).await;
    assert!(body["event_id"].is_string(), "{body}");
    let unknown = rooms.get("/event/$nothing").await;
    assert_eq!(refusal(unknown), json!([404, "M_NOT_FOUND"]));
}

#[tokio::test]
async fn a_join_without_members_names_the_servers_and_shows_heroes_alone() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    for number in 0..8 {
        let user = rooms.server.register(&format!("user{number}")).await;
        talk::member(&rooms.server, &room, &user, &user, "join").await;
    }
    let (status, answer) = rooms.send_join(&room, "?omit_members=true").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["members_omitted"], true);
    assert_eq!(answer["servers_in_room"], json!([HERE]));
    let events = answer["state"].as_array().unwrap();
    let members = events.iter().filter(|event| event["type"] == "m.room.member").count();
    assert!(0 < members && members <= 5, "{members}");
    assert!(events.iter().any(|event| event["type"] == "m.room.join_rules"));
    let chain = answer["auth_chain"].as_array().unwrap();
    assert!(chain.iter().all(|event| !events.contains(event)), "{chain:?}");
}

#[tokio::test]
async fn only_a_join_of_the_servers_own_user_is_taken_as_a_join() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let (_, join) = rooms.make(&room, "join").await.unwrap();
    let change = |field: &str, value: Value| {
        let mut event = join.clone();
        event[field] = value;
        event.as_object_mut().unwrap().remove("signatures");
        rooms.signed("11", event)
    };
    let forgeries = [
        change("content", json!({ "membership": "leave" })),
        change("content", json!({ "membership": "knock" })),
        change("state_key", json!("@alice:a.test")),
        change("type", json!("m.room.message")),
    ];
    for (id, event) in forgeries {
        for version in [V1, V2] {
            let path = format!("{version}/send_join/{room}/{id}");
            let (status, body) = rooms.ask((Method::PUT, &path), &event).await;
            assert_eq!(status, 400, "{body}");
        }
    }
    let (_, body) = rooms.ask((Method::PUT, &format!("{V2}/send_join/{room}/$other")), &join).await;
    assert_eq!(body["errcode"], "M_INVALID_PARAM");
    assert_eq!(rooms.membership(&room, BOB), None);
    for user in ["@carol:c.test", "@alice:a.test"] {
        let refused = rooms.get(&format!("/make_join/{room}/{user}?ver=11")).await;
        assert_eq!(refusal(refused), json!([403, "M_FORBIDDEN"]));
    }
    let refused = rooms.get(&format!("/make_join/{room}/{BOB}?ver=9")).await;
    assert_eq!(refused.1["room_version"], "11");
    assert_eq!(refusal(refused), json!([400, "M_INCOMPATIBLE_ROOM_VERSION"]));
    let refused = rooms.get(&format!("/make_join/!none:a.test/{BOB}?ver=11")).await;
    assert_eq!(refusal(refused), json!([404, "M_NOT_FOUND"]));
}

#[tokio::test]
async fn the_first_version_of_the_endpoints_answers_with_a_status_in_the_body() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let (id, join) = rooms.make(&room, "join").await.unwrap();
    let path = format!("{V1}/send_join/{room}/{id}");
    let (status, body) = rooms.ask((Method::PUT, &path), &join).await;
    assert_eq!((status, &body[0]), (200, &json!(200)), "{body}");
    assert!(body[1]["state"].is_array());
    let (id, leave) = rooms.make(&room, "leave").await.unwrap();
    let path = format!("{V1}/send_leave/{room}/{id}");
    assert_eq!(rooms.ask((Method::PUT, &path), &leave).await, (200, json!([200, {}])));
    assert_eq!(rooms.membership(&room, BOB).as_deref(), Some("leave"));
}

#[tokio::test]
async fn a_join_to_a_restricted_room_is_authorised_and_signed_here() {
    let rooms = Rooms::start().await;
    for version in ["10", "11", "12"] {
        let club = rooms.create(version, json!({ "join_rule": "public" })).await;
        let rule = |kind: &str, of: &str| json!({ "join_rule": kind, "allow": [{ "type": "m.room_membership", "room_id": of }] });
        let room = rooms.create(version, rule("restricted", club.as_str())).await;
        let refused = rooms.make(&room, "join").await.unwrap_err();
        assert_eq!(refused, json!([403, "M_FORBIDDEN"]));
        rooms.join(&club).await;
        let (id, join) = rooms.make(&room, "join").await.unwrap();
        assert_eq!(join["content"]["join_authorised_via_users_server"], "@alice:a.test");
        let path = format!("{V2}/send_join/{room}/{id}");

        // What was allowed when the join was made may not be so any more.
        rooms.leave(&club).await;
        let refused = rooms.ask((Method::PUT, &path), &join).await;
        assert_eq!(refusal(refused), json!([403, "M_FORBIDDEN"]));
        rooms.join(&club).await;
        let (status, answer) = rooms.ask((Method::PUT, &path), &join).await;
        assert_eq!(status, 200, "{answer}");
        let signatures = answer["event"]["signatures"].as_object().unwrap();
        assert_eq!(signatures.keys().collect::<Vec<_>>(), [HERE, "b.test"]);
        rooms.leave(&room).await;

        rooms.set(&room, "m.room.join_rules", rule("knock_restricted", "!other:c.test")).await;
        let refused = rooms.make(&room, "join").await.unwrap_err();
        assert_eq!(refused, json!([400, "M_UNABLE_TO_AUTHORISE_JOIN"]));
    }
    let club = rooms.public().await;
    rooms.join(&club).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
    let room = rooms.create("11", rule).await;
    let levels = json!({ "users": { "@alice:a.test": 50 }, "invite": 60 });
    rooms.set(&room, "m.room.power_levels", levels).await;
    let refused = rooms.make(&room, "join").await.unwrap_err();
    assert_eq!(refused, json!([400, "M_UNABLE_TO_GRANT_JOIN"]));
}

#[tokio::test]
async fn a_user_of_another_server_knocks_and_is_shown_what_the_room_is() {
    let rooms = Rooms::start().await;
    let room = rooms.create("11", json!({ "join_rule": "knock" })).await;
    rooms.set(&room, "m.room.name", json!({ "name": "the door" })).await;
    let (id, knock) = rooms.make(&room, "knock").await.unwrap();
    let path = format!("{V1}/send_knock/{room}/{id}");
    let (status, body) = rooms.ask((Method::PUT, &path), &knock).await;
    assert_eq!(status, 200, "{body}");
    let shown = body["knock_room_state"].as_array().unwrap();
    let is = |event: &&Value, kind: &str| event["type"] == kind && event["signatures"].is_object();
    for kind in ["m.room.create", "m.room.name", "m.room.join_rules"] {
        assert_eq!(shown.iter().filter(|event| is(event, kind)).count(), 1, "{kind}");
    }
    assert_eq!(rooms.membership(&room, BOB).as_deref(), Some("knock"));
    rooms.leave(&room).await;
    let closed = rooms.public().await;
    let refused = rooms.make(&closed, "knock").await.unwrap_err();
    assert_eq!(refused, json!([403, "M_FORBIDDEN"]));
}

#[tokio::test]
async fn an_event_that_only_other_servers_have_is_redacted_by_those_with_the_power() {
    let rooms = Rooms::start().await;
    let room = rooms.public().await;
    let carol = rooms.server.register("carol").await;
    talk::member(&rooms.server, &room, &carol, &carol, "join").await;
    let redact = async |user: &User, transaction: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/$elsewhere/{transaction}");
        rooms.server.put(&path, &user.token, json!({})).await.0
    };
    assert_eq!(redact(&rooms.alice, "1").await, 404, "no other server is in the room");
    rooms.join(&room).await;
    assert_eq!(redact(&carol, "1").await, 404);
    assert_eq!(redact(&rooms.alice, "2").await, 200);
}
