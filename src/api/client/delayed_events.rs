//! Delayed events (MSC4140): scheduling, managing and seeing them, in every form that clients use.

use std::{net::IpAddr, sync::Arc};

use http::StatusCode;
use wick_account::{Requester, Session};
use wick_core::{Error, Result, clock::millis, event::pdu::MAX_STICKY_MS};
use wick_rooms::delayed::{Action, Delayed, Form, Schedule, TransactionKey};
use wick_ruma::delayed_events::{
    DelayedMessageRequest, DelayedStateRequest, ScheduledResponse, get_all_delayed_events,
    get_delayed_event, requested_sticky_duration, send_delayed_event,
    update_delayed_event::{self, UpdateAction},
    update_delayed_event_by_body,
};
use wick_service::Services;

use crate::{
    address::limit_key,
    error::unrecognized,
    route::{Call, Route, Ruma, Unread, route, route_unread},
};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route_unread(schedule_event),
        // Counted by delay id or, for unknown ids, by address: never valid ones by address,
        // so that one media server can keep thousands alive.
        route_unread(update_delayed_event).uncounted().only_if(is_known),
        route(update_delayed_event_by_body).uncounted(),
        route(get_delayed_event),
        route(get_all_delayed_events),
    ]
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
async fn schedule_event(
    services: Arc<Services>,
    request: Unread<send_delayed_event::Request>,
) -> Result<ScheduledResponse> {
    let transaction = transaction(&request.sender, Form::Merged, request.arguments())?;
    if let Some(delay_id) = services.delayed.answered(&transaction).await? {
        return Ok(ScheduledResponse::new(delay_id));
    }
    let sticky_duration = sticky_duration(request.query())?;
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let wanted = Schedule {
        room_id: body.room_id,
        event_type: body.event_type,
        state_key: body.state_key,
        content: body.content.into_json(),
        delay: body.delay,
        sticky_duration,
    };
    schedule(&services, &sender, Form::Merged, Some(transaction), wanted).await
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}?org.matrix.msc4140.delay=`
pub(super) async fn schedule_message_event(
    services: Arc<Services>,
    request: Unread<DelayedMessageRequest>,
) -> Result<ScheduledResponse> {
    let transaction = transaction(&request.sender, Form::Deployed, request.arguments())?;
    if let Some(delay_id) = services.delayed.answered(&transaction).await? {
        return Ok(ScheduledResponse::new(delay_id));
    }
    let sticky_duration = sticky_duration(request.query())?;
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let wanted = Schedule {
        room_id: body.request.room_id,
        // By its name: as the type of a message, that of a piece of state would be no known one.
        event_type: body.request.event_type.to_string().into(),
        state_key: None,
        content: body.request.body.into_json(),
        delay: body.delay,
        sticky_duration,
    };
    schedule(&services, &sender, Form::Deployed, Some(transaction), wanted).await
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}?org.matrix.msc4140.delay=`
pub(super) async fn schedule_state_event(
    services: Arc<Services>,
    request: Unread<DelayedStateRequest>,
) -> Result<ScheduledResponse> {
    let sticky_duration = sticky_duration(request.query())?;
    let Ruma { body, sender, .. } = request.read_with_body()?;
    let wanted = Schedule {
        room_id: body.request.room_id,
        event_type: body.request.event_type.to_string().into(),
        state_key: Some(body.request.state_key),
        content: body.request.body.into_json(),
        delay: body.delay,
        sticky_duration,
    };
    // Without a transaction id a repeated request cannot be distinguished from a second one, so each counts.
    schedule(&services, &sender, Form::Deployed, None, wanted).await
}

async fn schedule(
    services: &Services,
    session: &Session,
    form: Form,
    transaction: Option<TransactionKey>,
    wanted: Schedule,
) -> Result<ScheduledResponse> {
    let delay_id = services.delayed.schedule(session, form, transaction, wanted).await?;
    Ok(ScheduledResponse::new(delay_id))
}

