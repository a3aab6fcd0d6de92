//! The contents of member and power levels events, parsed as leniently as the auth rules parse them.

use ruma::{
    OwnedUserId,
    events::TimelineEventType,
    events::room::{
        member::MembershipState,
        power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent},
    },
    room_version_rules::RoomVersionRules,
    state_res::events::RoomCreateEvent,
};
use serde::Deserialize;
use wick_core::{Error, Pdu, Result};
use wick_database::schema::room::Membership;

/// The content of a member event, as far as the server reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct MemberContent {
    /// The membership.
    pub membership: MembershipState,
    /// The display name in this room.
    #[serde(default)]
    pub displayname: Option<serde_json::Value>,
    /// The avatar in this room.
    #[serde(default)]
    pub avatar_url: Option<serde_json::Value>,
    /// A direct chat.
    #[serde(default)]
    pub is_direct: Option<serde_json::Value>,
}

impl MemberContent {
    /// The display name, if it is one.
    #[must_use]
    pub fn displayname(&self) -> Option<&str> {
        self.displayname.as_ref().and_then(serde_json::Value::as_str)
    }

    /// The avatar, if it is one.
    #[must_use]
    pub fn avatar_url(&self) -> Option<&str> {
        self.avatar_url.as_ref().and_then(serde_json::Value::as_str)
    }
}

/// The content of a member event.
///
/// # Errors
/// If it has no membership, which the auth rules do not let in.
pub fn content(event: &Pdu) -> Result<MemberContent> {
    event.content_as().map_err(|error| Error::internal("a member event cannot be read", error))
}

/// The membership a member event gives, if it is one that the specification names.
pub fn of(event: &Pdu) -> Option<Membership> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    from_state(&event.content_as::<Content>().ok()?.membership)
}

/// Whether an event is the member event of a joined user.
#[must_use]
pub fn is_join(event: &Pdu) -> bool {
    event.event_type == TimelineEventType::RoomMember && of(event) == Some(Membership::Join)
}

/// A membership as part of a key.
#[must_use]
pub fn from_state(state: &MembershipState) -> Option<Membership> {
    match state {
        MembershipState::Join => Some(Membership::Join),
        MembershipState::Invite => Some(Membership::Invite),
        MembershipState::Knock => Some(Membership::Knock),
        MembershipState::Leave => Some(Membership::Leave),
        MembershipState::Ban => Some(Membership::Ban),
        _ => None,
    }
}

/// The power levels of a room.
///
/// # Errors
/// If the create event is not there or the power levels cannot be read.
pub fn power_levels(
    rules: &RoomVersionRules,
    create: Option<&Pdu>,
    power_levels: Option<&Pdu>,
) -> Result<RoomPowerLevels> {
    let create = create.ok_or_else(|| Error::corrupt("a room has no create event"))?;
    let creators: Vec<OwnedUserId> = RoomCreateEvent::new(create)
        .creators(&rules.authorization)
        .map_err(|error| Error::corrupt(format!("a create event has no creators: {error}")))?
        .into_iter()
        .collect();
    // Content that cannot be read counts as none, which gives the fewest rights.
    let content =
        power_levels.and_then(|event| event.content_as::<RoomPowerLevelsEventContent>().ok());
    Ok(RoomPowerLevels::new(content.into(), &rules.authorization, creators))
}
