//! The summary of a room for previews, the public directory and spaces.

use ruma::{
    OwnedMxcUri, OwnedRoomAliasId, RoomVersionId, UInt,
    events::{StateEventType, room::join_rules::RoomJoinRulesEventContent},
    room::{JoinRuleSummary, RoomSummary, RoomType},
};
use serde::de::DeserializeOwned;
use wick_core::{Error, Result, ShortRoomId};
use wick_database::Read;
use wick_room::Graph;

/// The summary of a room; `None` if it is unknown. Does not check visibility.
///
/// # Errors
/// If the database cannot be read.
pub fn summary(graph: &Graph, read: &impl Read, room: ShortRoomId) -> Result<Option<RoomSummary>> {
    let Some(head) = graph.head(read, room)? else { return Ok(None) };
    let room_id = graph
        .intern()
        .room_id(read, room)?
        .ok_or_else(|| Error::corrupt("a room has no room id"))?;
    let state = State { graph, read, room };
    let visibility = state.text(&StateEventType::RoomHistoryVisibility, "history_visibility")?;
    let mut summary = RoomSummary::new(
        room_id,
        state.join_rule()?,
        state.guests_can_join()?,
        UInt::new_saturating(head.counts.joined),
        visibility.as_deref() == Some("world_readable"),
    );
    summary.name = state.text(&StateEventType::RoomName, "name")?;
    summary.topic = state.text(&StateEventType::RoomTopic, "topic")?;
    summary.avatar_url = state.text(&StateEventType::RoomAvatar, "url")?.map(OwnedMxcUri::from);
    summary.canonical_alias = state
        .text(&StateEventType::RoomCanonicalAlias, "alias")?
        .and_then(|alias| OwnedRoomAliasId::try_from(alias).ok());
    summary.room_type = state.text(&StateEventType::RoomCreate, "type")?.map(RoomType::from);
    summary.encryption = state.text(&StateEventType::RoomEncryption, "algorithm")?.map(Into::into);
    summary.room_version = RoomVersionId::try_from(head.version.as_str()).ok();
    Ok(Some(summary))
}

/// Whether guests can join a room.
///
/// # Errors
/// If the database cannot be read.
pub fn guests_can_join(graph: &Graph, read: &impl Read, room: ShortRoomId) -> Result<bool> {
    State { graph, read, room }.guests_can_join()
}

/// The current state of a room, without what was redacted.
struct State<'a, R> {
    graph: &'a Graph,
    read: &'a R,
    room: ShortRoomId,
}

impl<R: Read> State<'_, R> {
    fn content<T: DeserializeOwned>(&self, event_type: &StateEventType) -> Result<Option<T>> {
        let short = self.graph.state_event_short(self.read, self.room, event_type, "")?;
        let Some(short) = short else { return Ok(None) };
        // Content that does not have the specification's form is ignored.
        Ok(serde_json::from_str(self.graph.content(self.read, short)?.get()).ok())
    }

    fn text(&self, event_type: &StateEventType, key: &str) -> Result<Option<String>> {
        let content: Option<serde_json::Map<String, serde_json::Value>> =
            self.content(event_type)?;
        let text = content.as_ref().and_then(|content| content.get(key)?.as_str());
        Ok(text.filter(|text| !text.is_empty()).map(ToOwned::to_owned))
    }

    fn guests_can_join(&self) -> Result<bool> {
        let access = self.text(&StateEventType::RoomGuestAccess, "guest_access")?;
        Ok(access.as_deref() == Some("can_join"))
    }

    /// An unknown join rule counts as `invite`.
    fn join_rule(&self) -> Result<JoinRuleSummary> {
        let content: Option<RoomJoinRulesEventContent> =
            self.content(&StateEventType::RoomJoinRules)?;
        let rule = content.map(|content| JoinRuleSummary::from(content.join_rule));
        Ok(match rule {
            Some(
                rule @ (JoinRuleSummary::Public
                | JoinRuleSummary::Knock
                | JoinRuleSummary::Restricted(_)
                | JoinRuleSummary::KnockRestricted(_)
                | JoinRuleSummary::Private),
            ) => rule,
            _ => JoinRuleSummary::Invite,
        })
    }
}
