//! Arming and keeping alive: the two things every client in a call does all the time.

use std::cell::RefCell;

use super::Bench;
use crate::{
    Failure, Result,
    cli::Span,
    connection::Connection,
    matrix::{self, Armed},
    report::Measure,
    workers::Worker,
};

/// Sends one expiring message.
pub(super) async fn arm_one(worker: &mut Worker, serial: u64, duration: u64) -> Result<Armed> {
    let content = matrix::expiring_message(format!("here {serial}"), duration);
    let call =
        matrix::send_call(&worker.account, worker.room(serial), &format!("e{serial}"), content);
    worker.connection.call_json(&call).await
}

/// A prime: its multiples visit every timer once before any twice, in an order unlike the one they were armed in.
const STRIDE: u64 = 2_654_435_761;

/// Keeps alive the token whose turn it is.
pub(super) async fn refresh_one(
    connection: &mut Connection,
    tokens: &[String],
    serial: u64,
) -> Result<()> {
    let count = u64::try_from(tokens.len()).unwrap_or(0).max(1);
    let token =
        usize::try_from(serial.wrapping_mul(STRIDE) % count).ok().and_then(|turn| tokens.get(turn));
    let token = token.ok_or_else(|| Failure::Other("no timer was armed".to_owned()))?;
    connection.call(&matrix::refresh_call(token)).await.map(drop)
}

/// Arms `count` timers over the workers' rooms, adding their tokens to `tokens`.
pub(super) async fn arm_many(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    count: u64,
    tokens: &mut Vec<String>,
) -> Measure {
    let armed = RefCell::new(std::mem::take(tokens));
    let label = format!("arm {count}");
    let measure = bench
        .measure_cold(&label, workers, Span::Count(count), async |worker, serial| {
            let one = arm_one(worker, serial, bench.plan.duration).await?;
            armed.borrow_mut().push(one.expire_refresh_token);
            Ok(())
        })
        .await;
    *tokens = armed.into_inner();
    measure
}

pub(super) async fn arm(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let duration = bench.plan.duration;
    let operation =
        async |worker: &mut Worker, serial| arm_one(worker, serial, duration).await.map(drop);
    Ok(bench.measure("arm", &mut workers, operation).await)
}

pub(super) async fn refresh(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let mut tokens = Vec::new();
    arm_many(bench, &mut workers, bench.plan.timers, &mut tokens).await;
    let operation = async |worker: &mut Worker, serial| {
        refresh_one(&mut worker.connection, &tokens, serial).await
    };
    Ok(bench.measure("refresh", &mut workers, operation).await)
}
