//! What a room begins with, decided before anything is written.

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomAliasId, OwnedUserId, RoomAliasId, RoomVersionId, UserId,
    api::client::room::{
        Visibility,
        create_room::v3::{Request, RoomPreset},
    },
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::StateEventType,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use wick_core::{Error, Result, ShortRoomId, ShortUserId, rules};
use wick_ruma::WILL_EXPIRE;

use super::usual_preset;
use crate::rooms::{Rooms, content, power};

/// A room to be made.
pub(in crate::rooms) struct Plan {
    pub(in crate::rooms) version: RoomVersionId,
    pub(in crate::rooms) create: CanonicalJsonObject,
    pub(in crate::rooms) power_levels: CanonicalJsonObject,
    /// Whether they are set after everything else.
    pub(in crate::rooms) power_levels_last: bool,
    /// In the order in which it is set.
    pub(in crate::rooms) state: Vec<(StateEventType, String, CanonicalJsonObject)>,
    pub(in crate::rooms) alias: Option<OwnedRoomAliasId>,
    /// Whether the directory lists it.
    pub(in crate::rooms) listed: bool,
    pub(in crate::rooms) invites: Vec<(OwnedUserId, CanonicalJsonObject)>,
    pub(in crate::rooms) bans: Vec<(OwnedUserId, CanonicalJsonObject)>,
    /// The room that is upgraded to it, and the upgrading user.
    pub(in crate::rooms) replaces: Option<(ShortRoomId, ShortUserId)>,
}

impl Plan {
    /// How many events the room begins with, about.
    pub(super) fn events(&self) -> usize {
        self.state.len() + self.invites.len() + self.bans.len()
    }
}

#[derive(Deserialize)]
struct InitialState {
    #[serde(rename = "type")]
    event_type: StateEventType,
    #[serde(default)]
    state_key: String,
    content: Box<RawValue>,
}

impl Rooms {
    /// The parameters of a request to create a room.
    pub(super) fn plan(&self, creator: &UserId, request: Request) -> Result<Plan> {
        let names_version = request.room_version.is_some();
        let version =
            request.room_version.unwrap_or(self.resources.config.rooms.default_version.clone());
        let rules = rules::version_rules(&version)?;
        let preset = match request.preset {
            Some(RoomPreset::_Custom(_)) => {
                return Err(Error::invalid_param("there is no such preset"));
            }
            Some(preset) => preset,
            None => usual_preset(&request.visibility),
        };
        let trusted = preset == RoomPreset::TrustedPrivateChat;
        let create = request.creation_content.map(|content| lasting(content.json()));
        let more = if trusted { &*request.invite } else { &[] };
        let create = create_content(create.transpose()?, creator, more, &version, &rules)?;

        let creators = creators_of(&create, creator);
        let admins = admins_of(creator, more, &rules);
        let everybody_invites = preset != RoomPreset::PublicChat;
        let mut power_levels = power::of_new_room(&rules, admins, everybody_invites);
        if let Some(changed) = &request.power_level_content_override {
            power_levels.extend(lasting(changed.json())?);
        }
        let alias = request.room_alias_name.map(|local| self.new_alias(&local)).transpose()?;
        let mut state = State::default();
        if let Some(alias) = &alias {
            let content = json!({ "alias": alias });
            state.set(StateEventType::RoomCanonicalAlias, "", content::of(&content)?);
        }
        state.set_preset(&preset)?;
        for initial in &request.initial_state {
            let InitialState { event_type, state_key, content } =
                serde_json::from_str(initial.json().get())
                    .map_err(|error| Error::bad_json(format!("initial_state: {error}")))?;
            let content = lasting(&content)?;
            match event_type {
                StateEventType::RoomCreate | StateEventType::RoomMember => {
                    let message = format!("initial_state cannot have {event_type}");
                    return Err(Error::invalid_param(message));
                }
                StateEventType::RoomPowerLevels if state_key.is_empty() => power_levels = content,
                event_type => state.set(event_type, &state_key, content),
            }
        }
        // Clients of the time before version 12 name the creator whatever the default version is.
        if !names_version && rules.authorization.explicitly_privilege_room_creators {
            power::remove_users(&mut power_levels, &creators);
        }
        power::ensure(&power_levels, &rules, &creators)?;
        ensure_creator_has_power(&power_levels, creator, &rules)?;
        if let Some(name) = request.name.filter(|name| !name.is_empty()) {
            state.set(StateEventType::RoomName, "", content::of(&json!({ "name": name }))?);
        }
        if let Some(topic) = request.topic {
            let rich = json!({ "m.text": [{ "body": topic, "mimetype": "text/plain" }] });
            let content = content::of(&json!({ "topic": topic, "m.topic": rich }))?;
            state.set(StateEventType::RoomTopic, "", content);
        }
        let mut invites = BTreeMap::new();
        for user in request.invite {
            if user != creator {
                let content = self.invitation(&user, None, request.is_direct)?;
                // Those of other servers can be invited once the room is there.
                if self.is_local(&user) {
                    invites.insert(user, content);
                }
            }
        }
        Ok(Plan {
            version,
            create,
            power_levels,
            power_levels_last: false,
            state: state.0,
            alias,
            listed: request.visibility == Visibility::Public,
            invites: invites.into_iter().collect(),
            bans: Vec::new(),
            replaces: None,
        })
    }

