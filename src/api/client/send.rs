//! `/rooms/{roomId}/send` and `PUT /rooms/{roomId}/state`: events as clients send them.

use std::sync::Arc;

use wick_core::Result;
use wick_rooms::rooms::{SendMessage, SendState, Sent};
use wick_ruma::send::{MessageRequest, Response, StateRequest};
use wick_service::Services;

use super::{
    delayed_events::{schedule_message_event, schedule_state_event, sticky_duration},
    when::now_or_later,
};
use crate::route::{Route, Ruma, Unread, route_unread};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        now_or_later(route_unread(send_message_event), route_unread(schedule_message_event)),
        now_or_later(route_unread(send_state_event), route_unread(schedule_state_event)),
    ]
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
async fn send_message_event(
    services: Arc<Services>,
    request: Unread<MessageRequest>,
) -> Result<Response> {
    let sticky_duration = sticky_duration(request.query())?;
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let request = body.0;
    let message = SendMessage {
        room_id: request.room_id,
        event_type: request.event_type,
        content: request.body.into_json(),
        sticky_duration,
        transaction_id: request.txn_id,
    };
    let sent = services.rooms.send(&sender, message).await?;
    Ok(answer(&services, sent))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn send_state_event(
    services: Arc<Services>,
    request: Unread<StateRequest>,
) -> Result<Response> {
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let request = body.0;
    let state = SendState {
        room_id: request.room_id,
        event_type: request.event_type,
        state_key: request.state_key,
        content: request.body.into_json(),
    };
    let sent = services.rooms.set_state(&sender, state).await?;
    Ok(answer(&services, sent))
}

/// The response with an event's id, and its refresh token if it expires.
fn answer(services: &Services, sent: Sent) -> Response {
    match sent.timer {
        Some((timer, nonce)) => {
            Response::with_token(sent.event_id, services.expiry.token(timer, nonce))
        }
        None => Response::new(sent.event_id),
    }
}
