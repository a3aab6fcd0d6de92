//! Delayed events (MSC4140): events that are handed in now and sent later, unless they are restarted,
//! sent or cancelled before. The contract is in the manual's page "Delayed events".
//!
//! Invariants: what was answered with a delay id is sent once, never before it is due, or is finalised
//! with a reason its owner can see; the delay id is in no log, error or metric.

mod fire;
mod list;
mod manage;
mod sweep;

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedRoomId, RoomId,
    api::error::ErrorKind,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    events::TimelineEventType,
};
use serde_json::{json, value::RawValue};
use wick_account::Session;
use wick_core::{Error, Result, ShortRoomId, clock::millis, config, rules};
use wick_database::{
    Read,
    schema::{
        delayed::{DelayedRow, SCHEDULED_BY_TRANSACTION, ScheduledAnswer},
        room::MEMBER_BY_USER,
        timer::{Feature, TimerKind},
    },
};
use wick_room::{Graph, delayed};
use wick_ruma::WILL_EXPIRE;
use wick_runtime::{Limit, Limits, Resources};
use wick_timers::Timers;

use crate::{
    Rooms,
    rooms::{self, EventRequest},
};

pub use wick_room::TransactionKey;

pub use self::manage::Action;

/// What an event can have besides its content: hashes, a signature, ids, auth and prev events. A content
/// that leaves less than this is refused when it is handed in, not when it is due.
const ENVELOPE_BYTES: usize = 3_000;

/// Events that are sent later.
pub struct Delayed {
    resources: Resources,
    graph: Arc<Graph>,
    timers: Arc<Timers>,
    limits: Arc<Limits>,
    rooms: Arc<Rooms>,
}

/// An event to send later.
pub struct Schedule {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Its state key, if it is to be a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Box<RawValue>,
    /// How long to wait.
    pub delay: Duration,
    /// For how long it is to be sticky once it is sent, in milliseconds (MSC4354).
    pub sticky_duration: Option<u64>,
}

/// Which revision of MSC4140 a client uses. They differ in how some refusals are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What is deployed: the delay in the query of `/send` and `/state`, the unstable management
    /// endpoints.
    Deployed,
    /// `/delayed_event` and the stable management endpoints, as the proposal has it now.
    Merged,
}

impl Delayed {
    /// On the server's timers.
    #[must_use]
    pub fn new(
        resources: Resources,
        graph: Arc<Graph>,
        timers: Arc<Timers>,
        limits: Arc<Limits>,
        rooms: Arc<Rooms>,
    ) -> Self {
        Self { resources, graph, timers, limits, rooms }
    }

    /// The value in `/capabilities`.
    #[must_use]
    pub fn settings(&self) -> &config::DelayedEvents {
        &self.resources.config.delayed_events
    }

