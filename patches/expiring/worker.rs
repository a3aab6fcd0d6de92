//! The task that ends events when they are due, and the end itself.
//!
//! Invariant: of the status, the note of the copy in the timer's row, the copy and the removal of the
//! row, each is written after the one before, so a crash cuts off an end of that list: a row without a
//! note fires again; one with a note has fired if the copy is stored, and only has to be finished.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use conduwuit::{Error, Result, err, matrix::event::Event, warn};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use ruma::{EventId, MilliSecondsSinceUnixEpoch};

use super::{
    Outcome, Service, contract,
    hooks::{FIRING, Firing},
    server::{Builder, PduEvent, RoomMutexGuard, content, json},
    store::Ended,
    timers::Row,
    tokens::Key,
    wall_clock,
    wire::{ExpireStatus, ExpireUnsigned},
};

/// How many timers may be firing at once.
const AT_ONCE: usize = 32;

/// After how long a timer that could not fire is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often a request to end an event looks whether its timer, which is firing, was put back.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why a timer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is due, if it still is by then.
    Due,
    /// A request asked for it, whatever its deadline.
    Asked,
    /// The account of its sender is deactivated, whatever its deadline.
    Deactivated,
}

impl Cause {
    fn status(self) -> ExpireStatus {
        if self == Self::Asked { ExpireStatus::Ended } else { ExpireStatus::Expired }
    }
}

impl Service {
    /// Fires what is due until the server stops; what is firing then is finished.
    pub(super) async fn run(self: &Arc<Self>) -> Result {
        let timers = self.timers().await;
        let mut firing = FuturesUnordered::new();
        while self.host.is_running() {
            let changed = self.changed.notified();
            let room = AT_ONCE.saturating_sub(firing.len());
            let due = timers.lock().take_due(self.now(), room);
            firing.extend(due.into_iter().map(|key| self.fire(key, Cause::Due).boxed()));
            let wait = match timers.lock().next_due() {
                Some(due) if firing.len() < AT_ONCE => due.saturating_sub(self.now()),
                _ => Duration::from_secs(60),
            };
            tokio::select! {
                Some(_) = firing.next() => {},
                () = tokio::time::sleep(wait) => {},
                () = changed => {},
                () = self.host.server.until_shutdown() => break,
            }
        }
        while firing.next().await.is_some() {}
        Ok(())
    }

    /// Ends an event now, in a task that continues should the request end; `false` if it has no timer.
    /// Returns when its end is in the room, or the timer was ended by something else.
    pub(super) async fn end_now(self: &Arc<Self>, key: Key, cause: Cause) -> Result<bool> {
        let timers = self.timers().await;
        let mut running = false;
        loop {
            let over = self.over.notified();
            let taken = {
                let mut timers = timers.lock();
                if timers.get(&key).is_none() {
                    return Ok(running);
                }
                timers.take(&key)
            };
            if taken {
                let service = Arc::clone(self);
                let fire = async move { service.fire(key, cause).boxed().await };
                self.host.server.runtime().spawn(fire).await??;
                return Ok(true);
            }
            running = true;
            // It is firing already. Should that fail, it is put back, and taken here.
            tokio::time::timeout(LOOK_AGAIN, over).await.ok();
        }
    }

    /// Ends an event whose timer was taken. If that fails, the timer is put back.
    async fn fire(self: &Arc<Self>, key: Key, cause: Cause) -> Result {
        // The server panics over a room that a crash has left incomplete; the other rooms are served.
        let fired = AssertUnwindSafe(self.try_fire(&key, cause)).catch_unwind().await;
        let fired = fired.unwrap_or_else(|_| Err(err!("the room of an event is broken")));
        let fired = fired.inspect_err(|e| {
            warn!("an event could not be ended, it will be tried again: {e}");
        });
        if fired.is_err() {
            let again = self.now().saturating_add(RETRY);
            self.timers().await.lock().retry(&key, again);
            self.changed.notify_one();
        }
        fired
    }

