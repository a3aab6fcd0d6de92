//! The user directory: users by the words of their names.
//!
//! Invariants: users are found by their profile, never by their name in one room; each user finds
//! themselves, the users they share a room with, and the members of rooms that are public or
//! world-readable; guests are not found. A term that begins with `@` is a user ID or the beginning of one:
//! the exact match is the only result, and the searching user is no result unless it is theirs.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#user-directory>

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use ruma::{OwnedUserId, UserId};
use wick_account::{Session, users::find};
use wick_core::{Result, ShortRoomId, ShortUserId};
use wick_database::{
    Range, Read, Snapshot,
    schema::{lookup::USER_BY_WORD, users::GUEST_BY_USER},
};
use wick_room::{Graph, shared_rooms::joined_rooms};
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
            own_rooms: joined_rooms(&read, session.user).collect::<Result<_>>()?,
            open_rooms: HashMap::new(),
        };
        let (term, limit) = (term.trim(), limit.min(MAX_RESULTS));
        let localpart = self.localpart(term);
        let words = words::wanted(localpart.unwrap_or(term));
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        if let Some((user, exact)) = self.exact(&mut looking, localpart.unwrap_or(term))? {
            found.push(exact);
            known.insert(user);
        }
        // With a server's name the user ID is whole.
        let is_user_id = term.starts_with('@');
        if is_user_id && (!found.is_empty() || localpart.is_some()) {
            return Ok((found, false));
        }
        if is_user_id {
            known.insert(session.user);
        }
        // The longest word is the rarest as a rule.
        let Some(longest) = words.iter().max_by_key(|word| word.len()) else {
            return Ok((found, false));
        };
        let rows = Range::from(&(longest.clone(), ShortUserId::MIN));
        for row in read.scan(&USER_BY_WORD, rows).keys().take(MAX_LOOKED_AT) {
            let (word, user) = row?;
            if !word.starts_with(longest.as_str()) {
                break;
            }
            if !known.insert(user) {
                continue;
            }
            found.extend(self.judge(&mut looking, user, &words)?);
            if found.len() > limit {
                break;
            }
        }
        let is_limited = found.len() > limit;
        found.truncate(limit);
        Ok((found, is_limited))
    }

    /// The part of a term before this server's name; `None` if the name is not there.
    fn localpart<'t>(&self, term: &'t str) -> Option<&'t str> {
        let server = self.graph.server_name().as_str();
        let (localpart, name) = term.split_once(':')?;
        server.starts_with(name).then_some(localpart)
    }

    /// The user of this server with this localpart, if the searching user finds them.
    fn exact(
        &self,
        looking: &mut Looking<'_>,
        localpart: &str,
    ) -> Result<Option<(ShortUserId, FoundUser)>> {
        let localpart = localpart.trim_start_matches('@');
        let server = self.graph.server_name();
        let Ok(user_id) = UserId::parse_with_server_name(localpart, server) else {
            return Ok(None);
        };
        let Some(user) = self.graph.intern().lookup_user(looking.read, &user_id)? else {
            return Ok(None);
        };
        Ok(self.judge(looking, user, &BTreeSet::new())?.map(|found| (user, found)))
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
        let rooms: HashSet<_> = joined_rooms(self.read, user).collect::<Result<_>>()?;
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
