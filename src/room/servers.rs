//! The servers of a room at one of its events.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedServerName, UserId, events::StateEventType};
use wick_core::{Error, Result, ShortEventId, ShortRoomId, StateRoot};
use wick_database::{
    Range, Read,
    schema::room::{JOINED_BY_SERVER, Membership},
};

use crate::{Graph, membership};

impl Graph {
    /// The servers with a joined user in an earlier state of a room. Takes as long as there are servers, and differences
    /// between that state and the current one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn servers_at(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        root: StateRoot,
    ) -> Result<BTreeSet<OwnedServerName>> {
        let head = self.head(read, room)?;
        let head = head.ok_or_else(|| Error::corrupt("a room with an event has no head"))?;
        let counts = read.scan(&JOINED_BY_SERVER, Range::prefix((room,)));
        let mut counts = counts
            .map(|row| row.map(|((_, server), count)| (server, count)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        for change in self.states.diff(read, root, head.state)? {
            let tuple = self.intern().state_key_tuple(read, change.key)?;
            let Some((StateEventType::RoomMember, user)) = tuple else { continue };
            let Ok(user) = <&UserId>::try_from(user.as_str()) else { continue };
            let [was, is] = [self.is_join(read, change.old)?, self.is_join(read, change.new)?];
            if was == is {
                continue;
            }
            let count = counts.entry(user.server_name().to_owned()).or_default();
            *count = if was { count.saturating_add(1) } else { count.saturating_sub(1) };
        }
        Ok(counts.into_iter().filter_map(|(server, count)| (count > 0).then_some(server)).collect())
    }

    fn is_join(&self, read: &impl Read, event: Option<ShortEventId>) -> Result<bool> {
        let Some(event) = event else { return Ok(false) };
        Ok(membership::of(&*self.events.load(read, event)?) == Some(Membership::Join))
    }
}