/// Which request it is, looked up before the body is read: clients may repeat one without it.
fn transaction(session: &Session, form: Form, arguments: &[String]) -> Result<TransactionKey> {
    let [room_id, event_type, transaction_id] = arguments else {
        return Err(Error::corrupt("a path that schedules an event has other parts"));
    };
    Ok(Delayed::transaction(session, form, (room_id, event_type), transaction_id))
}

/// For how long the event is to be sticky once it is sent, in milliseconds (MSC4354); `None` if it is not.
///
/// # Errors
/// `M_INVALID_PARAM` if it is no duration, or longer than an hour.
pub(super) fn sticky_duration(query: &str) -> Result<Option<u64>> {
    let duration = requested_sticky_duration(query)
        .map_err(|error| Error::invalid_param(error.to_string()))?
        .map(millis);
    if duration.is_some_and(|duration| duration > MAX_STICKY_MS) {
        return Err(Error::invalid_param(format!(
            "an event is sticky for at most {MAX_STICKY_MS} ms"
        )));
    }
    Ok(duration.filter(|duration| *duration > 0))
}

/// `POST /_matrix/client/v1/delayed_events/{delay_id}/{action}`
async fn update_delayed_event(
    services: Arc<Services>,
    request: Unread<update_delayed_event::Request>,
) -> Result<update_delayed_event::Response> {
    let form = if request.is_unstable() { Form::Deployed } else { Form::Merged };
    let Ruma { body, sender, address } = request.read()?;
    let action = action(&body.action).ok_or_else(|| unrecognized(StatusCode::NOT_FOUND))?;
    manage(&services, (sender, address), &body.delay_id, (form, action)).await
}

/// `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}`
async fn update_delayed_event_by_body(
    services: Arc<Services>,
    Ruma { body, sender, address }: Ruma<update_delayed_event_by_body::Request>,
) -> Result<update_delayed_event::Response> {
    let action = action(&body.action)
        .ok_or_else(|| Error::invalid_param("the action is none of restart, send, cancel"))?;
    manage(&services, (sender, address), &body.delay_id, (Form::Deployed, action)).await
}

async fn manage(
    services: &Services,
    (sender, address): (Requester, Option<IpAddr>),
    delay_id: &str,
    what: (Form, Action),
) -> Result<update_delayed_event::Response> {
    let sender = if services.delayed.settings().require_auth {
        Requester::User(sender.into_user()?)
    } else {
        sender
    };
    services.delayed.manage(sender.session(), delay_id, what, &limit_key(address)).await?;
    Ok(update_delayed_event::Response::new())
}

/// `GET /_matrix/client/v1/delayed_events/{delay_id}`
async fn get_delayed_event(
    services: Arc<Services>,
    Ruma { body, sender, address }: Ruma<get_delayed_event::Request>,
) -> Result<get_delayed_event::Response> {
    let event = services.delayed.get(&sender, &body.delay_id, &limit_key(address))?;
    Ok(get_delayed_event::Response::new(event))
}

/// `GET /_matrix/client/v1/delayed_events`
async fn get_all_delayed_events(
    services: Arc<Services>,
    Ruma { sender, .. }: Ruma<get_all_delayed_events::Request>,
) -> Result<get_all_delayed_events::Response> {
    Ok(get_all_delayed_events::Response::new(services.delayed.list(&sender)?))
}

/// Refuses an unknown action, whatever the sender and the body are.
fn is_known(call: &Call) -> Result<()> {
    let named = call.arguments.last().map(|name| UpdateAction::from(name.as_str()));
    match named.as_ref().and_then(action) {
        Some(_) => Ok(()),
        None => Err(unrecognized(StatusCode::NOT_FOUND)),
    }
}

fn action(action: &UpdateAction) -> Option<Action> {
    match action {
        UpdateAction::Restart => Some(Action::Restart),
        UpdateAction::Send => Some(Action::Send),
        UpdateAction::Cancel => Some(Action::Cancel),
        _ => None,
    }
}
