//! Member events that another server drafts and this one signs.
//!
//! Invariant: of a draft nothing is taken but where the event stands in the room, and who authorises a join.

use ruma::{
    OwnedEventId, RoomId, RoomVersionId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::room::member::MembershipState,
};
use serde_json::value::RawValue;
use wick_core::{Error, Result, rules};

use crate::RemoteRooms;

/// The authorising user of a join to a restricted room.
const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

/// A member event of a local user that is to be made.
pub(crate) struct Member<'a> {
    pub(crate) room_id: &'a RoomId,
    pub(crate) user_id: &'a UserId,
    pub(crate) content: CanonicalJsonObject,
}

/// A member event with this server's signature.
pub(crate) struct Signed {
    pub(crate) event_id: OwnedEventId,
    pub(crate) json: Box<RawValue>,
    pub(crate) version: RoomVersionId,
}

impl RemoteRooms {
    /// Signs the event of another server's draft.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_BAD_JSON` if the draft cannot be used.
    pub(crate) fn sign(
        &self,
        member: &Member<'_>,
        version: Option<RoomVersionId>,
        draft: &RawValue,
    ) -> Result<Signed> {
        let draft: CanonicalJsonObject = serde_json::from_str(draft.get()).map_err(unusable)?;
        let mut content = member.content.clone();
        let drafted = draft.get("content").and_then(CanonicalJsonValue::as_object);
        let by = drafted.and_then(|content| content.get(AUTHORISED_VIA));
        if let Some(by) = by
            && content.get("membership").and_then(CanonicalJsonValue::as_str)
                == Some(MembershipState::Join.as_str())
        {
            content.insert(AUTHORISED_VIA.to_owned(), by.clone());
        }
        let mut event = CanonicalJsonObject::new();
        for key in ["auth_events", "prev_events", "depth"] {
            let value = draft.get(key).ok_or_else(|| unusable(format!("it has no {key}")))?;
            event.insert(key.to_owned(), value.clone());
        }
        let member = Member { content, ..*member };
        self.sign_member(event, &member, version.unwrap_or(RoomVersionId::V1))
    }

    /// Signs a member event of which the place in the room is there.
    pub(crate) fn sign_member(
        &self,
        mut event: CanonicalJsonObject,
        member: &Member<'_>,
        version: RoomVersionId,
    ) -> Result<Signed> {
        let rules = rules::version_rules(&version)?;
        let now = i64::try_from(self.resources.clock.now().0).ok();
        let now = now.and_then(|now| ruma::Int::try_from(now).ok());
        let now = now.ok_or_else(|| Error::corrupt("the clock is beyond canonical JSON"))?;
        let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
        let mut set = |key: &str, value| event.insert(key.to_owned(), value);
        set("type", text("m.room.member"));
        set("room_id", text(member.room_id.as_str()));
        set("sender", text(member.user_id.as_str()));
        set("state_key", text(member.user_id.as_str()));
        set("origin_server_ts", CanonicalJsonValue::Integer(now));
        set("content", CanonicalJsonValue::Object(member.content.clone()));
        let event_id = self.graph.sign(&mut event, &rules)?;
        Ok(Signed { event_id, json: rules::to_json(&event)?, version })
    }
}

fn unusable(reason: impl std::fmt::Display) -> Error {
    Error::bad_json(format!("the other server's draft cannot be used: {reason}"))
}
