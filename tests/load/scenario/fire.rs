//! Lateness: how long after its deadline a terminal event is made, and how long until a reader sees it.
//!
//! The timers are armed, then each refreshed once, all at once or at a steady rate: that sets when they are due.
//! A deadline is taken as the moment the refresh was *sent* plus the duration, so what is printed is never less
//! than the true lateness, and an event before its deadline would show.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Bench, GRACE, expiry};
use crate::{
    Result,
    cli::Span,
    clock,
    histogram::Histogram,
    matrix::{self, Armed},
    report::Measure,
    watcher::{Event, Watcher},
    workers::Worker,
};

/// How many timers, over how many rooms, due how fast.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) timers: u64,
    pub(super) rooms: usize,
    pub(super) duration: u64,
    /// Firings a second; `None` is all at once.
    pub(super) rate: Option<u64>,
}

impl Shape {
    fn label(&self) -> String {
        match self.rate {
            None => format!("{} at once in {} rooms", self.timers, self.rooms),
            Some(rate) => format!("{rate}/s in {} rooms", self.rooms),
        }
    }
}

/// When a timer is due, on both clocks.
struct Due {
    at: Instant,
    ms: u64,
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<Vec<Measure>> {
    let plan = bench.plan;
    let own =
        Shape { timers: plan.timers, rooms: plan.rooms, duration: plan.duration, rate: plan.rate };
    if plan.shaped {
        return lateness(bench, own).await;
    }
    let mut rows = lateness(bench, own).await?;
    let steady = Shape { timers: 5000, rooms: 100, rate: Some(1000), ..own };
    rows.extend(lateness(bench, steady).await?);
    Ok(rows)
}

/// Arms, refreshes, waits, and answers two rows: seen in `/sync`, and by `origin_server_ts`.
pub(super) async fn lateness(bench: &Bench<'_>, shape: Shape) -> Result<Vec<Measure>> {
    let (mut workers, rooms) = bench.workers(shape.rooms).await?;
    let reader = bench.account().await?;
    bench.join_all(std::slice::from_ref(&reader), &rooms).await?;
    let timers = arm(bench, &mut workers, shape).await;
    let mut watcher = Watcher::start(bench.connection(), reader).await?;
    let before = bench.usage();
    let due = refresh(bench, &mut workers, shape, &timers).await;
    let seen = watch(&mut watcher, due).await?;
    let label = shape.label();
    let failed = shape.timers.saturating_sub(seen.armed);
    let in_sync = Measure::new(&format!("{label}: in /sync"), &seen.arrival, seen.elapsed)
        .with_cost(before, bench.usage())
        .with_errors("not armed or refreshed", failed)
        .with_errors("never seen", seen.missing)
        .with_errors("fired early", seen.early);
    let made = Measure::new(&format!("{label}: made"), &seen.origin, seen.elapsed);
    Ok(vec![in_sync, made])
}

async fn arm(bench: &Bench<'_>, workers: &mut [Worker], shape: Shape) -> Vec<Armed> {
    let timers = RefCell::new(Vec::new());
    bench
        .drive(workers, Span::Count(shape.timers), None, async |worker, serial| {
            let one = expiry::arm_one(worker, serial, shape.duration).await?;
            timers.borrow_mut().push(one);
            Ok(())
        })
        .await;
    timers.into_inner()
}

async fn refresh(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    shape: Shape,
    timers: &[Armed],
) -> HashMap<String, Due> {
    let due = RefCell::new(HashMap::new());
    let count = u64::try_from(timers.len()).unwrap_or(0);
    bench
        .drive(workers, Span::Count(count), shape.rate, async |worker, serial| {
            // As many operations as timers, numbered without gaps: each has its turn once.
            let Some(timer) =
                usize::try_from(serial % count).ok().and_then(|turn| timers.get(turn))
            else {
                return Ok(());
            };
            let at = clock::now() + Duration::from_secs(shape.duration);
            let ms = clock::unix_ms() + shape.duration * 1000;
            worker.connection.call(&matrix::refresh_call(&timer.expire_refresh_token)).await?;
            due.borrow_mut().insert(timer.event_id.clone(), Due { at, ms });
            Ok(())
        })
        .await;
    due.into_inner()
}

struct Lateness {
    armed: u64,
    arrival: Histogram,
    origin: Histogram,
    early: u64,
    missing: u64,
    /// From the first deadline to the last arrival.
    elapsed: Duration,
}

impl Lateness {
    fn record(&mut self, due: &Due, event: &Event, moment: Instant) {
        self.arrival.record(moment.saturating_duration_since(due.at));
        self.origin.record(Duration::from_millis(event.origin_server_ts.saturating_sub(due.ms)));
        // Both clocks are cut to milliseconds, so one of them is no evidence.
        self.early += u64::from(event.origin_server_ts + 1 < due.ms);
    }
}

/// Reads until the terminal event of every timer has come, or is long overdue.
async fn watch(watcher: &mut Watcher, mut due: HashMap<String, Due>) -> Result<Lateness> {
    let first = due.values().map(|due| due.at).min().unwrap_or_else(clock::now);
    let end = due.values().map(|due| due.at).max().unwrap_or_else(clock::now) + GRACE;
    let mut seen = Lateness {
        armed: u64::try_from(due.len()).unwrap_or(0),
        arrival: Histogram::default(),
        origin: Histogram::default(),
        early: 0,
        missing: 0,
        elapsed: Duration::ZERO,
    };
    while !due.is_empty() && clock::now() < end {
        let events = watcher.next(1000).await?;
        let moment = clock::now();
        for event in &events {
            if let Some(due) = event.expired().and_then(|original| due.remove(original)) {
                seen.record(&due, event, moment);
                seen.elapsed = moment.saturating_duration_since(first);
            }
        }
    }
    seen.missing = u64::try_from(due.len()).unwrap_or(0);
    Ok(seen)
}
