//! Keys of a server that does not publish them itself at present, of the notaries that the configuration trusts.
//!
//! Invariant: such keys count only if their own server signed them, and the notary too.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use ruma::{
    CanonicalJsonObject, ServerName,
    canonical_json::CanonicalJsonValue,
    serde::Raw,
    signatures::{PublicKeyMap, verify_json},
};
use ruma_federation_api::discovery::{
    ServerSigningKeys, get_remote_server_keys_batch::v2 as get_remote_server_keys_batch,
};
use wick_core::{Error, RemoteReason, Result};
use wick_outbound::Bounds;

use super::{
    MAX_SIGNATURES, Purpose, ServerKeys,
    stored::{Verified, verify},
};
use crate::{
    federation::request_unsigned,
    transport::{BackOff, remote},
};

/// How many notaries are asked at most, at the same time.
const MAX_NOTARIES: usize = 2;

impl ServerKeys {
    /// The keys of a server by the first notary that has them; `None` if none has.
    ///
    /// # Errors
    /// If the database cannot be read or written.
    pub(super) async fn ask_notaries(
        &self,
        server: &ServerName,
        bounds: Bounds,
    ) -> Result<Option<Verified>> {
        let notaries = self.resources.config.federation.trusted_notaries.iter();
        let own = &self.resources.config.server.name;
        let notaries = notaries.filter(|notary| *notary != own && *notary != server);
        let answers = notaries.take(MAX_NOTARIES).map(|notary| async move {
            let asked = self.ask_notary(notary, server, bounds).await;
            (notary, asked)
        });
        let answers: Vec<_> = answers.collect();
        let mut answers = stream::iter(answers).buffer_unordered(MAX_NOTARIES);
        while let Some((notary, answer)) = answers.next().await {
            match answer {
                Ok(verified) => return Ok(Some(verified)),
                Err(error @ Error::Internal(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%notary, %server, %error, "a notary has no keys of a server");
                }
            }
        }
        Ok(None)
    }

    async fn ask_notary(
        &self,
        notary: &ServerName,
        server: &ServerName,
        bounds: Bounds,
    ) -> Result<Verified> {
        let wanted = BTreeMap::from([(server.to_owned(), BTreeMap::new())]);
        let request = get_remote_server_keys_batch::Request::new(wanted);
        let response =
            request_unsigned(&self.transport, notary, request, bounds, BackOff::Heed).await?;
        for keys in &response.server_keys {
            let Ok(verified) = verify(server, keys) else { continue };
            if self.is_attested(notary, keys, bounds).await? {
                return Ok(verified);
            }
        }
        let problem = "it has no keys that both it and their server signed";
        Err(remote(notary, RemoteReason::Unreadable, problem))
    }

    /// Whether a notary signed an answer with a key of its own.
    async fn is_attested(
        &self,
        notary: &ServerName,
        keys: &Raw<ServerSigningKeys>,
        bounds: Bounds,
    ) -> Result<bool> {
        let Ok(mut object) = keys.deserialize_as_unchecked::<CanonicalJsonObject>() else {
            return Ok(false);
        };
        let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") else {
            return Ok(false);
        };
        signatures.retain(|signer, _| signer == notary.as_str());
        let by_notary = signatures.get(notary.as_str()).and_then(CanonicalJsonValue::as_object);
        let ids = by_notary.into_iter().flat_map(|signatures| signatures.keys());
        let ids: Vec<_> = ids.take(MAX_SIGNATURES).cloned().collect();
        let is_known = |id: &String| self.stored(notary, id, Purpose::Request);
        if !ids.iter().any(|id| is_known(id).is_ok_and(|key| key.is_some())) {
            let own = self.fetch_within(notary, bounds).await?;
            self.store(notary, &own).await?;
        }
        for id in ids {
            let Some(key) = self.stored(notary, &id, Purpose::Request)? else { continue };
            let keys = PublicKeyMap::from([(notary.to_string(), [(id, key)].into())]);
            if verify_json(&keys, &object).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
