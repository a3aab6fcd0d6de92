//! What a server that is started from a backup does with one-time keys.

use std::collections::VecDeque;

use wick_core::Result;
use wick_database::{
    Range, Read,
    schema::device_keys::{
        ONE_TIME_KEY_BY_AGE, ONE_TIME_KEY_BY_ID, ONE_TIME_KEYS_BY_ALGORITHM, OneTimeKeys,
    },
};

use super::DeviceKeys;

/// Devices whose keys are dropped in one batch.
const PORTION: usize = 100;

impl DeviceKeys {
    /// Drops the device lists of users of other servers, which may have changed since the backup, and the one-time keys of
    /// all devices, since some of them may have been claimed after the backup: a
    /// key that is given twice is worse than none. Clients see that there are none left, and upload others.
    /// Fallback keys, which are handed out more than once anyway, are kept. For the first start from a
    /// backup; can be repeated.
    ///
    /// # Errors
    /// If the database refuses.
    pub async fn drop_outdated(&self) -> Result<()> {
        let mut range = Range::all();
        let mut dropped: u64 = 0;
        loop {
            let (last, count) = self
                .resources
                .change(|batch| {
                    let rows = batch.scan(&ONE_TIME_KEYS_BY_ALGORITHM, range.clone());
                    let rows = rows.take(PORTION).collect::<Result<Vec<_>, _>>()?;
                    let mut count: u64 = 0;
                    for (key, keys) in &rows {
                        let (user, device_id, algorithm) = key;
                        let prefix = (*user, device_id, algorithm);
                        batch.delete_range(&ONE_TIME_KEY_BY_ID, Range::prefix(prefix))?;
                        batch.delete_range(&ONE_TIME_KEY_BY_AGE, Range::prefix(prefix))?;
                        let next = VecDeque::new();
                        let none = OneTimeKeys { count: 0, next, ..keys.clone() };
                        batch.put(&ONE_TIME_KEYS_BY_ALGORITHM, key, &none);
                        count = count.saturating_add(keys.count);
                    }
                    Ok((rows.last().map(|(key, _)| key.clone()), count))
                })
                .await?;
            dropped = dropped.saturating_add(count);
            match last {
                Some(last) => range = Range::after(&last),
                None => break,
            }
        }
        if let Some(remote) = &self.remote {
            remote.forget_all().await?;
        }
        tracing::info!(keys = dropped, "dropped the one-time keys of a backup");
        Ok(())
    }
}
