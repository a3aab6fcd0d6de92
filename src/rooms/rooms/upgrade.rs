//! Upgrading a room: a new one takes its place.
//!
//! Invariants: the new room is complete before the old one gets its tombstone, each in one batch; no new
//! room is made for a user that may not close the old one.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#room-upgrades>

use std::sync::Arc;

use ruma::{
    Int, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
    api::error::ErrorKind,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::{StateEventType, room::power_levels::UserPowerLevel},
    int,
    room_version_rules::RoomVersionRules,
};
use serde_json::json;
use wick_account::Session;
use wick_core::{
    Draft, Error, Pdu, Result, ShortRoomId, ShortUserId, event::pdu::SharedPdu, rules,
};
use wick_database::{
    Batch, Latest, Range, Read,
    schema::{
        directory::{ALIAS_BY_ROOM, Alias, LISTED_BY_ROOM, ROOM_BY_ALIAS},
        replacement::{REPLACEMENT_BY_ROOM, Replacement},
        room::{Head, Membership, REDACTION_BY_EVENT},
    },
};
use wick_room::{Assembly, Effects};
use wick_ruma::WILL_EXPIRE;

use super::{
    Rooms, content,
    create::{Plan, create_content, creators_of},
    ensure_joined, not_joined, power, power_levels,
};

/// What the new room takes over, besides the names of a space's children and the power levels.
const KEPT: [StateEventType; 9] = [
    StateEventType::RoomJoinRules,
    StateEventType::RoomHistoryVisibility,
    StateEventType::RoomGuestAccess,
    StateEventType::RoomName,
    StateEventType::RoomTopic,
    StateEventType::RoomAvatar,
    StateEventType::RoomCanonicalAlias,
    StateEventType::RoomEncryption,
    StateEventType::RoomServerAcl,
];

/// A room to be upgraded.
struct Old<'a> {
    read: &'a Latest,
    room_id: &'a RoomId,
    room: ShortRoomId,
    head: Head,
    create: SharedPdu,
}

impl Rooms {
    /// Replaces a room with a new one of another version. Returns the new room. Continues if the client hangs
    /// up, and is finished after a crash.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_FORBIDDEN` unless the session's user may close the old room.
    pub async fn upgrade(
        self: &Arc<Self>,
        session: &Session,
        room_id: &RoomId,
        version: RoomVersionId,
        more_creators: &[OwnedUserId],
    ) -> Result<OwnedRoomId> {
        rules::version_rules(&version)?;
        let (rooms, room_id, more) =
            (Arc::clone(self), room_id.to_owned(), more_creators.to_owned());
        let (user, user_id) = (session.user, session.user_id.clone());
        let upgrade = async move {
            // What a failed request has begun is finished instead.
            if let Some(begun) = rooms.begun_replacement(&room_id)? {
                let new_room = rooms.announce_replacement(begun.0).await?;
                if begun.1 == user {
                    return Ok(new_room);
                }
            }
            let (old, mut plan) = rooms.replacement(&user_id, &room_id, version, &more)?;
            plan.replaces = Some((old, user));
            rooms.make(&user_id, plan).await?;
            rooms.announce_replacement(old).await
        };
        self.supervisor.complete("room upgrade", upgrade).await
    }

    /// The room's short id and the upgrading user, if its replacement was made and is not announced.
    fn begun_replacement(&self, room_id: &RoomId) -> Result<Option<(ShortRoomId, ShortUserId)>> {
        let latest = self.resources.database.latest();
        let Some(room) = self.graph.short(&latest, room_id)? else { return Ok(None) };
        Ok(latest.get(&REPLACEMENT_BY_ROOM, &room)?.map(|begun| (room, begun.by)))
    }

    /// Sends a room's tombstone and moves what goes over to the replacement room. Returns the new room.
    /// If the auth rules refuse it by now, the old room stays as it is.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the auth rules refuse it; if the database refuses.
    pub(super) async fn announce_replacement(&self, old: ShortRoomId) -> Result<OwnedRoomId> {
        let latest = self.resources.database.latest();
        let id = |room| {
            let id = self.graph.intern().room_id(&latest, room)?;
            id.ok_or_else(|| Error::corrupt("a room has no room id"))
        };
        let Some(Replacement { new_room, by }) = latest.get(&REPLACEMENT_BY_ROOM, &old)? else {
            return Err(Error::corrupt("the replacement of a room is announced already"));
        };
        let (old_id, new_id, user_id) = (id(old)?, id(new_room)?, self.graph.user_id(&latest, by)?);
        let announced = self
            .graph
            .transact(&old_id, |room| {
                if room.batch().read_for_update(&REPLACEMENT_BY_ROOM, &old)?.is_none() {
                    return Ok(());
                }
                room.batch().delete(&REPLACEMENT_BY_ROOM, &old);
                self.close(room, &user_id, &new_id)
            })
            .await;
        if let Err(Error::Refused(_)) = announced {
            let abandon = |batch: &mut Batch| {
                batch.delete(&REPLACEMENT_BY_ROOM, &old);
                Ok(())
            };
            self.resources.change(abandon).await?;
        }
        announced?;
        self.follow(by, new_room).await;
        Ok(new_id)
    }

