//! Expiring events: a client sends an event with `m.will_expire` and keeps it alive by a token; when the
//! keep-alives stop, the server sends a copy with the status `expired`. The contract is in wick's manual, "Expiring events".
//!
//! Invariants: a timer's row exists exactly as long as it runs; code that changes timers of a room's
//! events holds the room's state lock, except for a refresh, which a lock in memory orders with firing.

pub mod contract;
mod hooks;
mod rates;
mod server;
pub mod store;
pub mod timers;
pub mod tokens;
pub mod unsigned;
pub mod wire;
mod worker;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use conduwuit::{Error, Result, config::expiring as config, err, info, utils};
use database::Database;
use ruma::{
    EventId, OwnedEventId, UserId,
    api::error::{ErrorKind, LimitExceededErrorData, RetryAfter},
    serde::Raw,
};
use serde_json::Value;
use tokio::sync::{Notify, OnceCell};

pub use self::hooks::{ASKED, Asking, is_terminal};
use self::{
    rates::Rates,
    server::{Host, SyncMutex},
    store::Store,
    timers::{Moment, Row, Timers},
    tokens::{Key, Tokens, key_of},
    wire::ExpireUnsigned,
    worker::Cause,
};

/// How long the same `end` again is answered like the first (rule 11).
const END_REPEAT: Duration = Duration::from_secs(5 * 60);

/// The answer to a token without a timer, which is always the same (rule 10).
const UNKNOWN: &str = "no event is waiting for this token";

/// Expiring events.
pub struct Service {
    host: Host,
    store: Store,
    tokens: Tokens,
    started: (Instant, Moment),
    timers: OnceCell<SyncMutex<Timers>>,
    /// A timer was started, or put back.
    changed: Notify,
    /// A timer ended.
    over: Notify,
    uses: SyncMutex<Rates<Key>>,
    guesses: SyncMutex<Rates<IpAddr>>,
    totals: Totals,
}

/// What happened since the start.
#[derive(Default)]
pub struct Totals {
    /// Timers that were started.
    pub armed: AtomicU64,
    /// Timers that were put off.
    pub refreshed: AtomicU64,
    /// How timers ended, in the order of [`Outcome`].
    pub ended: [AtomicU64; 5],
}

/// How a timer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its deadline passed.
    Expired,
    /// A request ended it.
    Ended,
    /// Its event is no longer the current state.
    Superseded,
    /// Its event was redacted.
    Redacted,
    /// Its event was never stored, as the server was killed before.
    Lost,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Expired, Self::Ended, Self::Superseded, Self::Redacted, Self::Lost];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Ended => "ended",
            Self::Superseded => "superseded",
            Self::Redacted => "redacted",
            Self::Lost => "lost",
        }
    }
}

impl Service {
    fn new(db: &Arc<Database>, host: Host) -> Result<Self> {
        let store = Store::new(db);
        Ok(Self {
            host,
            tokens: Tokens::new(store.secret()?),
            store,
            started: (Instant::now(), Moment::from_millis(wall_clock())),
            timers: OnceCell::new(),
            changed: Notify::new(),
            over: Notify::new(),
            uses: SyncMutex::new(Rates::new()),
            guesses: SyncMutex::new(Rates::new()),
            totals: Totals::default(),
        })
    }

    /// Makes the worker see that the server is about to stop.
    fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// The limits.
    #[must_use]
    pub fn config(&self) -> &config::Expiring {
        self.host.config()
    }

    /// What happened since the start.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The timers that run.
    pub async fn running(&self) -> Vec<Row> {
        self.timers().await.lock().iter().cloned().collect()
    }

    /// The token of an event, for the response to the request that sent it.
    #[must_use]
    pub fn token(&self, event_id: &EventId) -> Option<String> {
        self.tokens.of(&key_of(event_id))
    }

