//! What is kept of EDUs and of forwarded member events for a destination that is out of reach: of the updates of a user's
//! devices or keys the newest, after which the destination fetches the list anew, of the member events of a user in a room
//! the newest, and a limited number of messages from device to device.
//!
//! Invariant: what is noted as held for a destination is the sum of the messages in its queue.

use ruma::ServerName;
use serde::Deserialize;
use wick_core::{Position, Result, config};
use wick_database::{
    Batch, Read,
    schema::{
        outgoing::{HELD_BY_DESTINATION, NEWEST_BY_DESTINATION, OUTGOING_BY_DESTINATION, Outgoing},
        to_device::Outstanding,
    },
};

/// How EDUs of a type are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As a message, in limited number.
    Message,
    /// In place of an earlier one of the same subject.
    Newest(String),
    /// As it is.
    Other,
}

impl Kind {
    /// The kind of an EDU, JSON text.
    pub(crate) fn of(json: &str) -> Self {
        #[derive(Deserialize)]
        struct Edu {
            edu_type: String,
            content: Content,
        }
        #[derive(Deserialize)]
        struct Content {
            user_id: Option<String>,
        }
        let Ok(Edu { edu_type, content }) = serde_json::from_str(json) else { return Self::Other };
        match (edu_type.as_str(), content.user_id) {
            ("m.direct_to_device", _) => Self::Message,
            ("m.device_list_update", Some(user)) => Self::Newest(format!("devices {user}")),
            ("m.signing_key_update", Some(user)) => Self::Newest(format!("keys {user}")),
            _ => Self::Other,
        }
    }
}

/// A row of a queue as one message.
pub(crate) fn as_message(what: &Outgoing) -> Outstanding {
    match what {
        Outgoing::Event(_) => Outstanding::default(),
        Outgoing::Edu(json) => Outstanding::new(1, json.len()),
    }
}

/// The part of a destination's queue that is bounded, while rows are added.
pub(crate) struct Kept<'a> {
    server: &'a ServerName,
    is_out_of_reach: bool,
    config: &'a config::Federation,
    held: Option<Outstanding>,
    dropped: u64,
}

impl<'a> Kept<'a> {
    pub(crate) fn new(
        server: &'a ServerName,
        is_out_of_reach: bool,
        config: &'a config::Federation,
    ) -> Self {
        Self { server, is_out_of_reach, config, held: None, dropped: 0 }
    }

    /// Deletes the earlier row of a subject if the destination is out of reach, where `position` comes in its place.
    pub(crate) fn replace(
        &self,
        batch: &mut Batch,
        subject: &str,
        position: Position,
    ) -> Result<()> {
        let key = (self.server, subject);
        let earlier = batch.read_for_update(&NEWEST_BY_DESTINATION, &key)?;
        if self.is_out_of_reach {
            if let Some(earlier) = earlier.filter(|earlier| *earlier < position) {
                batch.delete(&OUTGOING_BY_DESTINATION, &(self.server, earlier));
            }
            batch.put(&NEWEST_BY_DESTINATION, &key, &position);
        } else if earlier.is_some() {
            batch.delete(&NEWEST_BY_DESTINATION, &key);
        }
        Ok(())
    }

    /// Counts a message, and returns whether there is room for it.
    pub(crate) fn admits(
        &mut self,
        batch: &mut Batch,
        (position, message): (Position, Outstanding),
    ) -> Result<bool> {
        if batch.contains(&OUTGOING_BY_DESTINATION, &(self.server, position))? {
            return Ok(true);
        }
        let held = match self.held {
            Some(held) => held,
            None => batch.read_for_update(&HELD_BY_DESTINATION, self.server)?.unwrap_or_default(),
        };
        let after = held.plus(message);
        let (most, megabytes) = (self.config.max_messages, self.config.max_messages_megabytes);
        let is_full = after.messages > u64::from(most) || after.bytes > u64::from(megabytes) << 20;
        let is_admitted = !(self.is_out_of_reach && is_full);
        self.held = Some(if is_admitted { after } else { held });
        self.dropped = self.dropped.saturating_add(u64::from(!is_admitted));
        Ok(is_admitted)
    }

    /// Notes what is held by now.
    pub(crate) fn close(self, batch: &mut Batch) {
        if let Some(held) = self.held {
            batch.put(&HELD_BY_DESTINATION, self.server, &held);
        }
        if self.dropped > 0 {
            let (server, dropped) = (self.server.to_owned(), self.dropped);
            batch.on_applied(move || {
                metrics::counter!("wick_federation_dropped_messages_total").increment(dropped);
                tracing::warn!(%server, dropped, "messages for a server out of reach are dropped");
            });
        }
    }
}

/// Takes messages that were acknowledged off what is held.
pub(crate) fn release(batch: &mut Batch, server: &ServerName, sent: Outstanding) -> Result<()> {
    if sent.messages == 0 {
        return Ok(());
    }
    let without = |held: Option<Outstanding>| held.and_then(|held| held.without(sent));
    batch.update(&HELD_BY_DESTINATION, server, without)?;
    Ok(())
}
