//! Where the server's own code calls in: before an event is built, when it is built, before it is stored,
//! when it has become the room's state, when one is redacted, and when a room's state is set as a whole.
//!
//! Invariant: what a request asks for travels with its task ([`ASKED`]), as does what a firing is about to
//! append ([`FIRING`]), so no signature of the server changes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use conduwuit::{Err, Error, Result, err, info};
use ruma::{CanonicalJsonObject, EventId, OwnedUserId, RoomId, UserId};

use super::{
    Outcome, Service, contract,
    contract::{Asked, Refusal},
    limit_exceeded,
    server::{Builder, PduEvent, Storing, SyncMutex, content, json, same_room},
    store::Ended,
    timers::{Moment, Row, Slot},
    tokens::{Key, key_of},
    wall_clock,
    wire::{ExpireStatus, ExpireUnsigned},
};

tokio::task_local! {
    /// Of a request to `/send` or `/state`: the timer that its event is about to start.
    pub static ASKED: Asking;

    /// Of a timer that fires: the content of its terminal event.
    pub(super) static FIRING: Firing;
}

/// The timer that an event is about to start.
pub type Asking = Arc<SyncMutex<Option<Reserved>>>;

/// A place among the sender's timers, given back when it is dropped.
pub struct Reserved {
    service: Arc<Service>,
    owner: OwnedUserId,
    duration: Duration,
}

/// A timer that fires.
#[derive(Clone)]
pub(super) struct Firing {
    pub(super) key: Key,
    pub(super) status: ExpireStatus,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(timers) = self.service.timers.get() {
            timers.lock().release(&self.owner);
        }
    }
}

impl Service {
    /// Takes the duration out of an event that a local user is about to send, and puts `running` in its
    /// place.
    ///
    /// # Errors
    /// Rules 1, 2, 3, 5, 6 and 28 of the contract.
    pub async fn admit(
        self: &Arc<Self>,
        mut pdu: Builder,
        sender: &UserId,
        room_id: Option<&RoomId>,
    ) -> Result<Builder> {
        let asked_content = json(&pdu.content);
        if !contract::may_concern(asked_content.get()) || FIRING.try_with(|_| ()).is_ok() {
            return Ok(pdu);
        }
        let asking = ASKED.try_with(Arc::clone).ok();
        let asked = Asked {
            event_type: &pdu.event_type.to_string(),
            content: asked_content,
            answers_token: asking.is_some(),
        };
        let Some(duration) = contract::duration(self.config(), &asked).map_err(refused)? else {
            return Ok(pdu);
        };
        if let Some(room_id) = room_id
            && self.host.is_admin_room(room_id).await
        {
            return Err!(Request(InvalidParam("events of the admin room cannot expire")));
        }
        let reserved = self.reserve(sender, duration).await?;
        pdu.content = content(contract::running(json(&pdu.content))?);
        if let Some(asking) = asking {
            *asking.lock() = Some(reserved);
        }
        Ok(pdu)
    }

    async fn reserve(self: &Arc<Self>, owner: &UserId, duration: Duration) -> Result<Reserved> {
        let most = usize::try_from(self.config().max_running).unwrap_or(usize::MAX);
        let reserved = self.timers().await.lock().reserve(owner, most);
        reserved.map_err(|due| limit_exceeded(due.saturating_sub(self.now())))?;
        Ok(Reserved { service: Arc::clone(self), owner: owner.to_owned(), duration })
    }

    /// Refuses an event whose terminal copy could not be sent (rule 4).
    ///
    /// # Errors
    /// `M_TOO_LARGE`.
    pub fn built(&self, pdu: &PduEvent, whole: &CanonicalJsonObject) -> Result {
        let asks = ASKED.try_with(|asking| asking.lock().is_some()).unwrap_or(false);
        if !asks {
            return Ok(());
        }
        let size = serde_json::to_vec(whole)?.len();
        let content = json(&pdu.content).get().len();
        contract::check_copy_fits(size, content, &pdu.event_id, pdu.state_key.is_some())
            .map_err(refused)
    }

