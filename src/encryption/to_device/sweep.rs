//! Removes the ids of requests and of messages of other servers that are too old to be repeated.

use std::{sync::Arc, time::Duration};

use wick_core::{Result, Timestamp, clock::millis};
use wick_database::{
    Durability, Range, Read,
    schema::{
        remote_devices::{RECEIVED_BY_MESSAGE, RECEIVED_MESSAGE_BY_TIME},
        to_device::{TO_DEVICE_SENT_BY_TRANSACTION, TO_DEVICE_TRANSACTION_BY_TIME},
    },
};
use wick_runtime::Supervisor;

use super::ToDevice;

/// How long a repeated request or message is known as such.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// How often older ones are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// How many are forgotten in one batch.
const PORTION: usize = 1_000;

impl ToDevice {
    /// Starts to forget old transactions.
    pub fn start(self: &Arc<Self>, supervisor: &Supervisor) {
        let to_device = Arc::clone(self);
        supervisor.spawn_periodic("transactions of to-device messages", SWEEP_EVERY, move || {
            let to_device = Arc::clone(&to_device);
            async move { to_device.sweep().await }
        });
    }

    async fn sweep(&self) -> Result<()> {
        let now = self.resources.clock.now();
        let before = Timestamp(now.0.saturating_sub(millis(REMEMBERED)));
        while self.forget(before).await? == PORTION {}
        while self.forget_received(before).await? == PORTION {}
        Ok(())
    }

    async fn forget(&self, before: Timestamp) -> Result<usize> {
        let mut batch = self.resources.database.batch();
        let mut old = Vec::new();
        for key in batch.scan(&TO_DEVICE_TRANSACTION_BY_TIME, Range::all()).keys().take(PORTION) {
            let key = key?;
            if key.0 >= before {
                break;
            }
            old.push(key);
        }
        for key in &old {
            batch.delete(&TO_DEVICE_TRANSACTION_BY_TIME, key);
            let (_, user, device_id, transaction) = key;
            batch.delete(&TO_DEVICE_SENT_BY_TRANSACTION, &(*user, &**device_id, &**transaction));
        }
        if !batch.is_empty() {
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
        Ok(old.len())
    }

    async fn forget_received(&self, before: Timestamp) -> Result<usize> {
        let mut batch = self.resources.database.batch();
        let mut old = Vec::new();
        for key in batch.scan(&RECEIVED_MESSAGE_BY_TIME, Range::all()).keys().take(PORTION) {
            let key = key?;
            if key.0 >= before {
                break;
            }
            old.push(key);
        }
        for key in &old {
            batch.delete(&RECEIVED_MESSAGE_BY_TIME, key);
            let (_, server, id) = key;
            batch.delete(&RECEIVED_BY_MESSAGE, &(&**server, &**id));
        }
        if !batch.is_empty() {
            self.resources.database.commit(batch, Durability::Flushed).await?;
        }
        Ok(old.len())
    }
}
