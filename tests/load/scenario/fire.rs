//! Lateness: how long after its deadline a timer's event is made, and how long until a reader sees it.
//!
//! Expiring events last whole seconds. They are armed, then each refreshed once, all at once or at a steady rate:
//! that sets when they are due. A delayed event is given the milliseconds left until the moment it is to be due at,
//! one after the other, so that no request waits behind another one of ours.
//! A deadline is taken as the moment the request that set it was *sent* plus the time it set, so what is printed is
//! never less than the true lateness, and an event before its deadline would show.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{
    Bench, GRACE,
    timers::{Kind, Timer},
};
use crate::{
    Failure, Result,
    cli::Span,
    clock,
    histogram::Histogram,
    report::{MADE, Measure},
    watcher::{Event, Watcher},
    workers::Worker,
};

/// How many timers, over how many rooms, due how fast.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) timers: u64,
    pub(super) rooms: usize,
    /// Seconds until an expiring event is due, or the first delayed one.
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

    /// How long after the first deadline that of timer `number` is.
    fn offset(&self, number: u64) -> Duration {
        let rate = self.rate.unwrap_or(u64::MAX);
        Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate)
    }
}

/// So long before the first deadline the reader begins to read, and the cost to count.
const LEAD: Duration = Duration::from_millis(100);

/// When a timer is due, on both clocks.
struct Due {
    at: Instant,
    ms: u64,
}

impl Due {
    /// In `time` from now.
    fn after(time: Duration) -> Self {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { at: clock::now() + time, ms: clock::unix_ms().saturating_add(ms) }
    }
}

/// What was set.
struct Scheduled {
    /// When each is due, by its sign.
    due: HashMap<String, Due>,
    /// What could not be set, by the kind of failure.
    errors: BTreeMap<String, u64>,
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

/// Sets the timers, waits, and answers two rows: seen in `/sync`, and by `origin_server_ts`.
pub(super) async fn lateness(bench: &Bench<'_>, shape: Shape) -> Result<Vec<Measure>> {
    let (mut workers, rooms) = bench.workers(shape.rooms).await?;
    let reader = bench.account().await?;
    bench.join_all(std::slice::from_ref(&reader), &rooms).await?;
    let reading = Watcher::start(bench.connection(), reader);
    let (mut watcher, pending) = match bench.kind() {
        Kind::Expiring => {
            let (timers, errors) = arm(bench, &mut workers, shape).await;
            // What was armed is no news to it.
            (reading.await?, refresh(bench, &mut workers, shape, (timers, errors)).await)
        }
        Kind::Delayed => (reading.await?, schedule(bench, &mut workers, shape).await),
    };
    let first = pending.due.values().map(|due| due.at).min().unwrap_or_else(clock::now);
    // Setting them is not the firing's cost, nor is what an idle server does.
    clock::sleep_until(first.checked_sub(LEAD).unwrap_or(first)).await;
    let before = bench.usage();
    let seen = watch(&mut watcher, bench.kind(), pending.due).await?;
    let label = shape.label();
    let in_sync = Measure::new(&format!("{label}: in /sync"), &seen.arrival, seen.elapsed)
        .with_cost(before, bench.usage())
        .with_errors("never seen", seen.missing)
        .with_errors("gap in /sync", watcher.gaps)
        .with_errors("fired early", seen.early);
    let in_sync = pending
        .errors
        .iter()
        .fold(in_sync, |row, (kind, count)| row.with_errors(&format!("not set: {kind}"), *count));
    let made = Measure::new(&format!("{label}{MADE}"), &seen.origin, seen.elapsed);
    Ok(vec![in_sync, made])
}

/// Timers, and why others are not among them.
type Armed = (Vec<Timer>, BTreeMap<String, u64>);

async fn arm(bench: &Bench<'_>, workers: &mut [Worker], shape: Shape) -> Armed {
    let (time, timers) = (Duration::from_secs(shape.duration), RefCell::new(Vec::new()));
    let seen = bench
        .drive(workers, Span::Count(shape.timers), None, async |worker, serial| {
            let one = bench.kind().set(worker, serial, time).await?;
            timers.borrow_mut().push(one);
            Ok(())
        })
        .await;
    (timers.into_inner(), seen.errors)
}

async fn refresh(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    shape: Shape,
    (timers, mut errors): Armed,
) -> Scheduled {
    let (time, due) = (Duration::from_secs(shape.duration), RefCell::new(HashMap::new()));
    let count = u64::try_from(timers.len()).unwrap_or(0);
    let refreshed = bench
        .drive(workers, Span::Count(count), shape.rate, async |worker, serial| {
            // As many operations as timers, numbered without gaps: each has its turn once.
            let Some(timer) =
                usize::try_from(serial % count).ok().and_then(|turn| timers.get(turn))
            else {
                return Ok(());
            };
            let deadline = Due::after(time);
            bench.kind().keep_alive(worker, &timer.key).await?;
            due.borrow_mut().insert(timer.sign.clone(), deadline);
            Ok(())
        })
        .await;
    for (kind, count) in refreshed.errors {
        *errors.entry(kind).or_default() += count;
    }
    Scheduled { due: due.into_inner(), errors }
}

/// Schedules each delayed event for its moment: one after the other, and all before the first is due.
async fn schedule(bench: &Bench<'_>, workers: &mut [Worker], shape: Shape) -> Scheduled {
    let (begun, count) = (bench.serial.get(), u64::try_from(workers.len()).unwrap_or(1).max(1));
    let first = clock::now() + Duration::from_secs(shape.duration);
    let due = RefCell::new(HashMap::new());
    let seen = bench
        .drive(&mut [workers], Span::Count(shape.timers), None, async |workers, serial| {
            let (number, now) = (serial - begun, clock::now());
            let turn = usize::try_from(number % count).unwrap_or(0);
            let Some(worker) = workers.get_mut(turn).filter(|_| now < first) else {
                return Err(Failure::Other("the first was due before".to_owned()));
            };
            let left = first + shape.offset(number) - now;
            // Whole milliseconds, as the request has them.
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let deadline = Due::after(left);
            let timer = bench.kind().set_in(worker, number / count, serial, left).await?;
            due.borrow_mut().insert(timer.sign, deadline);
            Ok(())
        })
        .await;
    Scheduled { due: due.into_inner(), errors: seen.errors }
}

struct Lateness {
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

/// Reads until the event of every timer has come, or is long overdue.
async fn watch(
    watcher: &mut Watcher,
    kind: Kind,
    mut due: HashMap<String, Due>,
) -> Result<Lateness> {
    let first = due.values().map(|due| due.at).min().unwrap_or_else(clock::now);
    let end = due.values().map(|due| due.at).max().unwrap_or_else(clock::now) + GRACE * 2;
    let mut seen = Lateness {
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
            if let Some(due) = kind.fired(event).and_then(|sign| due.remove(sign)) {
                seen.record(&due, event, moment);
                seen.elapsed = moment.saturating_duration_since(first);
            }
        }
    }
    seen.missing = u64::try_from(due.len()).unwrap_or(0);
    Ok(seen)
}
