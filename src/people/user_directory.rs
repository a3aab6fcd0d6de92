//! The user directory: users by the words of their names.
//!
//! Invariants: users are found by their profile, never by their name in one room; each user finds
//! themselves, the users they share a room with, and the members of rooms that are public or
//! world-readable; guests are not found.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#user-directory>

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::OwnedUserId;
use wick_account::{Session, users::find};
use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{lookup::USER_BY_WORD, room::Membership, users::GUEST_BY_USER},
};
use wick_room::Graph;
use wick_runtime::Resources;

use crate::{Profiles, profile::MemberProfile};
use wick_core::words;

/// Users that one request looks at.
const MAX_LOOKED_AT: usize = 1000;

/// Users that one request shows.
const MAX_RESULTS: usize = 100;

/// Rooms of one user that are looked at for one that is public or world-readable.
const MAX_ROOMS: usize = 500;

/// Finds users.
pub struct UserDirectory {
    resources: Resources,
    graph: Arc<Graph>,
    profiles: Arc<Profiles>,
}

/// A user that matched.
pub struct FoundUser {
    /// The user ID.
    pub user_id: OwnedUserId,
    /// The display name.
    pub profile: MemberProfile,
}

/// A search and what it has found.
struct Looking<'a> {
    graph: &'a Graph,
    read: &'a Snapshot,
    own: ShortUserId,
    own_rooms: HashSet<ShortRoomId>,
    open_rooms: HashMap<ShortRoomId, bool>,
}

impl UserDirectory {
    /// A directory of the users of this server.
    #[must_use]
    pub fn new(resources: Resources, graph: Arc<Graph>, profiles: Arc<Profiles>) -> Self {
        Self { resources, graph, profiles }
    }

    /// Users whose names or user ids have words that begin with all words of `term`, and whether there
    /// are more.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn search(
        &self,
        session: &Session,
        term: &str,
        limit: usize,
    ) -> Result<(Vec<FoundUser>, bool)> {
        let read = self.resources.database.published();
        let mut looking = Looking {
            graph: &self.graph,
            read: &read,
            own: session.user,
            own_rooms: joined_rooms(&self.graph, &read, session.user)?,
            open_rooms: HashMap::new(),
        };
        let term = self.without_server(term);
        let words = words::wanted(term);
        // The longest word is the rarest as a rule.
        let Some(longest) = words.iter().max_by_key(|word| word.len()) else {
            return Ok((Vec::new(), false));
        };
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        let rows = Range::from(&(longest.clone(), ShortUserId::MIN));
        for row in read.scan(&USER_BY_WORD, rows).keys().take(MAX_LOOKED_AT) {
            let (word, user) = row?;
            if !word.starts_with(longest.as_str()) {
                break;
            }
            if !known.insert(user) {
                continue;
            }
            let Some(user) = self.judge(&mut looking, user, &words)? else { continue };
            if user.user_id.localpart() == term.trim_start_matches('@') {
                // A term that begins with `@` is a user ID: only the exact match is returned.
                if term.starts_with('@') {
                    return Ok((vec![user], false));
                }
                found.insert(0, user);
            } else {
                found.push(user);
            }
            if found.len() > limit.min(MAX_RESULTS) {
                found.pop();
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    /// A user id of this server without the server's name, which all have.
    fn without_server<'t>(&self, term: &'t str) -> &'t str {
        let server = self.graph.server_name().as_str();
        let term = term.trim();
        match term.split_once(':') {
            Some((localpart, name)) if server.starts_with(name) => localpart,
            _ => term,
        }
    }

    fn judge(
        &self,
        looking: &mut Looking<'_>,
        user: ShortUserId,
        wanted: &BTreeSet<String>,
    ) -> Result<Option<FoundUser>> {
        if looking.read.contains(&GUEST_BY_USER, &user)? {
            return Ok(None);
        }
        let user_id = self.graph.user_id(looking.read, user)?;
        let account = find(looking.read, &self.resources, &user_id)?;
        if account.is_none_or(|(_, account)| account.deactivated.is_some()) {
            return Ok(None);
        }
        let profile = self.profiles.member_profile(user)?;
        let mut words = words::distinct(user_id.localpart());
        words.extend(profile.display_name.as_deref().map(words::distinct).unwrap_or_default());
        let has_word = |wanted: &String| words.iter().any(|word| word.starts_with(wanted.as_str()));
        if !wanted.iter().all(has_word) || !looking.could_have_met(user)? {
            return Ok(None);
        }
        Ok(Some(FoundUser { user_id, profile }))
    }
}

impl Looking<'_> {
    fn could_have_met(&mut self, user: ShortUserId) -> Result<bool> {
        if user == self.own {
            return Ok(true);
        }
        let rooms = joined_rooms(self.graph, self.read, user)?;
        if !rooms.is_disjoint(&self.own_rooms) {
            return Ok(true);
        }
        for room in rooms.into_iter().take(MAX_ROOMS) {
            if self.is_open(room)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_open(&mut self, room: ShortRoomId) -> Result<bool> {
        if let Some(known) = self.open_rooms.get(&room) {
            return Ok(*known);
        }
        let open = self.graph.is_public(self.read, room)?
            || self.graph.is_world_readable(self.read, room)?;
        self.open_rooms.insert(room, open);
        Ok(open)
    }
}

/// The rooms that a user is in.
pub fn joined_rooms(
    graph: &Graph,
    read: &Snapshot,
    user: ShortUserId,
) -> Result<HashSet<ShortRoomId>> {
    let mut rooms = HashSet::new();
    for row in graph.rooms_of(read, user) {
        let (room, member) = row?;
        if member.membership == Membership::Join {
            rooms.insert(room);
        }
    }
    Ok(rooms)
}
