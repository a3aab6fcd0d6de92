//! `/rooms/{roomId}/receipt`, `/rooms/{roomId}/read_markers`

use std::sync::Arc;

use ruma::api::client::{
    read_marker::set_read_marker,
    receipt::create_receipt::{self, v3::ReceiptType},
};
use wick_core::{Error, Result};
use wick_people::receipts::Reading;
use wick_service::Services;

use crate::route::{Route, Ruma, route};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(create_receipt), route(set_read_marker)]
}

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
async fn create_receipt(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response> {
    let mut reading = Reading { thread: body.thread, ..Reading::default() };
    let event_id = Some(body.event_id);
    match body.receipt_type {
        ReceiptType::Read => reading.public = event_id,
        ReceiptType::ReadPrivate => reading.private = event_id,
        ReceiptType::FullyRead => reading.fully_read = event_id,
        _ => return Err(Error::invalid_param("there is no such type of receipt")),
    }
    services.receipts.read(&sender, &body.room_id, &reading).await?;
    Ok(create_receipt::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/read_markers`
async fn set_read_marker(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<set_read_marker::v3::Request>,
) -> Result<set_read_marker::v3::Response> {
    let reading = Reading {
        fully_read: body.fully_read,
        public: body.read_receipt,
        private: body.private_read_receipt,
        ..Reading::default()
    };
    services.receipts.read(&sender, &body.room_id, &reading).await?;
    Ok(set_read_marker::v3::Response::new())
}
