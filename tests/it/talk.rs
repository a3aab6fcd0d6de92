//! Rooms made below the API, and what a sync shows of them, for the tests of several areas.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test asks for is there")]

use http::StatusCode;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value, json};
use wick_core::Draft;
use wick_harness::{TestServer, User};
use wick_room::{Effects, NewRoom};

pub(crate) const SYNC: &str = "/_matrix/client/v3/sync";

/// A room with `creator` in it, made below the API.
pub(crate) async fn room(server: &TestServer, creator: &User) -> OwnedRoomId {
    let alice = creator.user_id.clone();
    let placeholder = ruma::room_id!("!placeholder:localhost").to_owned();
    let create =
        state_draft(&placeholder, &alice, "m.room.create", "", json!({ "room_version": "11" }));
    let new_room = NewRoom { version: RoomVersionId::V11, create };
    let (room_id, ()) = server
        .services()
        .graph
        .create(new_room, |room| {
            let id = room.room_id().to_owned();
            let member = json!({ "membership": "join", "displayname": alice.localpart() });
            for (event_type, key, content) in [
                ("m.room.member", alice.as_str(), member),
                ("m.room.power_levels", "", json!({ "users": { alice.as_str(): 100 } })),
                ("m.room.join_rules", "", json!({ "join_rule": "public" })),
                ("m.room.history_visibility", "", json!({ "history_visibility": "shared" })),
            ] {
                room.append(
                    state_draft(&id, &alice, event_type, key, content),
                    Effects::default(),
                )?;
            }
            Ok(())
        })
        .await
        .unwrap();
    room_id
}

pub(crate) fn canonical(content: Value) -> ruma::canonical_json::CanonicalJsonObject {
    serde_json::from_value(content).unwrap()
}

pub(crate) fn state_draft(
    room_id: &RoomId,
    sender: &OwnedUserId,
    event_type: &str,
    key: &str,
    content: Value,
) -> Draft {
    let event_type = StateEventType::from(event_type);
    Draft::state(room_id.to_owned(), sender.clone(), event_type, key, canonical(content))
}

pub(crate) async fn set(
    server: &TestServer,
    room_id: &RoomId,
    by: &User,
    what: (&str, &str),
    content: Value,
) {
    let draft = state_draft(room_id, &by.user_id, what.0, what.1, content);
    server.services().graph.send(draft, Effects::default()).await.unwrap();
}

pub(crate) async fn member(
    server: &TestServer,
    room_id: &RoomId,
    by: &User,
    of: &User,
    membership: &str,
) {
    let content = json!({ "membership": membership, "displayname": of.user_id.localpart() });
    set(server, room_id, by, ("m.room.member", of.user_id.as_str()), content).await;
}

pub(crate) async fn say(
    server: &TestServer,
    room_id: &RoomId,
    by: &User,
    body: &str,
) -> OwnedEventId {
    send(server, room_id, by, json!({ "msgtype": "m.text", "body": body })).await
}

pub(crate) async fn send(
    server: &TestServer,
    room_id: &RoomId,
    by: &User,
    content: Value,
) -> OwnedEventId {
    let draft = Draft::message(
        room_id.to_owned(),
        by.user_id.clone(),
        TimelineEventType::RoomMessage,
        canonical(content),
    );
    let sent = server.services().graph.send(draft, Effects::default()).await.unwrap();
    sent.pdu.event_id.clone()
}

pub(crate) async fn sync(server: &TestServer, user: &User, query: &str) -> Value {
    let (status, body) = server.get(&format!("{SYNC}{query}"), &user.token).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

pub(crate) async fn sync_since(
    server: &TestServer,
    user: &User,
    before: &Value,
    more: &str,
) -> Value {
    let since = before["next_batch"].as_str().unwrap();
    sync(server, user, &format!("?since={since}{more}")).await
}

pub(crate) fn events(of: &Value) -> &[Value] {
    of["events"].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(crate) fn types(of: &Value) -> Vec<&str> {
    events(of).iter().map(|event| event["type"].as_str().unwrap()).collect()
}

pub(crate) fn bodies(of: &Value) -> Vec<&str> {
    events(of).iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

pub(crate) fn members(of: &Value) -> Vec<&str> {
    let members = events(of).iter().filter(|event| event["type"] == "m.room.member");
    members.map(|event| event["state_key"].as_str().unwrap()).collect()
}

/// The news of a joined room.
pub(crate) fn joined<'a>(sync: &'a Value, room_id: &RoomId) -> &'a Value {
    &sync["rooms"]["join"][room_id.as_str()]
}

/// The content of an ephemeral event of a room; null if there is none.
pub(crate) fn ephemeral(sync: &Value, room_id: &RoomId, event_type: &str) -> Value {
    let told = events(&joined(sync, room_id)["ephemeral"]);
    let found = told.iter().find(|event| event["type"] == event_type);
    found.map(|event| event["content"].clone()).unwrap_or_default()
}

/// A filter as part of a query.
pub(crate) fn filter(filter: &Value) -> String {
    let encoded: String = filter.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("filter={encoded}")
}