    /// What the new room begins with.
    fn replacement(
        &self,
        creator: &UserId,
        room_id: &RoomId,
        version: RoomVersionId,
        more_creators: &[OwnedUserId],
    ) -> Result<(ShortRoomId, Plan)> {
        let read = &self.resources.database.latest();
        let room = self.known(read, room_id)?;
        let head = self.graph.head(read, room)?.ok_or_else(not_joined)?;
        if self.graph.membership(read, room, creator)? != Some(Membership::Join) {
            return Err(not_joined());
        }
        let levels = self.graph.power_levels(read, room)?;
        if !levels.user_can_send_state(creator, StateEventType::RoomTombstone) {
            return Err(Error::forbidden("you lack the power to upgrade this room"));
        }
        let create = self.graph.load_event(read, head.create)?;
        let old = Old { read, room_id, room, head, create };
        let version_rules = rules::version_rules(&version)?;
        let create = self.new_create(&old, creator, more_creators, &version, &version_rules)?;
        let power_levels = self.new_power_levels(&old, &create, creator, &version_rules)?;
        let plan = Plan {
            version,
            create,
            power_levels,
            // Before there are power levels the creator may do everything.
            power_levels_last: true,
            state: self.kept_state(&old)?,
            alias: None,
            listed: read.contains(&LISTED_BY_ROOM, &room)?,
            invites: Vec::new(),
            bans: self.kept_bans(&old)?,
            replaces: None,
        };
        Ok((room, plan))
    }

    fn new_create(
        &self,
        old: &Old<'_>,
        creator: &UserId,
        more_creators: &[OwnedUserId],
        version: &RoomVersionId,
        version_rules: &RoomVersionRules,
    ) -> Result<CanonicalJsonObject> {
        let mut content: CanonicalJsonObject = parse(&old.create)?;
        content.remove("additional_creators");
        let mut predecessor = content::of(&json!({ "room_id": old.room_id }))?;
        if !rules::room_id_is_create_hash(version_rules)
            && let Some(last) = old.head.extremities.last()
            && let Some(last) = self.graph.intern().event_id(old.read, *last)?
        {
            content::set_text(&mut predecessor, "event_id", last);
        }
        content.insert("predecessor".to_owned(), CanonicalJsonValue::Object(predecessor));
        create_content(Some(content), creator, more_creators, version, version_rules)
    }

    fn new_power_levels(
        &self,
        old: &Old<'_>,
        create: &CanonicalJsonObject,
        creator: &UserId,
        new_rules: &RoomVersionRules,
    ) -> Result<CanonicalJsonObject> {
        let event_type = StateEventType::RoomPowerLevels;
        let levels = self.graph.state_event(old.read, old.room, &event_type, "")?;
        let old_rules = self.graph.rules_of(&old.head)?;
        let old_creators = power::creators(&old.create, &old_rules);
        let mut content = match levels {
            Some(event) => parse(&event)?,
            None => power::of_new_room(new_rules, old_creators.clone(), true),
        };
        let were_above = old_rules.authorization.explicitly_privilege_room_creators;
        if new_rules.authorization.explicitly_privilege_room_creators {
            power::remove_users(&mut content, &creators_of(create, creator));
        }
        match (were_above, new_rules.authorization.explicitly_privilege_room_creators) {
            (false, true) => change_in(&mut content, "events", |events| {
                let tombstone = CanonicalJsonValue::Integer(int!(150));
                events.insert("m.room.tombstone".to_owned(), tombstone);
            }),
            (true, false) => change_in(&mut content, "users", |users| {
                for user in &old_creators {
                    users.insert(user.to_string(), CanonicalJsonValue::Integer(int!(100)));
                }
            }),
            _ => {}
        }
        Ok(content)
    }

    fn kept_state(
        &self,
        old: &Old<'_>,
    ) -> Result<Vec<(StateEventType, String, CanonicalJsonObject)>> {
        let mut kept = Vec::new();
        for event_type in KEPT {
            let short = self.graph.state_event_short(old.read, old.room, &event_type, "")?;
            if let Some(short) = short
                && !old.read.contains(&REDACTION_BY_EVENT, &short)?
            {
                let content = parse(&*self.graph.load_event(old.read, short)?)?;
                // What expires does so where its timer is.
                if !content.contains_key(WILL_EXPIRE) {
                    kept.push((event_type, String::new(), content));
                }
            }
        }
        let is_space =
            parse(&old.create)?.get("type").and_then(|kind| kind.as_str()) == Some("m.space");
        if is_space {
            for (_, short) in self.graph.states().collect(old.read, old.head.state)? {
                let event = self.graph.load_event(old.read, short)?;
                let Some((event_type @ StateEventType::SpaceChild, child)) = event.state_tuple()
                else {
                    continue;
                };
                let content = parse(&event)?;
                let redacted = old.read.contains(&REDACTION_BY_EVENT, &short)?;
                if !redacted && content.contains_key("via") && !content.contains_key(WILL_EXPIRE) {
                    kept.push((event_type, child, content));
                }
            }
        }
        Ok(kept)
    }

