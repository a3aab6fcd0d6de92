//! A room of a [`TestServer`], filled below the API: quick, and with nothing in it that a test did not
//! ask for.

use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value, json};
use wick_core::Draft;
use wick_room::{Effects, NewRoom};

use crate::{TestServer, User};

/// A room.
pub struct TestRoom<'a> {
    /// Its id.
    pub id: OwnedRoomId,
    server: &'a TestServer,
}

impl TestServer {
    /// A public room of version 11 with this history visibility.
    pub async fn room(&self, creator: &User, visibility: &str) -> TestRoom<'_> {
        self.room_of_type(creator, visibility, None).await
    }

    /// The same, as a space for instance.
    pub async fn room_of_type(
        &self,
        creator: &User,
        visibility: &str,
        room_type: Option<&str>,
    ) -> TestRoom<'_> {
        let user = &creator.user_id;
        let placeholder = ruma::room_id!("!placeholder:localhost");
        let mut content = json!({ "room_version": "11" });
        if let (Some(room_type), Some(fields)) = (room_type, content.as_object_mut()) {
            fields.insert("type".to_owned(), json!(room_type));
        }
        let create = state(placeholder, user, ("m.room.create", ""), content);
        let new_room = NewRoom { version: RoomVersionId::V11, create };
        let fill = |room: &mut wick_room::Assembly<'_>| {
            let id = room.room_id().to_owned();
            for (event_type, key, content) in [
                ("m.room.member", user.as_str(), joined(creator, "join")),
                ("m.room.power_levels", "", json!({ "users": { user.as_str(): 100 } })),
                ("m.room.join_rules", "", json!({ "join_rule": "public" })),
                ("m.room.history_visibility", "", json!({ "history_visibility": visibility })),
            ] {
                room.append(state(&id, user, (event_type, key), content), Effects::default())?;
            }
            Ok(())
        };
        let (id, ()) =
            self.services().graph.create(new_room, fill).await.expect("the room can be made");
        TestRoom { id, server: self }
    }
}

impl TestRoom<'_> {
    /// A path below the room's.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/_matrix/client/v3/rooms/{}{rest}", self.id)
    }

    /// Sets a piece of state.
    pub async fn set(&self, by: &User, what: (&str, &str), content: Value) -> OwnedEventId {
        self.append(state(&self.id, &by.user_id, what, content)).await
    }

    /// Sets a membership.
    pub async fn member(&self, by: &User, of: &User, membership: &str) -> OwnedEventId {
        self.set(by, ("m.room.member", of.user_id.as_str()), joined(of, membership)).await
    }

    /// Sends a message.
    pub async fn say(&self, by: &User, body: &str) -> OwnedEventId {
        self.send(by, "m.room.message", json!({ "msgtype": "m.text", "body": body })).await
    }

    /// Sends a message that relates to another event.
    pub async fn relate(
        &self,
        by: &User,
        rel_type: &str,
        to: &OwnedEventId,
        body: &str,
    ) -> OwnedEventId {
        let relation = json!({ "rel_type": rel_type, "event_id": to });
        let content = json!({ "msgtype": "m.text", "body": body, "m.relates_to": relation });
        self.send(by, "m.room.message", content).await
    }

    /// Sends an event.
    pub async fn send(&self, by: &User, event_type: &str, content: Value) -> OwnedEventId {
        let (room, sender) = (self.id.clone(), by.user_id.clone());
        let event_type = TimelineEventType::from(event_type);
        self.append(Draft::message(room, sender, event_type, canonical(content))).await
    }

    /// Redacts an event.
    pub async fn redact(&self, by: &User, event: &OwnedEventId) -> OwnedEventId {
        self.send(by, "m.room.redaction", json!({ "redacts": event })).await
    }

    async fn append(&self, draft: Draft) -> OwnedEventId {
        let appended = self.server.services().graph.send(draft, Effects::default()).await;
        appended.expect("the event is allowed").pdu.event_id.clone()
    }
}

fn joined(user: &User, membership: &str) -> Value {
    json!({ "membership": membership, "displayname": user.user_id.localpart() })
}

fn state(room: &RoomId, sender: &UserId, what: (&str, &str), content: Value) -> Draft {
    let event_type = StateEventType::from(what.0);
    Draft::state(room.to_owned(), sender.to_owned(), event_type, what.1, canonical(content))
}

fn canonical(content: Value) -> CanonicalJsonObject {
    serde_json::from_value(content).expect("the content is canonical")
}
