//! Messages from device to device: an inbox for each device of a local user.
//!
//! Invariants: a request with a transaction id is carried out once; a message stays in the inbox until its
//! device has come back with the token of the answer that held it; messages are delivered in the order
//! in which they were accepted. Contents are never logged.
//!
//! <https://spec.matrix.org/v1.18/client-server-api/#send-to-device-messaging>

mod federated;
mod inbox;
mod sweep;

use std::{collections::BTreeMap, time::Duration};

use ruma::{
    DeviceId, OwnedDeviceId, ServerName, UserId,
    api::client::to_device::send_event_to_device::v3::Messages, to_device::DeviceIdOrAllDevices,
};
use wick_account::Session;
use wick_core::{Error, Result, ShortUserId, Timestamp, json};
use wick_database::{
    Batch, Range, Read,
    schema::{
        devices::DEVICE_BY_ID,
        to_device::{
            OUTSTANDING_BY_SENDER, OUTSTANDING_BY_SERVER, Outstanding,
            TO_DEVICE_MESSAGE_BY_POSITION, TO_DEVICE_SENT_BY_TRANSACTION,
            TO_DEVICE_TRANSACTION_BY_TIME, ToDeviceMessage,
        },
    },
};
use wick_runtime::Resources;

pub use self::inbox::{InboxPortion, deliver, drop_inbox};

/// Bytes of one message's content.
const MAX_CONTENT_BYTES: usize = 65_536;

/// Devices that one request may reach.
const MAX_REACHED: usize = 10_000;

/// What one sender may have waiting in the inboxes of others: about as much as the devices of a large room
/// that are all offline for a while.
const MAX_OUTSTANDING_MESSAGES: u64 = 200_000;
const MAX_OUTSTANDING_BYTES: u64 = 256 << 20;

/// What all users of another server may have waiting.
const MAX_OUTSTANDING_MESSAGES_OF_SERVER: u64 = 1_000_000;
const MAX_OUTSTANDING_BYTES_OF_SERVER: u64 = 1 << 30;

/// When a sender with too much waiting may try again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Sends and delivers messages between devices.
pub struct ToDevice {
    resources: Resources,
}

/// A message for one device.
struct Addressed {
    user: ShortUserId,
    device_id: OwnedDeviceId,
    content: String,
}

impl Addressed {
    fn new(user: ShortUserId, device_id: OwnedDeviceId, content: &str) -> Self {
        Self { user, device_id, content: content.to_owned() }
    }
}

impl ToDevice {
    /// Inboxes in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Puts messages into the inboxes of devices, and has those to users of other servers sent there. Devices and users of
    /// this server that do not exist are passed over. A repeated request changes nothing.
    ///
    /// # Errors
    /// `M_BAD_JSON` if a content is no object; `M_TOO_LARGE` if one is larger than an event may be or too many devices are addressed;
    /// `M_LIMIT_EXCEEDED` if too much of the sender's waits already.
    pub async fn send(
        &self,
        session: &Session,
        event_type: &str,
        transaction_id: &str,
        messages: &Messages,
    ) -> Result<()> {
        ensure_form(messages)?;
        let transaction = format!("{event_type}/{transaction_id}");
        let transaction = (session.user, &*session.device_id, &*transaction);
        let (now, id) = (self.resources.clock.now(), self.resources.random.token());
        self.resources
            .change(|batch| {
                let sent = batch.read_for_update(&TO_DEVICE_SENT_BY_TRANSACTION, &transaction)?;
                if sent.is_some() {
                    return Ok(());
                }
                put_transaction(batch, transaction, now);
                let addressed = self.addressed(batch, messages)?;
                self.put((session.user, &session.user_id, event_type), addressed, batch)?;
                self.queue((&session.user_id, event_type, &id), messages, batch)
            })
            .await
    }

    /// Puts messages of a sender into the inboxes.
    fn put(
        &self,
        (sender, sender_id, event_type): (ShortUserId, &UserId, &str),
        addressed: Vec<Addressed>,
        batch: &mut Batch,
    ) -> Result<()> {
        let server = sender_id.server_name();
        let server = (server != self.resources.config.server.name).then_some(server);
        count(batch, (sender, server), &addressed)?;
        for Addressed { user, device_id, content } in addressed {
            let message = ToDeviceMessage {
                sender,
                sender_id: sender_id.to_owned(),
                event_type: event_type.to_owned(),
                content,
            };
            let slot = batch.reserve_position();
            batch.put_at(slot, &TO_DEVICE_MESSAGE_BY_POSITION, move |position| {
                ((user, device_id, position), message)
            });
        }
        Ok(())
    }

