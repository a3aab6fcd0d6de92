//! `/send`: transactions of other servers.

use std::sync::Arc;

use ruma_federation_api::transactions::send_transaction_message::v1 as send_transaction_message;
use wick_core::{Error, Result};
use wick_service::Services;

use crate::route::{Route, Ruma, route};

/// The most bytes of a transaction: 50 events and 100 EDUs of 65,535 bytes each.
const MAX_BYTES: u64 = 10 << 20;

pub(super) fn routes() -> Vec<Route> {
    vec![route(send).with_body_of(MAX_BYTES)]
}

/// `PUT /_matrix/federation/v1/send/{txnId}`
async fn send(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<send_transaction_message::Request>,
) -> Result<send_transaction_message::Response> {
    if body.origin != sender {
        return Err(Error::forbidden("the transaction is of another origin than the request"));
    }
    let federated = services.federated()?;
    federated.rooms.take_ends(&sender, &body.pdus).await?;
    let results =
        federated.inbound.take_in(&sender, body.transaction_id.as_str(), body.pdus).await?;
    for edu in &body.edus {
        services.receive_edu(&sender, edu).await?;
    }
    Ok(send_transaction_message::Response::new(results))
}
