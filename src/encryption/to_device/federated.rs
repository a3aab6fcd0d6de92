//! Messages to and from devices of other servers: `m.direct_to_device`.
//!
//! Invariants: a message is queued for its server in the batch that notes its transaction; one that comes in is noted by
//! its server and its id in the batch that delivers it, so it is delivered once, however often it is sent.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedTransactionId, ServerName, events::ToDeviceEventType};
use ruma_federation_api::transactions::edu::{DirectDeviceContent, DirectDeviceMessages, Edu};
use wick_core::{Error, Result};
use wick_database::{
    Batch,
    schema::remote_devices::{RECEIVED_BY_MESSAGE, RECEIVED_MESSAGE_BY_TIME},
};
use wick_federation::{Keep, queue_edu};

use super::{Messages, ToDevice, ensure_form, ensure_reachable};

/// Bytes of the contents in one EDU, unless a single one has more.
const MAX_EDU_BYTES: usize = 64 << 10;

/// Bytes of the id of a message.
const MAX_ID_BYTES: usize = 255;

impl ToDevice {
    /// Queues the messages to devices of other servers. `id` begins the ids of the messages.
    pub(super) fn queue(
        &self,
        (sender, event_type, id): (&ruma::UserId, &str, &str),
        messages: &Messages,
        batch: &mut Batch,
    ) -> Result<()> {
        let mut count = 0_usize;
        for (server, parts) in self.by_server(messages)? {
            for messages in parts {
                count = count.saturating_add(1);
                let id = OwnedTransactionId::from(format!("{id}{count}"));
                let event_type = ToDeviceEventType::from(event_type);
                let mut content = DirectDeviceContent::new(sender.to_owned(), event_type, id);
                content.messages = messages;
                let edu = Edu::DirectToDevice(content);
                queue_edu(batch, vec![server.clone()], &edu, Keep::UntilSent)?;
            }
        }
        Ok(())
    }

    /// The messages for each server that this one talks to, in parts of limited size.
    fn by_server(
        &self,
        messages: &Messages,
    ) -> Result<BTreeMap<OwnedServerName, Vec<DirectDeviceMessages>>> {
        let config = &self.resources.config;
        let mut by_server = BTreeMap::<_, (usize, Vec<DirectDeviceMessages>)>::new();
        let mut count = 0_usize;
        for (user_id, devices) in messages {
            let server = user_id.server_name();
            let is_reached = *server != config.server.name
                && config.federation.enabled
                && config.federation.allows(server);
            if !is_reached {
                continue;
            }
            count = count.saturating_add(devices.len());
            let (bytes, parts) = by_server.entry(server.to_owned()).or_default();
            for (device, content) in devices {
                *bytes = bytes.saturating_add(content.json().get().len());
                if parts.is_empty() || *bytes > MAX_EDU_BYTES {
                    *bytes = content.json().get().len();
                    parts.push(DirectDeviceMessages::new());
                }
                if let Some(part) = parts.last_mut() {
                    let devices = part.entry(user_id.clone()).or_default();
                    devices.insert(device.clone(), content.clone());
                }
            }
        }
        ensure_reachable(count)?;
        Ok(by_server.into_iter().map(|(server, (_, parts))| (server, parts)).collect())
    }

    /// Delivers messages that another server sends, once. Those of a user of another server than `origin`, and those
    /// that are no objects, too large or too many, are dropped.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn receive(&self, origin: &ServerName, edu: &DirectDeviceContent) -> Result<()> {
        let id = edu.message_id.as_str();
        let is_good = edu.sender.server_name() == origin && id.len() <= MAX_ID_BYTES;
        if !is_good || ensure_form(&edu.messages).is_err() {
            tracing::warn!(%origin, "a message from device to device is malformed and dropped");
            return Ok(());
        }
        let now = self.resources.clock.now();
        let received = self.resources.change(|batch| {
            let key = (origin, id);
            if batch.read_for_update(&RECEIVED_BY_MESSAGE, &key)?.is_some() {
                return Ok(());
            }
            batch.put(&RECEIVED_BY_MESSAGE, &key, &now);
            batch.put(&RECEIVED_MESSAGE_BY_TIME, &(now, origin, id), &());
            let addressed = self.addressed(batch, &edu.messages)?;
            if addressed.is_empty() {
                return Ok(());
            }
            let sender = self.resources.database.intern().user(&edu.sender, batch)?;
            let event_type = edu.ev_type.to_string();
            self.put((sender, &edu.sender, &event_type), addressed, batch)
        });
        match received.await {
            Err(error @ Error::Refused(_)) => {
                tracing::warn!(%origin, %error, "a message from device to device is dropped");
                Ok(())
            }
            result => result,
        }
    }
}