    /// The messages by device; `*` is each device of the user that exists now.
    fn addressed(&self, batch: &Batch, messages: &Messages) -> Result<Vec<Addressed>> {
        let (mut addressed, mut named) = (Vec::new(), Vec::new());
        for (user_id, devices) in messages {
            let Some(user) = self.local(batch, user_id)? else { continue };
            for (target, content) in devices {
                let content = content.json().get();
                match target {
                    DeviceIdOrAllDevices::DeviceId(device_id) => {
                        named.push((user, device_id, content));
                    }
                    DeviceIdOrAllDevices::AllDevices => {
                        for key in batch.scan(&DEVICE_BY_ID, Range::prefix((user,))).keys() {
                            ensure_reachable(addressed.len().saturating_add(1))?;
                            addressed.push(Addressed::new(user, key?.1, content));
                        }
                    }
                }
            }
        }
        let keys = named.iter().map(|(user, device_id, _)| (*user, *device_id));
        let rows = batch.multi_get(&DEVICE_BY_ID, keys)?;
        let existing = named.into_iter().zip(rows).filter(|(_, row)| row.is_some());
        addressed.extend(existing.map(|((user, device_id, content), _)| {
            Addressed::new(user, device_id.clone(), content)
        }));
        ensure_reachable(addressed.len())?;
        Ok(addressed)
    }

    fn local(&self, read: &impl Read, user_id: &UserId) -> Result<Option<ShortUserId>> {
        if user_id.server_name() != self.resources.config.server.name {
            return Ok(None);
        }
        Ok(self.resources.database.intern().lookup_user(read, user_id)?)
    }
}

fn ensure_reachable(devices: usize) -> Result<()> {
    match devices > MAX_REACHED {
        true => Err(Error::too_large("too many devices are addressed")),
        false => Ok(()),
    }
}

/// Whether each content is an object and not too large.
fn ensure_form(messages: &Messages) -> Result<()> {
    for content in messages.values().flat_map(BTreeMap::values) {
        let content = content.json();
        if !json::is_object(content) {
            return Err(Error::bad_json("the content of a message is an object"));
        }
        if content.get().len() > MAX_CONTENT_BYTES {
            return Err(Error::too_large("the content of a message is too large"));
        }
    }
    Ok(())
}

/// Adds what is sent to what of the sender's waits, and of the sender's server if it is another one.
fn count(
    batch: &mut Batch,
    (sender, server): (ShortUserId, Option<&ServerName>),
    addressed: &[Addressed],
) -> Result<()> {
    if addressed.is_empty() {
        return Ok(());
    }
    let bytes = addressed.iter().map(|message| message.content.len()).sum();
    let added = Outstanding::new(addressed.len(), bytes);
    let with = |before: Option<Outstanding>, (messages, bytes): (u64, u64)| {
        let after = before.unwrap_or_default().plus(added);
        match after.messages > messages || after.bytes > bytes {
            true => Err(Error::limit_exceeded(RETRY_AFTER)),
            false => Ok(after),
        }
    };
    let of_sender = batch.read_for_update(&OUTSTANDING_BY_SENDER, &sender)?;
    let of_sender = with(of_sender, (MAX_OUTSTANDING_MESSAGES, MAX_OUTSTANDING_BYTES))?;
    if let Some(server) = server {
        let of_server = batch.read_for_update(&OUTSTANDING_BY_SERVER, server)?;
        let limits = (MAX_OUTSTANDING_MESSAGES_OF_SERVER, MAX_OUTSTANDING_BYTES_OF_SERVER);
        batch.put(&OUTSTANDING_BY_SERVER, server, &with(of_server, limits)?);
    }
    batch.put(&OUTSTANDING_BY_SENDER, &sender, &of_sender);
    Ok(())
}

fn put_transaction(
    batch: &mut Batch,
    (user, device_id, transaction): (ShortUserId, &DeviceId, &str),
    now: Timestamp,
) {
    batch.put(&TO_DEVICE_SENT_BY_TRANSACTION, &(user, device_id, transaction), &now);
    batch.put(&TO_DEVICE_TRANSACTION_BY_TIME, &(now, user, device_id, transaction), &());
}