    fn kept_bans(&self, old: &Old<'_>) -> Result<Vec<(OwnedUserId, CanonicalJsonObject)>> {
        let mut bans = Vec::new();
        for row in self.graph.members(old.read, old.room, Membership::Ban) {
            let (user, event) = row?;
            let content = parse(&*self.graph.load_event(old.read, event)?)?;
            bans.push((self.graph.user_id(old.read, user)?, content));
        }
        Ok(bans)
    }

    /// Closes the old room, and moves to the new one what goes over.
    fn close(&self, room: &mut Assembly<'_>, user_id: &UserId, new_room: &RoomId) -> Result<()> {
        ensure_joined(room, user_id)?;
        let tombstone = json!({
            "body": "This room has been replaced", "replacement_room": new_room,
        });
        let tombstone = content::of(&tombstone)?;
        append(room, user_id, StateEventType::RoomTombstone, tombstone)?;
        self.move_aliases(room, new_room)?;
        let short = room.room();
        room.batch().delete(&LISTED_BY_ROOM, &short);
        let event_type = StateEventType::RoomCanonicalAlias;
        if room.state_event(&event_type, "")?.is_some() {
            append_if_allowed(room, user_id, event_type, CanonicalJsonObject::new())?;
        }
        restrict(room, user_id)
    }

    fn move_aliases(&self, room: &mut Assembly<'_>, new_room: &RoomId) -> Result<()> {
        let old = room.room();
        let batch = room.batch();
        let new = self.graph.intern().room(new_room, batch)?;
        let mut aliases = Vec::new();
        for row in batch.scan(&ALIAS_BY_ROOM, Range::prefix((old,))) {
            aliases.push(row?.0.1);
        }
        for alias in aliases {
            let Some(row) = batch.read_for_update(&ROOM_BY_ALIAS, &alias)? else { continue };
            batch.put(&ROOM_BY_ALIAS, &alias, &Alias { room: new, ..row });
            batch.delete(&ALIAS_BY_ROOM, &(old, &alias));
            batch.put(&ALIAS_BY_ROOM, &(new, &alias), &());
        }
        Ok(())
    }
}

/// Raises what it takes to send or invite in the old room above what members have by default.
fn restrict(room: &mut Assembly<'_>, user_id: &UserId) -> Result<()> {
    let event_type = StateEventType::RoomPowerLevels;
    let Some(event) = room.state_event(&event_type, "")? else { return Ok(()) };
    let levels = power_levels(room)?;
    let floor = levels.users_default.saturating_add(int!(1)).max(int!(50));
    let mut content = parse(&event)?;
    let mut raise = |key: &str, now: Int| {
        content.insert(key.to_owned(), CanonicalJsonValue::Integer(now.max(floor)));
    };
    raise("events_default", levels.events_default);
    raise("invite", levels.invite);
    if levels.for_user(user_id) < UserPowerLevel::Int(floor) {
        return Ok(());
    }
    append_if_allowed(room, user_id, event_type, content)
}

fn append_if_allowed(
    room: &mut Assembly<'_>,
    sender: &UserId,
    event_type: StateEventType,
    content: CanonicalJsonObject,
) -> Result<()> {
    match append(room, sender, event_type, content) {
        Err(error) if error.kind() == Some(&ErrorKind::Forbidden) => Ok(()),
        appended => appended,
    }
}

fn append(
    room: &mut Assembly<'_>,
    sender: &UserId,
    event_type: StateEventType,
    content: CanonicalJsonObject,
) -> Result<()> {
    let room_id = room.room_id().to_owned();
    let draft = Draft::state(room_id, sender.to_owned(), event_type, "", content);
    room.append(draft, Effects::default()).map(drop)
}

fn parse(event: &Pdu) -> Result<CanonicalJsonObject> {
    event.content_as().map_err(|error| Error::internal("a stored content is not canonical", error))
}

/// Changes the object with this key, which is made if it is not there.
fn change_in(
    content: &mut CanonicalJsonObject,
    key: &str,
    change: impl FnOnce(&mut CanonicalJsonObject),
) {
    let mut object = match content.remove(key) {
        Some(CanonicalJsonValue::Object(object)) => object,
        _ => CanonicalJsonObject::new(),
    };
    change(&mut object);
    content.insert(key.to_owned(), CanonicalJsonValue::Object(object));
}
