//! Stored rows: one for each running timer, and the status of each event whose timer has ended.
//!
//! Invariants: both are in column families of their own, which the server without the patch leaves as
//! they are; rows are written in the order in which a crash may cut them off (see [`super::worker`]).

use std::sync::Arc;

use conduwuit::{Result, err, error};
use database::{Database, Map};
use futures::StreamExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{timers::Row, tokens::Key, wire::ExpireUnsigned};

/// The key of the secret among the rows of timers, whose keys are longer.
const SECRET: &[u8] = b"secret";

/// How an event ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ended {
    /// What is shown of it.
    #[serde(flatten)]
    pub shown: ExpireUnsigned,
    /// When a request ended it, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
}

pub(super) struct Store {
    db: Arc<Database>,
    timers: Arc<Map>,
    ended: Arc<Map>,
}

impl Store {
    pub(super) fn new(db: &Arc<Database>) -> Self {
        Self {
            db: db.clone(),
            timers: db["expiringid_timer"].clone(),
            ended: db["expiringid_ended"].clone(),
        }
    }

    /// The secret that tokens are made with; made at the first start.
    pub(super) fn secret(&self) -> Result<[u8; 32]> {
        match self.timers.get_blocking(SECRET) {
            Ok(stored) => <[u8; 32]>::try_from(&*stored)
                .map_err(|_| err!(Database("the secret of refresh tokens is damaged"))),
            Err(e) if e.is_not_found() => {
                let secret: [u8; 32] = rand::random();
                self.timers.insert(SECRET, secret);
                Ok(secret)
            }
            Err(e) => Err(e),
        }
    }

    /// All timers that run.
    pub(super) async fn load(&self) -> Vec<(Key, Row)> {
        let rows = self.timers.raw_stream().filter_map(async |row| {
            let (key, row) = row.inspect_err(|e| error!("cannot read timers: {e}")).ok()?;
            let key = Key::try_from(key).ok()?;
            let row = serde_json::from_slice(row)
                .inspect_err(|e| error!("a timer is damaged: {e}"))
                .ok()?;
            Some((key, row))
        });
        rows.collect().await
    }

    /// While this lives, what is written stays together; then it is handed to the operating system, where
    /// a killed process does not take it back.
    #[must_use]
    pub(super) fn together(&self) -> impl Send + use<> {
        self.db.cork_and_flush()
    }

    /// Hands what was written so far to the operating system. The server itself leaves a write in its
    /// buffers while another request holds writes together.
    pub(super) fn flush(&self) {
        drop(self.together());
    }

    pub(super) fn put_timer(&self, key: &Key, row: &Row) -> Result {
        self.timers.insert(key, serde_json::to_vec(row)?);
        Ok(())
    }

    pub(super) fn remove_timer(&self, key: &Key) {
        self.timers.remove(key);
    }

    pub(super) async fn ended(&self, key: &Key) -> Result<Option<Ended>> {
        read(&self.ended, key).await
    }

    pub(super) fn put_ended(&self, key: &Key, ended: &Ended) -> Result {
        self.ended.insert(key, serde_json::to_vec(ended)?);
        Ok(())
    }

    pub(super) fn remove_ended(&self, key: &Key) {
        self.ended.remove(key);
    }
}

async fn read<T: DeserializeOwned>(map: &Arc<Map>, key: &Key) -> Result<Option<T>> {
    match map.get(key).await {
        Ok(stored) => Ok(Some(serde_json::from_slice(&stored)?)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}