    fn new_alias(&self, local: &str) -> Result<OwnedRoomAliasId> {
        let alias = format!("#{local}:{}", self.graph.server_name());
        match RoomAliasId::parse(alias) {
            Ok(alias) if !local.is_empty() && !local.contains(is_forbidden_in_alias) => Ok(alias),
            _ => Err(Error::invalid_param("this cannot be the local part of a room alias")),
        }
    }
}

/// Reads the content of an event that a room begins with. It cannot expire: the response has no field for
/// its refresh token.
fn lasting(content: &RawValue) -> Result<CanonicalJsonObject> {
    let content = content::parse(content)?;
    if content.contains_key(WILL_EXPIRE) {
        return Err(Error::invalid_param("events that a room begins with cannot expire"));
    }
    Ok(content)
}

fn is_forbidden_in_alias(c: char) -> bool {
    c == ':' || c.is_whitespace() || c.is_control()
}

/// State in the order in which it is to be set; what is set twice stays in its place.
#[derive(Default)]
struct State(Vec<(StateEventType, String, CanonicalJsonObject)>);

impl State {
    fn set(&mut self, event_type: StateEventType, state_key: &str, content: CanonicalJsonObject) {
        let same = self.0.iter_mut().find(|(t, key, _)| *t == event_type && key == state_key);
        match same {
            Some(entry) => entry.2 = content,
            None => self.0.push((event_type, state_key.to_owned(), content)),
        }
    }

    fn set_preset(&mut self, preset: &RoomPreset) -> Result<()> {
        let is_public = matches!(preset, RoomPreset::PublicChat);
        let join_rule = if is_public { "public" } else { "invite" };
        for (event_type, content) in [
            (StateEventType::RoomJoinRules, json!({ "join_rule": join_rule })),
            (StateEventType::RoomHistoryVisibility, json!({ "history_visibility": "shared" })),
        ] {
            self.set(event_type, "", content::of(&content)?);
        }
        if !is_public {
            // A public room forbids guests, which is what a room without this event does.
            let content = content::of(&json!({ "guest_access": "can_join" }))?;
            self.set(StateEventType::RoomGuestAccess, "", content);
        }
        Ok(())
    }
}

/// The content of a create event.
///
/// # Errors
/// `M_BAD_JSON` if the request contradicts itself.
pub(in crate::rooms) fn create_content(
    wanted: Option<CanonicalJsonObject>,
    creator: &UserId,
    more_creators: &[OwnedUserId],
    version: &RoomVersionId,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject> {
    let mut content = wanted.unwrap_or_default();
    content.remove("creator");
    content::set_text(&mut content, "room_version", version.as_str());
    if !rules.authorization.use_room_create_sender {
        content::set_text(&mut content, "creator", creator.as_str());
    }
    if let Some(CanonicalJsonValue::String(_)) | None = content.get("type") {
    } else {
        return Err(Error::bad_json("a room's type is a text"));
    }
    if rules.authorization.additional_room_creators {
        let mut additional = additional_creators(&content)?;
        additional.extend(more_creators.iter().cloned());
        let mut seen = Vec::new();
        for user in additional {
            if user != creator && !seen.contains(&user) {
                seen.push(user);
            }
        }
        content.remove("additional_creators");
        if !seen.is_empty() {
            let users = seen.into_iter().map(|user| CanonicalJsonValue::String(user.into()));
            let users = CanonicalJsonValue::Array(users.collect());
            content.insert("additional_creators".to_owned(), users);
        }
    }
    Ok(content)
}

/// The users that get the power of an admin: none where creators have more power than any level.
fn admins_of(creator: &UserId, more: &[OwnedUserId], rules: &RoomVersionRules) -> Vec<OwnedUserId> {
    if rules.authorization.explicitly_privilege_room_creators {
        return Vec::new();
    }
    [creator.to_owned()].into_iter().chain(more.iter().cloned()).collect()
}

fn additional_creators(content: &CanonicalJsonObject) -> Result<Vec<OwnedUserId>> {
    let malformed = || Error::bad_json("additional_creators is a list of user ids");
    match content.get("additional_creators") {
        None => Ok(Vec::new()),
        Some(CanonicalJsonValue::Array(users)) => users
            .iter()
            .map(|user| match user {
                CanonicalJsonValue::String(user) => {
                    OwnedUserId::try_from(user.as_str()).map_err(|_| malformed())
                }
                _ => Err(malformed()),
            })
            .collect(),
        Some(_) => Err(malformed()),
    }
}

pub(in crate::rooms) fn creators_of(
    create: &CanonicalJsonObject,
    creator: &UserId,
) -> Vec<OwnedUserId> {
    let mut creators = vec![creator.to_owned()];
    creators.extend(additional_creators(create).unwrap_or_default());
    creators
}

/// Requires that the creator has the power to set the room's state.
fn ensure_creator_has_power(
    power_levels: &CanonicalJsonObject,
    creator: &UserId,
    rules: &RoomVersionRules,
) -> Result<()> {
    if rules.authorization.explicitly_privilege_room_creators {
        return Ok(());
    }
    match power_levels.get("users") {
        Some(CanonicalJsonValue::Object(users)) if users.contains_key(creator.as_str()) => Ok(()),
        _ => Err(Error::bad_json("the power levels of a new room name its creator")),
    }
}
