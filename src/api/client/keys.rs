//! `/keys`: the public keys of devices and users.

use std::{collections::BTreeMap, sync::Arc};

use axum::response::Response;
use ruma::{
    OneTimeKeyAlgorithm, OwnedUserId, UInt,
    api::client::keys::{
        claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
    },
};
use serde::Serialize;
use serde_json::Value;
use wick_account::uia::{Confirmation, Finished};
use wick_core::{Result, SyncToken};
use wick_encryption::{
    cross_signing::{SignatureFailures, Uploaded},
    device_keys::QueriedKeys,
};
use wick_service::Services;
use wick_sync::device_lists;

use crate::{
    reply::{Answer, Json, Reply},
    route::{Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    let mut signatures = route(upload_signatures);
    // The specification has it since v1.1 only, but Hydrogen sends all its requests to r0.
    signatures.paths.push("/_matrix/client/r0/keys/signatures/upload".to_owned());
    vec![
        route(upload_keys),
        route(get_keys),
        route(claim_keys),
        route(get_key_changes),
        route_unread(upload_signing_keys).repeatable(signing_keys_uploaded),
        signatures,
    ]
}

/// `POST /_matrix/client/v3/keys/upload`
async fn upload_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<upload_keys::v3::Request>,
) -> Result<upload_keys::v3::Response> {
    let counts = services.device_keys.upload(&sender, &body).await?;
    let counts = counts.into_iter().map(|(algorithm, count)| {
        (OneTimeKeyAlgorithm::from(algorithm), UInt::try_from(count).unwrap_or(UInt::MAX))
    });
    Ok(upload_keys::v3::Response::new(counts.collect()))
}

/// `POST /_matrix/client/v3/keys/query`
async fn get_keys(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_keys::v3::Request>,
) -> Result<Json<QueriedKeys>> {
    services.device_keys.query(&sender, body.device_keys, body.timeout).await.map(Json)
}

/// The answer to a claim, with `failures` also when it is empty, which ruma leaves out.
#[derive(Serialize)]
struct ClaimResponse {
    one_time_keys: BTreeMap<OwnedUserId, claim_keys::v3::OneTimeKeys>,
    failures: BTreeMap<String, Value>,
}

/// `POST /_matrix/client/v3/keys/claim`
async fn claim_keys(
    services: Arc<Services>,
    Ruma { body, .. }: Ruma<claim_keys::v3::Request>,
) -> Result<Json<ClaimResponse>> {
    let claimed = services.device_keys.claim(&body.one_time_keys).await?;
    Ok(Json(ClaimResponse { one_time_keys: claimed.one_time_keys, failures: claimed.failures }))
}

/// `GET /_matrix/client/v3/keys/changes`
async fn get_key_changes(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<get_key_changes::v3::Request>,
) -> Result<get_key_changes::v3::Response> {
    let from = SyncToken::parse(&body.from)?.position;
    // It names the newest token that the client has. Changes after it may be returned as well.
    SyncToken::parse(&body.to)?;
    let lists = device_lists::changes(&services.database, &services.graph, &sender, from)?;
    Ok(get_key_changes::v3::Response::new(lists.changed, lists.left))
}

/// `POST /_matrix/client/v3/keys/device_signing/upload`
async fn upload_signing_keys(
    services: Arc<Services>,
    request: Unread<upload_signing_keys::v3::Request>,
) -> Result<Answer<upload_signing_keys::v3::Response>> {
    let identity = request.identity();
    let Ruma { body, sender, .. } = request.read()?;
    let cross_signing = &services.cross_signing;
    if cross_signing.upload(&sender, &body, None).await? == Uploaded::NeedsConfirmation {
        let (operation, auth) = ("replace cross-signing keys", body.auth.as_ref());
        match services.uia.confirm(&sender, operation, &identity, auth).await? {
            Confirmation::Challenge(challenge) => return Ok(Answer::Challenge(challenge)),
            Confirmation::Confirmed(proof) => {
                cross_signing.upload(&sender, &body, Some(&proof)).await?;
            }
        }
    }
    Ok(Answer::Done(upload_signing_keys::v3::Response::new()))
}

fn signing_keys_uploaded(_: Finished) -> Result<Response> {
    upload_signing_keys::v3::Response::new().into_http()
}

/// The answer to signatures.
#[derive(Serialize)]
struct SignaturesResponse {
    failures: SignatureFailures,
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
async fn upload_signatures(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<upload_signatures::v3::Request>,
) -> Result<Json<SignaturesResponse>> {
    let failures = services.cross_signing.sign(&sender, &body).await?;
    Ok(Json(SignaturesResponse { failures }))
}
