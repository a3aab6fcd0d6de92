//! What a hundred thousand devices cost: memory, disk, and what is done with keys beside them.

use std::cell::RefCell;

use serde::de::IgnoredAny;

use super::{Bench, keys::claim_next, scale::Rows, sync::sync_call, timers::turn};
use crate::{
    Failure, Result,
    cli::Span,
    keys,
    matrix::{self, Account},
    report::Measure,
    workers::Worker,
};

/// How many devices the server holds when it is measured for comparison.
const FEW: usize = 1_000;

/// One-time keys that a device begins with, and that each measured upload adds.
const KEYS: u64 = 10;
const ADDED: u64 = 5;

pub(super) async fn run(bench: &Bench<'_>) -> Result<(Vec<Measure>, Vec<String>)> {
    let mut workers = bench.askers().await?;
    let (mut devices, mut rows, mut notes) = (Vec::new(), Rows::default(), Vec::new());
    for size in [FEW.min(bench.plan.devices), bench.plan.devices] {
        rows.push(grow(bench, &mut workers, size, &mut devices).await);
        if devices.len() < size {
            return Err(Failure::Other("some devices could not be made".to_owned()));
        }
        beside(bench, &mut workers, &devices, &mut rows).await;
        notes.push(bench.size(&format!("{size} devices")));
    }
    Ok((rows.0, notes))
}

/// Makes accounts with a device each and its keys until there are `size`.
async fn grow(
    bench: &Bench<'_>,
    workers: &mut [Worker],
    size: usize,
    devices: &mut Vec<Account>,
) -> Measure {
    let missing = u64::try_from(size.saturating_sub(devices.len())).unwrap_or(0);
    let made = RefCell::new(std::mem::take(devices));
    let label = format!("register, upload: {size}");
    let measure = bench
        .measure_cold(&label, workers, Span::Count(missing), async |worker: &mut Worker, serial| {
            let name = format!("{}d{serial}", bench.run);
            let account = matrix::register(&mut worker.connection, &name, None).await?;
            let upload = keys::upload_call(&account, true, 0..KEYS);
            worker.connection.call_json::<IgnoredAny>(&upload).await?;
            made.borrow_mut().push(account);
            Ok(())
        })
        .await;
    *devices = made.into_inner();
    measure
}

/// Everything that is done with keys, each time of another device.
async fn beside(bench: &Bench<'_>, workers: &mut [Worker], devices: &[Account], rows: &mut Rows) {
    let size = devices.len();
    let device = |serial| {
        let missing = || Failure::Other("there is no device".to_owned());
        devices.get(turn(serial, size)).ok_or_else(missing)
    };
    let upload = async |worker: &mut Worker, serial: u64| {
        let first = KEYS + serial * ADDED;
        let call = keys::upload_call(device(serial)?, false, first..first + ADDED);
        worker.connection.call(&call).await.map(drop)
    };
    rows.push(bench.measure(&format!("upload beside {size}"), workers, upload).await);
    let claim = async |worker: &mut Worker, serial| {
        claim_next(worker, std::slice::from_ref(device(serial)?), 0, 1).await
    };
    rows.push(bench.measure(&format!("claim beside {size}"), workers, claim).await);
    let query = async |worker: &mut Worker, serial| {
        let call = keys::query_call(&worker.account, std::iter::once(device(serial)?));
        worker.connection.call(&call).await.map(drop)
    };
    rows.push(bench.measure(&format!("query beside {size}"), workers, query).await);
    let sync = async |worker: &mut Worker, serial| {
        let call = sync_call(device(serial)?, None);
        worker.connection.call(&call).await.map(drop)
    };
    rows.push(bench.measure(&format!("sync beside {size}"), workers, sync).await);
}