    /// Writes what must not be missing once an event is stored: its own timer, or the status of what it ends.
    /// While what is returned lives, no sync can pass the place that the event is given next.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn appending(&self, pdu: &PduEvent, room_id: &RoomId) -> Result<Storing> {
        if let Ok(firing) = FIRING.try_with(Clone::clone) {
            self.note_copy(&firing, pdu).await?;
        } else if let Ok(Some(reserved)) = ASKED.try_with(|asking| asking.lock().take()) {
            self.arm(pdu, room_id, &reserved).await?;
        } else {
            self.record_terminal(pdu).await?;
        }
        Ok(self.host.storing().await)
    }

    /// Stops the timers of the state that an event of a local user has replaced (rule 12). It is the room's
    /// state by now: a crash before leaves a timer too many, which stops when it is due, and none too few.
    /// A kill after the answer does not undo the state.
    pub async fn replaced(&self, pdu: &PduEvent, room_id: &RoomId) {
        let Some(slot) = slot_of(pdu) else { return };
        if FIRING.try_with(|_| ()).is_ok() {
            return;
        }
        let new = key_of(&pdu.event_id);
        let of_slot = self.timers().await.lock().of_slot(room_id, &slot);
        for old in of_slot.into_iter().filter(|key| *key != new) {
            self.stop(&old, Outcome::Superseded).await;
        }
        self.store.flush();
    }

    async fn arm(&self, pdu: &PduEvent, room_id: &RoomId, reserved: &Reserved) -> Result {
        let milliseconds = u64::try_from(reserved.duration.as_millis()).unwrap_or(u64::MAX);
        let row = Row {
            event_id: pdu.event_id.clone(),
            room_id: room_id.to_owned(),
            sender: pdu.sender.clone(),
            slot: slot_of(pdu),
            duration: reserved.duration.as_secs(),
            deadline: wall_clock().saturating_add(milliseconds),
            copy: None,
        };
        let key = key_of(&pdu.event_id);
        self.store.put_timer(&key, &row)?;
        let due: Moment = self.now().saturating_add(reserved.duration);
        self.timers().await.lock().arm(key, row, due);
        self.totals.armed.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Ok(())
    }

    /// The order counts, should the server be killed in between: a timer without `copy` fires again, and
    /// one with it has fired if the copy is there.
    async fn note_copy(&self, Firing { key, status }: &Firing, pdu: &PduEvent) -> Result {
        let shown = ExpireUnsigned::terminal(
            status.clone(),
            Some(pdu.event_id.clone()),
            ruma::MilliSecondsSinceUnixEpoch(pdu.origin_server_ts),
        );
        let asked = (*status == ExpireStatus::Ended).then(wall_clock);
        self.store.put_ended(key, &Ended { shown, asked })?;
        let timers = self.timers().await;
        let row = timers.lock().note_copy(key, Some(pdu.event_id.clone())).cloned();
        row.map_or(Ok(()), |row| self.store.put_timer(key, &row))
    }

    /// A terminal event that comes from elsewhere sets its original's status, if it is by the same sender,
    /// in the same room, of the same type and state key (rule 21).
    async fn record_terminal(&self, pdu: &PduEvent) -> Result {
        let Some((original_id, status)) = contract::ends(&pdu.kind.to_string(), json(&pdu.content))
        else {
            return Ok(());
        };
        let Ok(original) = self.host.event(&original_id).await else {
            return Ok(());
        };
        let same = original.sender == pdu.sender
            && same_room(&original, pdu)
            && original.kind == pdu.kind
            && original.state_key == pdu.state_key;
        if same {
            let at = ruma::MilliSecondsSinceUnixEpoch(pdu.origin_server_ts);
            let shown = ExpireUnsigned::terminal(status, Some(pdu.event_id.clone()), at);
            self.store.put_ended(&key_of(&original_id), &Ended { shown, asked: None })?;
        }
        Ok(())
    }

    /// Stops the timer of a redacted event, and forgets its status (rule 14).
    pub async fn redacted(&self, event_id: &EventId) {
        let key = key_of(event_id);
        self.stop(&key, Outcome::Redacted).await;
        if self.store.ended(&key).await.is_ok_and(|ended| ended.is_some()) {
            self.store.remove_ended(&key);
        }
    }

    /// Stops the timers of events that a room's state no longer has (rules 12 and 13).
    pub async fn state_set(&self, room_id: &RoomId) {
        let rows = self.timers().await.lock().of_state(room_id);
        for (key, row) in rows {
            if !self.is_current(&row).await {
                self.stop(&key, Outcome::Superseded).await;
            }
        }
    }

    /// Whether a timer's event is the current state, if it is a state event.
    pub(super) async fn is_current(&self, row: &Row) -> bool {
        let Some((event_type, state_key)) = &row.slot else { return true };
        let current = self.host.state_event(&row.room_id, event_type, state_key).await;
        current.is_ok_and(|current| current == row.event_id)
    }

    /// Ends a timer without a terminal event.
    pub(super) async fn stop(&self, key: &Key, outcome: Outcome) {
        let removed = self.timers().await.lock().remove(key);
        if let Some(row) = removed {
            self.store.remove_timer(key);
            self.over.notify_waiters();
            self.report(&row, outcome);
        }
    }

    pub(super) fn report(&self, row: &Row, outcome: Outcome) {
        for (of, total) in Outcome::ALL.iter().zip(&self.totals.ended) {
            if *of == outcome {
                total.fetch_add(1, Ordering::Relaxed);
            }
        }
        info!(
            room_id = %row.room_id,
            event_id = %row.event_id,
            outcome = outcome.name(),
            "a timer ended"
        );
    }
}

/// Whether an event is the terminal event of another one: it notifies no user (rule 20).
#[must_use]
pub fn is_terminal(pdu: &PduEvent) -> bool {
    contract::ends(&pdu.kind.to_string(), json(&pdu.content)).is_some()
}

fn slot_of(pdu: &PduEvent) -> Option<Slot> {
    Some((pdu.kind.to_string(), pdu.state_key.as_ref()?.to_string()))
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::BadJson(problem) => err!(Request(BadJson("{problem}"))),
        Refusal::InvalidParam(problem) => err!(Request(InvalidParam("{problem}"))),
        Refusal::Forbidden(problem) => err!(Request(Forbidden("{problem}"))),
        Refusal::TooLarge(problem) => err!(Request(TooLarge("{problem}"))),
    }
}
