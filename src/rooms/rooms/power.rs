//! Power levels: what a new room has, and what makes sense.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#mroompower_levels>

use ruma::{
    Int, OwnedUserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::room::power_levels::RoomPowerLevelsEventContent,
    int,
    room_version_rules::RoomVersionRules,
};
use wick_core::{Error, Pdu, Result};

/// What a creator has where creators have a level.
fn admin() -> Int {
    int!(100)
}

/// The power levels of a new room: `admins` have what creators have.
pub(super) fn of_new_room(
    rules: &RoomVersionRules,
    admins: impl IntoIterator<Item = OwnedUserId>,
    everybody_invites: bool,
) -> CanonicalJsonObject {
    let users = admins.into_iter().map(|user| (user.to_string(), admin()));
    // A room whose creators stand above all levels can be closed by them alone.
    let tombstone =
        if rules.authorization.explicitly_privilege_room_creators { int!(150) } else { admin() };
    let events = [
        ("m.room.name", int!(50)),
        ("m.room.avatar", int!(50)),
        ("m.room.canonical_alias", int!(50)),
        ("m.room.power_levels", admin()),
        ("m.room.history_visibility", admin()),
        ("m.room.encryption", admin()),
        ("m.room.server_acl", admin()),
        ("m.room.tombstone", tombstone),
    ];
    let events = events.map(|(event_type, level)| (event_type.to_owned(), level));
    let levels = [
        ("users_default", int!(0)),
        ("events_default", int!(0)),
        ("state_default", int!(50)),
        ("ban", int!(50)),
        ("kick", int!(50)),
        ("redact", int!(50)),
        ("invite", if everybody_invites { int!(0) } else { int!(50) }),
    ];
    let mut content: CanonicalJsonObject = levels
        .into_iter()
        .map(|(key, level)| (key.to_owned(), CanonicalJsonValue::Integer(level)))
        .collect();
    content.insert("users".to_owned(), map(users));
    content.insert("events".to_owned(), map(events));
    content
}

/// Takes users out of power levels.
pub(super) fn remove_users(content: &mut CanonicalJsonObject, users: &[OwnedUserId]) {
    if let Some(CanonicalJsonValue::Object(levels)) = content.get_mut("users") {
        levels.retain(|user, _| !users.iter().any(|removed| removed == user.as_str()));
    }
}

fn map(levels: impl IntoIterator<Item = (String, Int)>) -> CanonicalJsonValue {
    let levels = levels.into_iter().map(|(key, level)| (key, CanonicalJsonValue::Integer(level)));
    CanonicalJsonValue::Object(levels.collect())
}

/// Whether a content is one of power levels. The auth rules look at some of it only.
///
/// # Errors
/// `M_BAD_JSON` if a level is no level, or a level is given to a creator that is above all levels.
pub(super) fn ensure(
    content: &CanonicalJsonObject,
    rules: &RoomVersionRules,
    creators: &[OwnedUserId],
) -> Result<()> {
    serde_json::to_value(content)
        .and_then(serde_json::from_value::<RoomPowerLevelsEventContent>)
        .map_err(|error| Error::bad_json(format!("these are no power levels: {error}")))?;
    if rules.authorization.integer_power_levels {
        ensure_integers(content)?;
    }
    if rules.authorization.explicitly_privilege_room_creators
        && let Some(CanonicalJsonValue::Object(users)) = content.get("users")
        && let Some(creator) = creators.iter().find(|creator| users.contains_key(creator.as_str()))
    {
        let message = format!("{creator} is a creator and has no power level");
        return Err(Error::bad_json(message));
    }
    Ok(())
}

fn ensure_integers(content: &CanonicalJsonObject) -> Result<()> {
    for (key, value) in content {
        let fine = match (key.as_str(), value) {
            ("users" | "events" | "notifications", CanonicalJsonValue::Object(levels)) => {
                levels.values().all(|level| matches!(level, CanonicalJsonValue::Integer(_)))
            }
            (
                "users_default" | "events_default" | "state_default" | "ban" | "kick" | "redact"
                | "invite",
                value,
            ) => matches!(value, CanonicalJsonValue::Integer(_)),
            _ => true,
        };
        if !fine {
            return Err(Error::bad_json(format!("{key}: power levels are integers")));
        }
    }
    Ok(())
}

/// The creators of a room.
pub(super) fn creators(create: &Pdu, rules: &RoomVersionRules) -> Vec<OwnedUserId> {
    let mut creators = vec![create.sender.clone()];
    if rules.authorization.additional_room_creators {
        let more = create.content_as::<Creators>().unwrap_or_default().additional_creators;
        creators.extend(more);
    }
    creators
}

#[derive(Default, serde::Deserialize)]
struct Creators {
    #[serde(default)]
    additional_creators: Vec<OwnedUserId>,
}
