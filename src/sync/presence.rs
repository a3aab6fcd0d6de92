//! Who of the people in the user's rooms is here.

use std::collections::BTreeSet;

use serde::Serialize;
use wick_account::filters;
use wick_core::{Error, Result, ShortUserId};
use wick_database::{
    Range, Read,
    schema::{
        ephemeral::{PRESENCE_BY_USER, PRESENCE_CHANGE_BY_POSITION, PresenceKind},
        room::Membership,
    },
};
use wick_people::presence::shares_room;

use super::{builder::Builder, response::Json, roster::RosterChanges};

/// How many members of a room that is new to the client are told at most.
const MAX_MET_BY_ROOM: usize = 100;

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: &'static str,
    sender: &'a ruma::UserId,
    content: Content,
}

#[derive(Serialize)]
struct Content {
    presence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    currently_active: bool,
}

impl Builder<'_> {
    /// Whose presence is new: it changed, or the client has just roster them.
    pub(super) fn presence(&self, roster: &RosterChanges) -> Result<Vec<Json>> {
        if !self.sync.presence.enabled() {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        for user in self.candidates(roster)? {
            let known = roster.users.contains(&user) || user == self.session.user;
            if known || shares_room(&self.read, &roster.joined, user)? {
                events.extend(self.presence_of(user)?);
            }
        }
        Ok(events)
    }

    fn candidates(&self, roster: &RosterChanges) -> Result<BTreeSet<ShortUserId>> {
        let Some(since) = self.since else {
            return Ok(self.sync.presence.users().into_iter().collect());
        };
        let mut users = roster.users.clone();
        let range = Range::between(&since.next(), &self.upto.next());
        for row in self.read.scan(&PRESENCE_CHANGE_BY_POSITION, range) {
            users.insert(row?.1);
        }
        for room in &roster.rooms {
            let members = self.graph.members(&self.read, *room, Membership::Join);
            for member in members.take(MAX_MET_BY_ROOM) {
                users.insert(member?.0);
            }
        }
        Ok(users)
    }

    fn presence_of(&self, user: ShortUserId) -> Result<Option<Json>> {
        let Some(row) = self.read.get(&PRESENCE_BY_USER, &user)? else { return Ok(None) };
        let user_id = self.graph.user_id(&self.read, user)?;
        let filter = &self.request.filter.presence;
        if self.ignores(&user_id) || !filters::allows_global(filter, "m.presence", &user_id) {
            return Ok(None);
        }
        let status = self.sync.presence.status_of(user, Some(row));
        let content = Content {
            presence: match status.kind {
                PresenceKind::Online => "online",
                PresenceKind::Unavailable => "unavailable",
                PresenceKind::Offline => "offline",
            },
            status_msg: status.status_msg,
            last_active_ago: status.active_ago.map(wick_core::clock::millis),
            currently_active: status.kind == PresenceKind::Online,
        };
        let event = Event { event_type: "m.presence", sender: &user_id, content };
        serde_json::value::to_raw_value(&event)
            .map(Some)
            .map_err(|error| Error::internal("a presence cannot be written", error))
    }
}
