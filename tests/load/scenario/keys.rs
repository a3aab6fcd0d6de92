//! Keys of devices: how many claims and look-ups a second.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::Bench;
use crate::{
    Failure, Result,
    cli::Span,
    keys,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

/// One-time keys of each device whose keys are claimed, in uploads of so many.
const KEYS: u64 = 400;
const UPLOAD: u64 = 100;

/// Keys by user and device.
type ByDevice = BTreeMap<String, BTreeMap<String, IgnoredAny>>;

#[derive(Deserialize)]
struct Claimed {
    one_time_keys: ByDevice,
}

#[derive(Deserialize)]
struct Queried {
    device_keys: ByDevice,
}

/// Each request claims keys of the next few devices, until every key is claimed.
pub(super) async fn claim(bench: &Bench<'_>) -> Result<Measure> {
    let devices = bench.accounts(bench.plan.users).await?;
    for device in &devices {
        for upload in 0..KEYS / UPLOAD {
            let numbers = upload * UPLOAD..(upload + 1) * UPLOAD;
            let upload = keys::upload_call(device, upload == 0, numbers);
            matrix::patient::<IgnoredAny>(&mut bench.connection(), &upload).await?;
        }
    }
    let each = bench.plan.devices.min(devices.len());
    let all = KEYS * u64::try_from(devices.len() / each).unwrap_or(0);
    let span = match bench.plan.span {
        Span::Count(count) => Span::Count(count.min(all)),
        Span::Time(_) => Span::Count(all),
    };
    let operation =
        async |worker: &mut Worker, serial| claim_next(worker, &devices, serial, each).await;
    let mut workers = bench.askers().await?;
    Ok(bench.measure_cold("claim", &mut workers, span, operation).await)
}

/// Claims keys of `each` devices, those whose turn it is.
pub(super) async fn claim_next(
    worker: &mut Worker,
    devices: &[Account],
    serial: u64,
    each: usize,
) -> Result<()> {
    let turns = devices.len().checked_div(each).unwrap_or(0).max(1);
    let turn = usize::try_from(serial).unwrap_or(0) % turns;
    let call = keys::claim_call(&worker.account, devices.iter().skip(turn * each).take(each));
    let claimed: Claimed = worker.connection.call_json(&call).await?;
    ensure_all(&claimed.one_time_keys, each)
}

/// Each request looks up all devices of all users.
pub(super) async fn query(bench: &Bench<'_>) -> Result<Measure> {
    let devices = bench.devices().await?;
    let users: Vec<&Account> = devices.iter().step_by(bench.plan.devices).collect();
    let operation = async |worker: &mut Worker, _| {
        let call = keys::query_call(&worker.account, users.iter().copied());
        let queried: Queried = worker.connection.call_json(&call).await?;
        ensure_all(&queried.device_keys, devices.len())
    };
    let mut workers = bench.askers().await?;
    Ok(bench.measure("query", &mut workers, operation).await)
}

pub(super) fn ensure_all(keys: &ByDevice, expected: usize) -> Result<()> {
    let found: usize = keys.values().map(BTreeMap::len).sum();
    if found == expected { Ok(()) } else { Err(Failure::Other("keys are missing".to_owned())) }
}
