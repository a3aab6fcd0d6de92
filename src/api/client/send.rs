//! `/rooms/{roomId}/send` and `PUT /rooms/{roomId}/state`: events as clients send them.

use std::sync::Arc;

use wick_core::{Error, Result};
use wick_ruma::send::{MessageRequest, Response, StateRequest};
use wick_service::{
    Limit, Services,
    rooms::{SendMessage, SendState, Sent},
};

use super::delayed_events::{schedule_message_event, schedule_state_event};
use crate::route::{Handler, Route, Ruma, route, route_unread};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        now_or_later(route(send_message_event), route_unread(schedule_message_event)),
        now_or_later(route(send_state_event), route_unread(schedule_state_event)),
    ]
}

/// One endpoint that sends an event now or, if the query says so, later (MSC4140). A wish that is not
/// understood is refused: to ignore it would send a "leave" at once.
fn now_or_later(now: Route, later: Route) -> Route {
    let (send, schedule) = (now.handler, later.handler);
    let handler: Handler = Arc::new(move |services, call| {
        match when(call.request.uri().query().unwrap_or_default()) {
            When::Now => send(services, call),
            When::Later => schedule(services, call),
            When::Unclear => Box::pin(async {
                Err(Error::invalid_param(
                    "the query asks for a delay in a way that this server does not know",
                ))
            }),
        }
    });
    Route { handler, ..now }.limited(Limit::Messages)
}

/// When an event is to be sent.
#[derive(Debug, PartialEq, Eq)]
enum When {
    Now,
    Later,
    Unclear,
}

/// What earlier and other revisions of MSC4140 called the delay.
const OTHER_NAMES: [&str; 3] = ["delay", "delay_ms", "future_timeout"];

fn when(query: &str) -> When {
    let names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let mut when = When::Now;
    for name in names {
        if name == "org.matrix.msc4140.delay" {
            when = When::Later;
        } else if name.starts_with("org.matrix.msc4140.") || OTHER_NAMES.contains(&&*name) {
            return When::Unclear;
        }
    }
    when
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`
async fn send_message_event(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<MessageRequest>,
) -> Result<Response> {
    let request = body.0;
    let message = SendMessage {
        room_id: request.room_id,
        event_type: request.event_type,
        content: request.body.into_json(),
        transaction_id: request.txn_id,
    };
    let sent = services.rooms.send(&sender, message).await?;
    Ok(answer(&services, sent))
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`
async fn send_state_event(
    services: Arc<Services>,
    Ruma { body, sender, .. }: Ruma<StateRequest>,
) -> Result<Response> {
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

/// The answer that tells of an event, and of the right to end it if it can end.
fn answer(services: &Services, sent: Sent) -> Response {
    match sent.timer {
        Some((timer, nonce)) => {
            Response::with_token(sent.event_id, services.expiry.token(timer, nonce))
        }
        None => Response::new(sent.event_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_taken_for_none() {
        for query in ["", "ts=7", "x=org.matrix.msc4140.delay"] {
            assert_eq!(when(query), When::Now, "{query}");
        }
        for query in [
            "org.matrix.msc4140.delay=5",
            "ts=7&org%2Ematrix.msc4140.delay",
            "org.matrix.msc4140.delay=",
        ] {
            assert_eq!(when(query), When::Later, "{query}");
        }
        for query in [
            "delay=5",
            "ts=7&delay_ms=5",
            "org.matrix.msc4140.delay_ms=5",
            "org.matrix.msc4140.delay=5&org.matrix.msc4140.parent_delay_id=x",
        ] {
            assert_eq!(when(query), When::Unclear, "{query}");
        }
    }
}