    /// Begins a timer's duration anew. What it was put off to survives a killed process (rule 9).
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, `M_LIMIT_EXCEEDED`.
    pub async fn refresh(&self, token: &str, from: IpAddr) -> Result {
        let asked = self.now();
        let timers = self.timers().await;
        let Some(key) = self.read(token).await? else { return Err(self.unknown(from)) };
        {
            let _together = self.store.together();
            let mut timers = timers.lock();
            let Some(row) = timers.get(&key) else { return Err(self.unknown(from)) };
            let deadline = wall_clock().saturating_add(row.duration.saturating_mul(1000));
            let Some(row) = timers.refresh(&key, asked, deadline) else {
                return Err(self.unknown(from));
            };
            // Under the lock, so that what is stored last is what counts in memory.
            self.store.put_timer(&key, row)?;
        }
        self.totals.refreshed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Ends an event: its terminal event is in the room when this returns.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for any token without a running timer, except that of one that was ended less than
    /// five minutes ago; `M_LIMIT_EXCEEDED`.
    pub async fn end(self: &Arc<Self>, token: &str, from: IpAddr) -> Result {
        if let Some(key) = self.read(token).await? {
            self.end_now(key, Cause::Asked).await?;
        }
        let ended = match self.tokens.read(token) {
            Some(key) => self.store.ended(&key).await?,
            None => None,
        };
        let asked = ended.and_then(|ended| ended.asked);
        let recent = u64::try_from(END_REPEAT.as_millis()).unwrap_or(u64::MAX);
        if asked.is_some_and(|asked| wall_clock().saturating_sub(asked) <= recent) {
            return Ok(());
        }
        Err(self.unknown(from))
    }

    /// Ends the event as if its sender had; `false` if it has no timer.
    ///
    /// # Errors
    /// If it could not be ended now; then it is tried again.
    pub async fn end_event(self: &Arc<Self>, event_id: &EventId) -> Result<bool> {
        self.end_now(key_of(event_id), Cause::Asked).await
    }

    /// Ends all timers of an account that is about to be deactivated, as expired (rule 16).
    pub async fn expire_all_of(self: &Arc<Self>, user: &UserId) {
        let keys = self.timers().await.lock().of_owner(user);
        for key in keys {
            if let Err(e) = self.end_now(key, Cause::Deactivated).await {
                info!(%user, "an event could not be ended yet: {e}");
            }
        }
    }

    /// Writes the statuses into the events of a response.
    pub async fn annotate(&self, response: &mut Value) {
        let mut statuses = BTreeMap::<OwnedEventId, ExpireUnsigned>::new();
        for event_id in unsigned::events(response) {
            if let Some(status) = self.status(&event_id).await {
                statuses.insert(event_id, status);
            }
        }
        if !statuses.is_empty() {
            unsigned::annotate(response, &statuses);
        }
    }

    /// The same for events that go to an application service.
    pub async fn annotate_raw<T>(&self, events: &mut [Raw<T>]) {
        for event in events {
            if !unsigned::may_concern(event.json().get().as_bytes()) {
                continue;
            }
            let Ok(mut value) = event.deserialize_as_unchecked::<Value>() else { continue };
            self.annotate(&mut value).await;
            if let Ok(raw) = serde_json::value::to_raw_value(&value) {
                *event = Raw::from_json(raw);
            }
        }
    }

    /// The status of an event; `None` if it never could expire, or was superseded.
    pub async fn status(&self, event_id: &EventId) -> Option<ExpireUnsigned> {
        let key = key_of(event_id);
        let copy = self.timers().await.lock().get(&key).map(|row| row.copy.is_some());
        if copy == Some(false) {
            return Some(ExpireUnsigned::running());
        }
        self.store.ended(&key).await.ok()?.map(|ended| ended.shown)
    }

    /// The timer of a token; `None` if this server has not made it. Its uses are limited (rule 26).
    async fn read(&self, token: &str) -> Result<Option<Key>> {
        let Some(key) = self.tokens.read(token) else { return Ok(None) };
        if self.timers().await.lock().get(&key).is_none() {
            return Ok(None);
        }
        let asked = self.uses.lock().ask(&key, self.now(), self.config().uses);
        asked.map(|()| Some(key)).map_err(limit_exceeded)
    }

    /// The answer to a token without a timer. Their number is limited by address (rule 26).
    fn unknown(&self, from: IpAddr) -> Error {
        match self.guesses.lock().ask(&from, self.now(), self.config().guesses) {
            Ok(()) => err!(Request(NotFound("{UNKNOWN}"))),
            Err(wait) => limit_exceeded(wait),
        }
    }

    /// By the wall clock of the start and the monotonic clock since (rule 24).
    fn now(&self) -> Moment {
        let (instant, wall) = self.started;
        wall.saturating_add(instant.elapsed())
    }

    /// The timers, which are read from the database when they are first needed.
    async fn timers(&self) -> &SyncMutex<Timers> {
        let load = async || {
            let mut timers = Timers::default();
            for (key, row) in self.store.load().await {
                let due = Moment::from_millis(row.deadline);
                let noted = row.copy.is_some();
                timers.arm(key, row, due);
                if noted {
                    // The server was killed while it fired: what is stored shows what is left to do.
                    timers.retry(&key, self.now());
                }
            }
            SyncMutex::new(timers)
        };
        self.timers.get_or_init(load).await
    }
}

/// Milliseconds since the Unix epoch.
fn wall_clock() -> u64 {
    utils::millis_since_unix_epoch()
}

fn limit_exceeded(wait: Duration) -> Error {
    let mut limit = LimitExceededErrorData::new();
    // In whole seconds, as the header has no others.
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    limit.retry_after = Some(RetryAfter::Delay(Duration::from_secs(seconds)));
    Error::BadRequest(ErrorKind::LimitExceeded(limit), "too many requests")
}
