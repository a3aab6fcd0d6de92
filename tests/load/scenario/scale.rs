//! What a million timers cost: memory, disk, restart, and everything else done beside them.

use std::{io::Write, time::Duration};

use super::{
    Bench, GRACE,
    fire::{Shape, lateness},
    timers::{keep_alive_next, set_many},
};
use crate::{
    Failure, Result, clock, report::Measure, server::Server, watcher::Watcher, workers::Worker,
};

/// How many timers the server holds when it is measured for comparison.
const FEW: u64 = 1000;

/// The timer that is due while the server is down.
const PROBE: Duration = Duration::from_secs(3);

/// What was measured so far; each row is printed at once, because the whole takes long.
#[derive(Default)]
pub(super) struct Rows(pub(super) Vec<Measure>);

impl Rows {
    pub(super) fn push(&mut self, row: Measure) {
        // The report has the row in any case.
        drop(write!(std::io::stderr(), "{row}"));
        self.0.push(row);
    }
}

pub(super) async fn run(bench: &mut Bench<'_>) -> Result<(Vec<Measure>, Vec<String>)> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let (mut tokens, mut rows, mut notes) = (Vec::new(), Rows::default(), Vec::new());
    rows.push(set_many(bench, &mut workers, FEW.min(bench.plan.timers), &mut tokens).await);
    beside(bench, &mut workers, &tokens, &mut rows).await?;
    notes.push(bench.size(&format!("{} armed", tokens.len())));
    let rest = bench.plan.timers.saturating_sub(FEW);
    rows.push(set_many(bench, &mut workers, rest, &mut tokens).await);
    beside(bench, &mut workers, &tokens, &mut rows).await?;
    notes.push(bench.size(&format!("{} armed", tokens.len())));
    restart(bench, &mut workers, &mut rows).await?;
    notes.push(bench.size(&format!("restarted, {} armed", tokens.len())));
    rows.push(refreshes(bench, &mut workers, &tokens).await);
    Ok((rows.0, notes))
}

/// Refreshing alone, beside few timers and beside all.
pub(super) async fn refreshing(bench: &Bench<'_>) -> Result<(Vec<Measure>, Vec<String>)> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let (mut tokens, mut rows, mut notes) = (Vec::new(), Rows::default(), Vec::new());
    for size in [FEW.min(bench.plan.timers), bench.plan.timers] {
        let missing = size.saturating_sub(u64::try_from(tokens.len()).unwrap_or(0));
        rows.push(set_many(bench, &mut workers, missing, &mut tokens).await);
        rows.push(refreshes(bench, &mut workers, &tokens).await);
        notes.push(bench.size(&format!("{} armed", tokens.len())));
    }
    Ok((rows.0, notes))
}

/// Refreshing and firing beside the armed timers.
async fn beside(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    tokens: &[String],
    rows: &mut Rows,
) -> Result<()> {
    rows.push(refreshes(bench, workers, tokens).await);
    let shape = Shape { timers: 2500, rooms: 64, duration: 15, rate: Some(500) };
    let label = tokens.len();
    for mut row in lateness(bench, shape).await? {
        row.label = format!("{} beside {label}", row.label);
        rows.push(row);
    }
    Ok(())
}

async fn refreshes(bench: &Bench<'_>, workers: &mut [Worker], tokens: &[String]) -> Measure {
    let label = format!("refresh of {}", tokens.len());
    let operation = async |worker: &mut Worker, serial| {
        keep_alive_next(bench.kind(), worker, tokens, serial).await
    };
    bench.measure(&label, workers, operation).await
}

/// Kills the server, and times it from its start to its first answer, and to the first overdue timer's event.
async fn restart(bench: &mut Bench<'_>, workers: &mut [Worker], rows: &mut Rows) -> Result<()> {
    let worker = workers.first_mut().ok_or_else(|| Failure::Other("no worker".to_owned()))?;
    let mut watcher = Watcher::start(bench.connection(), worker.account.clone()).await?;
    let serial = bench.serial.get();
    bench.serial.set(serial + 1);
    let probe = bench.kind().set(worker, serial, PROBE).await?.sign;
    server(bench)?.kill()?;
    tokio::time::sleep(PROBE + Duration::from_secs(1)).await;
    let begun = server(bench)?.restart().await?;
    rows.push(Measure::single("kill -9, start to first answer", begun.elapsed()));
    while begun.elapsed() < GRACE * 4 {
        let events = watcher.next(1000).await?;
        if events.iter().any(|event| bench.kind().fired(event) == Some(&probe)) {
            rows.push(Measure::single("start to overdue event in /sync", clock::now() - begun));
            return Ok(());
        }
    }
    Err(Failure::Other("the timer that was due while the server was down never fired".to_owned()))
}

fn server<'b>(bench: &'b mut Bench<'_>) -> Result<&'b mut Server> {
    bench.server.as_mut().ok_or_else(|| Failure::Other("scale needs --spawn".to_owned()))
}