    /// Whether events can be scheduled at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings().enabled && self.settings().max_scheduled > 0
    }

    /// Which request it is, of those that have a transaction id.
    #[must_use]
    pub fn transaction(
        session: &Session,
        form: Form,
        (room_id, event_type): (&str, &str),
        transaction_id: &str,
    ) -> TransactionKey {
        let path = match form {
            Form::Deployed => format!("rooms/{room_id}/send/{event_type}?delay"),
            Form::Merged => format!("rooms/{room_id}/delayed_event/{event_type}"),
        };
        rooms::transaction(session, path, transaction_id)
    }

    /// The delay id that this request was answered before, whatever has become of it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn answered(&self, transaction: &TransactionKey) -> Result<Option<String>> {
        let key = transaction.row_key();
        let Some(answer) = self.timers.latest().get(&SCHEDULED_BY_TRANSACTION, &key)? else {
            return Ok(None);
        };
        if !self.resources.database.published().contains(&SCHEDULED_BY_TRANSACTION, &key)? {
            self.resources.settle().await?;
        }
        Ok(Some(self.timers.handle(Feature::Delay, answer.timer, answer.nonce)))
    }

    /// Schedules an event; the answer is its delay id, by which it is restarted, sent and cancelled.
    /// Returns once that survives a power loss.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if this is switched off or its sender never was in the room, `M_LIMIT_EXCEEDED` if
    /// they have too many, `M_INVALID_PARAM`, `M_BAD_JSON` or `M_TOO_LARGE` if it can never be sent, and
    /// the error of the form for a delay that is too long.
    pub async fn schedule(
        &self,
        session: &Session,
        form: Form,
        transaction: Option<TransactionKey>,
        wanted: Schedule,
    ) -> Result<String> {
        self.limits.ensure(Limit::Messages, &session.user_id)?;
        self.ensure_delay(form, wanted.delay)?;
        let request = EventRequest::read(wanted.event_type, wanted.state_key, &wanted.content)?;
        self.rooms.count_scheduled_membership(&session.user_id, &request)?;
        let room = self.room_of(session, &wanted.room_id)?;
        let event = event_row(request, wanted.content.get())?;
        let event = DelayedRow {
            sticky_duration: wanted.sticky_duration,
            transaction: transaction.as_ref().map(|transaction| {
                let (_, device, request) = transaction.row_key();
                (device, request)
            }),
            ..event
        };
        let quota = (Feature::Delay, session.user);
        let (scheduled, reservation) = self
            .resources
            .change(|batch| {
                if let Some(transaction) = &transaction
                    && let Some(answer) =
                        batch.read_for_update(&SCHEDULED_BY_TRANSACTION, &transaction.row_key())?
                {
                    return Ok((answer, None));
                }
                let most = self.settings().max_scheduled;
                let (arm, reservation) = self.timers.prepare(quota, most, wanted.delay)?;
                let row = arm.row(TimerKind::Send, session.user, room);
                delayed::schedule(batch, self.graph.intern(), (arm.timer, &row), &event)?;
                self.timers.arm_in(batch, arm.timer, row);
                let scheduled = ScheduledAnswer { timer: arm.timer, nonce: arm.nonce };
                Ok((scheduled, Some(reservation)))
            })
            .await?;
        if reservation.is_none() {
            // The same request, which was answered at the same time.
            self.resources.settle().await?;
        }
        Ok(self.timers.handle(Feature::Delay, scheduled.timer, scheduled.nonce))
    }

    fn ensure_delay(&self, form: Form, delay: Duration) -> Result<()> {
        if !self.is_enabled() {
            return Err(Error::forbidden("this server does not send events later"));
        }
        if delay.is_zero() {
            return Err(Error::invalid_param("the delay must be greater than 0"));
        }
        let most = self.settings().max_delay.0;
        if delay <= most {
            return Ok(());
        }
        let message = format!("the delay must be at most {} milliseconds", millis(most));
        Err(match form {
            Form::Merged => Error::forbidden(message),
            Form::Deployed => Error::refused(ErrorKind::Unknown, message).with_fields([
                ("org.matrix.msc4140.errcode", json!("M_MAX_DELAY_EXCEEDED")),
                ("org.matrix.msc4140.max_delay", json!(millis(most))),
            ]),
        })
    }

    /// The room, if the session's user has or had a membership in it. Whether they may send the event is
    /// checked when it is due.
    fn room_of(&self, session: &Session, room_id: &RoomId) -> Result<ShortRoomId> {
        let latest = self.timers.latest();
        let member = match self.graph.short(&latest, room_id)? {
            Some(room) if latest.contains(&MEMBER_BY_USER, &(session.user, room))? => Some(room),
            _ => None,
        };
        member.ok_or_else(|| Error::forbidden("you are not in this room"))
    }
}

/// An event as it is stored, unless it can never be sent.
fn event_row(request: EventRequest, text: &str) -> Result<DelayedRow> {
    request.ensure_possible_later()?;
    if request.content.contains_key(WILL_EXPIRE) {
        return Err(Error::invalid_param(
            "an event that is sent later cannot expire: its refresh token could not be returned",
        ));
    }
    let event_type = request.event_type.to_string();
    let text_of = |text: &str| CanonicalJsonValue::String(text.to_owned());
    let mut fields = CanonicalJsonObject::from_iter([
        ("type".to_owned(), text_of(&event_type)),
        ("content".to_owned(), CanonicalJsonValue::Object(request.content)),
    ]);
    if let Some(state_key) = &request.state_key {
        fields.insert("state_key".to_owned(), text_of(state_key));
    }
    rules::check_fields(&fields)?;
    if text.len() + ENVELOPE_BYTES > rules::MAX_EVENT_BYTES {
        return Err(Error::too_large("the event would be larger than 65535 bytes"));
    }
    Ok(DelayedRow {
        event_type,
        state_key: request.state_key,
        content: text.to_owned(),
        sticky_duration: None,
        transaction: None,
    })
}
