//! Reading rooms: heads, states, members, events. From a snapshot for readers, from the latest state
//! for writers.

use ruma::{
    EventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, room::power_levels::RoomPowerLevels},
    room_version_rules::RoomVersionRules,
};
use wick_core::{
    Error, Result, ShortEventId, ShortRoomId, ShortStateKey, ShortUserId, StateRoot,
    event::pdu::SharedPdu, rules,
};
use wick_database::{
    Range, Read,
    schema::room::{
        EVENT_BY_SETTING, EVENT_BY_STATE, HEAD_BY_ROOM, Head, JOINED_BY_SERVER, MEMBER_BY_ROOM,
        MEMBER_BY_USER, MemberRow, Membership, PLACE_BY_EVENT, Place, ROOT_BY_POSITION,
    },
};

use crate::{Graph, membership};

impl Graph {
    /// The room's short id; `None` if no event of it is here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn short(&self, read: &impl Read, room_id: &RoomId) -> Result<Option<ShortRoomId>> {
        Ok(self.intern().lookup_room(read, room_id)?)
    }

    /// What the room's next event would be built on; `None` if the room is unknown.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn head(&self, read: &impl Read, room: ShortRoomId) -> Result<Option<Head>> {
        Ok(read.get(&HEAD_BY_ROOM, &room)?)
    }

    /// The rules of a room's version.
    ///
    /// # Errors
    /// If the version is not one this server has.
    pub fn rules_of(&self, head: &Head) -> Result<RoomVersionRules> {
        let version = RoomVersionId::try_from(head.version.as_str())
            .map_err(|error| Error::internal("a room's version cannot be read", error))?;
        rules::version_rules(&version)
    }

    /// An event; `None` if it is not stored here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn event(&self, read: &impl Read, event: ShortEventId) -> Result<Option<SharedPdu>> {
        self.events.get(read, event)
    }

    /// An event that must be stored here.
    ///
    /// # Errors
    /// If it cannot be read or is not there.
    pub fn load_event(&self, read: &impl Read, event: ShortEventId) -> Result<SharedPdu> {
        self.events.load(read, event)
    }

    /// An event by its id.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn event_by_id(
        &self,
        read: &impl Read,
        event_id: &EventId,
    ) -> Result<Option<(ShortEventId, SharedPdu)>> {
        self.events.by_id(read, self.intern(), event_id)
    }

    /// Where an event stands; `None` if it is not stored here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn place(&self, read: &impl Read, event: ShortEventId) -> Result<Option<Place>> {
        Ok(read.get(&PLACE_BY_EVENT, &event)?)
    }

    /// The short id of a current state event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_event_short(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<ShortEventId>> {
        let Some(key) = self.intern().lookup_state_key(read, event_type, state_key)? else {
            return Ok(None);
        };
        Ok(read.get(&EVENT_BY_STATE, &(room, key))?)
    }

    /// A current state event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_event(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<SharedPdu>> {
        self.state_event_short(read, room, event_type, state_key)?
            .map(|event| self.events.load(read, event))
            .transpose()
    }

    /// The current state without the members, ascending by key: what costs little however many there
    /// are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn settings(
        &self,
        read: &impl Read,
        room: ShortRoomId,
    ) -> Result<Vec<(ShortStateKey, ShortEventId)>> {
        read.scan(&EVENT_BY_SETTING, Range::prefix((room,)))
            .map(|row| row.map(|((_, key), event)| (key, event)).map_err(Error::from))
            .collect()
    }

    /// Whether a state key is that of an `m.room.member` event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn is_member_key(&self, read: &impl Read, key: ShortStateKey) -> Result<bool> {
        let tuple = self.intern().state_key_tuple(read, key)?;
        Ok(matches!(tuple, Some((StateEventType::RoomMember, _))))
    }

    /// A state event of an earlier state.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn state_event_at(
        &self,
        read: &impl Read,
        root: StateRoot,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Result<Option<ShortEventId>> {
        let Some(key) = self.intern().lookup_state_key(read, event_type, state_key)? else {
            return Ok(None);
        };
        self.states.get(read, root, key)
    }

    /// The membership of a user in an earlier state; `None` without a member event.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership_at(
        &self,
        read: &impl Read,
        root: StateRoot,
        user_id: &UserId,
    ) -> Result<Option<Membership>> {
        let member = StateEventType::RoomMember;
        let event = self.state_event_at(read, root, &member, user_id.as_str())?;
        let event = event.map(|event| self.load_event(read, event)).transpose()?;
        Ok(event.and_then(|event| membership::of(&event)))
    }

    /// The state of the room when the stream was at `place`; the empty state before its beginning.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn root_at(&self, read: &impl Read, room: ShortRoomId, place: i64) -> Result<StateRoot> {
        let range = Range::prefix((room,)).and(Range::through(&(room, place)));
        let last = read.last(&ROOT_BY_POSITION, range)?;
        Ok(last.map_or(StateRoot::EMPTY, |(_, root)| root))
    }

    /// The place of the first state that has a member: that of the creator's join, the second event of every room,
    /// or that of the oldest event here of a room that began elsewhere.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn first_place(&self, read: &impl Read, room: ShortRoomId) -> Result<i64> {
        let mut first = i64::MIN;
        for row in read.scan(&ROOT_BY_POSITION, Range::prefix((room,))).take(2) {
            let ((_, place), root) = row?;
            first = place;
            if self.states.count(read, root)? > 1 {
                break;
            }
        }
        Ok(first)
    }

    /// A user's membership row; `None` if they never had a membership.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn member(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        user: ShortUserId,
    ) -> Result<Option<MemberRow>> {
        Ok(read.get(&MEMBER_BY_USER, &(user, room))?)
    }

    /// A user's membership; `None` if they never had one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn membership(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        user: &UserId,
    ) -> Result<Option<Membership>> {
        let Some(user) = self.intern().lookup_user(read, user)? else { return Ok(None) };
        Ok(self.member(read, room, user)?.map(|row| row.membership))
    }

    /// The members with a membership, with their member events.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn members<'a, R: Read>(
        &self,
        read: &'a R,
        room: ShortRoomId,
        membership: Membership,
    ) -> impl Iterator<Item = Result<(ShortUserId, ShortEventId)>> + use<'a, R> {
        read.scan(&MEMBER_BY_ROOM, Range::prefix((room, membership as u8)))
            .map(|row| row.map(|((_, _, user), event)| (user, event)).map_err(Error::from))
    }

    /// Whether a user of this server is joined to a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn has_local_member(&self, read: &impl Read, room: ShortRoomId) -> Result<bool> {
        self.has_member_of(read, room, &self.server)
    }

    /// Whether a user of a server is joined to a room.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn has_member_of(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        server: &ServerName,
    ) -> Result<bool> {
        Ok(read.contains(&JOINED_BY_SERVER, &(room, server))?)
    }

    /// The servers with a joined user in a room, this one included.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn servers_in(&self, read: &impl Read, room: ShortRoomId) -> Result<Vec<OwnedServerName>> {
        read.scan(&JOINED_BY_SERVER, Range::prefix((room,)))
            .keys()
            .map(|key| key.map(|(_, server)| server).map_err(Error::from))
            .collect()
    }

    /// The rooms a user has or had a membership in.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn rooms_of<'a, R: Read>(
        &self,
        read: &'a R,
        user: ShortUserId,
    ) -> impl Iterator<Item = Result<(ShortRoomId, MemberRow)>> + use<'a, R> {
        read.scan(&MEMBER_BY_USER, Range::prefix((user,)))
            .map(|row| row.map(|((_, room), member)| (room, member)).map_err(Error::from))
    }

    /// The user of a short id.
    ///
    /// # Errors
    /// If it is not there, or the database cannot be read.
    pub fn user_id(&self, read: &impl Read, user: ShortUserId) -> Result<OwnedUserId> {
        self.intern()
            .user_id(read, user)?
            .ok_or_else(|| Error::corrupt(format!("user {user} has no user id")))
    }

    /// The current power levels.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn power_levels(&self, read: &impl Read, room: ShortRoomId) -> Result<RoomPowerLevels> {
        let head = self.head(read, room)?.ok_or_else(|| Error::not_found("unknown room"))?;
        let create = self.events.load(read, head.create)?;
        let levels = self.state_event(read, room, &StateEventType::RoomPowerLevels, "")?;
        membership::power_levels(&self.rules_of(&head)?, Some(&create), levels.as_deref())
    }
}
