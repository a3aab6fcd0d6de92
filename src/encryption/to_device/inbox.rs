//! The inbox of one device: what is delivered, and what was acknowledged.

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use wick_core::{Error, Position, Result, ShortUserId};
use wick_database::{
    Batch, Durability, Range, Read,
    schema::to_device::{
        OUTSTANDING_BY_SENDER, OUTSTANDING_BY_SERVER, Outstanding, TO_DEVICE_MESSAGE_BY_POSITION,
        TO_DEVICE_SENT_BY_TRANSACTION, TO_DEVICE_TRANSACTION_BY_TIME, ToDeviceMessage,
    },
};

use super::ToDevice;

/// Messages in one answer; the rest is in the next.
const PORTION: usize = 100;

/// Messages that one batch deletes.
const DELETED_AT_ONCE: usize = 1_000;

/// What one answer delivers.
#[derive(Debug, Default)]
pub struct InboxPortion {
    /// The messages as events, in order.
    pub events: Vec<Box<RawValue>>,
    /// The position of the last one if more wait behind it; `None` if the inbox up to the snapshot is in
    /// the answer.
    pub upto: Option<Position>,
}

/// A message as its device receives it.
#[derive(Serialize)]
struct Event<'a> {
    sender: &'a OwnedUserId,
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

/// The oldest messages after `since` in the inbox of a device, a portion at a time.
///
/// # Errors
/// If the database cannot be read.
pub fn deliver(
    read: &impl Read,
    (user, device_id): (ShortUserId, &DeviceId),
    since: Position,
) -> Result<InboxPortion> {
    let mut portion = InboxPortion::default();
    let mut last = since;
    for row in read.scan(&TO_DEVICE_MESSAGE_BY_POSITION, after(user, device_id, since)) {
        let ((_, _, position), message) = row?;
        if portion.events.len() == PORTION {
            portion.upto = Some(last);
            break;
        }
        portion.events.push(event(&message)?);
        last = position;
    }
    Ok(portion)
}

impl ToDevice {
    /// Deletes the messages of a device up to `upto`, which it has come back with. Every sync that begins after this
    /// one was answered finds them deleted. Survives a killed process; after a power loss messages may be delivered once
    /// more.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn acknowledge(
        &self,
        (user, device_id): (ShortUserId, &DeviceId),
        upto: Position,
    ) -> Result<()> {
        loop {
            let deleted = self
                .resources
                .change_with(Durability::Flushed, |batch| {
                    let delivered = Range::through(&(user, device_id, upto));
                    delete_oldest(batch, (user, device_id), delivered, DELETED_AT_ONCE)
                })
                .await?;
            if deleted < DELETED_AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Deletes the inbox of a device that ends, and what is remembered of its requests.
///
/// # Errors
/// If the database cannot be read.
pub fn drop_inbox(batch: &mut Batch, user: ShortUserId, device_id: &DeviceId) -> Result<()> {
    delete_oldest(batch, (user, device_id), Range::all(), usize::MAX)?;
    let sent = batch.scan(&TO_DEVICE_SENT_BY_TRANSACTION, Range::prefix((user, device_id)));
    for (key, at) in sent.collect::<Result<Vec<_>, _>>()? {
        batch.delete(&TO_DEVICE_SENT_BY_TRANSACTION, &key);
        let (user, device_id, transaction) = key;
        batch.delete(&TO_DEVICE_TRANSACTION_BY_TIME, &(at, user, device_id, transaction));
    }
    Ok(())
}

/// The device that a message is for, and the place of the message in its inbox.
type Place = (ShortUserId, OwnedDeviceId, Position);

/// Deletes the oldest messages of a device in a range, each once, and takes them off what waits of their senders and of
/// their senders' servers. Returns how many.
fn delete_oldest(
    batch: &mut Batch,
    (user, device_id): (ShortUserId, &DeviceId),
    range: Range<Place>,
    most: usize,
) -> Result<usize> {
    let inbox = Range::prefix((user, device_id)).and(range);
    let inbox = batch.scan(&TO_DEVICE_MESSAGE_BY_POSITION, inbox).take(most);
    let (mut by_sender, mut places) =
        (BTreeMap::<(ShortUserId, OwnedUserId), Outstanding>::new(), Vec::new());
    let mut oldest = None;
    for row in inbox {
        let (place, message) = row?;
        let deleted = by_sender.entry((message.sender, message.sender_id.clone())).or_default();
        *deleted = deleted.plus(Outstanding::new(1, message.content.len()));
        if places.is_empty() {
            oldest = Some(message);
        }
        places.push(place);
    }
    // An inbox is only ever shortened from its beginning: what deletes any of these deletes the oldest, too.
    if let (Some(place), Some(oldest)) = (places.first(), &oldest) {
        batch.require(&TO_DEVICE_MESSAGE_BY_POSITION, place, Some(oldest));
    }
    for place in &places {
        batch.delete(&TO_DEVICE_MESSAGE_BY_POSITION, place);
    }
    for ((sender, sender_id), deleted) in by_sender {
        let without = |before: Option<Outstanding>| before.and_then(|all| all.without(deleted));
        batch.update(&OUTSTANDING_BY_SENDER, &sender, without)?;
        // Of this server itself there is no row.
        batch.update(&OUTSTANDING_BY_SERVER, sender_id.server_name(), without)?;
    }
    Ok(places.len())
}

fn after(user: ShortUserId, device_id: &DeviceId, since: Position) -> Range<Place> {
    Range::prefix((user, device_id)).and(Range::after(&(user, device_id, since)))
}

fn event(message: &ToDeviceMessage) -> Result<Box<RawValue>> {
    let broken = |error| Error::internal("a message in an inbox", error);
    let content: &RawValue = serde_json::from_str(&message.content).map_err(broken)?;
    let event = Event { sender: &message.sender_id, event_type: &message.event_type, content };
    to_raw_value(&event).map_err(broken)
}
