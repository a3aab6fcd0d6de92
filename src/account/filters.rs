//! Filters that clients define once and name afterwards.
//!
//! Invariants: a filter's id is derived from its content, so that the same filter is stored once; a user has
//! a bounded number of filters, of which the one that was made first goes first.

mod matching;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{api::client::filter::FilterDefinition, canonical_json::to_canonical_value};
use sha2::{Digest, Sha256};
use wick_core::{Error, Result, ShortUserId, Timestamp};
use wick_database::{
    Batch, Range, Read,
    schema::account_data::{FILTER_BY_CREATION, FILTER_BY_ID},
};
use wick_runtime::Resources;

pub use self::matching::{
    allows_event, allows_events_of, allows_global, allows_room, allows_room_type,
};

const MAX_FILTER_BYTES: usize = 65_536;

/// The filters of local users.
pub struct Filters {
    resources: Resources,
}

impl Filters {
    /// Filters in the database.
    #[must_use]
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Stores a filter and returns its id.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it has no canonical form, `M_TOO_LARGE` if it is beyond 64 KiB.
    pub async fn create(&self, user: ShortUserId, filter: &FilterDefinition) -> Result<String> {
        let json = to_canonical_value(filter)
            .map_err(|_| Error::bad_json("the filter has no canonical form"))?
            .to_string();
        if json.len() > MAX_FILTER_BYTES {
            return Err(Error::too_large("the filter is too large"));
        }
        let digest = Sha256::digest(json.as_bytes());
        let filter_id =
            URL_SAFE_NO_PAD.encode(digest.iter().copied().take(12).collect::<Vec<u8>>());
        let now = self.resources.clock.now();
        self.resources.change(|batch| self.put((user, &filter_id, now), &json, batch)).await?;
        Ok(filter_id)
    }

    /// Writes a filter as the newest one, and removes the oldest beyond the limit.
    fn put(
        &self,
        (user, filter_id, now): (ShortUserId, &str, Timestamp),
        json: &String,
        batch: &mut Batch,
    ) -> Result<()> {
        let mut by_age = Vec::new();
        for key in batch.scan(&FILTER_BY_CREATION, Range::prefix((user,))).keys() {
            let (_, created, id) = key?;
            by_age.push((created, id));
        }
        for (created, id) in by_age.extract_if(.., |(_, id)| id == filter_id) {
            batch.delete(&FILTER_BY_CREATION, &(user, created, id));
        }
        batch.put(&FILTER_BY_ID, &(user, filter_id), json);
        batch.put(&FILTER_BY_CREATION, &(user, now, filter_id), &());
        let most = usize::try_from(self.resources.config.accounts.max_filters);
        let beyond = (by_age.len() + 1).saturating_sub(most.unwrap_or(usize::MAX).max(1));
        for (created, id) in by_age.into_iter().take(beyond) {
            batch.delete(&FILTER_BY_CREATION, &(user, created, &id));
            batch.delete(&FILTER_BY_ID, &(user, id));
        }
        Ok(())
    }

    /// The filter that `id` names.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, user: ShortUserId, id: &str) -> Result<Option<FilterDefinition>> {
        match self.resources.database.published().get(&FILTER_BY_ID, &(user, id))? {
            Some(json) => serde_json::from_str(&json)
                .map(Some)
                .map_err(|error| Error::internal("stored filter", error)),
            None => Ok(None),
        }
    }

    /// The filter that `id` names, for an endpoint that applies it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the user has none with that id.
    pub fn load(&self, user: ShortUserId, id: &str) -> Result<FilterDefinition> {
        self.get(user, id)?.ok_or_else(|| Error::invalid_param("there is no filter with this id"))
    }
}
