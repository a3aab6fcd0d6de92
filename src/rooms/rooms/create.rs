//! Making a room: everything it begins with is one batch.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#post_matrixclientv3createroom>

mod plan;

use std::{num::NonZeroU32, sync::Arc};

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId,
    api::{
        client::{
            room::Visibility,
            room::create_room::v3::{Request, RoomPreset},
        },
        error::ErrorKind,
    },
    canonical_json::CanonicalJsonObject,
    events::{StateEventType, room::member::MembershipState},
};
use tokio::runtime::Handle;
use wick_account::Session;
use wick_core::{Draft, Error, Result, ShortRoomId, ShortUserId};
use wick_database::schema::{
    directory::{ALIAS_BY_ROOM, Alias, LISTED_BY_ROOM, ROOM_BY_ALIAS},
    replacement::{REPLACEMENT_BY_ROOM, Replacement},
};
use wick_room::{Assembly, Effects, NewRoom};
use wick_runtime::Limit;

pub(super) use self::plan::{Plan, create_content, creators_of};
use super::{Rooms, follow};

/// How many events are built on an async thread at most: about a millisecond's work.
const MAX_QUICK_EVENTS: usize = 16;

impl Rooms {
    /// Makes a room.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE` if the alias is taken, `M_BAD_JSON` or
    /// `M_INVALID_PARAM` if what it is to begin with makes no sense, `M_FORBIDDEN` if the room would not
    /// allow it or users may not make rooms here, `M_INVITE_BLOCKED` if an invited user does not want that,
    /// `M_LIMIT_EXCEEDED` if it invites too many.
    pub async fn create(
        self: &Arc<Self>,
        session: &Session,
        request: Request,
    ) -> Result<OwnedRoomId> {
        let config = &self.resources.config.rooms;
        if !config.allow_creation {
            return Err(Error::forbidden("users may not make rooms on this server"));
        }
        if request.visibility == Visibility::Public && !config.allow_publication {
            return Err(Error::forbidden("users may not list rooms on this server"));
        }
        if !request.invite_3pid.is_empty() {
            let message = "this server knows no identity server to invite with";
            return Err(Error::refused(ErrorKind::ThreepidDenied, message));
        }
        let plan = self.plan(&session.user_id, request)?;
        let latest = self.resources.database.latest();
        for (invitee, _) in &plan.invites {
            self.ensure_wants_invite(&latest, invitee, &session.user_id)?;
        }
        let invites = u32::try_from(plan.invites.len()).unwrap_or(u32::MAX);
        if let Some(invites) = NonZeroU32::new(invites) {
            let limits = &self.resources.limits;
            limits.ensure_many(Limit::Invites, &session.user_id, invites)?;
        }
        let (rooms, user, user_id) = (Arc::clone(self), session.user, session.user_id.clone());
        let create = async move {
            let room_id = rooms.make(&user_id, plan).await?;
            let latest = rooms.resources.database.latest();
            if let Some(room) = rooms.graph.short(&latest, &room_id)? {
                rooms.follow(user, room).await;
            }
            Ok(room_id)
        };
        self.supervisor.complete("room creation", create).await
    }

    /// Makes the room of a plan; one with many events on a worker thread.
    pub(super) async fn make(
        self: &Arc<Self>,
        creator: &OwnedUserId,
        plan: Plan,
    ) -> Result<OwnedRoomId> {
        if plan.events() <= MAX_QUICK_EVENTS {
            return self.raise(creator, &plan).await;
        }
        let (rooms, runtime, user_id) = (Arc::clone(self), Handle::current(), creator.clone());
        let make = move || runtime.block_on(rooms.raise(&user_id, &plan));
        self.resources.workers.run(creator, make).await
    }

    async fn raise(&self, creator: &OwnedUserId, plan: &Plan) -> Result<OwnedRoomId> {
        let placeholder = RoomId::parse(format!("!room:{}", self.graph.server_name()))
            .map_err(|error| Error::internal("the server's name makes no room id", error))?;
        let event_type = StateEventType::RoomCreate;
        let create =
            Draft::state(placeholder, creator.clone(), event_type, "", plan.create.clone());
        let join = self.member_content(MembershipState::Join, creator, None)?;
        let fill = |room: &mut Assembly<'_>| -> Result<()> {
            let room_id = room.room_id().to_owned();
            let mut append = |event_type, state_key: &str, content: &CanonicalJsonObject| {
                let (id, sender) = (room_id.clone(), creator.clone());
                let draft = Draft::state(id, sender, event_type, state_key, content.clone());
                room.append(draft, Effects::default()).map(drop)
            };
            append(StateEventType::RoomMember, creator.as_str(), &join)?;
            if !plan.power_levels_last {
                append(StateEventType::RoomPowerLevels, "", &plan.power_levels)?;
            }
            for (event_type, state_key, content) in &plan.state {
                append(event_type.clone(), state_key, content)?;
            }
            for (user, content) in plan.invites.iter().chain(&plan.bans) {
                append(StateEventType::RoomMember, user.as_str(), content)?;
            }
            if plan.power_levels_last {
                append(StateEventType::RoomPowerLevels, "", &plan.power_levels)?;
            }
            if let Some(alias) = &plan.alias {
                self.claim(room, alias, creator)?;
            }
            if let Some((old, by)) = plan.replaces {
                note_replacement(room, old, by)?;
            }
            if let Some(old) = follow::predecessor_in(&plan.create) {
                let by = self.graph.intern().user(creator, room.batch())?;
                follow::note(room, by, &old)?;
            }
            if plan.listed {
                let short = room.room();
                room.batch().put(&LISTED_BY_ROOM, &short, &());
            }
            Ok(())
        };
        let new_room = NewRoom { version: plan.version.clone(), create };
        let (room_id, ()) = self.graph.create(new_room, fill).await?;
        Ok(room_id)
    }

    /// Gives the room an alias that nothing has yet.
    pub(super) fn claim(
        &self,
        room: &mut Assembly<'_>,
        alias: &OwnedRoomAliasId,
        creator: &OwnedUserId,
    ) -> Result<()> {
        let short = room.room();
        let created = self.resources.clock.now();
        let batch = room.batch();
        if batch.read_for_update(&ROOM_BY_ALIAS, alias)?.is_some() {
            return Err(alias_taken());
        }
        let row = Alias { room: short, creator: creator.clone(), created };
        batch.put(&ROOM_BY_ALIAS, alias, &row);
        batch.put(&ALIAS_BY_ROOM, &(short, alias), &());
        Ok(())
    }
}

/// Records with a new room that the one it replaces has no tombstone yet.
fn note_replacement(room: &mut Assembly<'_>, old: ShortRoomId, by: ShortUserId) -> Result<()> {
    let new_room = room.room();
    let batch = room.batch();
    if batch.read_for_update(&REPLACEMENT_BY_ROOM, &old)?.is_some() {
        return Err(Error::refused(ErrorKind::Unknown, "the room is being replaced already"));
    }
    batch.put(&REPLACEMENT_BY_ROOM, &old, &Replacement { new_room, by });
    Ok(())
}

fn alias_taken() -> Error {
    Error::refused(ErrorKind::RoomInUse, "this alias is taken")
}

/// The preset that goes with a visibility.
fn usual_preset(visibility: &Visibility) -> RoomPreset {
    match visibility {
        Visibility::Public => RoomPreset::PublicChat,
        _ => RoomPreset::PrivateChat,
    }
}
