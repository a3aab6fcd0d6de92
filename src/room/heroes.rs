//! The heroes of a room: the members after whom a room without a name is named.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#calculating-the-display-name-for-a-room>

use wick_core::{Result, ShortEventId, ShortRoomId, ShortUserId};
use wick_database::{
    Read,
    schema::room::{MemberCounts, Membership},
};

use crate::Graph;

/// How many heroes a room has at most.
const MAX_HEROES: usize = 5;

impl Graph {
    /// The heroes of a room for a user, with their member events: the first other members that are joined or
    /// invited, or, if there are none, that left or are banned. `counts` are those of the room's head.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn heroes(
        &self,
        read: &impl Read,
        room: ShortRoomId,
        user: ShortUserId,
        counts: MemberCounts,
    ) -> Result<Vec<(ShortUserId, ShortEventId)>> {
        let present = [Membership::Join, Membership::Invite];
        let gone = [Membership::Leave, Membership::Ban];
        let alone = counts.joined.saturating_add(counts.invited) <= 1;
        let mut members = Vec::new();
        for membership in if alone { gone } else { present } {
            for row in self.members(read, room, membership).take(MAX_HEROES + 1) {
                let (member, event) = row?;
                if member != user {
                    members.push((event, member));
                }
            }
        }
        // Short ids of events are given out in the order in which they were stored.
        members.sort_unstable();
        Ok(members.into_iter().take(MAX_HEROES).map(|(event, member)| (member, event)).collect())
    }
}
