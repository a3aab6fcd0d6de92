//! One response in the making: the user's rooms by section, from one snapshot.

use ruma::OwnedRoomId;
use wick_account::filters;
use wick_core::{Position, Result, ShortRoomId, SyncToken};
use wick_database::schema::room::{MemberRow, Membership};

use super::{
    Request, Sync,
    response::{InvitedRoom, KnockedRoom, Response, RoomUpdates},
};
use crate::{
    Context, RosterChanges, Scope,
    account_data::{self, ChangedAccountData},
    encryption::encryption,
    invited, presence,
};

pub(super) struct Assembly<'a> {
    pub(super) sync: &'a Sync,
    pub(super) context: &'a Context<'a>,
    pub(super) request: &'a Request,
    /// Up to where the client knows everything.
    pub(super) since: Option<Position>,
    token: Option<SyncToken>,
    pub(super) account_data: ChangedAccountData,
    pub(super) roster: RosterChanges,
    rooms: RoomUpdates,
    /// The user's rooms that are not quiet, whatever the filter says of them.
    busy: Vec<(ShortRoomId, MemberRow)>,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(sync: &'a Sync, context: &'a Context<'a>, request: &'a Request) -> Self {
        // A token from the future is from before a restore: there is nothing above it.
        let token = request.since.map(|since| since.upto(context.upto));
        Self {
            sync,
            context,
            request,
            since: token.map(|token| token.position),
            token,
            account_data: ChangedAccountData::default(),
            roster: RosterChanges::default(),
            rooms: RoomUpdates::default(),
            busy: Vec::new(),
        }
    }

    pub(super) fn assemble(mut self) -> Result<Response> {
        if self.since.is_none() {
            self.sync.lazy.forget(self.context.session);
        }
        self.account_data = account_data::changed(self.context, self.since)?;
        self.add_rooms()?;
        let filter = &self.request.filter;
        let presence = presence::presence(
            self.context,
            &self.sync.presence,
            self.since,
            &self.roster,
            &filter.presence,
        )?;
        let encryption = encryption(self.context, self.token, &self.roster.joined, &self.busy)?;
        let user_id = &self.context.session.user_id;
        let global = self.account_data.get(&None).map(Vec::as_slice).unwrap_or_default();
        let account_data = account_data::events(global, |event_type| {
            filters::allows_global(&filter.account_data, event_type, user_id)
        })?;
        Ok(Response {
            next_batch: encryption.next.to_string(),
            account_data: account_data.into(),
            presence: presence.into(),
            rooms: self.rooms,
            to_device: encryption.to_device.into(),
            device_lists: encryption.device_lists,
            device_one_time_keys_count: encryption.one_time_keys_count,
            device_unused_fallback_key_types: encryption.unused_fallback_key_types,
        })
    }

    fn add_rooms(&mut self) -> Result<()> {
        let context = self.context;
        for row in context.graph.rooms_of(&context.read, context.session.user) {
            let (room, member) = row?;
            let changed = self.since.is_none_or(|since| member.position > since);
            if member.membership == Membership::Join {
                self.roster.joined.insert(room);
            }
            if !changed && (member.membership != Membership::Join || self.is_quiet(room)) {
                continue;
            }
            self.busy.push((room, member.clone()));
            let room_id = context.room_id(room)?;
            if filters::allows_room(&self.request.filter.room, &room_id) {
                self.add_room(room_id, room, &member, changed)?;
            }
        }
        Ok(())
    }

    /// Whether a room that the client has can have nothing new for it, known without a look into it.
    fn is_quiet(&self, room: ShortRoomId) -> bool {
        !self.request.full_state
            && !self.account_data.contains_key(&Some(room))
            && self
                .since
                .is_some_and(|since| !self.sync.resources.database.is_busy_since(room, since))
    }

    fn add_room(
        &mut self,
        room_id: OwnedRoomId,
        room: ShortRoomId,
        member: &MemberRow,
        changed: bool,
    ) -> Result<()> {
        match member.membership {
            Membership::Join => {
                let scope = Scope::of_joined(self.context, room, self.since, changed)?;
                if scope.gap {
                    self.roster.rooms.push(room);
                }
                if let Some(update) = self.room_update(&scope)? {
                    self.rooms.join.insert(room_id, update);
                }
            }
            Membership::Leave | Membership::Ban => {
                let include = self.request.filter.room.include_leave;
                let scope = Scope::of_left(self.context, room, self.since, member, include)?;
                if let Some(scope) = scope
                    && let Some(update) = self.room_update(&scope)?
                {
                    self.rooms.leave.insert(room_id, update);
                }
            }
            Membership::Invite => {
                if let Some(events) = invited::invite_state(self.context, room, member)? {
                    let invite_state = events.into();
                    self.rooms.invite.insert(room_id, InvitedRoom { invite_state });
                }
            }
            Membership::Knock => {
                let knock_state = invited::knock_state(self.context, room)?.into();
                self.rooms.knock.insert(room_id, KnockedRoom { knock_state });
            }
        }
        Ok(())
    }
}
