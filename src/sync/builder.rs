//! One answer in the making: the user's rooms by section, from one snapshot.

use std::collections::HashSet;

use ruma::{OwnedRoomId, OwnedUserId, UserId, events::StateEventType};
use wick_account::{Session, account_data, filters};
use wick_core::{Error, Position, Result, ShortRoomId};
use wick_database::{
    Snapshot,
    schema::room::{MemberRow, Membership},
};
use wick_room::Graph;

use super::{
    Request, Sync,
    account_data::News,
    response::{Response, RoomUpdates},
    room::Scope,
    roster::RosterChanges,
    token::{to_place, to_token},
};

pub(super) struct Builder<'a> {
    pub(super) sync: &'a Sync,
    pub(super) graph: &'a Graph,
    pub(super) session: &'a Session,
    pub(super) request: &'a Request,
    pub(super) read: Snapshot,
    pub(super) since: Option<Position>,
    pub(super) upto: Position,
    pub(super) ignored: HashSet<OwnedUserId>,
}

/// A room with the user's membership in it.
struct Mine {
    room: ShortRoomId,
    room_id: OwnedRoomId,
    member: MemberRow,
}

impl<'a> Builder<'a> {
    pub(super) fn new(sync: &'a Sync, session: &'a Session, request: &'a Request) -> Result<Self> {
        let read = sync.resources.database.published();
        let upto = read.position();
        // A token from the future is from before a restore: there is nothing above it.
        let since = request.since.map(|since| since.min(upto));
        let ignored = account_data::ignored_users(&read, session.user)?;
        let graph = &*sync.graph;
        Ok(Self { sync, graph, session, request, read, since, upto, ignored })
    }

    pub(super) fn build(&self) -> Result<Response> {
        if self.since.is_none() {
            self.sync.lazy.forget(self.session);
        }
        let news = self.account_data_news()?;
        let mut response = Response {
            next_batch: to_token(to_place(self.upto)),
            account_data: self.global_account_data(&news)?.into(),
            ..Response::default()
        };
        response.device_one_time_keys_count.insert("signed_curve25519", 0);
        let mut roster = RosterChanges::default();
        for row in self.graph.rooms_of(&self.read, self.session.user) {
            let (room, member) = row?;
            let changed = self.since.is_none_or(|since| member.position > since);
            if member.membership == Membership::Join {
                roster.joined.insert(room);
            }
            if !changed && (member.membership != Membership::Join || self.is_quiet(room, &news)) {
                continue;
            }
            let room_id = self.room_id(room)?;
            if filters::allows_room(&self.request.filter.room, &room_id) {
                let mine = Mine { room, room_id, member };
                self.add(mine, changed, &news, (&mut response.rooms, &mut roster))?;
            }
        }
        response.presence = self.presence(&roster)?.into();
        response.device_lists = self.device_lists(&roster)?;
        Ok(response)
    }

    /// Whether a room that the client has can have nothing new for it, known without a look into it.
    fn is_quiet(&self, room: ShortRoomId, news: &News) -> bool {
        !self.request.full_state
            && !news.contains_key(&Some(room))
            && self
                .since
                .is_some_and(|since| !self.sync.resources.database.is_busy_since(room, since))
    }

    fn add(
        &self,
        mine: Mine,
        changed: bool,
        news: &News,
        (rooms, roster): (&mut RoomUpdates, &mut RosterChanges),
    ) -> Result<()> {
        let Mine { room, room_id, member } = mine;
        match member.membership {
            Membership::Join => {
                let scope = self.scope_of_joined(room, changed)?;
                if scope.gap {
                    roster.rooms.push(room);
                }
                if let Some(update) = self.room_update(&scope, news, roster)? {
                    rooms.join.insert(room_id, update);
                }
            }
            Membership::Leave | Membership::Ban => {
                roster.left_rooms.push(room);
                if let Some(scope) = self.scope_of_left(room, &member)?
                    && let Some(update) = self.room_update(&scope, news, roster)?
                {
                    rooms.leave.insert(room_id, update);
                }
            }
            Membership::Invite => {
                if let Some(invited) = self.invited(room, &member)? {
                    rooms.invite.insert(room_id, invited);
                }
            }
            Membership::Knock => {
                rooms.knock.insert(room_id, self.knocked(room)?);
            }
        }
        Ok(())
    }

    /// What of a joined room is told. `changed`: the user's membership did since the last sync.
    fn scope_of_joined(&self, room: ShortRoomId, changed: bool) -> Result<Scope> {
        // The client has the room if it was in it when it last asked.
        let known = match self.since {
            Some(since) if changed => self.was_joined(room, to_place(since))?,
            since => since.is_some(),
        };
        Ok(Scope {
            room,
            since: self.since.map(to_place).filter(|_| known),
            upto: to_place(self.upto),
            gap: self.since.is_some() && !known,
            joined: true,
            outside: false,
        })
    }

    /// What of a room that the user is not in any more is told; nothing if they know that already.
    fn scope_of_left(&self, room: ShortRoomId, member: &MemberRow) -> Result<Option<Scope>> {
        if self.since.is_none() && (member.forgotten || !self.request.filter.room.include_leave) {
            return Ok(None);
        }
        let place = self
            .graph
            .place(&self.read, member.event)?
            .ok_or_else(|| Error::corrupt("a member event has no place"))?;
        let before = self.membership_in(place.before)?;
        let known = match self.since {
            Some(since) => self.was_joined(room, to_place(since))?,
            None => false,
        };
        let outside = before != Some(Membership::Join) && !known;
        if self.since.is_none() && outside {
            return Ok(None);
        }
        Ok(Some(Scope {
            room,
            since: self.since.map(to_place).filter(|_| known || outside),
            upto: to_place(member.position).min(to_place(self.upto)),
            gap: self.since.is_some() && !known && !outside,
            joined: false,
            outside,
        }))
    }

    fn was_joined(&self, room: ShortRoomId, at: i64) -> Result<bool> {
        let root = self.graph.root_at(&self.read, room, at)?;
        Ok(self.membership_in(root)? == Some(Membership::Join))
    }

    fn membership_in(&self, root: wick_core::StateRoot) -> Result<Option<Membership>> {
        let user_id = self.session.user_id.as_str();
        let event =
            self.graph.state_event_at(&self.read, root, &StateEventType::RoomMember, user_id)?;
        let Some(event) = event else { return Ok(None) };
        let event = self.graph.load_event(&self.read, event)?;
        Ok(wick_room::membership::of(&event))
    }

    pub(super) fn room_id(&self, room: ShortRoomId) -> Result<OwnedRoomId> {
        self.graph
            .intern()
            .room_id(&self.read, room)?
            .ok_or_else(|| Error::corrupt(format!("room {room} has no room id")))
    }

    pub(super) fn ignores(&self, user_id: &UserId) -> bool {
        self.ignored.contains(user_id)
    }
}
