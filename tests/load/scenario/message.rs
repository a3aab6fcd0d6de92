//! Messages, state events and joins: how many a second, and how long each takes.

use super::Bench;
use crate::{
    Result,
    cli::Span,
    connection::Connection,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

pub(super) async fn send(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let operation = async |worker: &mut Worker, serial: u64| {
        let content = matrix::message(format!("message {serial} of a benchmark"));
        let call =
            matrix::send_call(&worker.account, worker.room(serial), &format!("t{serial}"), content);
        worker.connection.call(&call).await.map(drop)
    };
    Ok(bench.measure("send", &mut workers, operation).await)
}

pub(super) async fn state(bench: &Bench<'_>) -> Result<Measure> {
    let (mut workers, _) = bench.workers(bench.plan.rooms).await?;
    let operation = async |worker: &mut Worker, serial: u64| {
        let content = serde_json::json!({ "serial": serial });
        let call = matrix::state_call(
            &worker.account,
            worker.room(serial),
            &format!("k{serial}"),
            content,
        );
        worker.connection.call(&call).await.map(drop)
    };
    Ok(bench.measure("state", &mut workers, operation).await)
}

pub(super) async fn join(bench: &Bench<'_>) -> Result<Measure> {
    let creator = bench.account().await?;
    let rooms = bench.rooms(std::slice::from_ref(&creator), 1).await?;
    let joiners: Vec<Account> = bench.accounts(bench.plan.users).await?;
    let mut connections: Vec<_> = (0..bench.plan.connections).map(|_| bench.connection()).collect();
    let first = bench.serial.get();
    let count = u64::try_from(joiners.len()).unwrap_or(u64::MAX);
    let operation = async |connection: &mut Connection, serial: u64| {
        let number = usize::try_from(serial - first).unwrap_or(usize::MAX);
        if let (Some(account), Some(room)) = (joiners.get(number), rooms.first()) {
            connection.call(&matrix::join_call(account, room)).await?;
        }
        Ok(())
    };
    Ok(bench.measure_cold("join", &mut connections, Span::Count(count), operation).await)
}
