//! Many connections doing the same thing at once, each with one request at a time.

use std::{
    cell::Cell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    Result, cli::Span, clock, connection::Connection, histogram::Histogram, matrix::Account,
    report::Measure,
};

/// One connection with the account it sends for and the rooms it sends to.
pub(crate) struct Worker {
    pub(crate) connection: Connection,
    pub(crate) account: Account,
    pub(crate) rooms: Vec<String>,
}

impl Worker {
    /// The room of operation `serial`: its rooms in turn.
    pub(crate) fn room(&self, serial: u64) -> &str {
        let turn = usize::try_from(serial).unwrap_or(0).checked_rem(self.rooms.len()).unwrap_or(0);
        self.rooms.get(turn).map_or("", String::as_str)
    }
}

/// What is to be done by all workers together.
#[derive(Clone, Copy)]
pub(crate) struct Drive<'a> {
    /// When to stop.
    pub(crate) span: Span,
    /// Operations a second over all workers; `None` is as many as possible.
    pub(crate) rate: Option<u64>,
    /// Gives each operation of the whole run a number of its own.
    pub(crate) serial: &'a Cell<u64>,
}

/// What was seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) histogram: Histogram,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) elapsed: Duration,
}

impl Seen {
    /// As a row of the report.
    pub(crate) fn measure(&self, label: &str) -> Measure {
        self.errors
            .iter()
            .fold(Measure::new(label, &self.histogram, self.elapsed), |row, (kind, count)| {
                row.with_errors(kind, *count)
            })
    }
}

/// Runs `operation(worker, serial)` on all workers until the span is over.
pub(crate) async fn drive<W, F>(workers: &mut [W], drive: Drive<'_>, operation: F) -> Seen
where
    F: AsyncFn(&mut W, u64) -> Result<()>,
{
    let begun = clock::now();
    let first = drive.serial.get();
    let outcomes =
        join_all(workers.iter_mut().map(|worker| work(worker, drive, (begun, first), &operation)))
            .await;
    let mut all = Seen { elapsed: begun.elapsed(), ..Seen::default() };
    for (histogram, errors) in outcomes {
        all.histogram.merge(&histogram);
        for (kind, count) in errors {
            *all.errors.entry(kind).or_default() += count;
        }
    }
    all
}

async fn work<W, F>(
    worker: &mut W,
    drive: Drive<'_>,
    (begun, first): (Instant, u64),
    operation: &F,
) -> (Histogram, BTreeMap<String, u64>)
where
    F: AsyncFn(&mut W, u64) -> Result<()>,
{
    let (mut histogram, mut errors) = (Histogram::default(), BTreeMap::new());
    loop {
        let serial = drive.serial.get();
        let over = match drive.span {
            Span::Count(count) => serial - first >= count,
            Span::Time(time) => begun.elapsed() >= time,
        };
        if over {
            return (histogram, errors);
        }
        drive.serial.set(serial + 1);
        let mut start = clock::now();
        if let Some(rate) = drive.rate {
            // A late start counts against the server: it is what kept the worker busy.
            start =
                begun + Duration::from_nanos((serial - first).saturating_mul(1_000_000_000) / rate);
            clock::sleep_until(start).await;
        }
        match operation(worker, serial).await {
            Ok(()) => histogram.record(start.elapsed()),
            Err(failure) => *errors.entry(failure.kind()).or_default() += 1,
        }
    }
}
