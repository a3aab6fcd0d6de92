//! Timers of both kinds, events that expire and events that are delayed: setting them and keeping them running,
//! the two things every client in a call does all the time.

use std::{cell::RefCell, time::Duration};

use super::Bench;
use crate::{
    Failure, Result,
    cli::{Scenario, Span},
    matrix::{self, Armed, Scheduled},
    report::Measure,
    watcher::Event,
    workers::Worker,
};

/// What a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event that is there and expires (`m.will_expire`), in whole seconds.
    Expiring,
    /// An event that is sent when its delay is over (`org.matrix.msc4140.delay`), in milliseconds.
    Delayed,
}

/// A timer that runs.
pub(super) struct Timer {
    /// What [`Kind::fired`] finds in the event it ends with.
    pub(super) sign: String,
    /// What keeps it alive: the refresh token or the id of the delay.
    pub(super) key: String,
}

impl Kind {
    pub(super) fn of(scenario: Scenario) -> Self {
        match scenario {
            Scenario::DelayedSchedule | Scenario::DelayedRestart | Scenario::DelayedFire => {
                Self::Delayed
            }
            _ => Self::Expiring,
        }
    }

    /// What the reports call setting and keeping alive.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Expiring => ("arm", "refresh"),
            Self::Delayed => ("schedule", "restart"),
        }
    }

    /// Sends one message with a timer of length `time` to the worker's room number `turn`.
    pub(super) async fn set_in(
        self,
        worker: &mut Worker,
        turn: u64,
        serial: u64,
        time: Duration,
    ) -> Result<Timer> {
        let (text, txn) = (format!("here {serial}"), format!("e{serial}"));
        let (account, room) = (&worker.account, worker.room(turn));
        match self {
            Self::Expiring => {
                let content = matrix::expiring_message(text, time.as_secs());
                let call = matrix::send_call(account, room, &txn, content);
                let armed: Armed = worker.connection.call_json(&call).await?;
                Ok(Timer { sign: armed.event_id, key: armed.expire_refresh_token })
            }
            Self::Delayed => {
                let content = matrix::message(text.clone());
                let call = matrix::send_call(account, room, &txn, content).delayed(time);
                let scheduled: Scheduled = worker.connection.call_json(&call).await?;
                Ok(Timer { sign: text, key: scheduled.delay_id })
            }
        }
    }

    /// As [`Self::set_in`], in the worker's rooms in turn.
    pub(super) async fn set(
        self,
        worker: &mut Worker,
        serial: u64,
        time: Duration,
    ) -> Result<Timer> {
        self.set_in(worker, serial, serial, time).await
    }

    /// Lets the timer begin anew.
    pub(super) async fn keep_alive(self, worker: &mut Worker, key: &str) -> Result<()> {
        let call = match self {
            Self::Expiring => matrix::refresh_call(key),
            Self::Delayed => matrix::delayed_event_call(key, "restart"),
        };
        worker.connection.call(&call).await.map(drop)
    }

    /// The sign of the timer that ended with this event.
    pub(super) fn fired(self, event: &Event) -> Option<&str> {
        match self {
            Self::Expiring => event.expired(),
            Self::Delayed => event.content.body.as_deref(),
        }
    }
}

/// A prime: its multiples visit everything once before anything twice, in an order unlike the one it was made in.
const STRIDE: u64 = 2_654_435_761;

/// Which of `count` things is next.
pub(super) fn turn(serial: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(0).max(1);
    usize::try_from(serial.wrapping_mul(STRIDE) % count).unwrap_or(0)
}

/// Keeps alive the timer whose turn it is.
pub(super) async fn keep_alive_next(
    kind: Kind,
    worker: &mut Worker,
    keys: &[String],
    serial: u64,
) -> Result<()> {
    let key = keys.get(turn(serial, keys.len()));
    let key = key.ok_or_else(|| Failure::Other("no timer was set".to_owned()))?;
    kind.keep_alive(worker, key).await
}

/// Sets `count` timers in the workers' rooms, adding their keys to `keys`.
pub(super) async fn set_many(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    count: u64,
    keys: &mut Vec<String>,
) -> Measure {
    let (kind, time) = (bench.kind(), Duration::from_secs(bench.plan.duration));
    let set = RefCell::new(std::mem::take(keys));
    let label = format!("{} {count}", kind.words().0);
    let measure = bench
        .measure_cold(&label, workers, Span::Count(count), async |worker, serial| {
            let one = kind.set(worker, serial, time).await?;
            set.borrow_mut().push(one.key);
            Ok(())
        })
        .await;
    *keys = set.into_inner();
    measure
}

/// Cancels delayed events, so that the next run on the same server begins as this one did; answers how many it
/// could not. Expiring events stay: they are no load, and only a server of our own has them.
async fn cancel_many(bench: &Bench<'_>, workers: &mut [Worker], keys: Vec<String>) -> u64 {
    if bench.kind() == Kind::Expiring {
        return 0;
    }
    let count = u64::try_from(keys.len()).unwrap_or(0);
    let keys = RefCell::new(keys);
    let seen = bench.drive(workers, Span::Count(count), None, async |worker, _| {
        let key = keys.borrow_mut().pop().unwrap_or_default();
        worker.connection.call(&matrix::delayed_event_call(&key, "cancel")).await.map(drop)
    });
    seen.await.errors.values().sum()
}

/// How fast timers are set.
pub(super) async fn set(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let (kind, time) = (bench.kind(), Duration::from_secs(bench.plan.duration));
    let keys = RefCell::new(Vec::new());
    let operation = async |worker: &mut Worker, serial| {
        let timer = kind.set(worker, serial, time).await?;
        keys.borrow_mut().push(timer.key);
        Ok(())
    };
    let measure = bench.measure(kind.words().0, &mut workers, operation).await;
    let left = cancel_many(bench, &mut workers, keys.take()).await;
    Ok(measure.with_errors("not cancelled afterwards", left))
}

/// How fast timers are kept alive.
pub(super) async fn keep_alive(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let (kind, mut keys) = (bench.kind(), Vec::new());
    set_many(bench, &mut workers, bench.plan.timers, &mut keys).await;
    let unset = bench.plan.timers.saturating_sub(u64::try_from(keys.len()).unwrap_or(0));
    let operation =
        async |worker: &mut Worker, serial| keep_alive_next(kind, worker, &keys, serial).await;
    let measure = bench.measure(kind.words().1, &mut workers, operation).await;
    let left = cancel_many(bench, &mut workers, keys).await;
    Ok(measure.with_errors("not set", unset).with_errors("not cancelled afterwards", left))
}
