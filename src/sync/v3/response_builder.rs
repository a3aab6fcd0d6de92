//! Builds a response: the user's rooms by section, from one snapshot.

use std::collections::BTreeSet;

use ruma::OwnedRoomId;
use wick_account::filters;
use wick_core::{Position, Result, ShortRoomId};
use wick_database::schema::room::{MemberRow, Membership};
use wick_room::to_place;

use super::{
    Request, Sync,
    response::{InvitedRoom, KnockedRoom, Response, RoomUpdate, RoomUpdates, Timeline},
};
use crate::{
    Context, RosterChanges, Scope,
    account_data::{self, ChangedAccountData},
    encryption::encryption,
    invited, presence, remote,
    token::to_token,
};

/// So many busy rooms are looked up before all rooms of a user with fewer are gone through.
const FEW_ROOMS: usize = 32;

pub(super) struct ResponseBuilder<'a> {
    pub(super) sync: &'a Sync,
    pub(super) context: &'a Context<'a>,
    pub(super) request: &'a Request,
    /// Up to where the client knows everything.
    pub(super) since: Option<Position>,
    pub(super) account_data: ChangedAccountData,
    pub(super) roster: RosterChanges,
    rooms: RoomUpdates,
    /// The user's rooms that are not quiet, whether or not the filter selects them.
    busy: Vec<(ShortRoomId, MemberRow)>,
}

impl<'a> ResponseBuilder<'a> {
    pub(super) fn new(sync: &'a Sync, context: &'a Context<'a>, request: &'a Request) -> Self {
        Self {
            sync,
            context,
            request,
            since: request.since.map(|token| token.position),
            account_data: ChangedAccountData::default(),
            roster: RosterChanges::default(),
            rooms: RoomUpdates::default(),
            busy: Vec::new(),
        }
    }

    pub(super) fn build(mut self) -> Result<Response> {
        match self.since {
            Some(since) => self.sync.lazy.confirm(self.context.session, since),
            None => self.sync.lazy.forget(self.context.session),
        }
        self.account_data = account_data::changed(self.context, self.since)?;
        self.add_rooms()?;
        self.add_remote_rooms()?;
        let filter = &self.request.filter;
        let presence = presence::presence(
            self.context,
            &self.sync.presence,
            self.since,
            &self.roster,
            &filter.presence,
        )?;
        let joined = &self.roster.joined;
        let encryption = encryption(self.context, self.request.since, joined, &self.busy)?;
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
            device_one_time_keys_count: encryption.keys.one_time_keys,
            device_unused_fallback_key_types: encryption.keys.unused_fallback_keys,
        })
    }

    fn add_rooms(&mut self) -> Result<()> {
        let (context, user) = (self.context, self.context.session.user);
        let (graph, read) = (context.graph, &context.read);
        self.roster.joined = self.sync.joined.rooms(read, user)?;
        match self.changed_rooms() {
            Some(rooms) => {
                for room in rooms {
                    if let Some(member) = graph.member(read, room, user)? {
                        self.add_if_changed(room, &member)?;
                    }
                }
            }
            None => {
                for row in graph.rooms_of(read, user) {
                    let (room, member) = row?;
                    self.add_if_changed(room, &member)?;
                }
            }
        }
        Ok(())
    }

    /// The rooms in which this server has no member.
    fn add_remote_rooms(&mut self) -> Result<()> {
        let (context, user) = (self.context, self.context.session.user);
        if self.since.is_some_and(|since| !context.is_user_changed_since(since)) {
            return Ok(());
        }
        for (room_id, member) in context.graph.remote_memberships(&context.read, user)? {
            let is_old = self.since.is_some_and(|since| member.position <= since);
            if is_old || !filters::allows_room(&self.request.filter.room, &room_id) {
                continue;
            }
            match member.membership {
                Membership::Invite if remote::is_wanted(context, &member)? => {
                    let invite_state = remote::stripped(&member)?.into();
                    self.rooms.invite.insert(room_id, InvitedRoom { invite_state });
                }
                Membership::Knock => {
                    let knock_state = remote::stripped(&member)?.into();
                    self.rooms.knock.insert(room_id, KnockedRoom { knock_state });
                }
                Membership::Leave | Membership::Ban
                    if self.since.is_some() || self.request.filter.room.include_leave =>
                {
                    let events = vec![remote::member_event(&member)?];
                    let prev_batch = to_token(to_place(member.position));
                    let timeline = Timeline { events, limited: false, prev_batch };
                    self.rooms.leave.insert(room_id, RoomUpdate::of(timeline));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The rooms that can have something new, found without a look at the others; `None` if it is cheaper to
    /// go through all rooms of the user.
    fn changed_rooms(&self) -> Option<BTreeSet<ShortRoomId>> {
        let since = self.since.filter(|_| !self.request.full_state)?;
        let (database, joined) = (&self.sync.resources.database, &self.roster.joined);
        let busy = database.busy_since(since, joined.len().max(FEW_ROOMS))?;
        // A room that the user is not in is news if their membership is.
        let moved = database.is_member_changed_since(self.context.session.user, since);
        let busy = busy.into_iter().filter(|room| moved || joined.contains(room));
        Some(busy.chain(self.account_data.keys().copied().flatten()).collect())
    }

    fn add_if_changed(&mut self, room: ShortRoomId, member: &MemberRow) -> Result<()> {
        let changed = self.since.is_none_or(|since| member.position > since);
        if !changed && (member.membership != Membership::Join || self.is_quiet(room)) {
            return Ok(());
        }
        self.busy.push((room, member.clone()));
        let room_id = self.context.room_id(room)?;
        if filters::allows_room(&self.request.filter.room, &room_id) {
            self.add_room(room_id, room, member, changed)?;
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
                let scope = Scope::of_joined(self.context, (room, member), self.since, changed)?;
                if scope.gap {
                    self.roster.rooms.push(room);
                }
                if let Some(update) = self.room_update(&scope)? {
                    self.rooms.join.insert(room_id, update);
                }
            }
            Membership::Leave | Membership::Ban => {
                let mut viewer = self.context.viewer(room)?;
                let include = self.request.filter.room.include_leave;
                let left = (room, member);
                let scope = Scope::of_left(self.context, &mut viewer, left, self.since, include)?;
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
