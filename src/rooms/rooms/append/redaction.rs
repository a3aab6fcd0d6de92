//! Redactions that their senders may send.

use ruma::{
    EventId, OwnedEventId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
};
use wick_core::{Draft, Error, Result};
use wick_room::Assembly;

use crate::rooms::{Rooms, ensure_joined, power_levels};

impl Rooms {
    /// A redaction that its sender may send.
    pub(in crate::rooms) fn redaction(
        &self,
        sender: &UserId,
        room: &mut Assembly<'_>,
        target: OwnedEventId,
        content: CanonicalJsonObject,
    ) -> Result<Draft> {
        let event_type = TimelineEventType::RoomRedaction;
        ensure_joined(room, sender)?;
        // Refuses what would expire.
        let (content, _) = self.prepare(sender, &event_type, content)?;
        self.ensure_may_redact(room, sender, &target)?;
        let (room_id, sender) = (room.room_id().to_owned(), sender.to_owned());
        let mut draft = Draft::message(room_id, sender, event_type, content);
        draft.redacts = Some(target);
        Ok(draft)
    }

    fn ensure_may_redact(
        &self,
        room: &mut Assembly<'_>,
        sender: &UserId,
        target: &EventId,
    ) -> Result<()> {
        let target = match self.graph.event_by_id(room.batch(), target)? {
            Some((_, event)) if event.room_id == room.room_id() => event,
            // Another server may have it.
            None if self.has_other_servers(room)? && may_redact_others(room, sender)? => {
                return Ok(());
            }
            _ => return Err(Error::not_found("the room has no such event")),
        };
        if target.event_type == TimelineEventType::RoomCreate {
            return Err(Error::forbidden("a create event cannot be redacted"));
        }
        if target.sender == sender {
            return Ok(());
        }
        match may_redact_others(room, sender)? {
            true => Ok(()),
            false => Err(Error::forbidden("you may not redact events of others")),
        }
    }

    fn has_other_servers(&self, room: &mut Assembly<'_>) -> Result<bool> {
        let short = room.room();
        let servers = self.graph.servers_in(room.batch(), short)?;
        Ok(servers.iter().any(|server| server != self.graph.server_name()))
    }
}

fn may_redact_others(room: &mut Assembly<'_>, sender: &UserId) -> Result<bool> {
    let levels = power_levels(room)?;
    Ok(levels.for_user(sender) >= UserPowerLevel::Int(levels.redact))
}