    async fn try_fire(&self, key: &Key, cause: Cause) -> Result {
        let timers = self.timers().await;
        let running = || timers.lock().get(key).cloned();
        let Some(row) = running() else { return Ok(()) };
        let lock = self.host.lock(&row.room_id).await;
        // What replaced or redacted the event in the meantime has stopped the timer.
        let Some(row) = running() else { return Ok(()) };
        if let Some(copy) = &row.copy {
            if self.host.has_event(copy).await {
                self.complete(&row, copy, &lock).await?;
                return self.finish(key, &row).await;
            }
            let cleared = timers.lock().note_copy(key, None).cloned();
            cleared.map_or(Ok(()), |row| self.store.put_timer(key, &row))?;
        }
        if cause == Cause::Due {
            // It was only looked at early, to see whether it had fired.
            let mut timers = timers.lock();
            if let Some(until) = timers.until(key).filter(|until| *until > self.now()) {
                timers.retry(key, until);
                return Ok(());
            }
        }
        let Some(original) = self.original(key, &row).await? else { return Ok(()) };
        let terminal = contract::terminal(json(&original.content), &cause.status(), &row.event_id)?;
        let pdu = Builder {
            event_type: original.kind.clone(),
            content: content(terminal),
            state_key: original.state_key.clone(),
            ..Builder::default()
        };
        let append = self.host.append(pdu, &row.sender, &row.room_id, &lock).boxed();
        let firing = Firing { key: *key, status: cause.status() };
        match FIRING.scope(firing, append).await {
            Ok(_) => {}
            // The auth rules decide now, not when it was armed (rule 15).
            Err(e) if is_refusal(&e) => self.end_without_event(key, cause.status())?,
            Err(e) => return Err(e),
        }
        self.finish(key, &row).await
    }

    /// The event of a timer, if it is still to end; if not, its timer is stopped.
    async fn original(&self, key: &Key, row: &Row) -> Result<Option<PduEvent>> {
        let found = match self.host.event(&row.event_id).await {
            Ok(original) => Some(original),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let stopped = match found {
            None => Outcome::Lost,
            Some(original) if original.is_redacted() => Outcome::Redacted,
            Some(original) => {
                if self.is_current(row).await {
                    return Ok(Some(original));
                }
                Outcome::Superseded
            }
        };
        self.stop(key, stopped).await;
        Ok(None)
    }

    fn end_without_event(&self, key: &Key, status: ExpireStatus) -> Result {
        let now = wall_clock();
        let at = MilliSecondsSinceUnixEpoch(now.try_into().unwrap_or(ruma::UInt::MAX));
        let asked = (status == ExpireStatus::Ended).then_some(now);
        let shown = ExpireUnsigned::terminal(status, None, at);
        self.store.put_ended(key, &Ended { shown, asked })
    }

    async fn finish(&self, key: &Key, row: &Row) -> Result {
        self.store.remove_timer(key);
        self.timers().await.lock().remove(key);
        self.over.notify_waiters();
        let status = self.store.ended(key).await?.map(|ended| ended.shown.status);
        let ended = status == Some(ExpireStatus::Ended);
        self.report(row, if ended { Outcome::Ended } else { Outcome::Expired });
        Ok(())
    }

    /// Does what follows the storing of a copy, before which the server was killed: makes it the room's
    /// state, and sends it to the other servers, which accept it once.
    async fn complete(&self, row: &Row, copy: &EventId, lock: &RoomMutexGuard) -> Result {
        let pdu = self.host.event(copy).await?;
        if self.is_current(row).await && pdu.state_key.is_some() {
            self.host.set_state(&pdu, &row.room_id, lock).await?;
        }
        self.host.distribute(copy, &row.room_id).await
    }
}

/// Whether the room's rules are against an event, or it cannot be built. Everything else is tried again.
fn is_refusal(e: &Error) -> bool {
    let status = e.status_code();
    status.is_client_error() && status.as_u16() != 429
}
