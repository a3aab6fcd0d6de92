//! Keys of other servers, attested for a third one.
//!
//! Invariant: what is attested was verified; this server's signature is added to the response as the other server signed it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use ruma::{OwnedServerName, OwnedServerSigningKeyId, ServerName, serde::Raw};
use ruma_federation_api::discovery::{
    ServerSigningKeys, get_remote_server_keys_batch::v2::QueryCriteria,
};
use wick_core::{Error, Result, Timestamp};
use wick_database::{
    Read,
    schema::federation::{PUBLISHED_KEYS_BY_SERVER, PublishedKeys},
};

use super::{AT_ONCE, ServerKeys};

/// Which keys of a server are wanted, and until when they must be valid. None: whichever it has.
type Wanted = BTreeMap<OwnedServerSigningKeyId, QueryCriteria>;

impl ServerKeys {
    /// The keys of servers, as they published them, with this server's signature. They are fetched if those that are
    /// stored do not fulfil what is wanted; a server whose keys are not known and cannot be fetched is left out.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub async fn attest(
        &self,
        wanted: &BTreeMap<OwnedServerName, Wanted>,
    ) -> Result<Vec<Raw<ServerSigningKeys>>> {
        let answers: Vec<_> =
            wanted.iter().map(|(server, keys)| self.attest_one(server, keys)).collect();
        let mut answers = stream::iter(answers).buffered(AT_ONCE);
        let mut attested = Vec::new();
        while let Some(answer) = answers.next().await {
            attested.extend(answer?);
        }
        Ok(attested)
    }

    /// The keys of a server as [`ServerKeys::attest`] returns them, valid until `until` if that can be had.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub async fn attest_until(
        &self,
        server: &ServerName,
        until: Timestamp,
    ) -> Result<Option<Raw<ServerSigningKeys>>> {
        self.attest_if(server, |stored| stored.valid_until >= until).await
    }

    async fn attest_one(
        &self,
        server: &ServerName,
        wanted: &Wanted,
    ) -> Result<Option<Raw<ServerSigningKeys>>> {
        let now = self.resources.clock.now();
        self.attest_if(server, |stored| fulfils(stored, wanted, now)).await
    }

    async fn attest_if(
        &self,
        server: &ServerName,
        fulfils: impl FnOnce(&PublishedKeys) -> bool,
    ) -> Result<Option<Raw<ServerSigningKeys>>> {
        if *server == self.resources.config.server.name {
            return self.published().map(Some);
        }
        let mut stored = self.published_by(server)?;
        if !stored.as_ref().is_some_and(fulfils) {
            self.refresh(server).await?;
            stored = self.published_by(server)?;
        }
        let Some(stored) = stored else { return Ok(None) };
        let object = serde_json::from_str(&stored.json)
            .map_err(|error| Error::internal("stored keys of a server", error))?;
        self.sign(object).map(Some)
    }

    fn published_by(&self, server: &ServerName) -> Result<Option<PublishedKeys>> {
        Ok(self.resources.database.latest().get(&PUBLISHED_KEYS_BY_SERVER, &server)?)
    }
}

/// Whether stored keys are valid long enough and have all that are wanted.
fn fulfils(stored: &PublishedKeys, wanted: &Wanted, now: Timestamp) -> bool {
    let Ok(keys) = serde_json::from_str::<ServerSigningKeys>(&stored.json) else { return false };
    let is_valid = |criteria: &QueryCriteria| {
        let until = criteria.minimum_valid_until_ts.map_or(now, Timestamp::from);
        stored.valid_until >= until
    };
    let has = |id| keys.verify_keys.contains_key(id) || keys.old_verify_keys.contains_key(id);
    match wanted.is_empty() {
        true => stored.valid_until >= now,
        false => wanted.iter().all(|(id, criteria)| has(id) && is_valid(criteria)),
    }
}
