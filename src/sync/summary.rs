//! What a client needs to name a room: who is in it.

use ruma::{OwnedUserId, events::StateEventType};
use wick_core::{Error, Result, ShortUserId};
use wick_database::schema::room::{MemberCounts, Membership};

use super::{builder::Builder, response::Summary, room::Scope, roster::RosterChanges};

/// How many heroes a room has at most.
///
/// <https://spec.matrix.org/v1.18/client-server-api/#calculating-the-display-name-for-a-room>
const MAX_HEROES: usize = 5;

impl Builder<'_> {
    /// The summary if it can have changed, with the heroes in it.
    pub(super) fn summary(
        &self,
        scope: &Scope,
        moved: bool,
        roster: &mut RosterChanges,
    ) -> Result<(Option<Summary>, Vec<OwnedUserId>)> {
        let wanted = moved || self.request.full_state;
        if !scope.joined || !wanted || !self.members_changed(scope, roster)? {
            return Ok((None, Vec::new()));
        }
        let head = self
            .graph
            .head(&self.read, scope.room)?
            .ok_or_else(|| Error::corrupt("a joined room has no head"))?;
        let has_name = self.has(scope, &StateEventType::RoomName)?
            || self.has(scope, &StateEventType::RoomCanonicalAlias)?;
        let heroes = if has_name { None } else { Some(self.heroes(scope, head.counts)?) };
        let named = heroes.clone().unwrap_or_default();
        let (joined, invited) = (head.counts.joined, head.counts.invited);
        Ok((Some(Summary { heroes, joined, invited }), named))
    }

    /// Whether memberships or the room's names changed since the client last asked.
    fn members_changed(&self, scope: &Scope, roster: &mut RosterChanges) -> Result<bool> {
        let Some(since) = scope.since else { return Ok(true) };
        let before = self.graph.root_at(&self.read, scope.room, since)?;
        let now = self.graph.root_at(&self.read, scope.room, scope.upto)?;
        let mut changed = self.request.full_state;
        for change in self.graph.states().diff(&self.read, before, now)? {
            let tuple = self.graph.intern().state_key_tuple(&self.read, change.key)?;
            match tuple {
                Some((StateEventType::RoomMember, user_id)) => {
                    changed = true;
                    self.meet(roster, &user_id, &change)?;
                }
                Some((StateEventType::RoomName | StateEventType::RoomCanonicalAlias, _)) => {
                    changed = true;
                }
                _ => {}
            }
        }
        Ok(changed)
    }

    /// Whether a name that clients can show is set.
    fn has(&self, scope: &Scope, event_type: &StateEventType) -> Result<bool> {
        let event = self.graph.state_event(&self.read, scope.room, event_type, "")?;
        let Some(event) = event else { return Ok(false) };
        let content: serde_json::Map<String, serde_json::Value> =
            event.content_as().unwrap_or_default();
        let key = if *event_type == StateEventType::RoomName { "name" } else { "alias" };
        let value = content.get(key).and_then(serde_json::Value::as_str);
        Ok(value.is_some_and(|value| !value.is_empty()))
    }

    /// The first members beside the user: those who are there or are to come, else those who left.
    fn heroes(&self, scope: &Scope, counts: MemberCounts) -> Result<Vec<OwnedUserId>> {
        let present = [Membership::Join, Membership::Invite];
        let gone = [Membership::Leave, Membership::Ban];
        let alone = counts.joined.saturating_add(counts.invited) <= 1;
        let mut members = Vec::new();
        for membership in if alone { gone } else { present } {
            let rows = self.graph.members(&self.read, scope.room, membership);
            for row in rows.take(MAX_HEROES + 1) {
                let (user, event) = row?;
                if user != self.session.user {
                    members.push((event, user));
                }
            }
        }
        // Short ids of events are given out in the order in which they were stored.
        members.sort_unstable();
        let first = members.into_iter().take(MAX_HEROES);
        first.map(|(_, user): (_, ShortUserId)| self.graph.user_id(&self.read, user)).collect()
    }
}
