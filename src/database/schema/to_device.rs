//! Messages from device to device that wait for their recipients.
//!
//! Invariant: what a sender has waiting is the sum of what is in the inboxes from it.

use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use wick_core::{Position, ShortUserId, Timestamp};

use crate::postcard_value;

/// A message that waits in an inbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToDeviceMessage {
    /// The user that sent it.
    pub sender: ShortUserId,
    /// The same user as a user id.
    pub sender_id: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its content, JSON text.
    pub content: String,
}

/// What of a sender's waits in inboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// How many messages.
    pub messages: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

impl Outstanding {
    /// So many messages, with so many bytes.
    #[must_use]
    pub fn new(messages: usize, bytes: usize) -> Self {
        let number = |number| u64::try_from(number).unwrap_or(u64::MAX);
        Self { messages: number(messages), bytes: number(bytes) }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The rest without some; `None` if that counts no message.
    #[must_use]
    pub fn without(self, other: Self) -> Option<Self> {
        let rest = Self {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        };
        (rest.messages > 0).then_some(rest)
    }
}

postcard_value!(ToDeviceMessage, version = 1);
postcard_value!(Outstanding, version = 1);

tables! {
    /// The inbox of each device in the order of delivery. Written by `/sendToDevice`; read by sync; a
    /// message is deleted once its device has acknowledged it, or with its device; rebuilt from nothing
    /// else.
    TO_DEVICE_MESSAGE_BY_POSITION: (ShortUserId, OwnedDeviceId, Position) => ToDeviceMessage, Sequential, wakes_user;

    /// What of each sender's waits in inboxes. Written with [`TO_DEVICE_MESSAGE_BY_POSITION`], from which
    /// it can be rebuilt; read when more is sent. A row that counts nothing is deleted.
    OUTSTANDING_BY_SENDER: ShortUserId => Outstanding, Random;

    /// What of the users of each other server waits in inboxes. Written with [`TO_DEVICE_MESSAGE_BY_POSITION`], from which
    /// it can be rebuilt; read when more comes. A row that counts nothing is deleted.
    OUTSTANDING_BY_SERVER: OwnedServerName => Outstanding, Random;

    /// Requests to `/sendToDevice` that were carried out, by device and by type with transaction id.
    /// Written and read by `/sendToDevice`; deleted some days later, or with the device.
    TO_DEVICE_SENT_BY_TRANSACTION: (ShortUserId, OwnedDeviceId, String) => Timestamp, Random;

    /// The same requests by their time. Written with [`TO_DEVICE_SENT_BY_TRANSACTION`], from which it can
    /// be rebuilt; read by what deletes old ones.
    TO_DEVICE_TRANSACTION_BY_TIME: (Timestamp, ShortUserId, OwnedDeviceId, String) => (), Sequential;
}
